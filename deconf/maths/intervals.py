"""AUROC with ties and weights, and intervals that resample whole patients.

Films of one patient are not independent, so a bootstrap over films gives intervals that are
too short.  Here patients are drawn with replacement and bring all their films (Field & Welsh,
"Bootstrapping clustered data", JRSS B 2007).  A draw is a row of weights, not a list of rows:
every statistic takes the same ``(B, n)`` weights, which makes two representations *paired* by
construction and an AUROC over a thousand draws one sort.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Real, Shaped

from deconf.maths.multiplicity import holm as holm  # lived here; callers may keep the old import

# A resample may hold one class only and then has no AUROC.  Where more than this share of the
# draws is lost, the rest describe the lucky ones and no interval is given.
MOST_DRAWS_LOST = 0.2

# Draws are handled in blocks of about this many numbers, so that the copies stay small.
BLOCK = 1 << 19


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it.

    Examples
    --------
    >>> print(Interval(0.714, 0.652, 0.771))
    0.71 [0.65, 0.77]
    >>> print(Interval(0.714, 0.66, 0.76, level=0.9))
    0.71 [0.66, 0.76] (90 %)
    """

    estimate: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        """Return the estimate with its limits, two decimals; the level unless it is 95 %."""
        text = f"{self.estimate:.2f} [{self.low:.2f}, {self.high:.2f}]"
        return text if self.level == 0.95 else f"{text} ({100 * self.level:g} %)"


def auroc(
    score: Real[np.ndarray, " n"],
    label: Shaped[np.ndarray, " n"],
    weights: Real[np.ndarray, " n"] | None = None,
) -> float:
    """Return the area under the ROC curve; a tie counts one half.

    The chance that a random positive scores above a random negative (Hanley & McNeil 1982).
    ``nan`` where one class has no weight, or where a score is ``nan``.

    Parameters
    ----------
    score : (n,) array
        Higher means more likely positive.
    label : (n,) array of bool or of 0 and 1
    weights : (n,) array of non-negative numbers, optional
        A weight of two is a row written twice.

    Examples
    --------
    >>> auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1]))
    0.875
    """
    one = np.ones(len(score)) if weights is None else weights
    return float(weighted_aurocs(score, label, one[np.newaxis])[0])


