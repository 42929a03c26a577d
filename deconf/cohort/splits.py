"""Splits that never cut a patient in two.

Films of one patient share anatomy, so a patient on both sides of a split lets a model remember
where it should recognise.  Whole patients are dealt out like cards: patients of the rarest
stratum first, then the next, each run in random order, card by card round the folds.  Every
stratum is therefore shared out evenly, to within one patient; and thirty thousand patients take
a moment, where a search over groups (scikit-learn's `StratifiedGroupKFold`) takes seconds and
warns of strata smaller than the number of folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from deconf.errors import CohortError, listing
from deconf.maths.intervals import factorised
from deconf.maths.kinds import is_categorical

Rows = Int[np.ndarray, " _"]  # as many as there are: train and test differ


def patient_folds(
    patients: Shaped[np.ndarray, " n"],
    folds: int,
    *,
    strata: Shaped[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> list[tuple[Rows, Rows]]:
    """Deal patients into folds; return ``(train, test)`` row numbers for each fold.

    Every row is tested exactly once.

    Parameters
    ----------
    patients : (n,) array
        The patient of each row.
    folds : int
        At least two, at most the number of patients.
    strata : (n,) array, optional
        What each fold should hold its share of, say site and outcome.  A patient counts for the
        rarest stratum among their rows.
    seed : int

    Raises
    ------
    CohortError
        Fewer patients than folds, or fewer than two folds.

    Examples
    --------
    >>> for train, test in patient_folds(np.array(["ann", "ann", "bo", "cy"]), 3):
    ...     print(train, test)
    [0 1 3] [2]
    [2 3] [0 1]
    [0 1 2] [3]
    """
    code, order = _patients_in_order(patients, strata, rng := np.random.default_rng(seed))
    if folds < 2:
        raise CohortError(f"{folds} folds: at least 2 are needed.")
    if len(order) < folds:
        raise CohortError(
            f"{len(order)} patients cannot be dealt into {folds} folds. "
            f"Ask for at most {len(order)} folds, or bring more patients."
        )
    fold = np.empty(len(order), dtype=int)
    fold[order] = np.resize(rng.permutation(folds), len(order))
    fold_of_row = fold[code]
    return [
        (np.flatnonzero(fold_of_row != k), np.flatnonzero(fold_of_row == k)) for k in range(folds)
    ]


def patient_split(
    patients: Shaped[np.ndarray, " n"],
    test_size: float = 0.2,
    *,
    strata: Shaped[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> tuple[Rows, Rows]:
    """Set a share of the patients aside; return ``(train, test)`` row numbers.

    Parameters
    ----------
    test_size : float between 0 and 1
        The share of *patients* to test on; at least one stays on each side.
    patients, strata, seed
        As in `patient_folds`.

    Raises
    ------
    CohortError
        ``test_size`` is no share, or there is one patient only.
    """
    if not 0 < test_size < 1:
        raise CohortError(
            f"test_size is {test_size!r}: give the share of patients to test on, between 0 and 1."
        )
    code, order = _patients_in_order(patients, strata, rng := np.random.default_rng(seed))
    count = len(order)
    if count < 2:
        raise CohortError(f"{count} patient cannot be split in two: bring at least 2 patients.")
    tested = min(max(round(test_size * count), 1), count - 1)
    # Every (count / tested)-th patient from a random start: systematic sampling.  In integers,
    # so that no patient is met twice by rounding.
    chosen = order[(rng.integers(count) + count * np.arange(tested)) // tested]
    is_tested = np.isin(code, chosen)
    return np.flatnonzero(~is_tested), np.flatnonzero(is_tested)


def leave_one_level_out(
    levels: Shaped[np.ndarray, " n"], patients: Shaped[np.ndarray, " n"]
) -> Iterator[tuple[object, Rows, Rows]]:
    """Yield ``(level, train, test)``: each recorded level tested by a model that never met it.

    Patients of the held-out level leave training with all their films, and so do rows whose
    level is missing: nobody can say that they are not of the held-out level.

    Raises
    ------
    CohortError
        Fewer than two levels, or nobody left to train on.
    """
    code, recorded = pd.factorize(levels)
    if len(recorded) < 2:
        raise CohortError(
            f"leaving one level out needs at least 2 levels; recorded: {listing(recorded) or '-'}."
        )
    for number, level in enumerate(recorded.tolist()):
        train, test = without_patients(code == number, patients, known=code >= 0)
        if len(train) == 0:
            raise CohortError(
                f"nobody is left to train on when {level!r} is held out: "
                "every other patient has films there too, or no recorded level."
            )
        yield level, train, test


def without_patients(
    held_out: Bool[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
    *,
    known: Bool[np.ndarray, " n"],
) -> tuple[Rows, Rows]:
    """Return the rows to train on, none of a held-out patient, and the held-out rows."""
    code = factorised(patients)
    left = np.isin(code, code[held_out])
    return np.flatnonzero(known & ~left), np.flatnonzero(held_out)


def strata(table: pd.DataFrame, columns: Sequence[str]) -> Int[np.ndarray, " n"]:
    """Return a code for each row's joint level of some columns: numbers by quarters.

    Missing is a level of its own.

    Examples
    --------
    >>> strata(pd.DataFrame({"site": ["A", "B", "A"], "ill": [1, 1, None]}), ["site", "ill"])
    array([0, 2, 1])
    """
    codes = [np.zeros(len(table), dtype=int)]
    for column in columns:
        values = table[column]
        if not is_categorical(values):
            values = pd.qcut(values, 4, labels=False, duplicates="drop")
        codes.append(pd.factorize(values, use_na_sentinel=False)[0])
    return np.unique(np.stack(codes), axis=1, return_inverse=True)[1]


def _patients_in_order(
    patients: Shaped[np.ndarray, " n"],
    strata: Shaped[np.ndarray, " n"] | None,
    rng: np.random.Generator,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " patients"]]:
    """Return each row's patient code, and the patients at random, like beside like."""
    code = factorised(patients)
    films = np.bincount(code)
    stratum = np.zeros(len(code), dtype=int) if strata is None else factorised(strata)
    rarity = np.argsort(np.argsort(np.bincount(stratum), kind="stable"), kind="stable")
    rarest = np.full(len(films), len(rarity))
    np.minimum.at(rarest, code, rarity[stratum])
    # Number of films by powers of two: balances the rows of the folds, yet leaves enough ties
    # for the seed to matter.
    size = np.frexp(films)[1]
    return code, np.lexsort((rng.random(len(films)), size, rarest))
