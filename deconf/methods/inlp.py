"""Iterative null-space projection (INLP): the linear erasure that `LEACE` replaced.

Fit a linear classifier of the confounder, project the embedding onto the null space of its weights,
and again, until a classifier on held-out patients is at chance.  Within strata where some are
given.  Here as the point of reference.

Ravfogel et al., "Null it out: guarding protected attributes by iterative nullspace projection",
ACL 2020, https://arxiv.org/abs/2004.07667, algorithm 1, with least-squares classifiers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import chi2

from deconf.cohort.splits import patient_folds
from deconf.errors import SettingsError
from deconf.maths.maps import AffineMap
from deconf.maths.moments import CellMoments, Given, cell_moments
from deconf.maths.shrinkage import inverse_root, root, shrunk
from deconf.methods.base import Method, MethodCard, as_arrays, methods
from deconf.methods.leace import lifted, own_span

FLAT = 1e-10  # variance of a column of the design, relative to the largest, that counts as none
CHANCE = 0.975  # quantile of what luck reads on held-out patients


@methods.register(
    "inlp",
    MethodCard(
        guarantee="a least-squares classifier on held-out patients is at chance",
        laws=("idempotent", "recoding", "null"),
        cost="n d^2 + rounds d^3",
        source="Ravfogel et al. 2020",
    ),
)
@dataclass(frozen=True)
class INLP(Method):
    """Project out what linear classifiers use, one after the other.

    Parameters
    ----------
    rounds : int
        Classifiers at most; each takes as many directions as the confounder has levels, less one.
        Where held-out patients are still read after them, the map remarks so.
    ridge : float in [0, 1]
        Share of the identity in the covariance a classifier inverts.  At 1 its weights are the
        difference of means, and one round does; the weaker it is, the more rounds there are, up to
        all the columns.

    Warnings
    --------
    `LEACE` erases the same in one step, exactly, with the fewest directions and the smallest edit.
    A classifier's weights are not where the confounder lies: each round leaves a part of it, and
    takes with it a direction that the disease may need.
    """

    rounds: int = 20
    ridge: float = 0.5

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise SettingsError(f"rounds is {self.rounds!r}: at least one classifier is needed.")
        if not 0 <= self.ridge <= 1:
            raise SettingsError(f"ridge is {self.ridge!r}: a share, from 0 to 1.")

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
    ) -> AffineMap:
        """Fit on training rows; see `Method.fit`.

        The number of rounds is found by two-fold cross-fitting; that many are then taken on all
        rows.
        """
        del outcome
        z, c, given = as_arrays(z, c, given)
        n, d = z.shape
        middle, span = own_span(z) if d > n else (np.zeros(d), None)
        x = z if span is None else (z - middle) @ span
        fold, strata = np.zeros(n, dtype=np.int64), int(given.codes.max()) + 1
        counts = np.arange(n) if weights is None else np.flatnonzero(np.asarray(weights) != 0)
        who = (np.arange(n) if patients is None else np.asarray(patients))[counts[counts < n]]
        if len(np.unique(who)) > 1:
            halves = patient_folds(who, 2, strata=given.codes[counts], seed=seed)
            fold[counts[halves[0][1]]] = 1
        m = cell_moments(
            x,
            c,
            given=Given(fold * strata + given.codes, given.basis),
            weights=weights,
            patients=patients,
            cells=2 * strata,
        )
        cells = np.arange(2 * strata)
        parts = [_cells_of(m, slice(f * strata, (f + 1) * strata)) for f in (0, 1)]
        whole = Probe.of(m.pool(cells % strata), self.ridge, d)
        rounds, told = 0, False
        if all(part.weight.sum() > 0 for part in parts):
            rounds, told = self._until_chance([Probe.of(part, self.ridge, d) for part in parts])
        taken = np.zeros((m.width, 0))
        for _ in range(rounds):
            taken = whole.next(taken)
        fitted = AffineMap(taken, taken.T.copy(), m.centre)
        fitted = fitted if span is None else lifted(fitted, middle, span)
        said = []
        if told:
            said.append(
                f"after {rounds} classifiers one on held-out patients still reads the confounder"
            )
        if 2 * fitted.rank > d:
            said.append(f"{fitted.rank} of the {d} directions of the embedding were projected out")
        fitted.remarks = tuple(said)
        return fitted

    def _until_chance(self, halves: list[Probe]) -> tuple[int, bool]:
        """Return after how many rounds each half reads the other no better than luck, if ever."""
        taken = [np.zeros((len(h.sigma), 0)) for h in halves]
        for done in range(self.rounds + 1):
            further = [h.next(t) for h, t in zip(halves, taken, strict=True)]
            # The two statistics hang on the same product of the halves: two looks at one number.
            told, freedom = np.mean(
                [
                    halves[1 - i].told(f[:, t.shape[1] :])
                    for i, (f, t) in enumerate(zip(further, taken, strict=True))
                ],
                axis=0,
            )
            if freedom == 0:  # no confounder, or no room left
                return done, taken[0].shape[1] > 0
            if told <= chi2.ppf(CHANCE, freedom):
                return done, False
            if done < self.rounds:
                taken = further
        return self.rounds, True


@dataclass(frozen=True)
class Probe:
    """What least squares needs to know of some rows.

    Attributes
    ----------
    within, sigma : (d, d)
        Covariance within strata, and shrunk (OAS).
    cross, own : (d, k), (k, k)
        Covariances with the design and of the design, within strata.
    n : float
        Independent rows.
    """

    within: Float[ndarray, "d d"]
    sigma: Float[ndarray, "d d"]
    cross: Float[ndarray, "d k"]
    own: Float[ndarray, "k k"]
    n: float

    @classmethod
    def of(cls, m: CellMoments, ridge: float, ambient: int) -> Probe:
        """Pool the strata."""
        strata = m.within()
        within, cross, own = (
            np.add.reduce([s.share * part for s, part in zip(strata, parts, strict=True)])
            for parts in ([s.zz for s in strata], [s.zc for s in strata], [s.cc for s in strata])
        )
        flat = np.diag(own) <= FLAT * np.diag(own).max(initial=0.0)
        own[flat], own[:, flat], cross[:, flat] = 0.0, 0.0, 0.0
        sigma = shrunk(within, ridge, m.effective_size, ambient=ambient)
        return cls(within, sigma, cross, own, m.effective_size)

    def next(self, taken: Float[ndarray, "d r"]) -> Float[ndarray, "d s"]:
        """Return the directions taken, orthonormal, and those of one more classifier."""
        free = np.linalg.svd(taken, full_matrices=True)[0][:, taken.shape[1] :]
        inverse = root(free.T @ self.sigma @ free)[1]
        # w = Σ^-1 A in what is left of the embedding
        weights = free @ (inverse.T @ (inverse @ (free.T @ self.cross @ inverse_root(self.own))))
        u, size, _ = np.linalg.svd(weights, full_matrices=False)
        told = size > 1e-10 * max(size.max(initial=0.0), np.finfo(float).tiny)
        told[free.shape[1] - 1 :] = False  # one direction stays: a constant is no embedding
        return np.hstack([taken, u[:, told]])

    def told(self, directions: Float[ndarray, "d q"]) -> tuple[float, int]:
        """Return n R^2 of the design from some directions, and its mean where they tell nothing."""
        spread, design = (
            inverse_root(x) for x in (directions.T @ self.within @ directions, self.own)
        )
        cross = spread.T @ (directions.T @ self.cross) @ design
        return float(self.n * np.sum(cross**2)), cross.size


def _cells_of(m: CellMoments, part: slice) -> CellMoments:
    names = ("count", "units", "weight", "weight2", "mean", "scatter")
    return replace(m, **{name: getattr(m, name)[part] for name in names})
