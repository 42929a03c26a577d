"""Which eigenvalues of a whitened covariance are more than noise.

For n rows of white noise in d dimensions all eigenvalues lie in ``(1 ± sqrt(d/n))^2``: only pairs
outside are a difference between levels (Marchenko & Pastur 1967; Johnstone, "On the distribution
of the largest eigenvalue in principal components analysis", 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from deconf.maths.shrinkage import root

CROWDED = 0.1  # d/n above which covariances are too noisy to be matched at all
SLACK = 1.13  # multiple of the half-width, for tails heavier than the normal's
TRACY_WIDOM = 2.5  # exceeded once in 200 by the extreme eigenvalue of one level, in its own units


@dataclass(frozen=True)
class Spikes:
    """Eigenpairs of a whitened covariance outside the band: values (j,), directions (r, j)."""

    values: Float[ndarray, " j"]
    directions: Float[ndarray, "r j"]


def spikes(
    sigmas: Float[ndarray, "L d d"], sizes: Float[ndarray, " L"]
) -> tuple[Float[ndarray, "d r"], Float[ndarray, "r d"], list[Spikes]]:
    """Return a root of the common covariance, its inverse, and where each level departs from it.

    The common covariance is the average of the levels that have rows enough; without two of those
    there is nothing to compare (r = 0).  It is not shrunk: rows are many here, and padding the
    yardstick alone would make every quiet direction look like a difference.

    Whitening by the average of L levels puts part of a level's own noise into the yardstick, so
    the variance of a whitened entry is ``(1 - 1/L)^2 / n_c + sum over others of 1 / (L^2 n_o)``
    instead of ``1 / n_c``; for two equal levels the band is 0.7 of Marchenko and Pastur's.

    Parameters
    ----------
    sigmas : (L, d, d)
        Covariance of every level.
    sizes : (L,)
        Independent rows of every level.
    """
    d = sigmas.shape[1]
    ample = d / sizes <= CROWDED
    if ample.sum() < 2:
        none = Spikes(np.zeros(0), np.zeros((0, 0)))
        return np.zeros((d, 0)), np.zeros((0, d)), [none] * len(sizes)
    lower, inverse = root(sigmas[ample].mean(axis=0))
    share, found = 1 / ample.sum(), []
    for sigma, n, fits in zip(sigmas, sizes, ample, strict=True):
        noise = (1 - share) ** 2 / n + share**2 * (np.sum(1 / sizes[ample]) - 1 / n)
        values, vectors = np.linalg.eigh(inverse @ sigma @ inverse.T)
        low, high = band(len(inverse), 1 / noise)
        out = ((values < low) | (values > high)) & fits
        found.append(Spikes(np.clip(values[out], 1e-6, None), vectors[:, out]))
    return lower, inverse, found


def band(d: int, n: float) -> tuple[float, float]:
    """Return the eigenvalues between which a white covariance of n rows in d dimensions stays.

    The edges of Marchenko and Pastur, widened by the fluctuation of the extreme eigenvalues
    (Johnstone 2001, theorem 1.1), which matters in few dimensions, or by `SLACK`.

    Examples
    --------
    >>> [round(edge, 2) for edge in band(64, 4000)]
    [0.73, 1.3]
    """
    edges = []
    for sign in (-1, 1):
        root_n, root_d = np.sqrt(n), sign * np.sqrt(d)
        edge = (root_n + root_d) ** 2 / n
        unit = (root_n + root_d) * abs(1 / root_n + 1 / root_d) ** (1 / 3) / n
        edges.append(1 + sign * max(SLACK * abs(edge - 1), abs(edge - 1) + TRACY_WIDOM * unit))
    return edges[0], edges[1]
