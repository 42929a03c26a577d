"""Whether stated risks are true: the gap to what is observed, the slope, the intercept."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

BINS = 10
# Newton steps of a logistic regression in one variable: it settles in five or six.
NEWTON = 12


def calibration_error(logit: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the expected calibration error over ten bins of equal size, (B,).

    ``Σ_b (n_b / n) |mean y - mean p|`` (Naeini, Cooper & Hauskrecht 2015).  Never below the noise
    of the bins: of two groups of films the smaller one looks worse, so compare intercepts instead.
    """
    p = expit(logit)
    bins = np.argsort(np.argsort(logit, kind="stable")) * BINS // max(len(logit), 1)
    gaps = np.zeros(len(weights))
    for b in np.unique(bins):
        inside = bins == b
        gaps += np.abs((weights[:, inside] * (y - p)[inside]).sum(1, dtype=float))
    total = weights.sum(1, dtype=float)
    return np.divide(gaps, total, out=np.full(len(weights), np.nan), where=total > 0)


def calibration_intercept(logit: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the calibration in the large, (B,): the log-odds that the stated risks lack.

    The intercept of a logistic regression of the outcome with the stated log-odds as an offset
    (Cox 1958; Steyerberg & Vergouwe, European Heart Journal 2014): 0 is calibrated, above 0 risks
    are stated too low, below 0 too high.  A shift of prevalence between sites shows here before
    anywhere else.  Solved for the films as they are, then one step for each row of weights, see
    `calibration_slope`.  nan where one class is missing.

    Examples
    --------
    One half is said of everybody, a quarter is ill:  log(1/3) is missing.

    >>> y = np.array([1.0, 0.0, 0.0, 0.0])
    >>> round(float(calibration_intercept(np.zeros(4), y, np.ones((1, 4)))[0]), 3)
    -1.099
    """
    if len(np.unique(y)) < 2:
        return np.full(len(weights), np.nan)
    share = np.log(y.mean() / (1 - y.mean()))
    # At the ends every stated risk lies on one side of the observed share; beyond 1e-9 for two
    # ends that coincide.
    ends = share - logit.max() - 1e-9, share - logit.min() + 1e-9
    a = float(brentq(lambda a: float((y - expit(logit + a)).sum()), *ends))
    p = expit(logit + a)
    gap = (weights @ (y - p)).astype(float)
    spread = (weights @ (p * (1 - p))).astype(float)
    both = ((weights @ y) > 0) & ((weights @ (1 - y)) > 0)
    step = np.divide(gap, spread, out=np.full(len(weights), np.nan), where=both & (spread > 0))
    return np.asarray(a + step)


def calibration_slope(logit: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the slope of a logistic regression of the outcome on the log-odds, (B,).

    1 is calibrated, below 1 overconfident (Cox 1958).  Solved for the films as they are; each
    row of weights then takes one Newton step from there, which differs from its own solution by
    less than the step's square (the one-step bootstrap; Davison & Hinkley 1997, section 2.7).
    nan where one class is missing or the scores separate the classes.
    """
    nothing = np.full(len(weights), np.nan)
    sd = logit.std() if len(logit) else 0.0
    if not sd > 0 or len(np.unique(y)) < 2:
        return nothing
    x = (logit - logit.mean()) / sd
    basis = np.stack([np.ones(len(x)), x, x**2], axis=1)
    a, b, before = 0.0, 1.0, np.nan
    for _ in range(NEWTON):
        before = b
        (a,), (b,) = _newton(np.ones((1, len(x))), basis, y, a, b)
    # Where the classes are separated every step adds about one, without end.
    if not abs(b - before) < 1e-6 * max(1.0, abs(b)):
        return nothing
    return np.asarray(_newton(weights, basis, y, a, b)[1] / sd)


def expit(x: np.ndarray) -> np.ndarray:
    """Return the risk of log-odds, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _newton(
    weights: np.ndarray, basis: np.ndarray, y: np.ndarray, a: float, b: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return intercept and slope after one Newton step, for each row of weights."""
    p = expit(a + b * basis[:, 1])
    v, g = weights @ (basis * (p * (1 - p))[:, None]), weights @ (basis * (y - p)[:, None])
    determinant = v[:, 0] * v[:, 2] - v[:, 1] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        step_a = (v[:, 2] * g[:, 0] - v[:, 1] * g[:, 1]) / determinant
        step_b = (v[:, 0] * g[:, 1] - v[:, 1] * g[:, 0]) / determinant
    return a + step_a, b + step_b
