"""AUROCs with a closed-form covariance, for films clustered in patients.

Each film has a *placement value*: the share of films of the other class it beats.  An AUROC is
their mean, and its variance is theirs, summed within patients first, because the films of one
patient rise and fall together.

Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53 (1997).  With
one film per patient it is DeLong, DeLong & Clarke-Pearson, Biometrics 44 (1988); placement
values by ranks as in Sun & Xu, IEEE Signal Processing Letters 21 (2014).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Real, Shaped

from deconf.errors import CohortError
from deconf.maths.intervals import Interval, factorised
from deconf.maths.paired import two_classes

# A variance below this share of the two it comes from is what rounding leaves of zero.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Difference:
    """A paired difference of two AUROCs.

    Attributes
    ----------
    interval : Interval
        Estimate and limits, by the normal approximation.
    standard_error : float
    p : float
        Two-sided, of no difference; ``nan`` where the variance is zero and the estimate is not.
    """

    interval: Interval
    standard_error: float
    p: float


@dataclass(frozen=True)
class ClusteredAUROCs:
    """AUROCs of several scores on the same films, and how they vary together.

    Attributes
    ----------
    areas : (k,) array
    covariance : (k, k) array
        Of the areas, over repeated samples of patients.
    patients : int
        How many there are: the approximation is one in the number of patients, not of films.
    """

    areas: Float[np.ndarray, " k"]
    covariance: Float[np.ndarray, "k k"]
    patients: int

    def interval(self, which: int = 0, level: float = 0.95) -> Interval:
        """Return one AUROC with its interval, cut at 0 and 1.

        The limits are ``nan`` where the variance is zero: scores that separate the classes
        perfectly (or are constant) do not say how far the next patients may fall from that.
        """
        area, variance = float(self.areas[which]), float(self.covariance[which, which])
        if variance <= 0:
            return Interval(area, math.nan, math.nan, level)
        half = _two_sided(level) * math.sqrt(variance)
        return Interval(area, max(0.0, area - half), min(1.0, area + half), level)

    def difference(self, first: int = 0, second: int = 1, level: float = 0.95) -> Difference:
        """Return AUROC ``first`` - AUROC ``second``, paired.

        Two scores that rank all films alike differ by 0 with the interval [0, 0] and p = 1.
        """
        estimate = float(self.areas[first] - self.areas[second])
        own = self.covariance[first, first] + self.covariance[second, second]
        variance = float(own - 2 * self.covariance[first, second])
        if variance > ROUNDING * own:
            error = math.sqrt(variance)
            half = _two_sided(level) * error
            p = 2 * NormalDist().cdf(-abs(estimate) / error)
            return Difference(Interval(estimate, estimate - half, estimate + half, level), error, p)
        alike = own > 0 and abs(estimate) < ROUNDING
        limit = 0.0 if alike else math.nan
        p = 1.0 if abs(estimate) < ROUNDING else math.nan
        return Difference(Interval(estimate, limit, limit, level), 0.0, p)


def delong(
    scores: Real[np.ndarray, "n ..."],
    label: Shaped[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"] | None = None,
) -> ClusteredAUROCs:
    """Return AUROCs and their covariance, films clustered in patients.

    With X the positives and Y the negatives, D_i the sum over patient i of V₁₀ - θ and N_i that
    of V₀₁ - θ (Obuchowski 1997, equations 4 to 6)::

        cov = I₁₀/(I₁₀-1) Σ D_i D_iᵀ / m²  +  I₀₁/(I₀₁-1) Σ N_i N_iᵀ / n²
              +  I/(I-1) Σ (D_i N_iᵀ + N_i D_iᵀ) / (m n)

    m positives of I₁₀ patients, n negatives of I₀₁ patients, I patients in all.  The last term
    is the patient who has films of both classes.

    Parameters
    ----------
    scores : (n,) or (n, k) array
        Higher means more likely positive; one column per score.
    label : (n,) array of bool or of 0 and 1
    patients : (n,) array, optional
        Default: every film is its own patient, the ordinary DeLong.  Pass sites to cluster by
        site, where there are many of them.

    Raises
    ------
    CohortError
        Where lengths differ, a score is nan, there is one class only, or a class has films of
        a single patient.

    Examples
    --------
    >>> label = np.array([0, 0, 0, 1, 1, 1])
    >>> found = delong(np.array([1.0, 2.0, 4.0, 3.0, 5.0, 6.0]), label)
    >>> print(found.interval())
    0.89 [0.58, 1.00]
    """
    columns = scores.reshape(len(scores), -1)
    who = np.arange(len(columns)) if patients is None else factorised(patients)
    positive = two_classes(columns, label, who)
    count = int(who.max()) + 1
    ill, well = who[positive], who[~positive]
    of_ill, of_well = len(np.unique(ill)), len(np.unique(well))
    if min(of_ill, of_well) < 2:
        name = "positive" if of_ill < 2 else "negative"
        raise CohortError(
            f"the {name} films are all of one patient: a variance over patients needs two of each "
            "class. Without patients= every film counts as its own patient, if you will defend it."
        )
    areas = np.empty(columns.shape[1])
    d, n = np.empty((2, count, columns.shape[1]))
    for k, column in enumerate(columns.T):
        v10, v01 = _placements(column[positive], column[~positive])
        areas[k] = v10.mean()
        d[:, k] = np.bincount(ill, weights=v10 - areas[k], minlength=count) / len(v10)
        n[:, k] = np.bincount(well, weights=v01 - areas[k], minlength=count) / len(v01)
    both = d.T @ n * _bessel(count)
    covariance = d.T @ d * _bessel(of_ill) + n.T @ n * _bessel(of_well) + both + both.T
    return ClusteredAUROCs(areas, covariance, count)


def _placements(
    x: Real[np.ndarray, " m"], y: Real[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " n"]]:
    """Return the share of negatives each positive beats, and of positives that beat each negative.

    A tie counts one half: the mean of the ranks from the left and from the right.
    """
    up, down = np.sort(x), np.sort(y)
    beaten = np.searchsorted(down, x, side="left") + np.searchsorted(down, x, side="right")
    passed = np.searchsorted(up, y, side="left") + np.searchsorted(up, y, side="right")
    return beaten / (2 * len(y)), 1 - passed / (2 * len(x))


def _bessel(count: int) -> float:
    return count / (count - 1)


def _two_sided(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
