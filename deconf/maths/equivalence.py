"""Claiming that two things are the same, and saying what a study could have seen.

"No significant difference" is not "no difference".  Equivalence is claimed when both one-sided
tests against a margin reject; otherwise the smallest difference that would have been found says
how much a silent result is worth.

Schuirmann, "A comparison of the two one-sided tests procedure and the power approach", Journal
of Pharmacokinetics and Biopharmaceutics 15 (1987).  The variance of an AUROC is that of Hanley &
McNeil, Radiology 143 (1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Real, Shaped

from deconf.errors import SettingsError
from deconf.maths.intervals import Interval, factorised, interval


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a difference against ± a margin.

    Attributes
    ----------
    interval : Interval
        Estimate and limits at level 1 - 2α (90 % for α = 0.05): equivalence at α is this interval
        lying inside the margin.
    margin : float
        The largest difference that does not matter, in the unit of the estimate.
    p : float
        The larger of the two one-sided p-values; ``nan`` where the draws give none.
    alpha : float
    """

    interval: Interval
    margin: float
    p: float
    alpha: float = 0.05

    @property
    def is_equivalent(self) -> bool:
        """Whether both one-sided tests reject: the difference is smaller than the margin."""
        return self.p <= self.alpha

    def __str__(self) -> str:
        """Return the verdict in words, with interval and p."""
        found = self.interval
        verdict = (
            f"equivalent within ±{self.margin:g}"
            if self.is_equivalent
            else f"equivalence within ±{self.margin:g} not shown"
        )
        limits = f"[{found.low:+.3f}, {found.high:+.3f}] ({100 * found.level:g} %)"
        return f"{verdict}: difference {found.estimate:+.3f} {limits}, p = {self.p:.2g}"


def equivalence(
    estimate: float, standard_error: float, margin: float, *, alpha: float = 0.05
) -> Equivalence:
    """Test a difference against ± a margin, from its estimate and standard error.

    ``p = max(Φ((d - δ)/se), Φ(-(d + δ)/se))``; a standard error of 0 is taken at its word.

    Raises
    ------
    SettingsError
        Where the margin is not positive, α is not between 0 and 0.5, or the error is negative.

    Examples
    --------
    >>> print(equivalence(0.004, 0.01, margin=0.03))
    equivalent within ±0.03: difference +0.004 [-0.012, +0.020] (90 %), p = 0.0047
    """
    _check(margin, alpha)
    _check_error(standard_error)
    half = NormalDist().inv_cdf(1 - alpha) * standard_error
    found = Interval(estimate, estimate - half, estimate + half, _level(alpha))
    gap = margin - abs(estimate)  # the nearer limit is the harder test
    if standard_error == 0:
        return Equivalence(found, margin, float(gap <= 0), alpha)
    return Equivalence(found, margin, NormalDist().cdf(-gap / standard_error), alpha)


def equivalence_of_draws(
    draws: Real[np.ndarray, " draws"], estimate: float, margin: float, *, alpha: float = 0.05
) -> Equivalence:
    """Test a difference against ± a margin, from bootstrap draws of it.

    ``p = max over the two sides of (1 + #{draws beyond the margin}) / (B + 1)``: the percentile
    interval turned round, never below 1 / (B + 1).  Draws that are ``nan`` are left out, and
    where `interval` gives no limits there is no p either.

    Raises
    ------
    SettingsError
        As `equivalence`; and with too few draws to reach α at all.

    Examples
    --------
    >>> draws = np.linspace(-0.02, 0.025, 999)
    >>> equivalence_of_draws(draws, 0.003, margin=0.03).is_equivalent
    True
    """
    _check(margin, alpha)
    if len(draws) + 1 < 1 / alpha:
        raise SettingsError(
            f"{len(draws)} draws cannot give a p-value of {alpha:g}: take at least "
            f"{math.ceil(1 / alpha) - 1}, better 2,000."
        )
    found = interval(draws, estimate, _level(alpha))
    if math.isnan(found.low):
        return Equivalence(found, margin, math.nan, alpha)
    recorded = draws[~np.isnan(draws)]
    beyond = max(int((recorded >= margin).sum()), int((recorded <= -margin).sum()))
    return Equivalence(found, margin, (1 + beyond) / (1 + len(recorded)), alpha)


