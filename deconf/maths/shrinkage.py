"""Covariances that can be inverted: OAS shrinkage, square roots, whitening of small blocks."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Shrinkage = float | Literal["oas"]
SINGULAR = 1e-9  # variance relative to the largest below which a coordinate counts as constant


def oas(sigma: Float[ndarray, "d d"], n: float, *, ambient: int | None = None) -> float:
    """Return the oracle-approximating share of identity in a covariance of n rows.

    Chen, Wiesel, Eldar & Hero, "Shrinkage algorithms for MMSE covariance estimation", 2010,
    equation 23.

    Parameters
    ----------
    ambient : int, optional
        Width of the space ``sigma`` lives in, where it was first restricted to its own span.
    """
    d = ambient or sigma.shape[0]
    trace, trace2 = np.trace(sigma), float(np.sum(sigma**2))
    above = (1 - 2 / d) * trace2 + trace**2
    below = (n + 1 - 2 / d) * (trace2 - trace**2 / d)
    return 1.0 if below <= 0 else float(np.clip(above / below, 0.0, 1.0))


def shrunk(
    sigma: Float[ndarray, "d d"], how: Shrinkage, n: float, *, ambient: int | None = None
) -> Float[ndarray, "d d"]:
    """Return ``(1 - rho) sigma + rho tr(sigma)/d I``, rho given or by `oas`."""
    rho = oas(sigma, n, ambient=ambient) if how == "oas" else float(how)
    out: ndarray = (1 - rho) * sigma
    out[np.diag_indices_from(out)] += rho * np.trace(sigma) / (ambient or sigma.shape[0])
    return out


def root(sigma: Float[ndarray, "d d"]) -> tuple[Float[ndarray, "d r"], Float[ndarray, "r d"]]:
    """Return R and a left inverse with ``sigma = R R^T``.

    Cholesky where it exists, since any root gives the same erasure and this one costs d^3/3; the
    eigenvectors above 1e-10 of the largest eigenvalue where sigma is singular.  Of the
    *correlations*, so that a feature in small units counts as much as one in large units.
    """
    scale = np.sqrt(np.diag(sigma).clip(0))
    scale[scale == 0] = 1.0  # a constant column stays a zero row
    correlation = sigma / np.outer(scale, scale)
    try:
        lower = np.linalg.cholesky(correlation)
        if np.diag(lower).min(initial=1.0) > 1e-5:
            return scale[:, None] * lower, _inverse_of_lower(lower) / scale
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(correlation)
    keep = values > 1e-10 * max(values[-1], np.finfo(float).tiny)
    spread = np.sqrt(values[keep])
    return scale[:, None] * vectors[:, keep] * spread, (vectors[:, keep] / spread).T / scale


def power(sigma: Float[ndarray, "r r"], exponent: float) -> Float[ndarray, "r r"]:
    """Return a symmetric power of a covariance, no variance taken for less than `SINGULAR`."""
    values, vectors = np.linalg.eigh(sigma)
    floor = SINGULAR * max(values[-1], np.finfo(float).tiny)
    out: ndarray = (vectors * np.maximum(values, floor) ** exponent) @ vectors.T
    return out


def _inverse_of_lower(lower: Float[ndarray, "d d"]) -> Float[ndarray, "d d"]:
    """Return the inverse of a triangular matrix by halves.

    scipy's solver would wake a second pool of BLAS threads, which then spin beside numpy's: on two
    cores every fit after the first took 40 % longer.
    """
    if len(lower) <= 64:
        small: ndarray = np.linalg.inv(lower)
        return small
    h = len(lower) // 2
    first, last = _inverse_of_lower(lower[:h, :h]), _inverse_of_lower(lower[h:, h:])
    out = np.zeros_like(lower)
    out[:h, :h], out[h:, h:] = first, last
    out[h:, :h] = -last @ (lower[h:, :h] @ first)
    return out


def inverse_root(sigma: Float[ndarray, "k k"]) -> Float[ndarray, "k r"]:
    """Return columns Q with ``Q^T sigma Q = I`` on the range of a small covariance."""
    return root(sigma)[1].T


def null_edge(
    spread: Float[ndarray, " d"],
    columns: int,
    n: float,
    *,
    seed: int,
    draws: int = 400,
    level: float = 0.975,
) -> float:
    """Return what chance alone gives the largest singular value of a whitened cross-covariance.

    Permuting the confounder within strata makes the cross-covariance normal, with covariance
    ``Sigma_zz (x) Sigma_cc / n``; drawing from that limit needs moments only, so a stream has the
    same rule as a batch, at any d/n.  The value is the ``level`` quantile over the draws.

    Parameters
    ----------
    spread : (d,)
        Variance of the embedding along each axis after whitening; below one where shrinkage
        has padded an axis, zero outside the span of the data.
    columns : int
        Columns of the whitened design (all strata together, where they are stacked).
    n : float
        Effective number of independent rows.
    """
    if columns == 0:
        return 0.0
    rng = np.random.default_rng(seed)
    scale = np.sqrt(np.clip(spread, 0, None) / n)[:, None]
    tops = [
        np.linalg.norm(scale * rng.standard_normal((len(spread), columns)), ord=2)
        for _ in range(draws)
    ]
    return float(np.quantile(tops, level))
