"""Cross-fitted nuisances of an effect: who got which level, and what the outcome was to be.

Each is fitted twice, by a regression on splines and by boosted trees, on patients outside the
fold, and the two predictions are mixed by the one weight with the least held-out loss
("short-stacking": Ahrens, Hansen, Schaffer & Wiemann, "Model averaging and double machine
learning", Journal of Applied Econometrics 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.causal.weights import spline_basis
from deconf.cohort.splits import patient_folds
from deconf.maths.kinds import codes, is_categorical, numbers

FOLDS = 5
MIXES = np.linspace(0, 1, 21)
LEAST = 1e-6
"""No level has a smaller fitted probability than this before rows are left out for want of
overlap."""


@dataclass(frozen=True)
class Covariates:
    """What is held, in the two forms the two models want.

    Attributes
    ----------
    splines : (n, k) float
        See `deconf.causal.weights.spline_basis`.
    raw : (n, q) float
        One column each: category codes and numbers.
    """

    splines: Float[ndarray, "n k"]
    raw: Float[ndarray, "n q"]

    @classmethod
    def of(cls, table: pd.DataFrame, given: Sequence[str]) -> Covariates:
        """Read columns without missing values."""
        held = table[list(given)]
        columns = [
            codes(column)[0].astype(float) if is_categorical(column) else numbers(column)
            for column in (held[name] for name in given)
        ]
        basis = spline_basis(held)
        scale = basis.std(axis=0)
        keep = scale > 0
        basis = (basis[:, keep] - basis[:, keep].mean(axis=0)) / scale[keep]
        raw = np.column_stack(columns) if columns else np.zeros((len(held), 0))
        return cls(basis, raw)


def folds_of(
    patients: Int[ndarray, " n"], strata: Int[ndarray, " n"], seed: int
) -> list[tuple[ndarray, ndarray]]:
    """Return patient-grouped folds that hold their share of every stratum."""
    return patient_folds(patients, FOLDS, strata=strata, seed=seed)


def probabilities(
    x: Covariates, level: Int[ndarray, " n"], folds: Sequence[tuple[ndarray, ndarray]]
) -> Float[ndarray, "n levels"]:
    """Return P(level | x) of every row, from patients outside its fold."""
    count = int(level.max()) + 1
    two = np.full((2, len(level), count), 1.0 / len(level))
    for train, test in folds:
        for which, model in enumerate(_classifiers(x, train)):
            rows = x.splines if which == 0 else x.raw
            if model is None or len(np.unique(level[train])) < 2:
                share = np.bincount(level[train], minlength=count) / len(train)
                two[which][test] = share
                continue
            fitted = model.fit(rows[train], level[train])
            two[which][np.ix_(test, fitted.classes_)] = fitted.predict_proba(rows[test])
    two = np.clip(two, LEAST, None)
    two /= two.sum(axis=2, keepdims=True)
    own = two[:, np.arange(len(level)), level]
    losses = [-np.log(m * own[0] + (1 - m) * own[1]).mean() for m in MIXES]
    best = MIXES[int(np.argmin(losses))]
    mixed: ndarray = best * two[0] + (1 - best) * two[1]
    return mixed


def means(
    x: Covariates,
    y: Float[ndarray, " n"],
    folds: Sequence[tuple[ndarray, ndarray]],
    among: ndarray | None = None,
) -> Float[ndarray, " n"]:
    """Return E[y | x] of every row from patients outside its fold, learnt ``among`` some rows.

    Parameters
    ----------
    among : (n,) bool, optional
        The rows to learn from, say those at one level of the cause; all rows are predicted.
    """
    among = np.ones(len(y), dtype=bool) if among is None else among
    is_binary = bool(np.isin(y, (0.0, 1.0)).all())
    two = np.empty((2, len(y)))
    for train, test in folds:
        learn = train[among[train]]
        constant = len(np.unique(y[learn])) < 2
        models = _classifiers(x, learn) if is_binary else _regressors(x, learn)
        for which, model in enumerate(models):
            rows = x.splines if which == 0 else x.raw
            if model is None or constant:
                two[which, test] = y[learn].mean()
                continue
            fitted = model.fit(rows[learn], y[learn])
            two[which, test] = (
                fitted.predict_proba(rows[test])[:, 1] if is_binary else fitted.predict(rows[test])
            )
    losses = []
    for m in MIXES:
        p = m * two[0, among] + (1 - m) * two[1, among]
        if is_binary:
            p = np.clip(p, LEAST, 1 - LEAST)
            losses.append(-(y[among] * np.log(p) + (1 - y[among]) * np.log(1 - p)).mean())
        else:
            losses.append(((y[among] - p) ** 2).mean())
    best = MIXES[int(np.argmin(losses))]
    mixed: ndarray = best * two[0] + (1 - best) * two[1]
    return mixed


def _classifiers(x: Covariates, rows: ndarray) -> tuple[Any, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    if not x.raw.shape[1]:
        return None, None
    return (
        LogisticRegression(C=1.0, max_iter=500),
        HistGradientBoostingClassifier(**_trees(rows)),
    )


def _regressors(x: Covariates, rows: ndarray) -> tuple[Any, Any]:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge

    if not x.raw.shape[1]:
        return None, None
    return Ridge(alpha=1.0), HistGradientBoostingRegressor(**_trees(rows))


def _trees(rows: ndarray) -> dict[str, Any]:
    # Small trees and large leaves: the propensity divides, so a noisy one costs more than a
    # smooth one that misses a little.
    return {
        "max_iter": 60,
        "max_leaf_nodes": 8,
        "min_samples_leaf": max(20, len(rows) // 200),
        "learning_rate": 0.1,
        "early_stopping": False,
        "random_state": 0,
    }
