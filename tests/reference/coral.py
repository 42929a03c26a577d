"""CORAL of one source and one target, as in algorithm 1 of Sun & Saenko 2016."""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from scipy.linalg import fractional_matrix_power


def coral(source: ndarray, covariance: ndarray, ridge: float = 1.0) -> ndarray:
    """Return the source whitened and coloured with another covariance; means are left alone."""
    eye = np.eye(source.shape[1])
    own = np.cov(source.T, bias=True) + ridge * eye
    middle = source.mean(axis=0)
    whitened = (source - middle) @ fractional_matrix_power(own, -0.5)
    return whitened @ fractional_matrix_power(covariance + ridge * eye, 0.5) + middle
