"""Heteroscedastic affine noise: mean and covariance of a vector given its causes, in closed form.

    x = m(pa) + R Σ(pa)^(1/2) u,      u ~ N(0, I)

m is linear in the design of the causes, R a root of the common covariance of what is left, and
log Σ linear in the design: covariances stay positive whatever the causes add up to (Chiu, Leonard
& Tsui, "The matrix-logarithmic covariance model", JASA 1996).  The root of Σ is the symmetric one,
so that the noise of a film is turned as little as possible when its causes change, and a change of
basis of x changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.optimize import minimize

from deconf.maths.moments import cell_moments
from deconf.maths.shrinkage import root

MEAN_RIDGES = (1e-6, 3.0, 30.0)  # rows' worth of pull towards "no effect"
SCALE_RIDGES = (3.0, 30.0, 300.0, np.inf)  # infinite: one covariance for all
STEPS = 60  # of L-BFGS
MOST_GROUPS = 250  # distinct rows of the design up to which each has a covariance of its own
LOG2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Affine:
    """A fitted affine mechanism of an (n, r) vector.

    Attributes
    ----------
    centre : (q,)
        Mean of the design.
    intercept, slope : (r,), (q, r)
        m(pa) = intercept + (D - centre) slope.
    lower, inverse : (r, j), (j, r)
        R and its left inverse; j < r where x is degenerate.
    effects : (q + 1, j, j)
        log Σ(pa) = effects_0 + sum over columns of the design (D - centre)_k effects_k.
    """

    centre: Float[ndarray, " q"]
    intercept: Float[ndarray, " r"]
    slope: Float[ndarray, "q r"]
    lower: Float[ndarray, "r j"]
    inverse: Float[ndarray, "j r"]
    effects: Float[ndarray, "p j j"]

    @property
    def width(self) -> int:
        """Coordinates of the noise."""
        return int(self.lower.shape[1])

    def abduct(self, x: Float[ndarray, "n r"], d: Float[ndarray, "n q"]) -> Float[ndarray, "n j"]:
        """Return the noise u of rows whose causes have design d."""
        y = (x - self.mean(d)) @ self.inverse.T
        return _powered(self._logs(d), y, -0.5)

    def predict(self, u: Float[ndarray, "n j"], d: Float[ndarray, "n q"]) -> Float[ndarray, "n r"]:
        """Return x for noise u under causes of design d."""
        return self.mean(d) + _powered(self._logs(d), u, 0.5) @ self.lower.T

    def log_scale(self, d: Float[ndarray, "n q"]) -> Float[ndarray, " n"]:
        """Return log |dx/du| of each row, within the span of x."""
        volume = float(np.log(np.linalg.svd(self.lower, compute_uv=False)).sum())
        values, _, row = self._logs(d)
        return volume + 0.5 * values.sum(axis=1)[row]

    def log_prob(self, x: Float[ndarray, "n r"], d: Float[ndarray, "n q"]) -> Float[ndarray, " n"]:
        """Return the log density of each row."""
        u = self.abduct(x, d)
        return -0.5 * ((u**2).sum(axis=1) + self.width * LOG2PI) - self.log_scale(d)

    def mean(self, d: Float[ndarray, "n q"]) -> Float[ndarray, "n r"]:
        """Return m(pa)."""
        return self.intercept + (d - self.centre) @ self.slope

    def _logs(self, d: Float[ndarray, "n q"]) -> tuple[ndarray, ndarray, Int[ndarray, " n"]]:
        """Return eigenvalues and eigenvectors of log Σ for each distinct row, and its row."""
        if not self.effects.any():
            return np.zeros((1, self.width)), np.eye(self.width)[None], np.zeros(len(d), int)
        rows, place = np.unique(d - self.centre, axis=0, return_inverse=True)
        logs = np.einsum("gq,qij->gij", _with_one(rows), self.effects)
        return (*np.linalg.eigh(logs), place.ravel())


def _powered(logs: tuple[ndarray, ndarray, ndarray], y: ndarray, power: float) -> ndarray:
    """Return Σ^power y for each row."""
    values, vectors, row = logs
    if len(values) == 1 and not values.any():
        return y
    out = np.empty_like(y)
    order = np.argsort(row, kind="stable")
    for here in np.split(order, np.flatnonzero(np.diff(row[order])) + 1):
        v = vectors[row[here[0]]]
        out[here] = ((y[here] @ v) * np.exp(power * values[row[here[0]]])) @ v.T
    return out


def fit_affine(
    x: Float[ndarray, "n r"],
    d: Float[ndarray, "n q"],
    train: Int[ndarray, " t"],
    held_out: Int[ndarray, " h"],
    *,
    rows: Int[ndarray, " k"] | None = None,
) -> Affine:
    """Fit by penalised maximum likelihood, the penalties chosen on held-out patients.

    Parameters
    ----------
    train, held_out : rows
        Other patients each.
    rows : rows, optional
        Which to fit with the chosen penalties; by default all.
    """
    everything = np.arange(len(x)) if rows is None else rows
    means = {a: _mean(x[train], d[train], a) for a in MEAN_RIDGES}
    best = max(means, key=lambda a: -((x[held_out] - means[a].mean(d[held_out])) ** 2).sum())
    start = _rooted(means[best], x[train], d[train])
    found = {b: _scaled(start, x[train], d[train], b) for b in SCALE_RIDGES}
    told = {b: one.log_prob(x[held_out], d[held_out]).sum() for b, one in found.items()}
    ridge = max(told, key=lambda b: told[b])
    x, d = x[everything], d[everything]
    return _scaled(_rooted(_mean(x, d, best), x, d), x, d, ridge)


def _mean(x: ndarray, d: ndarray, ridge: float) -> Affine:
    """Return the mechanism whose mean is fitted by ridge regression, with no noise yet."""
    m = cell_moments(x, d)
    r = x.shape[1]
    middle, scatter = m.mean[0], m.scatter[0]
    own = scatter[r:, r:] + ridge * np.eye(d.shape[1])
    slope = np.linalg.pinv(own, rcond=1e-10, hermitian=True) @ scatter[r:, :r]
    none = np.zeros((0, 0))
    return Affine(middle[r:], middle[:r], slope, none, none, none)


def _rooted(affine: Affine, x: ndarray, d: ndarray) -> Affine:
    """Return the mechanism with one covariance for all."""
    left = x - affine.mean(d)
    lower, inverse = root(cell_moments(left).within()[0].zz)
    none = np.zeros((d.shape[1] + 1, lower.shape[1], lower.shape[1]))
    return Affine(affine.centre, affine.intercept, affine.slope, lower, inverse, none)


def _scaled(affine: Affine, x: ndarray, d: ndarray, ridge: float) -> Affine:
    """Return the mechanism with log Σ fitted: minimise -log p + ridge/4 sum |effects_k|^2, k > 0.

    Under independence an entry of log Σ is estimated from n rows with variance 2/n on the diagonal,
    so that ``ridge`` counts rows.  The likelihood needs no more than a scatter for each distinct
    row of the design; where numbers make those many, rows alike are put together, r > 1.
    """
    q, j = d.shape[1], affine.width
    if not q or not j or not np.isfinite(ridge):
        return affine
    y = (x - affine.mean(d)) @ affine.inverse.T
    d = d - affine.centre
    group = _groups(d, MOST_GROUPS if j > 1 else len(d))
    count = np.bincount(group).astype(float)
    design = np.stack([np.bincount(group, column) for column in d.T], axis=1) / count[:, None]
    design = _with_one(design)
    pull = np.full((q + 1, 1, 1), ridge)
    pull[0] = 0.0
    scatter = np.zeros((len(count), j, j))
    for g in range(len(count)):
        part = y[group == g]
        scatter[g] = part.T @ part

    def loss(flat: ndarray) -> tuple[float, ndarray]:
        effects = flat.reshape(q + 1, j, j)
        values, vectors = np.linalg.eigh(np.einsum("gq,qij->gij", design, effects))
        inside = np.einsum("gai,gab,gbj->gij", vectors, scatter, vectors)
        shrink = np.exp(-values)
        value = 0.5 * (count @ values.sum(axis=1) + np.einsum("gii,gi->", inside, shrink))
        # d tr(S exp(-M)) = -V [(V'SV) * Phi] V',  Phi the divided differences of exp(-.)
        gap = values[:, :, None] - values[:, None, :]
        near = np.abs(gap) < 1e-6
        ratio = (shrink[:, None, :] - shrink[:, :, None]) / np.where(near, 1.0, gap)
        ratio = np.where(near, shrink[:, :, None], ratio)
        inner = vectors @ (inside * ratio) @ vectors.transpose(0, 2, 1)
        slope = 0.5 * (count[:, None, None] * np.eye(j) - inner)
        gradient = np.einsum("gq,gij->qij", design, slope) + 0.5 * pull * effects
        return value + 0.25 * float((pull * effects**2).sum()), gradient.ravel()

    settings: dict[str, Any] = {"maxiter": STEPS}
    found = minimize(loss, np.zeros((q + 1) * j * j), jac=True, method="L-BFGS-B", options=settings)
    effects = found.x.reshape(q + 1, j, j)
    effects = (effects + effects.transpose(0, 2, 1)) / 2
    return Affine(
        affine.centre, affine.intercept, affine.slope, affine.lower, affine.inverse, effects
    )


def _with_one(d: Float[ndarray, "n q"]) -> Float[ndarray, "n p"]:
    return np.hstack([np.ones((len(d), 1)), d])


def _groups(d: Float[ndarray, "n q"], most: int) -> Int[ndarray, " n"]:
    """Return a group for each row: its own design, or a coarser one where those are too many."""
    cut = d
    for parts in (0, 8, 4, 2, 1):
        if parts:
            cut = np.stack([_cut(column, parts) for column in d.T], axis=1)
        found = np.unique(cut, axis=0, return_inverse=True)[1].ravel()
        if found.max(initial=0) < most:
            break
    return found


def _cut(column: Float[ndarray, " n"], parts: int) -> Float[ndarray, " n"]:
    """Return a column as it is where it has few values, else its quantile cell."""
    if len(np.unique(column)) <= 2:
        return column
    edges = np.quantile(column, np.linspace(0, 1, parts + 1)[1:-1])
    return np.searchsorted(edges, column).astype(float)
