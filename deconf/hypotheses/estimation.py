"""Doubly robust estimates: a number and its influence values, films of a patient summed later.

Augmented inverse-probability weighting (Robins, Rotnitzky & Zhao 1994), cross-fitted
(Chernozhukov et al., "Double/debiased machine learning", Econometrics Journal 2018): right when
either the propensity or the outcome regression is, and at the usual rate when both are roughly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from deconf.errors import NotIdentified
from deconf.hypotheses.nuisances import Covariates, folds_of, means, probabilities
from deconf.maths.intervals import Interval, influence_interval

Folds = Sequence[tuple[ndarray, ndarray]]


@dataclass(frozen=True)
class Propensity:
    """P(level | held) of every row, and which rows have enough of every level.

    Attributes
    ----------
    values : (n, levels) float
    kept : (n,) bool
        No level has a probability below the trim.
    """

    values: Float[ndarray, "n levels"]
    kept: Bool[ndarray, " n"]
    folds: Folds

    @property
    def trimmed(self) -> float:
        """Share of the rows left out for want of overlap."""
        return float(1 - self.kept.mean())


@dataclass(frozen=True)
class Means:
    """The mean outcome had everybody had each level.

    Attributes
    ----------
    estimates : (levels,) float
    influence : (n, levels) float
        Centred; 0 for rows left out, scaled so that the mean over all n is the error.
    """

    estimates: Float[ndarray, " levels"]
    influence: Float[ndarray, "n levels"]
    patients: Int[ndarray, " n"]

    def difference(self, level: int, reference: int) -> Interval:
        """Return the mean at a level less that at the reference."""
        phi = self.influence[:, level] - self.influence[:, reference]
        gap = float(self.estimates[level] - self.estimates[reference])
        return influence_interval(gap, phi, self.patients)

    def ratio(self, level: int, reference: int) -> Interval:
        """Return the ratio of the two means, interval on the log scale."""
        one, nil = float(self.estimates[level]), float(self.estimates[reference])
        if one <= 0 or nil <= 0:
            return Interval(math.nan, math.nan, math.nan)
        phi = self.influence[:, level] / one - self.influence[:, reference] / nil
        log = influence_interval(math.log(one / nil), phi, self.patients)
        return Interval(math.exp(log.estimate), math.exp(log.low), math.exp(log.high))


def propensity(
    x: Covariates,
    level: Int[ndarray, " n"],
    patients: Int[ndarray, " n"],
    *,
    trim: float,
    seed: int = 0,
) -> Propensity:
    """Fit the probabilities of the levels out of fold, and mark rows without overlap.

    A row lacks overlap where a level has a probability below ``trim``; of a rare level, below a
    fifth of its share.
    """
    folds = folds_of(patients, level, seed)
    values = probabilities(x, level, folds)
    share = np.bincount(level, minlength=values.shape[1]) / len(level)
    kept = np.all(values >= np.minimum(trim, share / 5), axis=1)
    return Propensity(values, np.asarray(kept), folds)


def crude(y: Float[ndarray, " n"], level: Int[ndarray, " n"], patients: ndarray) -> Means:
    """Return plain means by level: no adjustment."""
    count = int(level.max()) + 1
    at = level[:, None] == np.arange(count)
    estimates = (at * y[:, None]).sum(0) / at.sum(0)
    influence = at / at.mean(0) * (y[:, None] - estimates)
    return Means(estimates, influence, patients)


def weighted(
    y: Float[ndarray, " n"], level: Int[ndarray, " n"], weights: ndarray, patients: ndarray
) -> Means:
    """Return weighted means by level; the weights count as known.

    For inverse-probability weights that makes intervals a little long (Hirano, Imbens & Ridder,
    Econometrica 2003); for overlap weights, whose population moves with the fit, it is an
    approximation in either direction.
    """
    count = int(level.max()) + 1
    at = (level[:, None] == np.arange(count)) * weights[:, None]
    estimates = (at * y[:, None]).sum(0) / at.sum(0)
    influence = at / at.mean(0) * (y[:, None] - estimates)
    return Means(estimates, influence, patients)


def doubly_robust(
    x: Covariates,
    y: Float[ndarray, " n"],
    level: Int[ndarray, " n"],
    patients: Int[ndarray, " n"],
    known: Propensity,
) -> Means:
    """Return AIPW means: ``μ_a(x) + 1{A = a} / e_a(x) · (y − μ_a(x))``, weights of mean one.

    Over the rows kept: where some were left out for want of overlap, it speaks for the others.
    """
    if not x.raw.shape[1]:
        return crude(y, level, patients)
    count = known.values.shape[1]
    kept = known.kept
    phi = np.zeros((len(y), count))
    for a in range(count):
        at = (level == a) & kept
        mu = means(x, y, known.folds, at)
        w = np.where(at, 1 / known.values[:, a], 0.0)
        w *= kept.sum() / w.sum()  # stabilised (Hájek)
        phi[:, a] = mu + w * (y - mu)
    estimates = phi[kept].mean(axis=0)
    influence = np.where(kept[:, None], phi - estimates, 0.0) / kept.mean()
    return Means(estimates, influence, patients)


def front_door(
    m: Covariates,
    y: Float[ndarray, " n"],
    level: Int[ndarray, " n"],
    patients: Int[ndarray, " n"],
    known: Propensity,
) -> Means:
    """Return front-door means by their efficient influence function.

    Fulcher, Shpitser, Marealle & Tchetgen Tchetgen, "Robust inference on population indirect
    causal effects", JRSS B 2020, theorem 1 without covariates.  The ratio of mediator densities
    is turned by Bayes into ``P(a | m) / P(A | m) · P(A) / P(a)``, so that ``known`` is the
    probability of each level given the *mediators*.
    """
    count = known.values.shape[1]
    share = np.bincount(level, minlength=count) / len(level)
    by_level = np.stack([means(m, y, known.folds, level == a) for a in range(count)], axis=1)
    own = known.values[np.arange(len(y)), level]
    h = by_level @ share  # Σ_a' P(a') E[y | m, a']
    phi = np.empty((len(y), count))
    for a in range(count):
        ratio = known.values[:, a] / own * share[level] / share[a]
        ratio *= len(y) / ratio.sum()
        residual = y - by_level[np.arange(len(y)), level]
        base = h[level == a].mean()
        moved = by_level[level == a].mean(axis=0)[level]  # E[ E[y | m, A] | a ], at each row's A
        phi[:, a] = ratio * residual + (level == a) / share[a] * (h - base) + moved
    estimates = phi.mean(axis=0)
    return Means(estimates, phi - estimates, patients)


def partially_linear(
    x: Covariates,
    y: Float[ndarray, " n"],
    a: Float[ndarray, " n"],
    patients: Int[ndarray, " n"],
    cause: str,
    *,
    seed: int = 0,
) -> Interval:
    """Return the slope of y on a continuous cause, both rid of what is held (Robinson 1988).

    ``θ = Σ ã ỹ / Σ ã²`` with out-of-fold residuals.

    Raises
    ------
    NotIdentified
        What is held leaves less than 1 % of the variance of the cause.
    """
    folds = folds_of(patients, np.zeros(len(y), dtype=int), seed)
    rest_a, rest_y = a - means(x, a, folds), y - means(x, y, folds)
    left = float((rest_a**2).mean() / a.var())
    if left < 0.01:
        raise NotIdentified(
            f"what is held decides {cause!r} to {100 * (1 - left):.1f} %: nothing is left of it to "
            "have an effect. Hold less, or collect rows in which they differ."
        )
    theta = float((rest_a * rest_y).sum() / (rest_a**2).sum())
    phi = rest_a * (rest_y - theta * rest_a) / (rest_a**2).mean()
    return influence_interval(theta, phi, patients)
