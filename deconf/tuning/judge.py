"""Which epoch is taken: a fresh attacker and a fresh head on held-out training patients say so.

An adversary's own loss is no evidence that it cannot be beaten: one that was outrun reports the
same chance as one that has nothing left to read.  So after every epoch attackers that had no part
in the training learn from half of the held-out patients and read the other half.  An epoch is
eligible while the outcome, read within levels, has not lost more than the budget; of those the
least readable is taken, and none where no one is better than the untouched encoder by a margin
and by one and a half standard errors.

Before the first, the untouched encoder is read.  It is trained only where something is read; where
nothing is, that is worth saying only if a leak would have been seen (`deconf.probes.reading`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.causal.invariance import Invariance
from deconf.cohort.splits import patient_folds
from deconf.errors import CohortError, SettingsError
from deconf.maths import kinds
from deconf.maths.design import confounders_in, design, pooled
from deconf.maths.intervals import stratified_auroc
from deconf.maths.threads import one_thread
from deconf.probes.head import choose_strength, fit_head
from deconf.probes.leakage import Leakage, leakage
from deconf.probes.reading import ALPHA, beyond, verdict

ATTACKERS = ("logistic", "boosted")
MARGIN = 0.02  # AUROC by which an epoch must be less readable than the untouched encoder,
ERRORS = 1.5  # and in its standard errors: of many noisy epochs the best looks good by luck
DRAWS = 100  # permutations by which the untouched encoder is judged
PATIENCE = 5  # epochs without a better one after which training ends


@dataclass(frozen=True)
class Target:
    """What is to be made unreadable: codes (n,), -1 where not recorded, within strata (n,)."""

    name: str
    codes: Int[ndarray, " n"]
    strata: Int[ndarray, " n"]


def targets_of(
    table: pd.DataFrame, invariances: Sequence[Invariance], outcomes: Sequence[str]
) -> list[Target]:
    """Return what each independence asks to be made unreadable: every confounder of its design.

    Numbers count by their thirds, and the rarest of many levels as one.
    """
    found = []
    for invariance in invariances:
        if not invariance.is_needed:
            continue
        arrays = design(table, invariance.confounders, invariance.given, outcomes=outcomes)
        for one in confounders_in(arrays.c):
            codes, strata = np.full(len(table), -1), np.zeros(len(table), dtype=np.int64)
            codes[arrays.rows], strata[arrays.rows] = pooled(one.codes), arrays.given.codes
            found.append(Target(", ".join(invariance.confounders), codes, strata))
    return found


def outcomes_of(
    table: pd.DataFrame, names: Sequence[str], *, every_kind: bool = False
) -> Float[ndarray, "n q"] | None:
    """Return the outcomes of two classes as 0, 1 and nan, or None where there is none.

    Parameters
    ----------
    every_kind : bool
        Numbers too, as they are, and more classes, a column of 0, 1 and nan each.

    Examples
    --------
    >>> films = pd.DataFrame({"ill": ["no", "yes", None], "fev": [2.5, 3.1, 0.9]})
    >>> outcomes_of(films, ["ill", "fev"]).shape
    (3, 1)
    >>> outcomes_of(films, ["ill", "fev"], every_kind=True).tolist()
    [[0.0, 2.5], [1.0, 3.1], [nan, 0.9]]
    """
    columns: list[ndarray] = []
    for name in names:
        found, levels = kinds.codes(table[name])
        if len(levels) == 2:
            columns.append(np.where(found >= 0, found, np.nan).astype(float))
        elif every_kind and not kinds.is_categorical(table[name]):
            columns.append(kinds.numbers(table[name]))
        elif every_kind and len(levels) > 2:
            columns += [
                np.where(found >= 0, found == place, np.nan).astype(float)
                for place in range(len(levels))
            ]
    return np.stack(columns, axis=1) if columns else None


def left_out_of(
    table: pd.DataFrame, names: Sequence[str], method: str, *, is_needed: bool = False
) -> list[str]:
    """Return in words which outcomes are not of two classes, and what they are instead.

    Raises
    ------
    SettingsError
        ``is_needed``, and there are such.

    Examples
    --------
    >>> films = pd.DataFrame({"fev": [2.5, 3.1, 0.9], "ill": [0, 1, 1]})
    >>> left_out_of(films, ["fev", "ill"], "irm")
    ["outcome left out: 'fev' is a number, and irm learns 0 and 1"]
    """
    found = []
    for name in names:
        count = len(kinds.levels(table[name]))
        if count != 2:
            is_number = count > 2 and not kinds.is_categorical(table[name])
            holds = {0: "holds nothing", 1: "holds one class"}.get(count, f"has {count} classes")
            found.append(f"{name!r} {'is a number' if is_number else holds}")
    if found and is_needed:
        raise SettingsError(
            f"{'; '.join(found)}: {method} learns 0 and 1. Cut it in two, say table['ill'] = "
            f"table[{names[0]!r}] > limit, or name another outcome."
        )
    return [f"outcome left out: {one}, and {method} learns 0 and 1" for one in found]


@dataclass(frozen=True)
class Score:
    """How an encoder did: AUROC of the strongest attacker, of the outcome within levels.

    ``task`` is nan where there is no outcome of two classes; ``error`` is the standard error of
    ``leak``.
    """

    leak: float
    task: float
    error: float = 0.0

    def __str__(self) -> str:
        task = "" if np.isnan(self.task) else f", outcome within levels at {self.task:.3f}"
        return f"confounder read at {self.leak:.3f}{task}"


@dataclass
class Judge:
    """Scores encoders by their embeddings of the held-out patients, and remembers the scores.

    Parameters
    ----------
    targets : sequence of Target
        Of the held-out rows.
    outcome : (n,) of 0, 1 and nan, or None
    patients : (n,)
    budget : float
    before : tuple of Leakage
        What `begin` read of the untouched encoder, target by target.
    """

    targets: Sequence[Target]
    outcome: Float[ndarray, " n"] | None
    patients: ndarray
    budget: float
    seed: int = 0
    raw: Score | None = None
    epochs: list[Score] = field(default_factory=list)
    before: tuple[Leakage, ...] = ()

    def begin(self, z: Float[ndarray, "n d"]) -> None:
        """Read the untouched encoder, with enough permutations to tell a leak from luck.

        Raises
        ------
        CohortError
            As `score`.
        """
        draws = max(DRAWS, round(len(self.targets) / ALPHA))
        with one_thread(z.size):
            self.before = tuple(self._leak(z, t, draws) for t in self.targets)
            self.raw = self._scored(z, self.before)

    @property
    def idle(self) -> str:
        """Why there is nothing to train against, with the interval; empty where something leaks."""
        found = verdict(self.before)
        if found == "leaks":
            return ""
        worst = max(range(len(self.before)), key=lambda i: beyond(self.before[i]))
        told = (
            f"fresh attackers on held-out training patients read {self.targets[worst].name!r} at "
            f"{self.before[worst]}"
        )
        if found == "clean":
            return f"nothing to remove, {told}"
        return (
            "too few patients are held out to tell whether anything is left to remove, "
            f"{told}: bring more patients"
        )

    def score(self, z: Float[ndarray, "n d"]) -> Score:
        """Return how well fresh attackers and a fresh head read an embedding.

        Raises
        ------
        CohortError
            Too few patients are held out for an attacker to learn and be judged.
        """
        with one_thread(z.size):
            return self._scored(z, [self._leak(z, t, 20) for t in self.targets])

    def _scored(self, z: ndarray, leaks: Sequence[Leakage]) -> Score:
        found = max((one.estimate for one in leaks), key=lambda i: i.estimate)
        return Score(found.estimate, self._task(z), (found.high - found.low) / (2 * 1.96))

    def _leak(self, z: ndarray, target: Target, permutations: int) -> Leakage:
        use = target.codes >= 0
        found = leakage(
            z[use], target.codes[use], target.strata[use], self.patients[use],
            attackers=ATTACKERS, permutations=permutations, bootstraps=100, seed=self.seed,
        )  # fmt: skip
        if found.reason:
            raise CohortError(
                f"no fresh attacker can judge {target.name!r} on {int(use.sum()):,} held-out "
                f"films ({found.reason}), and without one no training may be believed. Bring more "
                "patients, or use a method with tune='none'."
            )
        return found

    def _task(self, z: ndarray) -> float:
        """Return the AUROC of the outcome within levels, by a head cross-fitted in two halves."""
        if self.outcome is None:
            return float("nan")
        rows = np.flatnonzero(~np.isnan(self.outcome) & (self.targets[0].codes >= 0))
        y, who, levels = self.outcome[rows], self.patients[rows], self.targets[0].codes[rows]
        if len(np.unique(y)) < 2 or len(np.unique(who)) < 4:
            return float("nan")
        said = np.full(len(rows), np.nan)
        for train, test in patient_folds(who, 2, strata=y, seed=self.seed):
            if len(np.unique(y[train])) < 2:
                return float("nan")
            own = z[rows[train]]
            strength = choose_strength(own, y[train], patients=who[train], seed=self.seed)
            score = fit_head(own, y[train], strength=strength).score(z[rows[test]])
            said[test] = (score - score.mean()) / (score.std() or 1.0)
        return stratified_auroc(said, y, levels)

    @property
    def best(self) -> int | None:
        """The epoch to take, from 0; None where none is better than the untouched encoder."""
        raw = self.raw
        if raw is None:
            return None
        below = raw.leak - max(MARGIN, ERRORS * raw.error)
        eligible = [
            i for i, one in enumerate(self.epochs)
            if one.leak < below and not one.task < raw.task - self.budget
        ]  # fmt: skip
        return min(eligible, key=lambda i: self.epochs[i].leak, default=None)

    def enough(self) -> bool:
        """Whether more epochs are not worth their time."""
        best = self.best
        return best is not None and len(self.epochs) - 1 - best >= PATIENCE

    def save(self, path: Path) -> None:
        """Write the scores, whole or not at all."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps([asdict(one) for one in self.epochs]), encoding="utf-8")
        part.replace(path)

    def load(self, path: Path, epochs: int) -> None:
        """Read the scores of the epochs that are finished; a later one will be trained again."""
        if path.is_file():
            known = [Score(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
            self.epochs = known[:epochs]
