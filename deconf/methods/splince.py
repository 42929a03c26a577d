"""Erasure that keeps the outcome: a projection along the trace, past the disease (SPLINCE).

As `LEACE`, no linear probe reads the confounder afterwards; and the covariance of embedding and
outcome comes out exactly as it went in.  Among the maps that do both it moves the embedding least.

Holstege, Ravfogel & Wouters, "Preserving task-relevant information under linear concept removal",
NeurIPS 2025, https://arxiv.org/abs/2506.10703.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from deconf.maths.maps import AffineMap
from deconf.maths.moments import Given, cell_moments, column_moments
from deconf.maths.shrinkage import Shrinkage
from deconf.methods.base import Method, MethodCard, as_arrays, methods
from deconf.methods.leace import LEACE, lifted, own_span

STEEP = 0.1  # sine of the angle below which disease and trace count as one direction


@methods.register(
    "splince",
    MethodCard(
        guarantee="as 'leace', and the covariance with the outcome is what it was",
        laws=("idempotent", "equivariant", "recoding", "duplicates", "null"),
        needs=("outcome",),
        cost="n d^2 / 2 + d^3 / 3",
        source="Holstege, Ravfogel & Wouters 2025",
    ),
)
@dataclass(frozen=True)
class SPLINCE(Method):
    """Erase what a linear probe can read of a confounder, and keep what it reads of the outcome.

    Without an outcome there is nothing to keep, and this is `LEACE`; the map remarks so.

    Parameters
    ----------
    shrinkage, rank, strata
        As in `LEACE`.  Both promises hold on the fitting data whatever the shrinkage.

    Warnings
    --------
    What is kept is the covariance in the training data, over all levels: what of it went by way of
    the confounder stays too, as far as it lies outside the erased directions.  Where the disease
    leans towards the trace the map stretches the rest to make up for it, by up to ten times, noise
    included; where they coincide no map does both, the erasure goes first, and the map remarks so.
    """

    keeps_every_kind: ClassVar[bool] = True  # numbers and classes, not only 0 and 1

    shrinkage: Shrinkage = "oas"
    rank: Literal["significant", "full"] = "significant"
    strata: Literal["auto", "pooled", "stacked"] = "auto"

    def __post_init__(self) -> None:
        self._erasure  # noqa: B018 (refuses bad settings)

    @property
    def _erasure(self) -> LEACE:
        return LEACE(self.shrinkage, self.rank, self.strata)

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

        Parameters
        ----------
        outcome : (n,) or (n, q)
            What is kept, numbers or 0 and 1 (of more classes a column each); rows where one is
            missing (nan) say nothing of it, and help to erase.
        """
        z, c, given = as_arrays(z, c, given)
        held = {"weights": weights, "patients": patients}
        if outcome is None:
            fitted = self._erasure.fit(z, c, given=given, seed=seed, **held)
            fitted.remarks = ("no outcome was given: nothing to keep, so this is 'leace'",)
            return fitted
        n, d = z.shape
        middle, span = own_span(z) if d > n else (np.zeros(d), None)
        x = z if span is None else (z - middle) @ span
        m = cell_moments(x, c, given=given, **held)
        lower, lower_inverse, u = self._erasure.erased(
            m, seed=seed, ambient=None if span is None else d
        )
        past, lost = beside(lower_inverse @ with_outcome(x, outcome, weights), u)
        across = u - past @ (past.T @ u)  # of the trace, what lies across the disease
        # P = I − L U (NᵀU)⁻¹ Nᵀ L⁻¹: its kernel is the trace, its range holds the disease and all
        # that is orthogonal to both.
        fitted = AffineMap(
            lower @ u, np.linalg.solve(across.T @ u, across.T @ lower_inverse), m.centre
        )
        fitted = fitted if span is None else lifted(fitted, middle, span)
        if lost:
            fitted.remarks = (
                f"erased and not kept, since the trace of the confounder lies along them: {lost} "
                f"of the directions of the outcome",
            )
        return fitted


def with_outcome(z: Float[ndarray, "n d"], outcome: Any, weights: Any) -> Float[ndarray, "d q"]:
    """Return the covariance of embedding and outcomes, each over the rows where it is known."""
    y = np.asarray(outcome, dtype=np.float64).reshape(len(z), -1)
    out = np.zeros((z.shape[1], y.shape[1]))
    recorded, alike = np.unique(np.isfinite(y), axis=1, return_inverse=True)
    for pattern, known in enumerate(recorded.T):  # columns known on the same rows: one pass
        if known.any():
            these = np.flatnonzero(alike.ravel() == pattern)
            w = None if weights is None else np.asarray(weights)[known]
            for columns, m in column_moments(z[known], y[np.ix_(known, these)], weights=w):
                out[columns, these] = m.scatter[0, : m.width, m.width :] / m.weight[0]
    return out


def beside(
    disease: Float[ndarray, "r q"], trace: Float[ndarray, "r j"]
) -> tuple[Float[ndarray, "r p"], int]:
    """Return an orthonormal basis of what of the disease can be kept, and how many cannot.

    Parameters
    ----------
    disease, trace
        Whitened; ``trace`` orthonormal.
    """
    basis, size, _ = np.linalg.svd(disease, full_matrices=False)
    basis = basis[:, size > 1e-10 * max(size.max(initial=0.0), np.finfo(float).tiny)]
    turn, cosine, _ = np.linalg.svd(basis.T @ trace)  # principal angles
    steep = int(np.sum(cosine**2 > 1 - STEEP**2))
    return basis @ turn[:, steep:], steep
