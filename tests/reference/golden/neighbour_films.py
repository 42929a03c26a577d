"""Small inputs on which deconf and the original packages were run, from a seeded line of numpy."""

from __future__ import annotations

import numpy as np
from numpy import ndarray


def films(copies: bool = False) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Return z (300, 10), site, biology and patient codes: four sites, three classes.

    With ``copies`` the last 60 rows repeat the first 60, codes and all: half of them as another
    film of the same patient, half as films of other patients.
    """
    rng = np.random.default_rng(7)
    n = 300
    patient = np.arange(n) // 2
    site = rng.integers(4, size=n // 2)[patient]
    biology = rng.integers(3, size=n // 2)[patient]
    z = rng.standard_normal((n, 10)) + 1.5
    z[:, :3] += 0.9 * np.eye(3)[biology]
    z[:, 3:7] += 1.5 * np.eye(4)[site]
    if copies:
        z[240:], site[240:], biology[240:] = z[:60], site[:60], biology[:60]
        patient[240:270] = patient[:30]
    return z, site, biology, patient


def slides() -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Return z (272, 10), site, biology, slide: 2 sites x 2 classes x 17 slides x 4 patches."""
    rng = np.random.default_rng(8)
    slide = np.arange(272) // 4
    site, biology = slide // 34, slide // 17 % 2
    z = rng.standard_normal((272, 10)) + rng.standard_normal((68, 10))[slide]
    z[:, 0] += 1.5 * biology
    z[:, 1] += 3.0 * site
    return z, site, biology, slide
