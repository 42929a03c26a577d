"""Trained adapters on stored embeddings: what adversarial and kernel methods have in common.

A closed-form map first, then a residual adapter that starts at the identity and is trained, in
rounds, to stay near the embedding, to leave the answer of an outcome head as it was, and to lower
a penalty on what still tells the confounder.  **A penalty is no evidence**: an adversary at chance
may be a weak adversary.  So three patients in ten are set aside before anything is fitted; after
every round fresh attackers train on half of these and read the other half.  The round that leaks
least among those that keep the task is returned, if it beats the start by 0.02 AUROC and does so
again at a second look (the patients dealt anew).  Else the start is returned, and says so.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy import ndarray

from deconf.cohort.splits import patient_split
from deconf.encoders.placement import chosen_device
from deconf.errors import SettingsError
from deconf.maths.design import confounders_in, levels_of, pooled
from deconf.maths.intervals import multilevel_auroc
from deconf.maths.maps import Adapter, AffineMap, Chain, EmbeddingMap
from deconf.maths.moments import Given, checked_weights, where_not_finite
from deconf.maths.threads import one_thread
from deconf.methods.base import Method, as_arrays, methods, require_untuned
from deconf.methods.films import Films, films_of, levels_in, outcomes, stratified
from deconf.methods.game import Game, Penalty, Rounds, Standard, play, pointed
from deconf.methods.judge import MOST, MOVED, Judge, Reading, applied
from deconf.methods.leace import LEACE
from deconf.methods.levels import MOST_MAPPED
from deconf.methods.views import View, telling
from deconf.probes.head import fit_head

logger = logging.getLogger(__name__)

HELD = 0.3  # share of the patients set aside
FEWEST = 12  # patients of a level among them below which nothing can be judged, or trained
IMPROVED = 0.02  # AUROC by which a round must beat the start, in both looks: less is luck
ERRORS = 1.5  # in standard errors of the start, in the second look: of many rounds one looks good
DECEIVED = 0.1  # AUROC by which fresh attackers beat an adversary that is worth a remark


@dataclass(frozen=True)
class Adapted(Method):
    """Settings that all trained adapters share; children say what the penalty is.

    Parameters
    ----------
    start : "leace", "identity" or a method's settings
        What comes before the adapter.  Unless it is "identity", `LEACE` also comes after it, for
        what the adapter has brought back into the means; where nothing has, it is the identity.
    strength : float
        Weight of the penalty.
    reconstruction : float
        Weight of the mean squared move of a standardised embedding.
    budget : float
        How much AUROC of the outcome within levels a round may cost, on patients set aside.
        Without an outcome half of the variance may go.
    rounds : Rounds
    """

    reads_numbers: ClassVar[bool] = False
    is_marginal: ClassVar[bool] = False

    start: Literal["leace", "identity"] | Method = "leace"
    strength: float = 1.0
    reconstruction: float = 0.3
    budget: float = 0.02
    rounds: Rounds = field(default_factory=Rounds)

    def __post_init__(self) -> None:
        if self.start not in ("leace", "identity") and not isinstance(self.start, Method):
            raise SettingsError(
                f"start is 'leace', 'identity' or settings such as Aligned(), not {self.start!r}."
            )
        if isinstance(self.start, Method) and methods.card(self.start.registered_name).dear:
            raise SettingsError(
                f"start is {self.start.registered_name!r}, which trains or selects itself: start "
                "from a closed form."
            )
        if isinstance(self.start, Method):
            require_untuned(self.start, "start")
        for name in ("strength", "reconstruction", "budget"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: it is zero or more.")

    @abstractmethod
    def penalty(self, films: Films, view: View) -> Penalty:
        """Return the penalty for films like these, its networks fresh."""

    def fit(
        self,
        z: Any,
        c: Any,
        *,
        given: Given | None = None,
        outcome: Any = None,
        weights: Any = None,
        patients: Any = None,
        seed: int = 0,
    ) -> EmbeddingMap:
        """Fit on training rows; see `Method.fit`.  What training came to is in ``remarks``.

        Raises
        ------
        SettingsError
            A continuous confounder, where the method needs levels; an outcome that is not 0, 1 or
            missing.
        """
        z, c, given = as_arrays(z, c, given)
        weights = checked_weights(weights, len(z))
        if not (np.isfinite(z).all() and np.isfinite(c).all()):
            raise SettingsError(where_not_finite(z, c))
        if levels_in(c)[1] and not self.reads_numbers:
            levels = levels_of(c)
            raise SettingsError(
                f"{self.registered_name} needs confounders with levels, and this one is "
                "continuous: bin it, or use 'leace'."
                if levels is None
                else f"{self.registered_name} compares joint levels of the confounders, and these "
                f"are {len(np.unique(levels)):,}, at most {MOST_MAPPED}: pool the rarest, fit one "
                "confounder after the other, or use 'dann', 'hsic' or 'leace'."
            )
        kept = np.arange(len(z)) if weights is None else np.flatnonzero(weights > 0)
        data = _Rows(
            z[kept],
            c[kept],
            given.rows(kept),
            outcomes(outcome, len(z))[kept],
            None if weights is None else weights[kept],
            np.arange(len(kept)) if patients is None else np.asarray(patients)[kept],
        )
        with one_thread(z.size):
            return self._fitted(data, seed)

    def _fitted(self, data: _Rows, seed: int) -> EmbeddingMap:
        closed = self.start.registered_name if isinstance(self.start, Method) else self.start
        name = "the identity" if closed == "identity" else closed
        whole = self._begun(data, seed)
        split = _set_aside(data, seed)
        if split is None:
            return _saying(
                whole,
                f"{self.registered_name} trained nothing: it sets patients aside to be judged by, "
                f"and these are too few ({FEWEST} of two levels of each confounder are needed); "
                f"{name} is returned",
            )
        judge = Judge.of(data.z, data.outcome, data.c, data.given, data.patients, split, seed)
        fit = data.rows(split[0])
        start = self._begun(fit, seed)
        before = judge.read(start)
        if before.verdict != "leaks" and before.unread:
            return _saying(
                whole,
                f"{self.registered_name} trained nothing: no fresh attacker could judge it on the "
                f"patients set aside ({before.unread}); {name} is returned",
            )
        if before.verdict != "leaks":
            told = (
                "has nothing to train against" if before.verdict == "clean" else
                "trained nothing, since too few patients are set aside to tell whether anything is "
                "left to train against"
            )  # fmt: skip
            return _saying(
                whole,
                f"{self.registered_name} {told}: after {name}, fresh attackers on held-out "
                f"training patients read {before}",
            )
        best, why = self._trained(fit, start, judge, before, seed)
        if best is None:
            return _saying(
                whole,
                f"no round of {self.registered_name} improved on its starting point, where fresh "
                f"attackers on held-out training patients read {before.leak}{why}: {name} is "
                "returned",
            )
        return _saying(best, why)

    def _begun(self, data: _Rows, seed: int) -> EmbeddingMap:
        """Return the closed form that the adapter starts from."""
        if not isinstance(self.start, Method):
            return self._closed(data, data.z, seed)
        fitted = self.start.fit(
            data.z, data.c, given=data.given, outcome=data.outcome, weights=data.weights,
            patients=data.patients, seed=seed,
        )  # fmt: skip
        if fitted.needs_confounders:
            raise SettingsError(
                f"{self.registered_name} trains on images alone, and its start reads the recorded "
                "confounder: choose read='image'."
            )
        return fitted

    def _closed(self, data: _Rows, z: ndarray, seed: int) -> AffineMap:
        if self.start == "identity":
            return AffineMap.identity(z.shape[1])
        return LEACE().fit(
            z, data.c, given=data.given, weights=data.weights, patients=data.patients, seed=seed
        )

    def _trained(
        self, data: _Rows, start: EmbeddingMap, judge: Judge, before: Reading, seed: int
    ) -> tuple[EmbeddingMap | None, str]:
        """Train all rounds; return the best and what it came to, or None and why."""
        device = chosen_device(self.rounds.device)
        x = applied(start, data.z)
        unit = Standard.of(x, data.weights)
        films = films_of(unit(x), data.c, data.given, data.outcome, data.weights, device)
        films = films.marginal() if self.is_marginal else films
        head = _head(films, data, judge)
        order, size = stratified(films.cell.cpu().numpy(), self.rounds.batch, self.rounds.steps)
        seeds = np.random.SeedSequence([seed, 7]).generate_state(self.rounds.count + 1)
        adapter = pointed(films, self.rounds.hidden, int(seeds[-1]))

        tried: list[tuple[int, Reading, EmbeddingMap]] = []
        own = np.nan
        for number, round_seed in enumerate(seeds[:-1].tolist(), 1):
            with torch.no_grad():
                mapped = adapter(films.x)
            with torch.random.fork_rng():
                torch.manual_seed(round_seed)
                penalty = self.penalty(films, telling(films, mapped)).to(device)
            game = Game(adapter, head, penalty, self.reconstruction)
            play(game, films, order, size, self.rounds, round_seed)
            trained = Adapter.of(adapter, unit.centre, unit.scale, head)
            links: list[EmbeddingMap] = [] if start.is_identity else [start]
            last = self._closed(data, applied(Chain(*links, trained), data.z), seed)
            links += [trained] if last.is_identity else [trained, last]
            whole = links[0] if len(links) == 1 else Chain(*links)
            reading = judge.read(whole)
            tried.append((number, reading, whole))
            own = _own_reading(game, films)
            logger.info(
                "%s, round %d of %d: fresh attackers %.3f, its own adversary %.3f, task %.3f",
                self.registered_name, number, self.rounds.count, reading.auroc, own, reading.task,
            )  # fmt: skip
            if reading.verdict != "leaks":
                break
        return self._chosen(tried, start, judge, before, own)

    def _chosen(
        self,
        tried: list[tuple[int, Reading, EmbeddingMap]],
        start: EmbeddingMap,
        judge: Judge,
        before: Reading,
        own: float,
    ) -> tuple[EmbeddingMap | None, str]:
        budget = self.budget if judge.outcome.shape[1] else MOVED
        kept = [t for t in tried if t[1].task >= before.task - budget]
        last = tried[-1][1].auroc
        why = ""
        if own < last - DECEIVED:
            why = (
                f" (its own adversary is at {own:.2f} where fresh ones read {last:.2f}: too weak, "
                "its loss is not to be trusted)"
            )
        if not kept:
            lost = before.task - max(t[1].task for t in tried)
            return None, f"{why}; every round cost {lost:.3f} of the task, {budget:g} may go"
        number, found, best = min(kept, key=lambda t: t[1].auroc)
        if found.auroc > before.auroc - IMPROVED:
            return None, why
        first, again = (judge.read(m, look=1) for m in (start, best))
        if again.auroc > first.auroc - max(IMPROVED, ERRORS * first.error):
            return None, why
        kind = "AUROC of the outcome within levels" if judge.outcome.shape[1] else "variance kept"
        return best, (
            f"training ({self.registered_name}, round {number} of {self.rounds.count}) lowered "
            f"what fresh attackers read from {first.leak.estimate} to {again.leak.estimate} on "
            f"{again.leak.n_test:,} held-out training patients; {kind} {first.task:.3f} before, "
            f"{again.task:.3f} after"
        )


@dataclass(frozen=True)
class _Rows:
    """What a fit is handed, checked, rows without weight left out."""

    z: ndarray
    c: ndarray
    given: Given
    outcome: ndarray
    weights: ndarray | None
    patients: ndarray

    def rows(self, index: ndarray) -> _Rows:
        w = None if self.weights is None else self.weights[index]
        return _Rows(
            self.z[index],
            self.c[index],
            self.given.rows(index),
            self.outcome[index],
            w,
            self.patients[index],
        )

    @property
    def level(self) -> ndarray:
        return levels_in(self.c)[0]


def _saying(fitted: EmbeddingMap, remark: str) -> EmbeddingMap:
    fitted.remarks = (remark,)
    return fitted


def _set_aside(data: _Rows, seed: int) -> tuple[ndarray, ndarray] | None:
    """Return rows to fit on and rows to judge by, or None where patients are too few."""
    level, who = data.level, data.patients
    if len(np.unique(who)) < 2 * FEWEST:
        return None
    cell = np.unique(np.stack([level, data.given.codes]), axis=1, return_inverse=True)[1].ravel()
    fit, held = patient_split(who, HELD, strata=cell, seed=seed)
    for one in confounders_in(data.c):
        codes = pooled(one.codes)[held]
        sizes = [len(np.unique(who[held][codes == k])) for k in np.unique(codes)]
        if sum(size >= FEWEST for size in sizes) < 2:
            return None
    return fit, held


def _head(films: Films, data: _Rows, judge: Judge) -> torch.nn.Linear | None:
    """Return the ridge heads of the outcomes on standardised embeddings, which stay as they are.

    Trained with the adapter they would teach it the labels of its films: on the linear world the
    AUROC of new films fell from 0.86 to 0.79.
    """
    if not judge.outcome.shape[1]:
        return None
    x = films.x.cpu().numpy()
    heads = []
    for j, strength in zip(judge.outcomes, judge.strengths, strict=True):
        y = data.outcome[:, j]
        rows = np.flatnonzero(~np.isnan(y))[:MOST]
        weight = films.take(rows).balanced.cpu().numpy()
        heads.append(fit_head(x[rows], y[rows], weights=weight, strength=strength))
    with torch.random.fork_rng():  # first weights that nobody will see
        layer = torch.nn.Linear(x.shape[1], len(heads)).requires_grad_(False)
    layer.weight.copy_(torch.tensor(np.array([h.coefficients for h in heads])))
    layer.bias.copy_(torch.tensor(np.array([h.intercept for h in heads])))
    return layer.to(films.x.device)


def _own_reading(game: Game, films: Films) -> float:
    """Return what the networks of the penalty read of their own films; nan without any."""
    some = films.take(np.arange(0, len(films), -(-len(films) // 5000)))
    with torch.no_grad():
        scores = game.penalty.read(game.adapter(some.x), some)
    if scores is None or films.is_number:
        return np.nan
    strata = some.stratum.cpu().numpy()
    return multilevel_auroc(scores.cpu().numpy(), some.level.cpu().numpy(), strata)
