"""Least-squares concept erasure (LEACE), marginal or within strata.

The smallest affine edit of an embedding after which no linear probe beats a constant at reading
the confounder; within the strata of the adjustment set when the graph asks for  z ⊥ c | s.

Belrose et al., "LEACE: Perfect linear concept erasure in closed form", NeurIPS 2023,
https://arxiv.org/abs/2306.03819.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from deconf.errors import SettingsError
from deconf.maths.maps import AffineMap
from deconf.maths.moments import CellMoments, Given, Stratum, cell_moments
from deconf.maths.shrinkage import Shrinkage, inverse_root, null_edge, root, shrunk
from deconf.methods.base import Method, MethodCard, as_arrays, methods


@methods.register(
    "leace",
    MethodCard(
        guarantee="no linear probe reads c within strata on the fitting data, at rank='full'",
        laws=("idempotent", "equivariant", "recoding", "duplicates", "streams", "null"),
        streams=True,
        cost="n d^2 / 2 + d^3 / 3",
        source="Belrose et al. 2023",
    ),
)
@dataclass(frozen=True)
class LEACE(Method):
    """Erase what a linear probe can read of a confounder.

    Parameters
    ----------
    shrinkage : float in [0, 1] or "oas"
        Pull of the embedding covariance towards a multiple of the identity, needed when n is not
        much larger than d.  With any shrinkage the erasure is still exact on the fitting data,
        but no longer the smallest edit.
    rank : "significant" or "full"
        Which directions go.  "significant" keeps what chance could explain, so that data without
        confounding come back unchanged; "full" gives the exact linear guarantee.
    strata : "auto", "pooled" or "stacked"
        Erase the average of the covariances within strata (at most k directions) or each of them.
        "auto" stacks where every stratum has more than 10 d rows.

    Warnings
    --------
    A confounder encoded in variances, not means, stays readable to probes of higher order.  See
    `Quadratic` and `Aligned`; the audit always runs nonlinear probes beside the linear one.
    """

    shrinkage: Shrinkage = "oas"
    rank: Literal["significant", "full"] = "significant"
    strata: Literal["auto", "pooled", "stacked"] = "auto"

    def __post_init__(self) -> None:
        if self.shrinkage != "oas" and (
            isinstance(self.shrinkage, str) or not 0 <= self.shrinkage <= 1
        ):
            raise SettingsError(f"shrinkage is 'oas' or in [0, 1], not {self.shrinkage!r}.")

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
        """Fit on one batch; see `Method.fit`.

        With more columns than rows the embedding is first restricted to its own span, where
        everything this method needs lives.
        """
        del outcome
        z, c, given = as_arrays(z, c, given)
        n, d = z.shape
        if d <= n:
            m = cell_moments(z, c, given=given, weights=weights, patients=patients)
            return self.fit_moments(m, seed=seed)
        middle, span = own_span(z)
        m = cell_moments((z - middle) @ span, c, given=given, weights=weights, patients=patients)
        return lifted(self.fit_moments(m, seed=seed, ambient=d), middle, span)

    def fit_moments(
        self, m: CellMoments, *, seed: int = 0, ambient: int | None = None
    ) -> AffineMap:
        """Fit from streamed or merged moments whose cells are the strata."""
        # P = I - L U Uᵀ L⁻¹ with Σ = L Lᵀ and U the left singular vectors of L⁻¹ A: the same
        # projection as with the symmetric root, since any two roots differ by a rotation.
        lower, lower_inverse, u = self.erased(m, seed=seed, ambient=ambient)
        return AffineMap(lower @ u, u.T @ lower_inverse, m.centre)

    def erased(
        self, m: CellMoments, *, seed: int, ambient: int | None = None
    ) -> tuple[Float[ndarray, "d r"], Float[ndarray, "r d"], Float[ndarray, "r j"]]:
        """Return a root of the covariance, its inverse, and the whitened directions that go."""
        strata = m.within()
        within = np.add.reduce([s.share * s.zz for s in strata])  # Σ = Σ_s π_s Σ_zz|s
        sigma = shrunk(within, self.shrinkage, m.effective_size, ambient=ambient)
        lower, lower_inverse = root(sigma)
        target = self.target(strata, m.width)

        if self.rank == "full":  # relative to the largest canonical correlation
            u, size, _ = np.linalg.svd(lower_inverse @ target, full_matrices=False)
            u = u[:, size > 1e-10 * size.max(initial=0.0)]
        else:
            u = significant(lower_inverse, target, within, m.effective_size, seed=seed)
        return lower, lower_inverse, u

    def target(self, strata: list[Stratum], width: int) -> Float[ndarray, "d q"]:
        """Return A: the cross-covariances with the whitened design that must vanish."""
        stacked = self.strata == "stacked" or (
            self.strata == "auto" and all(s.count > 10 * width for s in strata)
        )
        if stacked:  # A = [√π_s Σ_zc|s Σ_cc|s^(-1/2)]_s
            return np.hstack([np.sqrt(s.share) * s.zc @ inverse_root(s.cc) for s in strata])
        zc = np.add.reduce([s.share * s.zc for s in strata])  # A = Σ_s π_s Σ_zc|s, then whitened
        cc = np.add.reduce([s.share * s.cc for s in strata])
        whitened: ndarray = zc @ inverse_root(cc)
        return whitened


def own_span(z: Float[ndarray, "n d"]) -> tuple[Float[ndarray, " d"], Float[ndarray, "d n"]]:
    """Return the mean, and an orthonormal basis of what the rows differ in; for d > n."""
    middle = z.mean(axis=0, dtype=np.float64)
    return middle, np.linalg.qr((z - middle).T.astype(np.float64))[0]


def lifted(
    inner: AffineMap, middle: Float[ndarray, " d"], span: Float[ndarray, "d n"]
) -> AffineMap:
    """Return the map of the whole space that does in a span what the inner one does there."""
    left, right, centre = (t.numpy() for t in (inner.left, inner.right, inner.centre))
    return AffineMap(span @ left, right @ span.T, middle + span @ centre)


def significant(
    lower_inverse: Float[ndarray, "r d"],
    target: Float[ndarray, "d q"],
    within: Float[ndarray, "d d"],
    n: float,
    *,
    seed: int,
) -> Float[ndarray, "r j"]:
    """Return the whitened directions, orthonormal, of a target that chance cannot explain.

    Two looks at the same target, each at 2.5 %: whitened, where a trace in a quiet direction
    stands out, and as it is.  The second is there for d near or above n: whitening then lifts
    every noise direction to the height of the trace, and the first look sees nothing.  The look
    that sees more decides, with its own directions: the other would order them by noise.
    """
    whitened = lower_inverse @ target
    if 0 in whitened.shape:
        return np.zeros((len(whitened), 0))
    spread = np.linalg.eigvalsh(lower_inverse @ within @ lower_inverse.T)
    u, size, _ = np.linalg.svd(whitened, full_matrices=False)
    rank = int(np.sum(size > null_edge(spread, target.shape[1], n, seed=seed)))
    _, plain, v = np.linalg.svd(target, full_matrices=False)
    edge = null_edge(np.linalg.eigvalsh(within), target.shape[1], n, seed=seed)
    more = int(np.sum(plain > edge))
    if more > rank:
        orthonormal: ndarray = np.linalg.qr(whitened @ v[:more].T)[0]
        return orthonormal
    out: ndarray = u[:, :rank]
    return out
