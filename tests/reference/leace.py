"""LEACE within strata, as slowly as it can be written: loops, symmetric roots, full matrices.

Belrose et al. 2023, theorem 4.3, with the moments of each stratum taken one by one.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray


def weighted_covariance(a: ndarray, b: ndarray, w: ndarray) -> ndarray:
    """Return sum_i w_i (a_i - mean a)(b_i - mean b)^T / sum w, row by row."""
    mean_a, mean_b = (np.average(x, axis=0, weights=w) for x in (a, b))
    out = np.zeros((a.shape[1], b.shape[1]))
    for ai, bi, wi in zip(a, b, w, strict=True):
        out += wi * np.outer(ai - mean_a, bi - mean_b)
    return out / w.sum()


def power(sigma: ndarray, exponent: float) -> ndarray:
    """Return a power of a symmetric matrix on its range."""
    values, vectors = np.linalg.eigh(sigma)
    keep = values > 1e-9 * values.max()
    return (vectors[:, keep] * values[keep] ** exponent) @ vectors[:, keep].T


def erased(
    z: ndarray,
    c: ndarray,
    strata: ndarray,
    weights: ndarray,
    *,
    stacked: bool,
    shrinkage: float = 0.0,
) -> ndarray:
    """Return the embeddings after erasure at full rank."""
    sigma, targets = np.zeros((z.shape[1], z.shape[1])), []
    for s in np.unique(strata):
        rows = strata == s
        share = weights[rows].sum() / weights.sum()
        sigma += share * weighted_covariance(z[rows], z[rows], weights[rows])
        cross = weighted_covariance(z[rows], c[rows], weights[rows])
        if stacked:
            own = weighted_covariance(c[rows], c[rows], weights[rows])
            targets.append(np.sqrt(share) * cross @ power(own, -0.5))
        else:
            targets.append(share * cross)
    target = np.hstack(targets) if stacked else np.sum(targets, axis=0)
    d = len(sigma)
    sigma = (1 - shrinkage) * sigma + shrinkage * np.trace(sigma) / d * np.eye(d)
    whitening, colouring = power(sigma, -0.5), power(sigma, 0.5)
    u, size, _ = np.linalg.svd(whitening @ target, full_matrices=False)
    u = u[:, size > 1e-9 * size.max()]
    mean = np.average(z, axis=0, weights=weights)
    return z - (z - mean) @ whitening @ u @ u.T @ colouring
