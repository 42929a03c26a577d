"""What training is judged by: fresh attackers, and the task, on patients set aside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.maths.design import Confounder, confounders_in
from deconf.maths.intervals import stratified_auroc
from deconf.maths.maps import EmbeddingMap
from deconf.maths.moments import Given
from deconf.methods.base import tensor
from deconf.methods.cells import read_each
from deconf.methods.films import levels_in
from deconf.probes.head import choose_strength, fit_head
from deconf.probes.held_out import at_most
from deconf.probes.leakage import Leakage
from deconf.probes.reading import Verdict, best_read, verdict

ATTACKERS = ("logistic", "quadratic", "boosted", "mlp")
MOST = 10_000  # rows set aside that attackers read, and rows a head is fitted to
MOVED = 0.5  # share of the variance that may go where there is no outcome to keep


@dataclass(frozen=True)
class Reading:
    """What a map leaves to read, and what it keeps.

    Attributes
    ----------
    leaks : tuple of Leakage
        Of each confounder within strata, by fresh attackers.
    task : float
        AUROC of the outcome within levels of the confounder (mean over outcomes); without an
        outcome, the share of the embedding's variance that is kept.
    """

    leaks: tuple[Leakage, ...]
    task: float

    @property
    def leak(self) -> Leakage:
        """Of the confounder that is read best."""
        return self.leaks[best_read(self.leaks)]

    def __str__(self) -> str:
        """Say what the attackers read."""
        several = len(self.leaks)
        return f"{self.leak}" + (f" (the best read of {several} confounders)" * (several > 1))

    @property
    def auroc(self) -> float:
        """Of the worst attacker; one half where nobody could read anything."""
        return 0.5 if self.leak.reason else self.leak.estimate.estimate

    @property
    def error(self) -> float:
        """Standard error of that; 0 where nobody could read anything."""
        if self.leak.reason:
            return 0.0
        return (self.leak.estimate.high - self.leak.estimate.low) / (2 * 1.96)

    @property
    def verdict(self) -> Verdict:
        """Whether a confounder is read, or none is and a leak would have been seen, or neither."""
        return verdict(self.leaks)

    @property
    def unread(self) -> str:
        """Why a confounder could not be judged; empty where all were."""
        return next((one.reason for one in self.leaks if one.reason), "")


@dataclass(frozen=True)
class Judge:
    """Patients set aside, and the rows of the others that heads are fitted to.

    Attributes
    ----------
    z, outcome : (n, d), (n, q)
        Of all rows.
    level, patients : (n,)
    given : Given
    confounders : tuple of Confounder
        Each is read; the one read best counts.
    head, held : (m,) int
        Rows.
    outcomes : tuple of int
        Which columns the outcome was taken from: those with both classes on either side.
    strengths : tuple of float
        The ridge of the head of each outcome, chosen on the raw embedding.
    """

    z: Float[ndarray, "n d"]
    outcome: Float[ndarray, "n q"]
    level: Int[ndarray, " n"]
    confounders: tuple[Confounder, ...]
    given: Given
    patients: ndarray
    head: Int[ndarray, " f"]
    held: Int[ndarray, " m"]
    outcomes: tuple[int, ...]
    strengths: tuple[float, ...]
    seed: int

    @classmethod
    def of(
        cls,
        z: ndarray,
        outcome: ndarray,
        c: ndarray,
        given: Given,
        patients: ndarray,
        split: tuple[ndarray, ndarray],
        seed: int,
    ) -> Judge:
        """Choose the rows; outcomes of one class among them are left out."""
        head, held = (at_most(rows, patients, MOST, seed) for rows in split)
        both = [
            j
            for j in range(outcome.shape[1])
            if all(set(np.unique(outcome[rows, j])) >= {0.0, 1.0} for rows in (head, held))
        ]
        strengths = []
        for j in both:
            rows = head[~np.isnan(outcome[head, j])]
            y = outcome[rows, j]
            strengths.append(choose_strength(z[rows], y, patients=patients[rows], seed=seed))
        return cls(
            z, outcome[:, both], levels_in(c)[0], confounders_in(c), given, patients, head, held,
            tuple(both), tuple(strengths), seed,
        )  # fmt: skip

    def read(self, fitted: EmbeddingMap, *, look: int = 0) -> Reading:
        """Read a map; another ``look`` deals the patients set aside anew."""
        mapped = applied(fitted, self.z[self.held])
        rows, basis = self.held, self.given.basis
        leaks = read_each(
            mapped, tuple(one.rows(rows) for one in self.confounders), ordered=True,
            strata=self.given.codes[rows], patients=self.patients[rows],
            attackers=ATTACKERS, permutations=60, bootstraps=60,
            numbers=None if basis is None else basis[rows], seed=self.seed + look,
        )  # fmt: skip
        return Reading(leaks, self._task(fitted, mapped))

    def _task(self, fitted: EmbeddingMap, mapped: ndarray) -> float:
        if not self.outcome.shape[1]:
            raw = self.z[self.held].astype(np.float64)
            scale = raw.std(axis=0)
            moved = ((mapped - raw)[:, scale > 0] / scale[scale > 0]) ** 2
            return float(1 - moved.mean()) if moved.size else 1.0
        clean = applied(fitted, self.z[self.head])
        areas = []
        for j in range(self.outcome.shape[1]):
            y, truth = self.outcome[self.head, j], self.outcome[self.held, j]
            use, known = ~np.isnan(y), ~np.isnan(truth)
            head = fit_head(clean[use], y[use], strength=self.strengths[j])
            score = head.score(mapped[known])
            areas.append(stratified_auroc(score, truth[known] == 1, self.level[self.held][known]))
        return float(np.nanmean(areas)) if np.isfinite(areas).any() else 1.0


def applied(fitted: EmbeddingMap, z: ndarray) -> ndarray:
    """Return mapped rows."""
    with torch.no_grad():
        out: ndarray = fitted(tensor(z)).numpy()
    return out
