"""The task: what a head can do with an embedding, where the shortcut holds and where it does not.

Scores of different folds come from different heads and lie on different scales, so two films are
compared only inside a fold; an AUROC is the mean over folds by the number of films.  A fold with
one class has no AUROC and is left out, never averaged in.  Intervals resample patients, with the
same draws for every representation: a difference is paired, draw by draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from deconf.causal.overlap import FEW
from deconf.evidence.calibration import (
    calibration_error,
    calibration_intercept,
    calibration_slope,
)
from deconf.evidence.environments import (
    SWEEP,
    Sweep,
    discordant_aurocs,
    joined,
    sweep,
    training_risk,
)
from deconf.maths.intervals import stratified_aurocs
from deconf.probes.cells import Levels

# Patients of each class from which a held-out level is an environment of its own: the AUROC of
# fewer has an interval of more than a quarter, and the lowest of several such is luck.
ENOUGH_PER_CLASS = 20


@dataclass(frozen=True)
class Scores:
    """Out-of-fold log-odds of one representation, nan where it was refused.

    ``base`` is the log-odds of the outcome in the (weighted) training part of each row's fold:
    above it a film is called ill.
    """

    logit: np.ndarray
    base: np.ndarray

    def at(self, rows: np.ndarray) -> Scores:
        """Return some of the rows."""
        return Scores(self.logit[rows], self.base[rows])

    @property
    def known(self) -> np.ndarray:
        """(n,) bool: a score was given."""
        return np.isfinite(self.logit)


Statistic = Callable[[Scores, np.ndarray, np.ndarray], np.ndarray]
Calibration = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

CALIBRATION: tuple[tuple[str, Calibration, str], ...] = (
    ("error", calibration_error, "no film to compare"),
    (
        "slope",
        calibration_slope,
        "the scores are constant or separate the classes: there is no slope",
    ),
    ("intercept", calibration_intercept, "one class only: there is no intercept"),
)


@dataclass(frozen=True)
class Measure:
    """One figure of the task table.

    Attributes
    ----------
    metric, environment : str
        "AUROC", "within portable".
    rows : (m,) int
        The films it is taken from.
    of : callable (Scores at rows, rows, (B, m) weights) -> (B,)
    refused : str
        Why nobody gets this figure; empty otherwise.
    note : str
        What the reader of the figure should know.
    is_environment : bool
        Whether it belongs to those of which the worst is the headline.
    nothing : str
        What it means when it comes out as nan.
    """

    metric: str
    environment: str
    rows: np.ndarray
    of: Statistic
    refused: str = ""
    note: str = ""
    is_environment: bool = False
    nothing: str = "no two films to compare"

    @property
    def key(self) -> tuple[str, str]:
        """Metric and environment."""
        return self.metric, self.environment


@dataclass(frozen=True)
class Task:
    """One outcome, the folds it is judged in and the confounders it is judged against.

    Attributes
    ----------
    name : str
    y : (n,) float
        0, 1 or nan.
    fold : (n,) int
        The fold in which a row is tested, -1 for never.
    fold_names : tuple of str
    trains : list of row numbers, one for each fold
    levels : mapping of confounder to Levels
    patients : (n,)
    is_held_out : bool
        Folds are levels of a column, each with an association of its own.
    """

    name: str
    y: np.ndarray
    fold: np.ndarray
    fold_names: tuple[str, ...]
    trains: list[np.ndarray]
    levels: Mapping[str, Levels]
    patients: np.ndarray
    is_held_out: bool = False
    rows: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", np.flatnonzero((self.fold >= 0) & ~np.isnan(self.y)))


def one_class(y: np.ndarray, rows: np.ndarray) -> float | None:
    """Return the only recorded value of the outcome in some rows, nan for none, None for two."""
    found = np.unique(y[rows][~np.isnan(y[rows])])
    if len(found) > 1:
        return None
    return float(found[0]) if len(found) else float("nan")


def measures(task: Task) -> list[Measure]:
    """Return every figure of a task: pooled, calibration, and for each confounder its worlds."""
    found = [_pooled(task), *_calibration(task)]
    if task.is_held_out:
        found += [_one_fold(task, k) for k in range(len(task.fold_names))]
    for confounder, levels in task.levels.items():
        found += [
            _within(task, confounder, levels),
            *(_discordant(task, confounder, levels, crossed=c) for c in (False, True)),
            *_sweep(task, confounder, levels),
            _worst_group(task, confounder, levels),
        ]
    return found


def _auroc(task: Task, strata: np.ndarray, weights: np.ndarray | None = None) -> Statistic:
    def of(scores: Scores, rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        drawn = drawn if weights is None else drawn * weights[rows].astype(drawn.dtype)
        return stratified_aurocs(scores.logit, task.y[rows], strata[rows], drawn)

    return of


def _pooled(task: Task) -> Measure:
    return Measure("AUROC", "pooled", task.rows, _auroc(task, task.fold))


def _one_fold(task: Task, fold: int) -> Measure:
    rows, refused = _held_out(task, fold)
    fewest = min(len(np.unique(task.patients[rows[task.y[rows] == v]])) for v in (0, 1))
    return Measure(
        "AUROC",
        f"held out: {task.fold_names[fold]}",
        rows,
        _auroc(task, task.fold),
        refused,
        is_environment=fewest >= ENOUGH_PER_CLASS,
    )


def _held_out(task: Task, fold: int) -> tuple[np.ndarray, str]:
    """Return the films of a held-out level, and why they give no figure; empty where they do."""
    rows = task.rows[task.fold[task.rows] == fold]
    only = one_class(task.y, rows)
    if only is None:
        return rows, ""
    column, _, level = task.fold_names[fold].partition("=")
    if np.isnan(only):
        return rows, f"{level} has no recorded {task.name}"
    return rows, (
        f"{level} holds only {task.name}={only:g}: {column} cannot be told from {task.name} there"
    )


def _recorded(task: Task, levels: Levels) -> np.ndarray:
    return task.rows[levels.codes[task.rows] >= 0]


def _within(task: Task, confounder: str, levels: Levels) -> Measure:
    rows = _recorded(task, levels)
    strata = np.full(len(task.y), -1)
    if len(rows):
        strata[rows] = joined(task.fold[rows], levels.codes[rows])
    mixed = any(one_class(task.y, rows[strata[rows] == s]) is None for s in np.unique(strata[rows]))
    refused = "" if mixed else f"no level of {confounder} holds both classes of {task.name}"
    return Measure("AUROC", f"{confounder}: within levels", rows, _auroc(task, strata), refused)


def _discordant(task: Task, confounder: str, levels: Levels, *, crossed: bool) -> Measure:
    rows = _recorded(task, levels)
    risk = training_risk(task.y, levels.codes, len(levels.names), task.trains)

    def of(scores: Scores, rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        return discordant_aurocs(
            scores.logit, task.y[rows], levels.codes[rows], task.fold[rows], risk, drawn,
            crossed=crossed,
        )  # fmt: skip

    kind = "crossed" if crossed else "aligned"
    # Scores do not matter here: nan means that there is no pair at all.
    none = np.isnan(of(Scores(np.zeros(len(rows)), np.zeros(len(rows))), rows, _ones(rows))[0])
    refused = f"no two films of one test part differ in {confounder} and are {kind}" if none else ""
    return Measure("AUROC", f"{confounder}: {kind} pairs", rows, of, refused)


def _sweep(task: Task, confounder: str, levels: Levels) -> list[Measure]:
    rows = task.rows
    whole = np.zeros(len(rows), dtype=int)
    part: Sweep = sweep(
        task.y[rows],
        levels.codes[rows],
        task.fold[rows] if task.is_held_out else whole,
        task.patients[rows],
        levels.names,
        outcome=task.name,
        group_names=task.fold_names if task.is_held_out else ("",),
    )
    missing = "; ".join(part.left_out)
    refused = ""
    if not len(part.rows):
        refused = missing or f"each test part holds one level of {confounder}"
    found = []
    for name, power in SWEEP.items():
        weights = np.zeros(len(task.y))
        if len(part.rows):
            weights[rows[part.rows]] = part.power(power)
        found.append(
            Measure(
                "AUROC",
                f"{confounder}: {name}",
                rows[part.rows],
                _auroc(task, task.fold, weights),
                refused,
                f"leaving out what has too few films: {missing}" if missing else "",
                is_environment=True,
            )
        )
    return found


def _worst_group(task: Task, confounder: str, levels: Levels) -> Measure:
    """Return the lowest share of rightly called films among groups of outcome and level."""
    rows = _recorded(task, levels)
    groups = {}
    for level, name in enumerate(levels.names):
        for value in (0, 1):
            inside = (levels.codes == level) & (task.y == value)
            if len(np.unique(task.patients[rows][inside[rows]])) >= FEW:
                groups[f"{name} with {task.name}={value}"] = inside

    def of(scores: Scores, rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        right = (scores.logit > scores.base) == (task.y[rows] == 1)
        shares = []
        for inside in groups.values():
            total = drawn[:, inside[rows]].sum(1, dtype=float)
            hits = (drawn[:, inside[rows]] * right[inside[rows]]).sum(1, dtype=float)
            shares.append(np.divide(hits, total, out=np.full(len(drawn), 2.0), where=total > 0))
        lowest = np.min(shares, axis=0)
        return np.where(lowest > 1, np.nan, lowest)  # 2 marks a group that was not drawn

    refused = "" if groups else f"no group of {task.name} and {confounder} has {FEW} patients"
    return Measure("accuracy", f"{confounder}: worst group", rows, of, refused)


def _calibration(task: Task) -> list[Measure]:
    """Return calibration error, slope and intercept, pooled and at each held-out level."""
    places = [("pooled", task.rows, "")]
    if task.is_held_out:
        places += [
            (f"held out: {name}", *_held_out(task, k)) for k, name in enumerate(task.fold_names)
        ]
    return [
        Measure(f"calibration {what}", where, rows, _calibrated(task, of), refused, nothing=nothing)
        for where, rows, refused in places
        for what, of, nothing in CALIBRATION
    ]


def _calibrated(task: Task, of: Calibration) -> Statistic:
    return lambda scores, rows, drawn: of(scores.logit, task.y[rows], drawn)


def _ones(rows: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.ones((1, len(rows)))
