"""What a shortcut costs: accuracy as training patients are bent towards class = site.

A logistic probe learns the biological class from training sets in which the class goes more and
more with the site, at constant size, and is judged on held-out patients of all sites equally.  An
embedding that does not carry the site loses nothing.  The falls are summed in two ways: the average
performance drop (APD) of PathoROB, and the integral of croma (nIPD) over Cramér's V.

Kömen et al., "Towards robust foundation models for digital pathology", 2025,
https://arxiv.org/abs/2507.17845; croma, https://github.com/clemsgrs/croma.  Both, and the sweep
that feeds them, are checked against the packages' own output.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deconf.errors import CohortError, SettingsError
from deconf.maths.threads import one_thread
from deconf.probes.neighbours.levels import numbered

SEEDS = 10_000  # the original draws the seed of a repetition from so many
STRENGTHS = 10 ** np.linspace(-8, 4, 15)  # inverse penalties of the probe, of the original


@dataclass(frozen=True)
class Sweep:
    """Accuracies of a sweep.

    Attributes
    ----------
    accuracy : (splits, repetitions) array
        Balanced accuracy on held-out patients; the first row is the balanced training set.
    association : (splits,) array
        Cramér's V of class and site among training patients.
    classes : int
    plans : (splits, sites, classes) array of int
        Training patients of each cell.
    """

    accuracy: np.ndarray
    association: np.ndarray
    classes: int
    plans: np.ndarray


def average_performance_drop(accuracy: np.ndarray) -> float:
    """Return APD: the mean relative change of accuracy against the balanced training set.

    mean over repetitions i of mean over splits s > 0 of accuracy[s, i] / accuracy[0, i] − 1.
    0: nothing lost; −0.1: a tenth of the accuracy lost on average.

    Parameters
    ----------
    accuracy : (splits, repetitions) array
        The first row is the balanced training set.

    Examples
    --------
    >>> round(average_performance_drop(np.array([[0.8], [0.8], [0.6]])), 3)
    -0.125
    """
    accuracy = _matrix(accuracy)
    if not (accuracy[0] > 0).all():
        raise CohortError("an accuracy of the balanced training set is 0: there is no drop from 0.")
    return float((accuracy[1:] / accuracy[0]).mean() - 1)


def integrated_degradation(accuracy: np.ndarray, association: np.ndarray, *, classes: int) -> float:
    """Return nIPD: the loss of skill above chance, integrated over Cramér's V from 0 to 1.

    ∫ (a(V) − a(0)) / (a(0) − 1/classes) dV by trapezoids, a the mean over repetitions.  −0.5 is a
    straight fall to chance.

    Parameters
    ----------
    accuracy : (splits, repetitions) array
        The first row is the balanced training set.
    association : (splits,) array
        Cramér's V of each split, ascending from 0 to 1.
    classes : int
        Balanced accuracy by chance is 1 / classes.

    Examples
    --------
    >>> integrated_degradation(np.array([[0.9], [0.5]]), np.array([0.0, 1.0]), classes=2)
    -0.5
    """
    accuracy, v = _matrix(accuracy), np.asarray(association, float)
    if v.shape != (len(accuracy),) or not (np.diff(v) > 0).all():
        raise SettingsError(f"{len(accuracy)} splits need as many ascending values of V: got {v}.")
    if not (np.isclose(v[0], 0) and np.isclose(v[-1], 1)):
        raise SettingsError(f"Cramér's V runs from {v[0]:g} to {v[-1]:g}: it must span 0 to 1.")
    mean = accuracy.mean(axis=1)
    skill = mean[0] - 1 / classes
    if skill <= 0:
        raise CohortError(
            f"the probe reaches {mean[0]:.2f} on balanced training, no better than chance "
            f"(1/{classes}): there is no skill to lose."
        )
    return float(np.trapezoid((mean - mean[0]) / skill, v))


def cramers_v(table: np.ndarray) -> float:
    """Return Cramér's V of a table of counts, without correction; 0 where a margin has one level.

    √(χ² / n / (min(rows, columns) − 1)), empty rows and columns left out.

    Examples
    --------
    >>> cramers_v(np.array([[10, 0], [0, 10]])), cramers_v(np.array([[5, 5], [5, 5]]))
    (1.0, 0.0)
    """
    table = np.asarray(table, float)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return 0.0
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    chi2 = ((table - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi2 / table.sum() / (min(table.shape) - 1)))


def training_plans(
    sites: int, classes: int, *, step: int, home: Sequence[int] | None = None
) -> np.ndarray:
    """Return training patients per cell, from balanced to every class at its home site only.

    A class keeps sites · step training patients; from split to split each site but its home gives
    one up.  With two sites, two classes, step 7 and home (1, 0): PathoROB's plan for Camelyon.

    Parameters
    ----------
    sites, classes : int
    step : int
        Splits after the balanced one.
    home : sequence of int, optional
        The site of each class at the end; default: classes are dealt to sites in turn.

    Returns
    -------
    (step + 1, sites, classes) array of int

    Examples
    --------
    >>> training_plans(2, 2, step=2)[-1].tolist()
    [[4, 0], [0, 4]]
    """
    home = [y % sites for y in range(classes)] if home is None else list(home)
    if step < 1 or len(home) != classes or not set(home) <= set(range(sites)):
        raise SettingsError(
            f"step = {step}, home = {home}: at least one step, and a site from 0 to {sites - 1} "
            f"for each of {classes} classes."
        )
    plans = np.empty((step + 1, sites, classes), dtype=int)
    for bent in range(step + 1):
        plans[bent] = step - bent
        plans[bent, home, range(classes)] = step + (sites - 1) * bent
    return plans


def shortcut_sweep(
    z: np.ndarray,
    site: np.ndarray,
    biology: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    plans: np.ndarray | None = None,
    repetitions: int = 20,
    seed: int = 1000,
) -> Sweep:
    """Return the accuracies of a probe as training patients are bent towards class = site.

    In every repetition the patients of each cell (site by class) are shuffled.  The first ones
    train, the rows after them choose the penalty, and the last, the same in every split, judge.

    Parameters
    ----------
    z : (n, d) array
    site, biology : (n,) arrays of codes or names
    patients : (n,) array, optional
        Films of a patient stay together (PathoROB: of a slide).  Default: each row is a patient.  A
        patient of two cells (seen at two sites) is refused: it would train and judge.
    plans : (splits, sites, classes) array, optional
        Training patients of each cell, the balanced split first.  Default: `training_plans` with as
        many steps as the smallest cell allows, at most 7.
    repetitions : int
        The original takes 20.
    seed : int
        1000 is the original's.

    Raises
    ------
    CohortError
        Where a cell has fewer patients than the plans need and two more, to choose and to judge.

    Notes
    -----
    As in the original the probe stops after 100 iterations, converged or not.
    """
    z = np.asarray(z)
    site, biology = numbered(site, len(z), "site"), numbered(biology, len(z), "biology")
    who = np.arange(len(z)) if patients is None else np.unique(patients, return_inverse=True)[1]
    cells = _cells(site, biology, who)
    smallest = min(len(cell) for row in cells for cell in row)
    sites, classes = len(cells), len(cells[0])
    if plans is None:
        plans = training_plans(sites, classes, step=min(7, max(1, (smallest - 2) // sites)))
    plans = np.asarray(plans)
    most = int(plans.max())
    if plans.shape[1:] != (sites, classes) or len(plans) < 2 or plans.min() < 0:
        raise SettingsError(
            f"plans of shape {plans.shape}: give (splits, {sites}, {classes}) counts of patients, "
            "two splits at least."
        )
    if smallest < most + 2:
        raise CohortError(
            f"a cell of site and class has {smallest} patients, but the plans train on up to "
            f"{most} of a cell and need two more to choose and to judge: leave rare classes and "
            "small sites out."
        )
    if not 1 <= repetitions <= SEEDS:
        raise SettingsError(f"repetitions = {repetitions}: choose from 1 to {SEEDS}.")
    accuracy = np.empty((len(plans), repetitions))
    with one_thread(z.size):
        for column, own in enumerate(random.Random(seed).sample(range(SEEDS), repetitions)):
            shuffle = random.Random(own).shuffle
            for row in cells:
                for cell in row:
                    shuffle(cell)
            for split, plan in enumerate(plans):
                train, choose, judge = _parts(cells, plan, most)
                accuracy[split, column] = _probed(z, biology, train, choose, judge)
    return Sweep(accuracy, np.array([cramers_v(plan) for plan in plans]), classes, plans)


Cells = list[list[list[np.ndarray]]]  # [site][class]: the rows of each patient


def _cells(site: np.ndarray, biology: np.ndarray, who: np.ndarray) -> Cells:
    """Return the rows of every patient in every cell, patients in the order of their first row."""
    cell = np.stack([site, biology])
    for codes, name in zip(cell, ("sites", "biological classes"), strict=True):
        torn = pd.Series(codes).groupby(who).nunique()
        if (torn > 1).any():
            raise CohortError(
                f"{int((torn > 1).sum())} patients have films of two {name}, and would train and "
                "judge at once: keep one for each, or pass patients by examination."
            )
    return [
        [
            [np.flatnonzero(who == p) for p in pd.unique(who[(site == s) & (biology == y)])]
            for y in range(biology.max() + 1)
        ]
        for s in range(site.max() + 1)
    ]


def _parts(cells: Cells, plan: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows to train, to choose the penalty and to judge.

    To choose: after the training rows, 1 / most of their number, rounded down as in the original.
    Films of a patient are few here where they are hundreds there: where nothing would be left, one
    row of each cell that trains.
    """
    train, judge, spare = [], [], []
    for row, counts in zip(cells, plan, strict=True):
        for cell, count in zip(row, counts, strict=True):
            mine = np.concatenate(cell[:count]) if count else np.zeros(0, dtype=int)
            train.append(mine)
            spare.append(np.concatenate(cell[count:]))
            judge.append(np.concatenate(cell[most + 1 :]))
    takes = [len(rows) // most for rows in train]
    if not any(takes):
        takes = [min(len(rows), 1) for rows in train]
    choose = [rows[:take] for rows, take in zip(spare, takes, strict=True)]
    return np.concatenate(train), np.concatenate(choose), np.concatenate(judge)


def _probed(
    z: np.ndarray, y: np.ndarray, train: np.ndarray, choose: np.ndarray, judge: np.ndarray
) -> float:
    """Return the balanced accuracy of the probe whose penalty did best; the strongest if equal."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [
            LogisticRegression(C=strength, random_state=0).fit(z[train], y[train])
            for strength in STRENGTHS
        ]
    scores = [_balanced(y[choose], fit.predict(z[choose])) for fit in fits]
    return _balanced(y[judge], fits[int(np.argmax(scores))].predict(z[judge]))


def _balanced(truth: np.ndarray, said: np.ndarray) -> float:
    return float(np.mean([(said[truth == level] == level).mean() for level in np.unique(truth)]))


def _matrix(accuracy: np.ndarray) -> np.ndarray:
    accuracy = np.asarray(accuracy, float)
    if accuracy.ndim != 2 or len(accuracy) < 2 or not np.isfinite(accuracy).all():
        raise SettingsError(
            f"accuracies of shape {accuracy.shape}: give finite (splits, repetitions), the "
            "balanced split first and one more at least."
        )
    return accuracy
