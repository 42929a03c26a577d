"""The sensitivity table of an effect: how strong an unmeasured confounder would have to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from deconf.causal.weights import spline_basis
from deconf.hypotheses.estimation import Means, doubly_robust, propensity
from deconf.hypotheses.nuisances import Covariates
from deconf.maths.intervals import Interval
from deconf.maths.sensitivity import (
    Benchmark,
    benchmarks,
    e_value,
    e_value_of_limit,
    regression,
)

COLUMNS = ["measure", "against", "value", "says"]
STREAM = 20_100  # of random numbers, so that no column drawn from the bare seed is met again
STRENGTHS = (1.0, 2.0, 3.0)


def sensitivity(
    table: pd.DataFrame,
    given: Sequence[str],
    y: ndarray,
    a: ndarray,
    ratio: Interval | None,
) -> pd.DataFrame:
    """Return robustness values, benchmarks on what is held, and E-values.

    Parameters
    ----------
    table : DataFrame of n rows
        Holds ``given``.
    y, a : (n,) float
        Outcome, and the cause as 0 and 1 or a number.
    ratio : Interval or None
        Risk ratio, for the E-value.
    """
    blocks = {name: spline_basis(table[[name]]) for name in given}
    design = np.hstack([np.zeros((len(y), 0)), *blocks.values()])
    line = regression(y, a, design)
    rows: list[dict[str, Any]] = []
    if not math.isnan(line.se) and line.se > 0:
        rv, rv_chance = line.robustness(), line.robustness(alpha=0.05)
        rows.append(
            _row("robustness value", "no effect", rv,
                 f"a confounder that explains {_percent(rv)} of what is left of both cause and "
                 "outcome would explain the estimate away")
        )  # fmt: skip
        rows.append(
            _row("robustness value, 95 %", "within chance", rv_chance,
                 f"one that explains {_percent(rv_chance)} of both would bring it within chance")
        )  # fmt: skip
        for mark in benchmarks(y, a, blocks, STRENGTHS):
            name = f"{mark.k:g} x {mark.name}"
            rows.append(_row(name, "estimate left", mark.adjusted, _told(mark)))
    if ratio is not None and not math.isnan(ratio.estimate):
        e, e_limit = e_value(ratio.estimate), e_value_of_limit(ratio.low, ratio.high)
        rows.append(
            _row("E-value", "risk ratio", e,
                 f"an unmeasured confounder must raise both by a factor {e:.2f}")
        )  # fmt: skip
        rows.append(
            _row("E-value of the limit", "risk ratio", e_limit,
                 f"and by {e_limit:.2f} to bring the interval to no effect")
        )  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def tipping_point(
    x: Covariates,
    y: ndarray,
    level: ndarray,
    patients: ndarray,
    *,
    contrast: tuple[int, int],
    estimate: float,
    trim: float,
    strengths: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """Simulate an unmeasured confounder of rising strength, hold it, and estimate again.

    ``U = √r (ã ± ỹ) + √(1 − 2r) noise``, with ã the standardised residual of the cause given what
    is held and ỹ that of the outcome given both: its partial R² is r with the cause and r / (1 − r)
    with the outcome, and its sign is the one that explains the estimate.
    """
    rng = np.random.default_rng([seed, STREAM])
    two = np.isin(level, contrast)  # of other levels it is noise alone
    design = np.column_stack([np.ones(len(y)), x.splines])[two]
    a = (level == contrast[0]).astype(float)[two]
    rest_a = _standard(_residual(design, a))
    rest_y = _standard(_residual(np.column_stack([design, a]), y[two]))
    sign = math.copysign(1.0, estimate)
    rows = []
    for r in strengths:
        u = rng.standard_normal(len(y))
        u[two] = math.sqrt(r) * (rest_a + sign * rest_y) + math.sqrt(max(1 - 2 * r, 0.0)) * u[two]
        held = Covariates(np.column_stack([x.splines, u]), np.column_stack([x.raw, u]))
        left = _difference(held, y, level, patients, contrast, trim, seed)
        rows.append(
            _row(f"simulated confounder, R² {r:g}", "estimate left", left.estimate,
                 f"{left.estimate:.3g} [{left.low:.3g}, {left.high:.3g}] would be left"
                 + ("" if min(sign * left.low, sign * left.high) > 0 else ": explained away"))
        )  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def _difference(
    x: Covariates,
    y: ndarray,
    level: ndarray,
    patients: ndarray,
    contrast: tuple[int, int],
    trim: float,
    seed: int,
) -> Interval:
    known = propensity(x, level, patients, trim=trim, seed=seed)
    found: Means = doubly_robust(x, y, level, patients, known)
    return found.difference(*contrast)


def _residual(design: ndarray, of: ndarray) -> ndarray:
    fitted: ndarray = of - design @ np.linalg.lstsq(design, of, rcond=None)[0]
    return fitted


def _standard(values: ndarray) -> ndarray:
    scaled: ndarray = values / values.std()
    return scaled


def _told(mark: Benchmark) -> str:
    if math.isnan(mark.adjusted):
        return f"{mark.name} is so strong that no confounder can be {mark.k:g} times as strong"
    times = "" if mark.k == 1 else f"{mark.k:g} times "
    left = "nothing, or turn the sign" if mark.is_past_nil else f"{mark.adjusted:.3g}"
    return f"a confounder {times}as strong as {mark.name} would leave {left}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _row(measure: str, against: str, value: float, says: str) -> dict[str, Any]:
    return {"measure": measure, "against": against, "value": value, "says": says}
