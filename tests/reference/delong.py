"""Clustered DeLong, as slowly as it can be written: a loop over every pair of films.

DeLong, DeLong & Clarke-Pearson 1988; within patients, Obuchowski 1997.
"""

from __future__ import annotations

import numpy as np
from numpy import ndarray


def beats(a: float, b: float) -> float:
    return 1.0 if a > b else 0.5 if a == b else 0.0


def structural(score: ndarray, ill: ndarray) -> tuple[float, dict[int, float], dict[int, float]]:
    """Return the AUROC, V10 of each positive row and V01 of each negative row."""
    rows = range(len(score))
    x, y = [i for i in rows if ill[i]], [j for j in rows if not ill[j]]
    v10 = {i: sum(beats(score[i], score[j]) for j in y) / len(y) for i in x}
    v01 = {j: sum(beats(score[i], score[j]) for i in x) / len(x) for j in y}
    return sum(v10.values()) / len(x), v10, v01


def plain(scores: ndarray, ill: ndarray) -> ndarray:
    """Return S10/m + S01/n of DeLong et al., each S a sample covariance."""
    parts = [structural(s, ill) for s in scores.T]
    tens = np.array([list(v10.values()) for _, v10, _ in parts])
    ones = np.array([list(v01.values()) for _, _, v01 in parts])
    return np.atleast_2d(np.cov(tens)) / tens.shape[1] + np.atleast_2d(np.cov(ones)) / ones.shape[1]


def clustered(scores: ndarray, ill: ndarray, patients: ndarray) -> ndarray:
    """Return the covariance of Obuchowski, patient by patient."""
    k = scores.shape[1]
    parts = [structural(s, ill) for s in scores.T]
    who = np.unique(patients)
    m, n = int(ill.sum()), int((~ill).sum())
    of_ill, of_well = len(np.unique(patients[ill])), len(np.unique(patients[~ill]))
    s10, s01, s11 = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, k))
    for patient in who:
        rows = np.flatnonzero(patients == patient)
        x = [i for i in rows if ill[i]]
        y = [j for j in rows if not ill[j]]
        d = np.array([sum(v10[i] for i in x) - len(x) * area for area, v10, _ in parts])
        e = np.array([sum(v01[j] for j in y) - len(y) * area for area, _, v01 in parts])
        s10 += of_ill / ((of_ill - 1) * m) * np.outer(d, d)
        s01 += of_well / ((of_well - 1) * n) * np.outer(e, e)
        s11 += len(who) / (len(who) - 1) * np.outer(d, e)
    return s10 / m + s01 / n + (s11 + s11.T) / (m * n)
