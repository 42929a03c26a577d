"""Which eigenvalues of a whitened covariance are more than noise.

For n rows of white noise in d dimensions all eigenvalues lie in ``(1 ± sqrt(d/n))^2``: only pairs
outside are a difference between levels (Marchenko & Pastur 1967; Johnstone 2001, spiked model).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

CROWDED = 0.1  # d/n above which covariances are too noisy to be matched at all
SLACK = 1.13  # multiple of the half-width: largest null eigenvalues exceed the edge by a little


@dataclass(frozen=True)
class Spikes:
    """Eigenpairs outside the band: values (r,), directions (d, r)."""

    values: Float[ndarray, " r"]
    directions: Float[ndarray, "d r"]


def spikes(
    whitened: Float[ndarray, "d d"], level: int, sizes: Float[ndarray, " L"]
) -> Spikes:
    """Return the eigenpairs of one level's covariance that leave the noise band.

    Whitening by the average of L levels puts part of a level's own noise into the yardstick, so
    the variance of a whitened entry is ``(1 - 1/L)^2 / n_c + sum over others of 1 / (L^2 n_o)``
    instead of ``1 / n_c``; for two equal levels the band is 0.7 of Marchenko and Pastur's.

    Parameters
    ----------
    level : int
        Which of the ``sizes`` the covariance belongs to.
    sizes : (L,)
        Independent rows of every level.
    """
    d, count = len(whitened), len(sizes)
    if d / sizes[level] > CROWDED:
        return Spikes(np.zeros(0), np.zeros((d, 0)))
    others = np.delete(sizes, level)
    noise = (1 - 1 / count) ** 2 / sizes[level] + np.sum(1 / others) / count**2
    gamma = np.sqrt(d * noise)
    values, vectors = np.linalg.eigh(whitened)
    low, high = 1 - SLACK * (1 - (1 - gamma) ** 2), 1 + SLACK * ((1 + gamma) ** 2 - 1)
    out = (values < low) | (values > high)
    return Spikes(np.clip(values[out], 1e-6, None), vectors[:, out])
