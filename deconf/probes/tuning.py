"""How an attacker tunes itself: on training patients, never on their own films."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from deconf.cohort.splits import patient_folds
from deconf.probes.coordinates import View

FOLDS = 3
# The probability of a level that a fold never saw: a loss that hurts but stays finite.
UNSEEN = 1e-3
# Tuning loss, relative to the best so far, above which weaker penalties are not tried.
HOPELESS = 1.05
# Epochs without a better validation loss before the network stops.
PATIENCE = 8


def tuned_logistic(
    x: np.ndarray,
    codes: np.ndarray,
    patients: np.ndarray | None,
    strengths: tuple[float, ...],
    *,
    features: Callable[[np.ndarray, np.ndarray], View] | None = None,
    seed: int,
) -> View:
    """Fit a multinomial logistic regression, its L2 strength chosen by patient-grouped folds.

    Parameters
    ----------
    x : (n, p) array
    codes : (n,) int array of levels 0..L-1
    patients : (n,) array or None
        None: every row is its own patient.
    strengths : tuple of float
        scikit-learn's C, the strongest penalty first.
    features : callable, optional
        Learns a view from training rows and their levels; anew in every fold, so that a choice
        of features is judged on patients that did not make it.

    Returns
    -------
    Function from (m, p) rows to (m, L) log-odds.
    """
    learn = features or _as_they_are
    loss = np.zeros(len(strengths))
    for train, test in _folds(codes, patients, seed):
        view = learn(x[train], codes[train])
        loss += _loss_curve(view(x[train]), codes[train], view(x[test]), codes[test], strengths)
    chosen = strengths[int(np.argmin(loss))]
    view = learn(x, codes)
    (model,) = _path(view(x), codes, (chosen,))
    return lambda new: columns(model.decision_function(view(new)))


def best_epoch(
    x: np.ndarray,
    codes: np.ndarray,
    patients: np.ndarray | None,
    *,
    hidden: int,
    epochs: int,
    seed: int,
) -> View:
    """Train a network with one hidden layer; keep the epoch best on held-out patients.

    scikit-learn's own early stopping holds out rows, which may be films of a training patient.

    Returns
    -------
    Function from (m, p) rows to (m, L) log-probabilities.
    """
    from sklearn.neural_network import MLPClassifier

    folds = _folds(codes, patients, seed)
    train, test = folds[0] if folds else (np.arange(len(x)), np.arange(len(x)))
    levels = np.arange(int(codes.max()) + 1)
    network = MLPClassifier((hidden,), alpha=1e-3, learning_rate_init=3e-3, random_state=seed)
    best, kept, since = np.inf, None, 0
    for _ in range(epochs):
        network.partial_fit(x[train], codes[train], classes=levels)
        loss = _log_loss(network.predict_proba(x[test]), codes[test])
        if loss < best:
            best, since = loss, 0
            kept = [w.copy() for w in network.coefs_], [b.copy() for b in network.intercepts_]
        elif (since := since + 1) >= PATIENCE:
            break
    if kept is not None:
        network.coefs_, network.intercepts_ = kept
    return lambda new: np.log(np.clip(network.predict_proba(new), 1e-12, None))


def columns(decision: np.ndarray) -> np.ndarray:
    """Return one column per level also where scikit-learn returns a single one for two."""
    return np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision


def _folds(
    codes: np.ndarray, patients: np.ndarray | None, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return patient-grouped folds whose training part holds two levels; none if too few."""
    patient = np.arange(len(codes)) if patients is None else np.asarray(patients)
    if len(np.unique(patient)) < FOLDS:
        return []
    folds = patient_folds(patient, FOLDS, strata=codes, seed=seed)
    return [(train, test) for train, test in folds if len(np.unique(codes[train])) > 1]


def _loss_curve(
    x: np.ndarray,
    codes: np.ndarray,
    held_out: np.ndarray,
    truth: np.ndarray,
    strengths: tuple[float, ...],
) -> np.ndarray:
    """Return the held-out log loss at each strength; infinite past the hopeless ones."""
    curve = np.full(len(strengths), np.inf)
    seen, inner = np.unique(codes, return_inverse=True)
    levels = int(max(codes.max(), truth.max())) + 1
    for i, model in enumerate(_path(x, inner, strengths)):
        p = np.full((len(held_out), levels), UNSEEN)
        p[:, seen] = model.predict_proba(held_out)
        curve[i] = _log_loss(p, truth)
        if curve[i] > HOPELESS * curve[: i + 1].min():
            break
    return curve


def _path(x: np.ndarray, codes: np.ndarray, strengths: tuple[float, ...]) -> Iterator[Any]:
    """Yield a logistic regression at each strength, each started from the one before."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(warm_start=True, max_iter=200, tol=1e-3)
    for strength in strengths:
        with warnings.catch_warnings():
            # An attacker stopped short of its optimum is a weaker attacker, not a wrong one.
            warnings.simplefilter("ignore", ConvergenceWarning)
            yield model.set_params(C=strength).fit(x, codes)


def _log_loss(p: np.ndarray, codes: np.ndarray) -> float:
    return float(-np.log(np.clip(p[np.arange(len(codes)), codes], 1e-12, 1.0)).mean())


def _as_they_are(x: np.ndarray, codes: np.ndarray) -> View:  # noqa: ARG001 (learns nothing)
    return lambda new: new
