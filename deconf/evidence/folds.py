"""The splits of a comparison: patient-grouped folds, or one level of a column after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from deconf.cohort.cohort import Cohort
from deconf.cohort.roles import require_column
from deconf.cohort.splits import without_patients
from deconf.errors import CohortError
from deconf.maths.kinds import is_categorical, levels, said

# A test fold of so many patients is enough to attack; below it the cohort is halved for that,
# since a verdict on 200 patients could hardly ever be "clean".
ENOUGH = 2000
Item = TypeVar("Item")


@dataclass(frozen=True)
class Fold:
    """Training and test rows, which share no patient.

    ``refused`` says why nothing can be learned here; empty otherwise.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    refused: str = ""


def folds_of(cohort: Cohort, hold_out: str | None, folds: int, seed: int) -> list[Fold]:
    """Return the splits.

    With ``hold_out`` each level of that column is tested in turn; its patients leave training
    with all their films, and so do rows where the column is missing.

    Raises
    ------
    CohortError
        Unknown column, a number, fewer than two levels, or fewer patients than folds.
    """
    if hold_out is None:
        dealt = enumerate(cohort.folds(folds, seed), start=1)
        return [Fold(f"fold {k}", train, test) for k, (train, test) in dealt]
    require_column(cohort.table, hold_out)
    column = cohort.table[hold_out]
    if not is_categorical(column):
        raise CohortError(
            f"hold_out is {hold_out!r}, a number with {column.nunique():,} values: name a column "
            "of categories, such as the site."
        )
    values = levels(column)
    if len(values) < 2:
        raise CohortError(
            f"hold_out is {hold_out!r}, which has {len(values)} recorded level: leaving one out "
            "needs two. Leave hold_out away for patient-grouped folds."
        )
    return [_left_out(cohort, column, value) for value in values]


def _left_out(cohort: Cohort, column: pd.Series, value: object) -> Fold:
    is_held_out = np.asarray(column == value)
    known = column.notna().to_numpy()
    train, test = without_patients(is_held_out & known, cohort.patients, known=known)
    refused = ""
    if len(train) == 0:
        refused = f"nobody is left to train on: every other patient has films at {said(value)} too"
    return Fold(f"{column.name}={said(value)}", train, test, refused)


def half_split(cohort: Cohort, parts: list[Fold], hold_out: str | None, seed: int) -> Fold:
    """Return the one split on which representations are attacked.

    Embeddings of different folds come from different maps and cannot be pooled.  The first fold
    serves where it has 2,000 patients; else half of the patients, by maps fitted on the other.
    Held-out sites are attacked as seen ones: what an attacker never met it cannot name.
    """
    first = parts[0]
    if hold_out is None and len(np.unique(cohort.patients[first.test])) >= ENOUGH:
        return first
    train, test = next(iter(cohort.folds(2, seed)))
    return Fold("half of the patients", train, test)


def with_bar(items: Sequence[Item], what: str) -> Iterable[Item]:
    """Return the items, with a bar on a terminal."""
    if not sys.stderr.isatty() or not items:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, what, console=Console(stderr=True), transient=True)
