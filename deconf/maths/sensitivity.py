"""How strong an unmeasured confounder would have to be to explain an estimate away.

*Partial R²* (Cinelli & Hazlett, "Making sense of sensitivity: extending omitted variable bias",
JRSS B 2020, https://doi.org/10.1111/rssb.12348): a confounder that explains a share ``r_d`` of
what is left of the cause and ``r_y`` of what is left of the outcome moves a regression
coefficient by ``se √df √(r_y r_d / (1 − r_d))``.  *E-value* (VanderWeele & Ding, Annals of
Internal Medicine 2017, https://doi.org/10.7326/M16-2607): the risk ratio it must have with both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Regression:
    """A least-squares coefficient and what is needed to ask how it could be biased.

    Attributes
    ----------
    coefficient, se, df
        Of the cause; ordinary standard error, residual degrees of freedom.
    """

    coefficient: float
    se: float
    df: int

    @property
    def partial_r2(self) -> float:
        """Share of what the covariates leave of the outcome that the cause explains."""
        t2 = (self.coefficient / self.se) ** 2
        return t2 / (t2 + self.df)

    def robustness(self, *, alpha: float | None = None) -> float:
        """Return the robustness value: equal partial R² with both that would bring it to nil.

        ``RV = (√(f⁴ + 4f²) − f²) / 2`` with ``f = |t| / √df`` (their equation 18); with ``alpha``
        the strength that would bring it within the reach of chance, ``f − t_crit / √(df − 1)``
        (their equation 20).
        """
        f = abs(self.coefficient / self.se) / math.sqrt(self.df)
        if alpha is not None:
            from scipy.stats import t

            f -= float(t.ppf(1 - alpha / 2, self.df - 1)) / math.sqrt(self.df - 1)
        return 0.0 if f <= 0 else (math.sqrt(f**4 + 4 * f**2) - f**2) / 2

    def bias(self, r_d: float, r_y: float) -> float:
        """Return by how much a confounder of these partial R² moves the coefficient, at most."""
        if r_d >= 1:
            return math.inf
        return self.se * math.sqrt(self.df) * math.sqrt(r_y * r_d / (1 - r_d))


def regression(y: Floats, a: Floats, x: Floats) -> Regression:
    """Regress (n,) ``y`` on (n,) ``a`` and the columns of (n, k) ``x`` and an intercept.

    Examples
    --------
    >>> a = np.array([0.0, 1, 0, 1, 0, 1])
    >>> found = regression(2 * a + np.array([0, 0, 1, 1, -1, -1.0]), a, np.zeros((6, 0)))
    >>> round(found.coefficient, 3), found.df
    (2.0, 4)
    """
    rest_a, rest_y, rank = _without(x, a), _without(x, y), _rank(x)
    size = float(rest_a @ rest_a)
    df = len(y) - rank - 1
    if size <= 1e-12 * max(float(a @ a), 1.0) or df < 1:  # of the sum of squares: a is a sum of x
        return Regression(math.nan, math.nan, max(df, 0))
    coefficient = float(rest_a @ rest_y) / size
    left = rest_y - coefficient * rest_a
    return Regression(coefficient, math.sqrt(float(left @ left) / df / size), df)


@dataclass(frozen=True)
class Benchmark:
    """A confounder ``k`` times as strong as a measured column, and the estimate it would leave.

    Attributes
    ----------
    r_d, r_y : float
        Partial R² with the cause and with the outcome; 1 where no such confounder is possible.
    adjusted : float
        The coefficient moved towards zero by that much.
    coefficient : float
        As estimated.
    """

    name: str
    k: float
    r_d: float
    r_y: float
    adjusted: float
    coefficient: float = math.nan

    @property
    def is_past_nil(self) -> bool:
        """Whether such a confounder would explain the coefficient away, or more than that."""
        return self.adjusted * self.coefficient <= 0


def benchmarks(
    y: Floats, a: Floats, blocks: Mapping[str, Floats], strengths: tuple[float, ...] = (1, 2, 3)
) -> list[Benchmark]:
    """Bound a confounder by measured columns (their equations 52 to 57, for groups of columns).

    Parameters
    ----------
    blocks : mapping of name to (n, k) array
        The design of each measured column.
    """
    everything = np.hstack([np.zeros((len(y), 0)), *blocks.values()])
    full = regression(y, a, everything)
    found = []
    for name, block in blocks.items():
        others = np.hstack([np.zeros((len(y), 0)), *(b for n, b in blocks.items() if n != name)])
        d = _share(block, a, others)
        out = _share(block, y, np.column_stack([others, a]))
        for k in strengths:
            if d >= 1 or k * d >= 1:
                found.append(Benchmark(name, k, 1.0, 1.0, math.nan))
                continue
            r_d = k * d / (1 - d)
            r_z = k * d**2 / ((1 - k * d) * (1 - d))
            if r_d >= 1 or r_z >= 1 or out >= 1:
                found.append(Benchmark(name, k, min(r_d, 1.0), 1.0, math.nan))
                continue
            eta = (math.sqrt(k) + math.sqrt(r_z)) / math.sqrt(1 - r_z)
            r_y = min(eta**2 * out / (1 - out), 1.0)
            size = abs(full.coefficient) - full.bias(r_d, r_y)
            left = math.copysign(1, full.coefficient) * size
            found.append(Benchmark(name, k, r_d, r_y, left, full.coefficient))
    return found


def e_value(ratio: float) -> float:
    """Return the E-value of a risk ratio: ``RR + √(RR (RR − 1))``, of 1/RR below one.

    Examples
    --------
    >>> round(e_value(3.9), 2), round(e_value(1 / 3.9), 2), e_value(1.0)
    (7.26, 7.26, 1.0)
    """
    if not ratio > 0:
        return math.nan
    rr = max(ratio, 1 / ratio)
    return rr + math.sqrt(rr * (rr - 1))


def e_value_of_limit(low: float, high: float) -> float:
    """Return the E-value of the limit nearest to one; 1 where the interval holds one.

    Examples
    --------
    >>> round(e_value_of_limit(1.8, 8.7), 2), e_value_of_limit(0.9, 1.4)
    (3.0, 1.0)
    """
    if math.isnan(low) or math.isnan(high):
        return math.nan
    return 1.0 if low <= 1 <= high else e_value(low if low > 1 else high)


def _without(x: Floats, of: Floats) -> Floats:
    """Return what a regression of ``of`` on x and an intercept leaves."""
    design = np.column_stack([np.ones(len(of)), x])
    fitted: Floats = design @ np.linalg.lstsq(design, of, rcond=None)[0]
    return of - fitted


def _rank(x: Floats) -> int:
    return int(np.linalg.matrix_rank(np.column_stack([np.ones(len(x)), x])))


def _share(block: Floats, of: Floats, given: Floats) -> float:
    """Return the partial R² of a block of columns with ``of``, given others."""
    before = _without(given, of)
    after = _without(np.column_stack([given, block]), of)
    left = float(before @ before)
    return 0.0 if left <= 0 else max(0.0, 1 - float(after @ after) / left)
