"""p-values adjusted for having asked more than once.

Holm holds the chance of *any* false alarm (use it for verdicts); Benjamini-Hochberg holds the
*share* of false alarms among what is reported (use it to screen).  A test that was not run is
``nan``: it stays ``nan`` and costs the others nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Real

from deconf.errors import SettingsError


def holm(p: Real[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Return Holm's adjusted p-values; ``nan`` (a test not run) stays ``nan``.

    Reject where the adjusted value is at most α, and the chance of one false rejection or more is
    at most α, however the tests depend on one another (Holm, "A simple sequentially rejective
    multiple test procedure", Scandinavian Journal of Statistics 1979).

    Raises
    ------
    SettingsError
        Where a value is no probability.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    adjusted, order, ordered = _ordered(p)
    # The i-th smallest of m is multiplied by m - i, and no later one may come out smaller.
    steps = ordered * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def benjamini_hochberg(p: Real[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Return Benjamini and Hochberg's adjusted p-values; ``nan`` stays ``nan``.

    Report where the adjusted value is at most q, and the expected share of false ones among the
    reported is at most q, for independent or positively dependent tests (Benjamini & Hochberg,
    "Controlling the false discovery rate", JRSS B 1995).

    Raises
    ------
    SettingsError
        Where a value is no probability.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, np.nan]))
    array([0.03, 0.04, 0.04,  nan])
    """
    adjusted, order, ordered = _ordered(p)
    # The i-th smallest of m is multiplied by m / i, and no earlier one may come out larger.
    steps = ordered * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(steps[::-1])[::-1])
    return adjusted


def _ordered(p: Real[np.ndarray, " m"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return room for the answer, the order of the tests that were run, and their p-values."""
    p = np.asarray(p, dtype=float)
    wrong = np.flatnonzero((p < 0) | (p > 1))
    if len(wrong):
        raise SettingsError(
            f"p-value {p[wrong[0]]:g} at position {wrong[0]} of {len(p)} is not between 0 and 1. "
            "Pass p-values, not statistics; nan for a test that was not run."
        )
    order = np.argsort(p, kind="stable")[: int((~np.isnan(p)).sum())]  # nan sorts last
    return np.full(len(p), np.nan), order, p[order]