def weighted_aurocs(
    score: Real[np.ndarray, " n"],
    label: Shaped[np.ndarray, " n"],
    weights: Real[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """Return `auroc` under each row of weights; the scores are sorted once.

    ``Σ_i w_i (N(<s_i) + N(≤s_i)) / 2 / (P N)`` over the positives i, where N(<s) is the weight of
    the negatives that score less than s: one running sum, read where each positive stands.
    Whole weights make whole sums, so ties and rows written twice come out exactly.
    """
    areas = np.full(len(weights), np.nan)
    if len(score) == 0 or np.isnan(score).any():
        return areas
    order = np.argsort(score, kind="stable")
    positive = label[order].astype(bool)
    at, beside = order[positive], order[~positive]
    below = np.searchsorted(score[beside], score[at], side="left")
    up_to = np.searchsorted(score[beside], score[at], side="right")
    tied = bool((below != up_to).any())
    step = min(len(weights), max(1, BLOCK // len(score)))
    running = np.zeros((step, len(beside) + 1))  # float64: whole numbers stay whole
    for start in range(0, len(weights), step):
        drawn = weights[start : start + step]
        n = running[: len(drawn)]  # `[:, rows]` lays the draws innermost: sums run along them
        np.cumsum(drawn[:, beside], axis=1, dtype=float, out=n[:, 1:])
        p = drawn[:, at].astype(float, copy=False)
        lost = n[:, below] + n[:, up_to] if tied else n[:, below]
        won = np.einsum("bi,bi->b", p, lost) / (1 + tied)
        pairs = p.sum(axis=1) * n[:, -1]
        np.divide(won, pairs, out=areas[start : start + step], where=pairs > 0)
    return areas


def stratified_auroc(
    score: Real[np.ndarray, " n"],
    label: Shaped[np.ndarray, " n"],
    strata: Shaped[np.ndarray, " n"],
    weights: Real[np.ndarray, " n"] | None = None,
) -> float:
    """Return the AUROC within strata, averaged by the number (weight) of rows in each.

    Only pairs of the same stratum are compared, so a score that knows no more than the stratum
    gets 0.5.  A stratum with a single class has no AUROC and is left out, average included.

    Examples
    --------
    >>> stratum = np.array([0, 0, 1, 1])
    >>> stratified_auroc(stratum, np.array([0, 1, 0, 1]), stratum)
    0.5
    """
    one = np.ones(len(score)) if weights is None else weights
    return float(stratified_aurocs(score, label, strata, one[np.newaxis])[0])


def stratified_aurocs(
    score: Real[np.ndarray, " n"],
    label: Shaped[np.ndarray, " n"],
    strata: Shaped[np.ndarray, " n"],
    weights: Real[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """Return `stratified_auroc` under each row of weights."""
    areas, sizes = [], []
    codes = factorised(strata)
    for stratum in range(int(codes.max(initial=-1)) + 1):
        rows = np.flatnonzero(codes == stratum)
        if len(np.unique(label[rows])) < 2:
            continue
        drawn = weights[:, rows]
        areas.append(weighted_aurocs(score[rows], label[rows], drawn))
        sizes.append(drawn.sum(axis=1, dtype=float))
    return _mean_of_recorded(areas, sizes, draws=len(weights))


def multilevel_auroc(
    scores: Real[np.ndarray, "n levels"],
    codes: Real[np.ndarray, " n"],
    strata: Shaped[np.ndarray, " n"] | None = None,
    weights: Real[np.ndarray, " n"] | None = None,
) -> float:
    """Return the mean over levels of the AUROC of one level against the rest.

    Every level counts the same however rare (macro average, Provost & Domingos 2001); a level
    that is absent, or that shares no stratum with another, is left out.  With two levels and one
    score per row (``scores[:, 0] == -scores[:, 1]``) it is the ordinary AUROC.

    Parameters
    ----------
    scores : (n, levels) array
        Column l: how much the row looks like level l.
    codes : (n,) array of int
        The level of each row, 0 to levels - 1.
    strata : (n,) array, optional
        Compare only within strata, see `stratified_auroc`.
    weights : (n,) array, optional
    """
    one = np.ones(len(scores)) if weights is None else weights
    return float(multilevel_aurocs(scores, codes, strata, one[np.newaxis])[0])


def multilevel_aurocs(
    scores: Real[np.ndarray, "n levels"],
    codes: Real[np.ndarray, " n"],
    strata: Shaped[np.ndarray, " n"] | None,
    weights: Real[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """Return `multilevel_auroc` under each row of weights."""
    strata = np.zeros(len(scores), dtype=int) if strata is None else factorised(strata)
    areas = [
        stratified_aurocs(scores[:, level], codes == level, strata, weights)
        for level in range(scores.shape[1])
    ]
    return _mean_of_recorded(areas, [np.ones(len(weights))] * len(areas), draws=len(weights))


def patient_weights(
    patients: Shaped[np.ndarray, " n"],
    draws: int,
    seed: int,
    *,
    site: Shaped[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, "draws n"]:
    """Draw patients with replacement; return how often each of their rows was drawn.

    Rows of one patient share their weight.  Reuse the same weights for two representations and
    the difference of the two statistics, draw by draw, is a paired bootstrap.

    Parameters
    ----------
    site : (n,) array, optional
        Draw sites first, then patients inside each drawn site: see `patient_counts`.

    Returns
    -------
    (draws, n) array of float32
        Each row sums to the number of patients when every patient has one film.

    Examples
    --------
    >>> weights = patient_weights(np.array(["ann", "ann", "bo"]), draws=4, seed=0)
    >>> bool((weights[:, 0] == weights[:, 1]).all())
    True
    """
    codes, counts = patient_counts(patients, draws, seed, site=site)
    return np.take(counts.astype(np.float32), codes, axis=1)


def patient_counts(
    patients: Shaped[np.ndarray, " n"],
    draws: int,
    seed: int,
    *,
    site: Shaped[np.ndarray, " n"] | None = None,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, "draws units"]]:
    """Return the patient of each row as a code, and how often each draw holds each patient.

    With ``site`` the bootstrap has two stages (Davison & Hinkley, "Bootstrap Methods and their
    Application", 1997, section 3.8): sites are drawn with replacement, and each time a site is
    drawn, as many of its patients as it has, again with replacement.  A patient seen at two sites
    counts as one at each.  Such an interval speaks of *new* sites; with fewer than about ten it
    is too short, because so few cannot show how much sites differ.
    """
    rng = np.random.default_rng(seed)
    codes = factorised(patients)
    if site is not None:
        place = factorised(site)
        pairs = np.column_stack([place, codes])
        units, codes = np.unique(pairs, axis=0, return_inverse=True)
        return codes, _two_stage(units[:, 0], draws, rng)
    count = int(codes.max(initial=-1)) + 1
    counts = np.empty((draws, count), dtype=np.int32)
    step = max(1, BLOCK // 2 // max(count, 1))
    for start in range(0, draws, step):  # blocks change no number: the stream is the same
        size = min(step, draws - start)
        drawn = rng.integers(count, size=(size, count))
        drawn += count * np.arange(size)[:, np.newaxis]  # one bincount for the block
        times = np.bincount(drawn.ravel(), minlength=size * count)
        counts[start : start + size] = times.reshape(size, count)
    return codes, counts


def _two_stage(
    site: Int[np.ndarray, " units"], draws: int, rng: np.random.Generator
) -> Int[np.ndarray, "draws units"]:
    sites = int(site.max(initial=-1)) + 1
    drawn = rng.integers(sites, size=(draws, sites)) + sites * np.arange(draws)[:, np.newaxis]
    times = np.bincount(drawn.ravel(), minlength=draws * sites).reshape(draws, sites)
    counts = np.zeros((draws, len(site)), dtype=np.int32)
    for s in range(sites):
        here = np.flatnonzero(site == s)
        even = np.full(len(here), 1 / len(here))
        counts[:, here] = rng.multinomial(times[:, s] * len(here), even)
    return counts


def interval(draws: Real[np.ndarray, " draws"], estimate: float, level: float = 0.95) -> Interval:
    """Return the percentile interval of bootstrap draws around an estimate.

    Draws that are ``nan`` (a resample with one class) are left out.  Where more than a fifth
    are, the limits are ``nan``: what is left is a selection, not the sampling distribution.

    Examples
    --------
    >>> print(interval(np.linspace(0.5, 0.9, 1001), estimate=0.7))
    0.70 [0.51, 0.89]
    """
    recorded = draws[~np.isnan(draws)]
    if len(recorded) == 0 or len(recorded) < (1 - MOST_DRAWS_LOST) * len(draws):
        return Interval(estimate, math.nan, math.nan, level)
    low, high = np.quantile(recorded, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), level)


def bootstrap(
    statistic: Callable[[Real[np.ndarray, "draws n"]], Float[np.ndarray, " draws"]],
    patients: Shaped[np.ndarray, " n"],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a statistic of weighted rows and its patient-clustered interval.

    Parameters
    ----------
    statistic : callable
        Takes ``(B, n)`` weights, returns ``(B,)`` values: one of the vectorised functions of
        this file, or the difference of two of them for a paired comparison.

    Examples
    --------
    >>> score, label = np.arange(40.0), np.arange(40) % 4 > 1
    >>> result = bootstrap(lambda w: weighted_aurocs(score, label, w), np.arange(40), seed=0)
    >>> result.low < result.estimate < result.high
    True
    """
    estimate = float(statistic(np.ones((1, len(patients))))[0])
    return interval(statistic(patient_weights(patients, draws, seed)), estimate, level)


def kish(weights: Real[np.ndarray, " n"]) -> float:
    """Return Kish's effective sample size ``(Σw)² / Σw²``; 0 when all weights are zero.

    Examples
    --------
    >>> kish(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    weights = np.asarray(weights, dtype=float)
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def factorised(values: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Return codes 0, 1, ... for distinct values of any kind; missing is a value of its own."""
    return pd.factorize(values, use_na_sentinel=False)[0]


def _mean_of_recorded(
    areas: list[np.ndarray], sizes: list[np.ndarray], *, draws: int
) -> Float[np.ndarray, " draws"]:
    """Average areas by size, draw by draw, leaving out those that are nan."""
    if not areas:
        return np.full(draws, np.nan)
    stacked = np.stack(areas)
    size = np.where(np.isnan(stacked), 0.0, np.stack(sizes))
    total = size.sum(axis=0)
    mean = np.full(draws, np.nan)
    np.divide((size * np.nan_to_num(stacked)).sum(axis=0), total, out=mean, where=total > 0)
    return mean


def clustered_se(influence: Real[np.ndarray, " n"], patients: Shaped[np.ndarray, " n"]) -> float:
    """Return the standard error of a mean of influence values, films of a patient summed first.

    ``√(G/(G−1) Σ_g (Σ_{i∈g} φᵢ)²) / n`` over G patients (Liang & Zeger, Biometrika 1986).

    Parameters
    ----------
    influence : (n,) array
        Centred: its mean is the error of the estimate.
    """
    codes = factorised(patients)
    sums = np.bincount(codes, weights=np.asarray(influence, dtype=float))
    groups = len(sums)
    if groups < 2:
        return math.nan
    return float(np.sqrt(groups / (groups - 1) * (sums**2).sum()) / len(influence))


def influence_interval(
    estimate: float,
    influence: Real[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
    *,
    level: float = 0.95,
) -> Interval:
    """Return ``estimate ± t SE``, clustered by patient, with t of G − 1 degrees of freedom.

    For estimates whose error is a mean of influence values, such as a doubly robust one; it costs
    one pass where a bootstrap would fit everything again.

    Examples
    --------
    >>> y = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    >>> print(influence_interval(0.5, y - 0.5, np.arange(6)))
    0.50 [-0.07, 1.07]
    """
    from scipy.stats import t

    groups = len(np.unique(factorised(patients)))
    if groups < 2:
        return Interval(estimate, math.nan, math.nan, level)
    reach = float(t.ppf((1 + level) / 2, groups - 1)) * clustered_se(influence, patients)
    return Interval(estimate, estimate - reach, estimate + reach, level)
