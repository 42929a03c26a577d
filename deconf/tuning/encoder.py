"""Train an encoder further, so that a confounder can no longer be read from what it says."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn

from deconf.cohort.cohort import Cohort
from deconf.cohort.splits import patient_split
from deconf.encoders.base import Encoder
from deconf.encoders.placement import chosen_precision
from deconf.encoders.tune import Tune
from deconf.errors import CohortError, SettingsError
from deconf.maths.maps import EmbeddingMap
from deconf.training import Schedule, train, trained_state, write_whole
from deconf.tuning.asked import require_encoder
from deconf.tuning.images import Images
from deconf.tuning.judge import Judge, Target
from deconf.tuning.lora import add_low_rank, merge_low_rank
from deconf.tuning.objectives import Adversary, Reversed, info_nce, task_loss, warm_up

logger = logging.getLogger(__name__)

HELD_OUT = 0.3  # share of the patients on whom epochs are judged
EVERY = 100  # steps between checkpoints
HEADS = 1e-2  # learning rate of task heads and adversaries, whatever that of the encoder
LAST, BEST, SCORES, ASKED = "last.safetensors", "best.safetensors", "scores.json", "asked.json"
Objective = Literal["adversary", "pairs"]
Clean = Callable[[ndarray, ndarray], EmbeddingMap]


@dataclass(frozen=True)
class Tuned:
    """An encoder after training, or the untouched one, and what is to be said of it.

    Attributes
    ----------
    encoder : Encoder
        A new one, or the very one that was passed.
    reasons : tuple of str
    """

    encoder: Encoder
    reasons: tuple[str, ...]

    @property
    def is_untouched(self) -> bool:
        """Whether no epoch was better than where it started."""
        return not self.encoder.tuned_from


def tune_encoder(
    encoder: Encoder,
    cohort: Cohort,
    targets: Sequence[Target],
    how: Tune,
    *,
    clean: Clean,
    objective: Objective = "adversary",
    outcome: Float[ndarray, "n q"] | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    closed_form: Mapping[str, Any] | None = None,
) -> Tuned:
    """Train a copy of an encoder on the images of training patients; keep the best epoch.

    The encoder that is passed stays as it is.  Three parts add up: the outcome is to be told from
    the embedding, the confounder is not (an adversary whose gradient is reversed, or pairs of one
    patient that must find each other), and the embedding is to stay near where it was.

    A closed form comes after, and takes what is linear for less: so training looks at what the
    closed form of the untouched encoder leaves, and an epoch is judged by what its own leaves.

    Parameters
    ----------
    encoder : Encoder
        It is trained where it is, in bfloat16 where it computes in it or
        `deconf.encoders.placement.chosen_precision` says so.
    cohort : Cohort of n images
    targets : sequence of Target
        Levels of each confounder and the strata within which they must not be told.
    how : Tune
    clean : function of ((m, d) embeddings, (m,) rows) to an EmbeddingMap
        The closed form that follows, fitted to some of the rows.
    objective : "adversary" or "pairs"
        Pairs are films of one patient at different levels of the first target, in one stratum.
    outcome : (n, q) of 0, 1 and nan, optional
        The first decides which epochs keep the task.
    seed : int
    checkpoint : folder, optional
        A run that was stopped, by a kill too, goes on from there to the same bits (on a CPU; some
        GPU kernels add in no fixed order).  A finished one is read back.
    closed_form : mapping of JSON types, optional
        What tells ``clean`` from another closed form: the folder of another is refused.

    Raises
    ------
    SettingsError
        The encoder has no weights or no layer to train, or the folder is another run's.
    CohortError
        Too few rows, pairs or held-out patients.
    """
    require_encoder(encoder)
    learning, judging = patient_split(cohort.patients, HELD_OUT, strata=_cells(targets), seed=seed)
    y = None if outcome is None else np.asarray(outcome, dtype=np.float64).reshape(len(cohort), -1)
    if checkpoint is not None:
        asked = _asked(encoder, cohort, targets, y, how, objective, seed, closed_form)
        _require_same(Path(checkpoint), asked)
    raw = encoder.embed(cohort)
    judge = Judge(
        [Target(t.name, t.codes[judging], t.strata[judging]) for t in targets],
        None if y is None else y[judging, 0],
        cohort.patients[judging],
        how.budget,
        seed,
    )
    start = clean(raw[learning], learning)
    judge.begin(mapped(start, raw[judging]))
    if judge.idle:
        return Tuned(encoder, (f"encoder left untouched: {judge.idle}",))
    with TemporaryDirectory() as other, closing(Run(encoder, cohort, raw, learning, start)) as run:
        folder = Path(other) if checkpoint is None else Path(checkpoint)
        run.prepare(targets, y, how, objective, seed)

        def told(epoch: int, epochs: int, loss: float) -> None:
            judge.load(folder / SCORES, epoch - 1)
            z = run.encoder.embed(cohort)
            left = mapped(clean(z[learning], learning), z[judging])
            judge.epochs.append(judge.score(left))
            if judge.best == epoch - 1:
                write_whole(folder / BEST, trained_state(run.encoder))
            judge.save(folder / SCORES)
            logger.info("epoch %d of %d: loss %.3f, %s", epoch, epochs, loss, judge.epochs[-1])

        judge.load(folder / SCORES, how.epochs)
        train(
            run,
            run.loss,
            run.rows,
            Schedule(
                how.epochs, how.batch, how.rate, weight_decay=0.01, seed=seed,
                accumulate=how.accumulate,
            ),
            checkpoint=None if checkpoint is None else folder / LAST,
            every=EVERY,
            progress=told,
            enough=judge.enough,
            soon=run.soon,
            rates={"task.": HEADS / how.rate, "adversaries.": HEADS / how.rate},
        )  # fmt: skip
        if judge.best is None:
            return Tuned(encoder, (_untouched(judge, how),))
        return Tuned(run.finished(folder / BEST, encoder), (_taken(judge, how, objective),))


class Run(nn.Module):
    """The encoder under training, the heads beside it, and the loss of a batch."""

    start: Tensor
    spread: Tensor
    seen: Tensor

    def __init__(
        self,
        encoder: Encoder,
        cohort: Cohort,
        raw: ndarray,
        learning: ndarray,
        closed_form: EmbeddingMap,
    ) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.images = Images(self.encoder, cohort)
        self.patients = np.unique(cohort.patients.astype(str), return_inverse=True)[1].ravel()
        self.learning, self.raw = learning, raw
        known = torch.from_numpy(mapped(closed_form.cpu(), raw[learning])).float()
        self.closed_form = (closed_form.to(encoder.device),)  # a tuple: no part of the checkpoint
        spread = known.std(dim=0)  # a column that is nearly dead must not outweigh the others
        self.register_buffer("start", known.mean(dim=0).to(encoder.device))
        floor = 0.1 * spread.mean().item() + 1e-12
        self.register_buffer("spread", spread.clamp_min(floor).to(encoder.device))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # batches, for the warm-up

    def close(self) -> None:
        """End the threads that read images."""
        self.images.__exit__(None, None, None)

    def prepare(
        self,
        targets: Sequence[Target],
        outcome: ndarray | None,
        how: Tune,
        objective: Objective,
        seed: int,
    ) -> None:
        """Add what is trained: corrections or all weights, heads, adversaries."""
        width, place = self.raw.shape[1], self.encoder.device
        self.how, self.objective, self.outcome = how, objective, outcome
        self.units = (
            self.learning[:, None]
            if objective == "adversary"
            else pairs_of(targets[0], self.patients, self.learning)
        )
        self.rows = len(self.units)
        if self.rows < how.batch:
            what = "films" if objective == "adversary" else "pairs of films of one patient"
            raise CohortError(
                f"{self.rows} {what} to train on, and a batch takes {how.batch}: bring more, or "
                f"lower it, Tune({how.mode!r}, batch=...)."
            )
        self.total = how.epochs * (self.rows // how.batch) * how.accumulate
        module = self.encoder.module
        if module is not None and self.encoder._autocast is None:
            dtype = chosen_precision("auto", module, torch.device(place))
            self.encoder._autocast = dtype if dtype is torch.bfloat16 else None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if how.mode == "lora":
                add_low_rank(self.encoder, how.rank)
            else:
                self.encoder.requires_grad_(True)
            self.task = nn.Linear(width, 0 if outcome is None else outcome.shape[1]).to(place)
            self.adversaries = nn.ModuleList(
                Adversary(width, int(t.codes.max()) + 1, int(t.strata.max()) + 1).to(place)
                for t in (targets if objective == "adversary" else ())
            )
        self.codes = [(torch.tensor(t.codes), torch.tensor(t.strata)) for t in targets]

    def train(self, mode: bool = True) -> Run:
        """Train, but leave batch norms by their running statistics: batches here are small."""
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    def soon(self, units: ndarray) -> None:
        """Begin to read the images of a step."""
        self.images.soon(self.units[units].ravel())

    def loss(self, units: ndarray, draws: np.random.Generator) -> Tensor:
        """Return the loss of a part of a batch."""
        del draws  # dropout alone is random, and seeded by the loop
        rows = self.units[units].T.ravel()  # of pairs: all first films, then all second ones
        z = self.encoder(self.images[rows]).float()
        moved = (z - torch.from_numpy(self.raw[rows]).to(z)) / self.spread
        loss = self.how.keep * moved.square().mean()
        x = (self.closed_form[0](z) - self.start) / self.spread
        if self.outcome is not None:
            asked = torch.from_numpy(self.outcome[rows]).to(x)
            loss = loss + task_loss(self.task(x), asked)
        if self.objective == "pairs":
            half = len(rows) // 2
            who = torch.from_numpy(self.patients[rows[:half]]).to(x.device)
            return loss + self.how.strength * info_nce(x[:half], x[half:], who)
        turned = Reversed.apply(x, self.how.strength * warm_up(int(self.seen) / self.total))
        self.seen += 1
        for adversary, (codes, strata) in zip(self.adversaries, self.codes, strict=True):
            own, held = (values[rows].to(x.device) for values in (codes, strata))
            loss = loss + adversary(turned, own, held)
        return loss

    def finished(self, best: Path, origin: Encoder) -> Encoder:
        """Return the encoder of the best epoch, built as it was, with other weights."""
        from safetensors.torch import load_file

        self.encoder.load_state_dict(load_file(best), strict=False)
        merge_low_rank(self.encoder)
        out = self.encoder.eval()
        out._autocast = origin._autocast
        before = dict(origin.named_parameters())
        for name, parameter in out.named_parameters():
            parameter.requires_grad_(before[name].requires_grad).grad = None
        out.tuned_from, out.origin = origin.digest, (origin,)
        return out


def mapped(fitted: EmbeddingMap, z: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
    """Return what a map makes of embeddings."""
    with torch.inference_mode():
        out: ndarray = fitted(torch.tensor(z)).float().numpy()
    return out


def pairs_of(
    target: Target, patients: Int[ndarray, " n"], among: Int[ndarray, " m"]
) -> Int[ndarray, "p 2"]:
    """Return rows of films of one patient and stratum at two levels: the first with the first, ...

    Examples
    --------
    >>> target = Target("device", np.array([0, 1, 1, 0]), np.zeros(4, int))
    >>> pairs_of(target, np.array([7, 7, 7, 8]), np.arange(4)).tolist()
    [[0, 1]]
    """
    found: list[tuple[int, int]] = []
    own = among[target.codes[among] >= 0]
    order = own[np.lexsort((own, target.codes[own], target.strata[own], patients[own]))]
    keys = np.column_stack([patients[order], target.strata[order]])
    starts = np.flatnonzero((np.diff(keys, axis=0, prepend=keys[:1] - 1) != 0).any(axis=1))
    for block in np.split(order, starts[1:]):
        levels = [block[target.codes[block] == code] for code in np.unique(target.codes[block])]
        for i, one in enumerate(levels):
            for other in levels[i + 1 :]:
                found += zip(one.tolist(), other.tolist(), strict=False)
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _cells(targets: Sequence[Target]) -> Int[ndarray, " n"]:
    columns = [column for t in targets for column in (t.codes, t.strata)]
    return np.unique(np.column_stack(columns), axis=0, return_inverse=True)[1].ravel()


def _asked(
    encoder: Encoder,
    cohort: Cohort,
    targets: Sequence[Target],
    outcome: ndarray | None,
    how: Tune,
    objective: Objective,
    seed: int,
    closed_form: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return all that a run depends on, as JSON types."""
    codes = hashlib.sha256()
    for t in targets:
        codes.update(t.codes.tobytes() + t.strata.tobytes())
    y = None if outcome is None else hashlib.sha256(outcome.tobytes()).hexdigest()
    return {
        "encoder": encoder.digest, "cohort": cohort.digest, "targets": codes.hexdigest(),
        "outcome": y, "settings": asdict(how), "objective": objective, "seed": seed,
        "closed form": closed_form,
    }  # fmt: skip


def _require_same(folder: Path, asked: Mapping[str, Any]) -> None:
    """Write down what a folder is for, or refuse one that is for something else."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ASKED
    if not path.is_file():
        path.write_text(json.dumps(asked), encoding="utf-8")
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    other = [name for name, value in asked.items() if name not in known or known[name] != value]
    if other:
        raise SettingsError(
            f"{folder} holds a run with another {other[0]}: name another folder, or delete it."
        )


def _taken(judge: Judge, how: Tune, objective: str) -> str:
    best = judge.best or 0
    return (
        f"encoder tuned ({how.mode}, {objective}): epoch {best + 1} of {len(judge.epochs)} taken; "
        f"on held-out training patients {judge.epochs[best]}; untouched, {judge.raw}"
    )


def _untouched(judge: Judge, how: Tune) -> str:
    least = min(judge.epochs, key=lambda one: one.leak, default=judge.raw)
    return (
        f"encoder left untouched: in {len(judge.epochs)} epochs of {how.mode} none made the "
        f"confounder less readable to fresh attackers at the price allowed (untouched, "
        f"{judge.raw}; least readable, {least}; budget {how.budget:g})"
    )
