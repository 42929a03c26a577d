"""The task head: one regularised logistic regression, chosen in the same way for every embedding.

With few discordant films the strength of the ridge decides more than the eraser: a nearly
interpolating head ignores its weights (Byrd & Lipton, "What is the effect of importance weighting
in deep learning?", ICML 2019).  So the strength is chosen by grouped cross-validation under the
*same* weights the head is fitted with, and on the raw embedding: rows that an eraser has cleaned
with the help of their own confounders would ask for too little of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from deconf.cohort.splits import patient_folds
from deconf.errors import CohortError
from deconf.maths.intervals import auroc

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # ridge per row, on a unit mean variance


@dataclass(frozen=True)
class Head:
    """A fitted linear score ``z @ coefficients + intercept`` on the log-odds scale."""

    coefficients: Float[ndarray, " d"]
    intercept: float
    strength: float

    def score(self, z: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        """Return log-odds (n,)."""
        return np.asarray(z, dtype=np.float64) @ self.coefficients + self.intercept


def fit_head(
    z: Float[ndarray, "n d"],
    y: ndarray,
    *,
    weights: Float[ndarray, " n"] | None = None,
    strength: float,
) -> Head:
    """Fit the head on training rows; rows of weight zero are left out.

    Parameters
    ----------
    z, y : (n, d) and (n,) of 0 and 1
    weights : (n,), optional
        Head weights, say ipw.
    strength : float
        Ridge per row, from `choose_strength`.
    """
    z, y, w = np.asarray(z, dtype=np.float64), np.asarray(y).astype(int), _weights(weights, len(y))
    keep = w > 0
    if len(np.unique(y[keep])) < 2:
        raise CohortError(
            f"the {int(keep.sum())} training rows hold one class only: a head needs both. "
            "Choose another split or outcome."
        )
    coefficients, intercept = _path(z[keep], y[keep], w[keep], (strength,))[0]
    return Head(coefficients, intercept, strength)


def choose_strength(
    z: Float[ndarray, "n d"],
    y: ndarray,
    *,
    weights: Float[ndarray, " n"] | None = None,
    patients: ndarray,
    seed: int = 0,
) -> float:
    """Return the ridge with the best weighted AUROC over 5 patient-grouped folds of raw ``z``."""
    z, y, w = np.asarray(z, dtype=np.float64), np.asarray(y).astype(int), _weights(weights, len(y))
    keep = w > 0
    z, y, w, patients = z[keep], y[keep], w[keep], np.asarray(patients)[keep]
    folds = min(5, len(np.unique(patients[y == 1])), len(np.unique(patients[y == 0])))
    if folds < 2:
        return 1.0
    held_out = np.full((len(STRENGTHS), len(y)), np.nan)
    for train, test in patient_folds(patients, folds, strata=y, seed=seed):
        if len(np.unique(y[train])) < 2:
            continue
        for i, (b, b0) in enumerate(_path(z[train], y[train], w[train], STRENGTHS)):
            held_out[i, test] = z[test] @ b + b0
    seen = ~np.isnan(held_out[0])
    areas = [auroc(row[seen], y[seen], w[seen]) for row in held_out]
    return STRENGTHS[int(np.nanargmax(areas))] if np.isfinite(areas).any() else 1.0


def _weights(weights: ndarray | None, n: int) -> ndarray:
    return np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)


def _path(
    z: ndarray, y: ndarray, w: ndarray, strengths: tuple[float, ...]
) -> list[tuple[ndarray, float]]:
    """Return coefficients and intercept for each strength, the strongest ridge first inside."""
    from sklearn.linear_model import LogisticRegression

    centre = z.mean(axis=0)
    scale = np.sqrt(((z - centre) ** 2).mean()) or 1.0
    a = (z - centre) / scale
    span = np.linalg.qr(a.T)[0] if z.shape[1] > len(z) else None  # all a ridge can see
    a = a if span is None else a @ span
    fitted: dict[float, tuple[ndarray, float]] = {}
    w = w * len(w) / w.sum()
    model = LogisticRegression(max_iter=300, tol=1e-4, warm_start=True)
    for strength in sorted(strengths, reverse=True):
        model.C = 1.0 / (strength * len(w))
        model.fit(a, y, sample_weight=w)
        b = model.coef_[0] if span is None else span @ model.coef_[0]
        fitted[strength] = (b / scale, float(model.intercept_[0] - centre @ b / scale))
    return [fitted[s] for s in strengths]
