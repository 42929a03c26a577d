"""How an attacker tunes itself: on training patients, never on their own films."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from deconf.cohort.splits import patient_folds
from deconf.probes.coordinates import View
from deconf.probes.target import is_number, loss, parted, spread_out

FOLDS = 3
# Tuning loss, relative to the best so far, above which weaker penalties are not tried.
HOPELESS = 1.05

Fold = tuple[np.ndarray, np.ndarray]
Learn = Callable[[np.ndarray, np.ndarray], View]


def tuned_linear(
    x: np.ndarray,
    target: np.ndarray,
    patients: np.ndarray | None,
    strengths: tuple[float, ...],
    *,
    features: Learn | Sequence[Learn] | None = None,
    seed: int,
) -> View:
    """Fit a penalised linear model; patient-grouped folds choose its strength and its features.

    Multinomial logistic regression for levels, ridge regression for numbers.

    Parameters
    ----------
    x : (n, p) array
    target : (n,) array
        See `deconf.probes.target`.
    patients : (n,) array or None
        None: every row is its own patient.
    strengths : tuple of float
        scikit-learn's C, the strongest penalty first.
    features : callable or several, optional
        Each learns a view from training rows and their levels; anew in every fold, so that a
        choice of features is judged on patients that did not make it.

    Returns
    -------
    Function from (m, p) rows to (m, L) log-odds, or to (m, 1) expected numbers.
    """
    learners = [features or _as_they_are] if callable(features) or features is None else features
    total = np.zeros((len(learners), len(strengths)))
    for train, test in grouped_folds(target, patients, seed):
        for i, learn in enumerate(learners):
            view = learn(x[train], target[train])
            total[i] += _loss_curve(
                view(x[train]), target[train], view(x[test]), target[test], strengths
            )
    best, strength = np.unravel_index(int(np.argmin(total)), total.shape)
    view = learners[int(best)](x, target)
    (model,) = _path(view(x), target, (strengths[int(strength)],))
    if is_number(target):
        return lambda new: model.predict(view(new))[:, None]
    return lambda new: columns(model.decision_function(view(new)))


def columns(decision: np.ndarray) -> np.ndarray:
    """Return one column per level also where scikit-learn returns a single one for two."""
    return np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision


def grouped_folds(target: np.ndarray, patients: np.ndarray | None, seed: int) -> list[Fold]:
    """Return patient-grouped folds whose training part is not all alike; none if too few."""
    patient = np.arange(len(target)) if patients is None else np.asarray(patients)
    if len(np.unique(patient)) < FOLDS:
        return []
    folds = patient_folds(patient, FOLDS, strata=parted(target), seed=seed)
    return [(train, test) for train, test in folds if len(np.unique(target[train])) > 1]


def _loss_curve(
    x: np.ndarray,
    target: np.ndarray,
    held_out: np.ndarray,
    truth: np.ndarray,
    strengths: tuple[float, ...],
) -> np.ndarray:
    """Return the held-out loss at each strength; infinite past the hopeless ones."""
    curve = np.full(len(strengths), np.inf)
    if is_number(target):
        for i, model in enumerate(_path(x, target, strengths)):
            curve[i] = loss(model.predict(held_out), truth)
        return curve
    seen, inner = np.unique(target, return_inverse=True)
    levels = int(max(target.max(), truth.max())) + 1
    for i, model in enumerate(_path(x, inner, strengths)):
        curve[i] = loss(spread_out(model.predict_proba(held_out), seen, levels), truth)
        if curve[i] > HOPELESS * curve[: i + 1].min():
            break
    return curve


def _path(x: np.ndarray, target: np.ndarray, strengths: tuple[float, ...]) -> Iterator[Any]:
    """Yield a model at each strength; a logistic one starts from the one before."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    if is_number(target):
        # Four: near zero the logistic loss curves a quarter as much as half a square does.
        yield from (Ridge(alpha=4 / strength).fit(x, target) for strength in strengths)
        return
    model = LogisticRegression(warm_start=True, max_iter=200, tol=1e-3)
    for strength in strengths:
        with warnings.catch_warnings():
            # An attacker stopped short of its optimum is a weaker attacker, not a wrong one.
            warnings.simplefilter("ignore", ConvergenceWarning)
            yield model.set_params(C=strength).fit(x, target)


def _as_they_are(x: np.ndarray, target: np.ndarray) -> View:  # noqa: ARG001 (learns nothing)
    return lambda new: new
