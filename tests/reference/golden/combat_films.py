"""The films that ComBat is tried on; numpy alone, so that the reference package can draw them."""

from __future__ import annotations

import numpy as np
from numpy import ndarray


def films() -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Return z (150, 6), site, disease and age (standardised) of the training films."""
    rng = np.random.RandomState(97)
    site = np.repeat([0, 1, 2], [70, 50, 30])
    disease = (rng.uniform(size=150) < np.array([0.3, 0.5, 0.7])[site]).astype(int)
    age = np.round(rng.normal(size=150) + 0.3 * site, 2).astype(np.float32).astype(float)
    z = rng.normal(size=(150, 6)) * np.array([1.0, 1.6, 0.7])[site][:, None]
    z += rng.normal(size=(3, 6))[site] + 1.5 * disease[:, None] + 0.4 * age[:, None]
    return z, site, disease, age


def new_sites() -> tuple[ndarray, ndarray]:
    """Return z (120, 6) and site of three sites that the fit has not met."""
    rng = np.random.RandomState(98)
    site = np.repeat([7, 8, 9], 40)
    return rng.normal(size=(120, 6)) * np.array([0.5, 1.0, 2.0])[site - 7][:, None] + site[
        :, None
    ], site