def minimum_detectable_effect(
    standard_error: float, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the smallest true difference a two-sided test at α finds with the given power.

    ``(z(1-α/2) + z(power)) se``, in the unit of the standard error (Bloom, "Minimum detectable
    effects", Evaluation Review 1995).

    Raises
    ------
    SettingsError
        Where α or the power is no probability that makes sense, or the error is negative.

    Examples
    --------
    >>> round(minimum_detectable_effect(0.01), 4)
    0.028
    """
    if not 0 < alpha < 1:
        raise SettingsError(f"alpha={alpha:g} is not between 0 and 1; 0.05 is usual.")
    if not alpha < power < 1:
        raise SettingsError(f"power={power:g} is not between alpha ({alpha:g}) and 1: try 0.8.")
    _check_error(standard_error)
    quantile = NormalDist().inv_cdf
    return (quantile(1 - alpha / 2) + quantile(power)) * standard_error


def hanley_mcneil(auroc: float, positives: float, negatives: float) -> float:
    """Return the standard error of an AUROC from its value and the two class sizes.

    ``se² = (A(1-A) + (m-1)(A/(2-A) - A²) + (n-1)(2A²/(1+A) - A²)) / (m n)`` (Hanley & McNeil 1982,
    exponential scores), for independent films.

    Raises
    ------
    SettingsError
        Where the AUROC is not in [0, 1] or a class has less than one film.

    Examples
    --------
    >>> round(hanley_mcneil(0.8, 50, 100), 4)
    0.0412
    """
    if not 0 <= auroc <= 1:
        raise SettingsError(f"an AUROC of {auroc:g} is not between 0 and 1.")
    if min(positives, negatives) < 1:
        raise SettingsError(
            f"{positives:g} positives and {negatives:g} negatives: an AUROC needs one of each."
        )
    square = auroc**2
    of_positives = (positives - 1) * (auroc / (2 - auroc) - square)
    of_negatives = (negatives - 1) * (2 * square / (1 + auroc) - square)
    return math.sqrt((auroc * (1 - auroc) + of_positives + of_negatives) / (positives * negatives))


def design_effect(patients: Shaped[np.ndarray, " n"], correlation: float) -> float:
    """Return by how much clustering films in patients multiplies a variance.

    ``1 + (Σ m_i² / Σ m_i - 1) ρ`` for patients with m_i films (Kish, "Survey Sampling", 1965): the
    number of films divided by it is the effective number.  It is for a label that is the same
    in all films of a patient; where films of both classes meet in one patient it is too large.

    Parameters
    ----------
    patients : (n,) array
    correlation : float in [0, 1]
        Of two films of one patient, within a class.  1: a second film adds nothing.

    Raises
    ------
    SettingsError
        Where the correlation is not in [0, 1].

    Examples
    --------
    >>> design_effect(np.array(["ann", "ann", "bo", "bo"]), 0.5)
    1.5
    """
    if not 0 <= correlation <= 1:
        raise SettingsError(f"a correlation of {correlation:g} within patients is not in [0, 1].")
    films = np.bincount(factorised(patients), minlength=1)
    return 1 + float((films**2).sum() / max(int(films.sum()), 1) - 1) * correlation


def minimum_detectable_auroc(
    positives: float,
    negatives: float,
    *,
    design_effect: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Return the smallest AUROC that would be told from 0.5.

    The standard error is that at 0.5, ``√((m+n+1)/(12 m n))``, times √design_effect.

    Raises
    ------
    SettingsError
        As `hanley_mcneil` and `minimum_detectable_effect`; where the design effect is below 1.

    Examples
    --------
    >>> round(minimum_detectable_auroc(100, 100), 3)
    0.615
    >>> round(minimum_detectable_auroc(100, 100, design_effect=2.0), 3)
    0.662
    """
    if design_effect < 1:
        raise SettingsError(f"a design effect of {design_effect:g} is below 1 (no clustering).")
    error = hanley_mcneil(0.5, positives, negatives) * math.sqrt(design_effect)
    return min(1.0, 0.5 + minimum_detectable_effect(error, alpha=alpha, power=power))


def in_words(
    estimate: float,
    standard_error: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    digits: int = 2,
) -> str:
    """Return what a test of no difference found, or what it would have found.

    Raises
    ------
    SettingsError
        As `minimum_detectable_effect`.

    Examples
    --------
    >>> in_words(0.004, 0.0107)
    'no difference found; differences above 0.03 would have been found with 80 % power'
    >>> in_words(0.041, 0.0107)
    'a difference of +0.04 was found, p = 0.00013'
    """
    detectable = minimum_detectable_effect(standard_error, alpha=alpha, power=power)
    far = abs(estimate) / standard_error if standard_error > 0 else math.inf * bool(estimate)
    p = 1.0 if math.isnan(far) else 2 * NormalDist().cdf(-far)
    if p < alpha:
        return f"a difference of {estimate:+.{digits}f} was found, p = {p:.2g}"
    return (
        f"no difference found; differences above {detectable:.{digits}f} would have been found "
        f"with {100 * power:g} % power"
    )


def _level(alpha: float) -> float:
    return round(1 - 2 * alpha, 12)  # 0.9, not 0.8999999999999999


def _check(margin: float, alpha: float) -> None:
    if not margin > 0:
        raise SettingsError(
            f"margin={margin:g} is not positive: it is the largest difference that does not "
            "matter, in the unit of the estimate (0.03 of AUROC, say)."
        )
    if not 0 < alpha < 0.5:
        raise SettingsError(f"alpha={alpha:g} is not between 0 and 0.5; 0.05 is usual.")


def _check_error(standard_error: float) -> None:
    if not 0 <= standard_error < math.inf:
        raise SettingsError(f"a standard error of {standard_error:g} is not a number from 0 up.")
