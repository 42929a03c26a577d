"""Class-aligned affine maps: every level of the confounder is carried onto a common reference.

Linear erasure leaves gain, blur and rotation to nonlinear probes.  Here each level c gets an affine
map T_c after which, inside every stratum, means and the significant part of the covariance agree;
a disease direction that the trace has turned is turned back, which no optimal transport between
Gaussians can do.  A new image of unknown level gets the posterior mixture  sum_c q(c|z) T_c(z).
Then LEACE on what remains.

Spiked covariance: Johnstone, "On the distribution of the largest eigenvalue in principal components
analysis", 2001.  Alignment of classes: Courty et al., "Optimal transport for domain adaptation",
2017, for the aim; the rotation is Procrustes'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import chi2

from deconf.maths.maps import AffineMap, Chain, EmbeddingMap, LevelMap
from deconf.maths.moments import Given
from deconf.methods.base import Method, MethodCard, as_arrays, methods, tensor
from deconf.methods.leace import LEACE
from deconf.methods.levels import LevelMoments
from deconf.methods.spikes import CROWDED, spikes

ALIGNED = 0.93  # cosine above which two disease directions are taken for the same
MIXED = 3.0  # condition number of the memberships above which levels are too hard to tell apart


@methods.register(
    "aligned",
    MethodCard(
        guarantee="means, spiked covariances and class directions agree within strata",
        laws=("null",),
        needs=("levels",),
        second_moments=True,
        cost="n d^2 + L d^3",
        source="Johnstone 2001 (spikes); Courty et al. 2017 (class-aware alignment)",
    ),
)
@dataclass(frozen=True)
class Aligned(Method):
    """Carry every level onto the common reference, then erase what is left.

    Parameters
    ----------
    read : "image" or "record"
        Whether the level of a new image is inferred from the image (posterior mixture) or read
        from the table; "record" needs ``at_inference=True``.

    Warnings
    --------
    Mixing blurs where the level is only half readable (AUROC 0.7 to 0.95 within strata): there
    `LEACE` is the better choice, and `auto` compares them.
    """

    read: Literal["image", "record"] = "image"

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
        """Fit on training rows; see `Method.fit`."""
        del outcome
        z, c, given = as_arrays(z, c, given)
        keep = {"given": given, "weights": weights, "patients": patients, "seed": seed}
        m = LevelMoments.of(z, c, given, weights, patients, "aligned")
        first = LEACE(strata="pooled").fit(z, c, **keep)
        level_map = self._level_map(z, m, given, first, weights)
        if level_map is None:
            return LEACE().fit(z, c, **keep)
        mapped = level_map(tensor(z), tensor(c)).numpy()
        return Chain(level_map, LEACE().fit(mapped, c, **keep))

    def _level_map(
        self, z: ndarray, m: LevelMoments, given: Given, first: AffineMap, weights: Any
    ) -> LevelMap | None:
        here, reference = m.effects()
        # Only the significant part of a shift: the rest is noise that the map would write into
        # every image of the level, for a fresh probe to read.
        shift = (reference - here) @ first.right.numpy().T @ first.left.numpy().T
        factors = self._second_moments(m)
        if not np.any(shift) and all(left.shape[1] == 0 for left, _ in factors):
            return None
        levels, d = shift.shape
        rank = max(left.shape[1] for left, _ in factors)
        left, right = np.zeros((levels, d, rank)), np.zeros((levels, rank, d))
        for i, (a, b) in enumerate(factors):
            left[i, :, : a.shape[1]], right[i, : b.shape[0]] = a, b
        slope, bias = np.zeros((levels, d)), np.zeros(levels)
        stretch, middle = np.concatenate(right), m.cells.centre
        if self.read == "image":
            _, size, basis = np.linalg.svd(stretch, full_matrices=False)
            stretch = basis[size > 1e-8 * size.max(initial=0.0)]
            slope, bias = membership(z, m, given, weights, stretch, middle)
        fitted = LevelMap(
            left,
            right,
            here,
            shift,
            slope,
            bias,
            stretch,
            middle,
            m.design,
            reads=self.read == "record",
        )
        return fitted if fitted.needs_confounders else whole(fitted, z, m, given, weights)

    def _second_moments(
        self, m: LevelMoments
    ) -> list[tuple[Float[ndarray, "d r"], Float[ndarray, "r d"]]]:
        """Return thin L, R of each level with  I - L R  the spiked and turning part of T_c."""
        sizes, d = m.sizes(), m.cells.width
        lower, lower_inverse, found = spikes(m.covariances(), sizes, m.totals())
        if lower.shape[1] == 0:
            return [(np.zeros((d, 0)), np.zeros((0, d)))] * len(sizes)
        whitened_means = np.einsum("rd,lsd->lsr", lower_inverse, m.mean)
        share = m.weight.sum(axis=1) / m.weight.sum()
        wish = np.einsum("l,lsr->sr", share, whitened_means)
        kish = m.cells.weight**2 / np.where(m.cells.weight2 > 0, m.cells.weight2, 1.0)
        noise = len(lower_inverse) * np.sum(1 / np.maximum(kish.reshape(m.weight.shape), 1), axis=1)
        out = []
        for i, n in enumerate(sizes):
            scale = np.eye(len(lower_inverse))
            v = found[i].directions
            scale += (v * (found[i].values ** -0.5 - 1)) @ v.T
            turn = np.eye(len(scale))
            if d / n <= CROWDED and (m.weight[i] > 0).all() and m.strata == 2:
                own = scale @ (whitened_means[i, 1] - whitened_means[i, 0])
                others = np.where(np.arange(len(share)) == i, 0.0, share) / (1 - share[i])
                rest = np.einsum("l,lsr->sr", others, whitened_means)
                turn = rotation(
                    own, wish[1] - wish[0], rest[1] - rest[0], noise[i], others**2 @ noise
                )
            change = np.eye(len(scale)) - turn @ scale
            u, size, w = np.linalg.svd(change)
            kept = size > 1e-8
            out.append((lower @ (u[:, kept] * size[kept]), w[kept] @ lower_inverse))
        return out


def rotation(
    own: Float[ndarray, " r"],
    wish: Float[ndarray, " r"],
    rest: Float[ndarray, " r"],
    own_noise: float,
    rest_noise: float,
) -> Float[ndarray, "r r"]:
    """Return the smallest rotation that turns ``own`` onto ``wish``, or the identity.

    The identity where ``own`` and ``rest`` agree: their cosine without the noise is above 0.93, or
    the part of one across the other is no longer than noise alone makes it 99 times in 100.  Also
    where either is mostly noise, or own and wish are opposite and no plane is singled out.

    Parameters
    ----------
    rest : (r,)
        The direction of the other levels.  ``wish``, that of all, holds part of every level's own:
        against it, a turn of 50 degrees between two levels counts for 25.
    own_noise, rest_noise : float
        Expected squared length of the noise in ``own`` and in ``rest``.
    """
    eye, r = np.eye(len(own)), len(own)
    signal, other = own @ own - own_noise, rest @ rest - rest_noise
    if r < 2 or signal <= own_noise or other <= rest_noise or not wish.any():
        return eye
    if own @ rest > ALIGNED * np.sqrt(signal * other):
        return eye
    beside = own - (own @ rest) / (rest @ rest) * rest
    chance = (own_noise + rest_noise * signal / other) / r * chi2.ppf(0.99, r - 1)
    if beside @ beside <= chance:
        return eye
    a, b = own / np.linalg.norm(own), wish / np.linalg.norm(wish)
    cosine = a @ b
    across = b - cosine * a
    sine = np.linalg.norm(across)
    if sine < 1e-9:  # of unit vectors
        return eye
    across = across / sine
    plane = np.stack([a, across], axis=1)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    out: ndarray = eye + plane @ (turn - np.eye(2)) @ plane.T
    return out


def whole(
    fitted: LevelMap, z: ndarray, m: LevelMoments, given: Given, weights: ndarray | None
) -> LevelMap:
    """Return the mixture with its shifts raised so that the means of the levels meet.

    Memberships below one apply only part of each shift, and the erasure that follows would take the
    rest together with the disease that lies along it.  With M[c, l] = E[q_l | c] balanced over
    strata, the raise is  M^-1 (reference - mean after mapping), within the significant directions.
    Left alone where the level is hardly readable: M is then near singular.
    """
    films = tensor(z)
    q = fitted.membership(films, None).numpy().astype(np.float64)
    w = m.balancing(given) * (1.0 if weights is None else np.asarray(weights))
    shares = np.eye(len(m.design))[m.levels] * w[:, None]
    shares /= np.where(shares.any(axis=0), shares.sum(axis=0), 1.0)
    mixing = shares.T @ q
    if np.linalg.cond(mixing) > MIXED:
        return fitted
    mapped = shares.T @ fitted(films).numpy()
    target = m.weight.sum(axis=1) @ mapped / m.weight.sum()
    _, size, v = np.linalg.svd(fitted.shift.numpy(), full_matrices=False)
    span = v[size > 1e-8 * max(size[0], 1e-12)]  # directions in which a shift was significant
    raised = fitted.shift.numpy() + np.linalg.solve(mixing, (target - mapped) @ span.T @ span)
    tensors = {k: v for k, v in fitted.state_dict().items() if k != "shift"}
    return LevelMap(shift=raised, **tensors)


def membership(
    z: Float[ndarray, "n d"],
    m: LevelMoments,
    given: Given,
    weights: ndarray | None,
    stretch: Float[ndarray, "p d"],
    middle: Float[ndarray, " d"],
) -> tuple[Float[ndarray, "L d+p"], Float[ndarray, " L"]]:
    """Return slope and bias of q(c|z), a softmax of z and of squares beside it.

    Trained so that c is independent of the strata: without that balance q would use the disease
    itself to guess the level, and erase it.  A level that stretches a direction is told by squares,
    where a linear reader sees nothing.

    Parameters
    ----------
    stretch : (p, d)
        Directions, orthonormal, whose squares are read: where some level is rescaled or turned.
    middle : (d,)
        What is subtracted before squaring.
    """
    from sklearn.linear_model import LogisticRegression

    w = m.balancing(given)
    if weights is not None:
        w = w * np.asarray(weights)
    rows = w > 0
    squares = ((z - middle) @ stretch.T) ** 2
    spread = squares[rows].std(axis=0) if len(stretch) else np.ones(0)
    centre = z[rows].mean(axis=0, dtype=np.float64)
    scale = np.sqrt(((z[rows] - centre) ** 2).mean(dtype=np.float64)) or 1.0
    a = (z - centre) / scale
    span = np.linalg.qr(a.T)[0] if a.shape[1] > len(a) else None
    a = a if span is None else a @ span
    model = LogisticRegression(C=10.0 / rows.sum() ** 0.5, max_iter=3000, tol=1e-4)
    model.fit(np.hstack([a, squares / spread]), m.levels, sample_weight=w)
    linear, squared = model.coef_[:, : a.shape[1]], model.coef_[:, a.shape[1] :] / spread
    linear = linear if span is None else linear @ span.T
    bias = model.intercept_
    slope = np.hstack([linear / scale, squared])
    bias = bias - linear @ centre / scale
    if len(slope) == 1:  # two levels: one log-odds
        slope, bias = np.vstack([0 * slope, slope]), np.r_[0.0, bias]
    return slope, bias
