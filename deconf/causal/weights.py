"""Weights that make the confounder independent of the adjustment set.

With w(c, s) = P(c) / P(c | s), the confounder is independent of s under the weighted law, so an
independence given s becomes a marginal one.  Overlap weights h(s) / P(c | s) are bounded, but
speak for the patients who could have had any level, where h is large (Li & Li 2019, "Propensity
score weighting for causal inference with multiple treatments",
https://doi.org/10.1214/19-AOAS1282).  Never weight on a column the derived set leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from deconf.causal.overlap import CONFOUNDER_CELLS, cells
from deconf.errors import SettingsError
from deconf.maths.intervals import kish
from deconf.maths.kinds import codes, is_categorical, numbers

Floats = npt.NDArray[np.float64]
FOLDS = 5
KNOTS = 4
"""Knots of the cubic splines through which a continuous column enters the propensity."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Balancing weights and how well, and how dearly, they balance.

    Attributes
    ----------
    values : (n,) float64
        Mean 1 over the rows used; 0 for rows with a missing confounder or given.
    ess : float
        Kish effective sample size, (Σw)² / Σw², in rows.
    trimmed : float
        Share of the used rows whose weight was cut.
    smd : float
        Largest standardised difference of a given column's mean between two levels of the
        confounder after weighting; below 0.1 counts as balanced.
    """

    values: Floats
    ess: float
    trimmed: float
    smd: float


def propensity(
    table: pd.DataFrame,
    confounders: Sequence[str],
    given: Sequence[str],
    *,
    patient: str | None = None,
    seed: int = 0,
) -> Floats:
    """Return (n,) P(cᵢ | sᵢ), the probability of each row's own level; NaN where missing.

    Cell frequencies when every given column is categorical; else a multinomial logistic
    regression on splines of the given columns, cross-fitted by patient.  Continuous confounders
    enter by terciles.

    Examples
    --------
    >>> frame = pd.DataFrame({"portable": [1, 1, 0, 0], "ill": [1, 1, 1, 0]})
    >>> propensity(frame, ["portable"], ["ill"]).round(2)
    array([0.67, 0.67, 0.33, 1.  ])
    """
    level = cells(table, confounders, CONFOUNDER_CELLS).codes
    every = _propensities(table, level, given, patient, seed)
    own = np.full(len(table), np.nan)
    used = (level >= 0) & ~np.isnan(every[:, 0])
    own[used] = every[used, level[used]]
    return own


def balancing_weights(
    table: pd.DataFrame,
    confounders: Sequence[str],
    given: Sequence[str],
    kind: Literal["ipw", "overlap"] = "ipw",
    *,
    patient: str | None = None,
    trim: float = 20.0,
    seed: int = 0,
) -> Weights:
    """Return weights under which the confounders are independent of ``given``.

    Parameters
    ----------
    kind : {"ipw", "overlap"}
        ``P(c) / P(c|s)`` speaks for everyone; ``h(s) / P(c|s)`` with ``h = 1 / Σ_c 1/P(c|s)`` for
        those who could have had any level, and gives no weight to a stratum that lacks one.
    trim : float
        Weights above this many medians are cut; ``numpy.inf`` cuts none.

    Raises
    ------
    SettingsError
        If ``kind`` is unknown.

    Examples
    --------
    >>> frame = pd.DataFrame({"portable": [1, 1, 0, 1, 0, 0], "ill": [1, 1, 1, 0, 0, 0]})
    >>> weights = balancing_weights(frame, ["portable"], ["ill"])
    >>> weights.values, round(weights.ess, 1)
    (array([0.75, 0.75, 1.5 , 1.5 , 0.75, 0.75]), 5.3)
    """
    if kind not in ("ipw", "overlap"):
        raise SettingsError(f"no weights are called {kind!r}: choose 'ipw' or 'overlap'.")
    level = cells(table, confounders, CONFOUNDER_CELLS).codes
    every = _propensities(table, level, given, patient, seed)
    used = (level >= 0) & ~np.isnan(every[:, 0])
    values = np.zeros(len(table))
    if not used.any():
        return Weights(values, ess=0.0, trimmed=0.0, smd=float("nan"))
    e, c = every[used], level[used]
    own = e[np.arange(len(c)), c]
    if kind == "ipw":
        share = np.bincount(c, minlength=e.shape[1]) / len(c)
        raw = share[c] / own
    else:
        with np.errstate(divide="ignore"):
            h = 1 / (1 / e).sum(axis=1)  # 0 where a level is impossible
        raw = h / own
    cut = np.minimum(raw, trim * np.median(raw)) if np.median(raw) > 0 else raw
    total = cut.sum()
    values[used] = cut * (len(c) / total) if total > 0 else 0.0
    return Weights(
        values=values,
        ess=kish(cut),
        trimmed=float((cut < raw).mean()),
        smd=_imbalance(table[used], given, c, cut),
    )


def _propensities(
    table: pd.DataFrame,
    level: npt.NDArray[np.int64],
    given: Sequence[str],
    patient: str | None,
    seed: int,
) -> Floats:
    """Return (n, L) P(c | sᵢ) for every level c; NaN rows where ``given`` is missing."""
    count = int(level.max()) + 1 if len(level) else 0
    every = np.full((len(table), max(count, 1)), np.nan)
    if all(is_categorical(table[name]) for name in given):
        stratum = cells(table, given, 1).codes
        used = (stratum >= 0) & (level >= 0)
        if used.any():
            tally = np.zeros((int(stratum.max()) + 1, count))
            np.add.at(tally, (stratum[used], level[used]), 1.0)
            known = stratum >= 0
            total = np.maximum(tally.sum(axis=1, keepdims=True), 1)
            every[known] = (tally / total)[stratum[known]]
        return every
    used = (cells(table, given, 1).codes >= 0) & (level >= 0)
    if used.any():
        who = table[patient].to_numpy() if patient is not None else np.arange(len(table))
        every[used] = _cross_fitted(
            table.loc[used, list(given)], level[used], who[used], seed, count
        )
    return every


def _cross_fitted(
    given: pd.DataFrame, level: npt.NDArray[np.int64], who: Any, seed: int, count: int
) -> Floats:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    basis = spline_basis(given)
    groups = len(np.unique(who.astype(str)))
    # No level may get probability 0 from a fold that had never seen it: it would get all weight.
    found = np.full((len(level), count), 1 / len(level))
    folds: Any = [(np.arange(len(level)), np.arange(len(level)))]
    if groups >= 2:
        split = GroupKFold(min(FOLDS, groups), shuffle=True, random_state=seed)
        folds = split.split(basis, groups=who.astype(str))
    for train, held_out in folds:
        present = np.unique(level[train])
        if len(present) < 2:
            found[np.ix_(held_out, present)] = 1.0
            continue
        model = LogisticRegression(C=10.0, max_iter=1000).fit(basis[train], level[train])
        fitted = model.predict_proba(basis[held_out])
        found[np.ix_(held_out, present)] = np.maximum(fitted, 1 / len(level))
    return np.asarray(found / found.sum(axis=1, keepdims=True), dtype=np.float64)


def spline_basis(given: pd.DataFrame) -> Floats:
    """Return (n, k) columns for a regression on ``given``: indicators and cubic splines.

    Categories lose their first level; a number gives ``KNOTS`` + 2 columns.  No value may be
    missing.
    """
    from sklearn.preprocessing import SplineTransformer

    blocks = []
    for name in given:
        series = given[name]
        if is_categorical(series):
            found, known = codes(series)
            blocks.append(np.eye(len(known))[found][:, 1:])
        else:
            spline = SplineTransformer(n_knots=KNOTS, knots="quantile", include_bias=False)
            blocks.append(spline.fit_transform(numbers(series)[:, None]))
    return np.hstack([np.zeros((len(given), 0)), *blocks])


def standardised_differences(
    columns: npt.NDArray[np.floating[Any]],
    groups: npt.NDArray[np.integer[Any]],
    weights: Floats,
    base: Floats,
) -> Floats:
    """Return (q,) how far apart the groups' weighted means lie: (max − min) / sd.

    Parameters
    ----------
    columns : (n, q) array
    groups : (n,) array of int
        A group without weight is passed over.
    weights, base : (n,) arrays
        Of the means, and of the standard deviation over all rows (normaliser Σ base).

    Returns
    -------
    (q,) array
        0 for a column that does not vary.

    Examples
    --------
    >>> ill, part = np.array([[1], [1], [0], [0]]), np.array([0, 0, 0, 1])
    >>> standardised_differences(ill, part, np.ones(4), np.ones(4)).round(2)
    array([1.33])
    """
    present = [k for k in np.unique(groups) if weights[groups == k].sum() > 0]
    each = [groups == k for k in present]
    means = np.array([np.average(columns[k], axis=0, weights=weights[k]) for k in each])
    centred = columns - np.average(columns, axis=0, weights=base)
    sd = np.sqrt(np.average(centred**2, axis=0, weights=base))
    spread = means.max(axis=0) - means.min(axis=0)
    return np.asarray(np.divide(spread, sd, out=np.zeros(len(sd)), where=sd > 0))


def _imbalance(table: pd.DataFrame, given: Sequence[str], c: Any, w: Floats) -> float:
    """Return the largest standardised difference of a given column; sd without the weights."""
    worst = 0.0
    for name in given:
        series = table[name]
        if is_categorical(series):
            found, known = codes(series)
            columns = np.eye(len(known))[found]
        else:
            columns = numbers(series)[:, None]
        differences = standardised_differences(columns, c, w, np.ones(len(w)))
        worst = max(worst, float(differences.max(initial=0.0)))
    return worst
