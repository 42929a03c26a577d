"""Temporal split: learn from the past, test on what came later.

The late films decide.  A patient with any film on or after the cut is tested, on their late films
only; their early films leave training, where they would show the model whom it is tested on, and
are not tested either, being no later films.  They are counted.  The other rule, to keep returning
patients in training, would let nobody with a long history be tested.

This is the split by time of a type 2b study in Collins et al., "Transparent reporting of a
multivariable prediction model (TRIPOD)", 2015, https://doi.org/10.7326/M14-0697.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from deconf.cohort.balance import Balance, balance_of
from deconf.cohort.roles import quoted, require_column, row_name
from deconf.cohort.splits import Rows, without_patients
from deconf.errors import CohortError, SettingsError
from deconf.maths.intervals import factorised
from deconf.maths.kinds import numbers

if TYPE_CHECKING:
    from deconf.cohort.cohort import Cohort

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TemporalSplit:
    """Films before a cut and films from it on; ``train, test = split`` unpacks it.

    Attributes
    ----------
    train, test : Cohort
    column : str
    cut : float or Timestamp
        Films before it are trained on, films on it and after are tested.
    returning : int
        Patients with films on both sides: tested.
    early : (k,) array of int
        Rows of returning patients before the cut: in neither part.
    undated : (m,) array of int
        Rows without a date: in neither part, nobody can say on which side they lie.
    balance : Balance
        Of the two parts, for outcomes and site.
    """

    train: Cohort
    test: Cohort
    column: str
    cut: Any
    returning: int
    early: Rows
    undated: Rows
    balance: Balance

    def __iter__(self) -> Iterator[Cohort]:
        """Yield the training part and the test part."""
        yield self.train
        yield self.test

    def __str__(self) -> str:
        """Say the rule, what it left out, and show the balance."""
        return "\n".join([*self.said(), "", str(self.balance)])

    def said(self) -> list[str]:
        """Return what was done, in sentences."""
        cut = _said(self.cut)
        told = [f"Trained on {self.column} before {cut}, tested from {cut} on."]
        if self.returning:
            told.append(
                f"{self.returning:,} patients have films on both sides and are tested: their "
                f"{len(self.early):,} earlier films leave training and are in neither part."
            )
        if len(self.undated):
            told.append(f"{len(self.undated):,} films without {self.column!r} are in neither part.")
        return told


def cut_in_time(
    table: pd.DataFrame,
    patients: Shaped[np.ndarray, " n"],
    column: str,
    cut: Any = None,
    *,
    test_size: float | None = None,
) -> tuple[Any, Rows, Rows, Rows, Rows]:
    """Return the cut, and the rows to train on, to test on, early and undated.

    Parameters
    ----------
    table : DataFrame of n rows
    patients : (n,) array
    column : str
        Dates or numbers; text in ISO 8601 ("2024-01-31", "2024-01-31 08:15") or as in DICOM
        ("20240131").  Times with an offset are compared in UTC.
    cut : date or number
        Films on it are tested: what has one date stays together.
    test_size : float between 0 and 1
        Instead of a cut: the latest at which at least this share of the patients is tested.

    Raises
    ------
    CohortError
        A value that is no date, a cut of another kind than the column, nobody on one side.
    SettingsError
        Both or neither of ``cut`` and ``test_size``, or a size that is no share.

    Examples
    --------
    >>> films = pd.DataFrame({"taken": ["2019-05-01", "2020-02-01", "2019-07-01", None]})
    >>> who = np.array(["ann", "ann", "bo", "cy"])
    >>> cut, train, test, early, undated = cut_in_time(films, who, "taken", "2020-01-01")
    >>> train, test, early, undated
    (array([2]), array([1]), array([0]), array([3]))
    """
    require_column(table, column)
    if (cut is None) == (test_size is None):
        raise SettingsError("a temporal split takes one of cut= and test_size=.")
    times = _times(table, column)
    if times.isna().all():
        raise CohortError(f"the column {column!r} has no recorded value.")
    if cut is not None:
        at = _cut(cut, column, is_date=not pd.api.types.is_numeric_dtype(times.dtype))
    else:
        at = _latest_cut(times, patients, float(test_size or 0))
    known = times.notna().to_numpy()
    late = known & np.asarray(times >= at)
    early = known & ~late
    if not (late.any() and early.any()):
        low, high = times.min(), times.max()
        raise CohortError(
            f"all {known.sum():,} films with {column!r} lie {'before' if early.any() else 'after'} "
            f"the cut {_said(at)}: they run from {_said(low)} to {_said(high)}."
        )
    train, test = without_patients(late, patients, known=early)
    if len(train) == 0:
        raise CohortError(
            f"nobody is left to train on: every patient with films before {_said(at)} comes back "
            f"in {column!r} on or after it. Cut later."
        )
    left_out = np.setdiff1d(np.flatnonzero(early), train)
    return at, train, test, left_out, np.flatnonzero(~known)


def temporal_split(
    cohort: Cohort, column: str, cut: Any = None, *, test_size: float | None = None
) -> TemporalSplit:
    """Split a cohort in time; parameters and errors as in `cut_in_time`."""
    patients = cohort.patients
    at, train, test, early, undated = cut_in_time(
        cohort.table, patients, column, cut, test_size=test_size
    )
    split = TemporalSplit(
        train=cohort.subset(train),
        test=cohort.subset(test),
        column=column,
        cut=at,
        returning=len(np.unique(factorised(patients)[early])),
        early=early,
        undated=undated,
        balance=balance_of(cohort, {"train": train, "test": test}),
    )
    logger.info(" ".join(split.said()))
    return split


def _times(table: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as numbers or as times in UTC; missing stays missing."""
    values = table[column]
    if pd.api.types.is_bool_dtype(values.dtype):
        raise CohortError(f"the column {column!r} holds true and false, neither dates nor numbers.")
    if pd.api.types.is_numeric_dtype(values.dtype):
        return pd.Series(numbers(values), name=column)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values.dt.tz_localize("UTC") if values.dt.tz is None else values.dt.tz_convert("UTC")
    text = values.astype(object).where(values.notna(), None)
    text = text.map(lambda value: value.strip() if isinstance(value, str) else value)
    text = text.where(text != "", None)
    # A number among texts would be taken for nanoseconds since 1970.
    is_number = text.map(lambda value: isinstance(value, int | float))
    found = pd.to_datetime(
        text.where(~is_number, None), format="ISO8601", utc=True, errors="coerce"
    )
    wrong = (found.isna() & text.notna()).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise CohortError(
            f"{row_name(table, row)} has {column} = {quoted(values.iloc[row])}, no date like "
            f"'2024-01-31' or '20240131'; {wrong.sum():,} of {len(table):,} rows. Dates in another "
            f"order: table[{column!r}] = pd.to_datetime(table[{column!r}], format='%d.%m.%Y')."
        )
    return found


def _cut(cut: Any, column: str, *, is_date: bool) -> Any:
    is_number = isinstance(cut, int | float | np.number) and not isinstance(cut, bool)
    if not is_date:
        if not is_number or not np.isfinite(cut):
            raise CohortError(f"the column {column!r} holds numbers, and the cut is {cut!r}.")
        return float(cut)
    try:
        if is_number:
            raise ValueError
        at = pd.Series([cut], dtype=object)
        return pd.to_datetime(at, format="ISO8601", utc=True).iloc[0]
    except (ValueError, TypeError) as error:
        raise CohortError(
            f"the column {column!r} holds dates, and the cut is {cut!r}: write it as '2024-01-31'."
        ) from error


def _latest_cut(times: pd.Series, patients: Shaped[np.ndarray, " n"], test_size: float) -> Any:
    """Return the latest cut at which a share of the dated patients is tested.

    A patient is tested when their last film lies on it or after.
    """
    if not 0 < test_size < 1:
        raise SettingsError(
            f"test_size is {test_size!r}: give the share of patients to test on, between 0 and 1."
        )
    last = times.groupby(factorised(patients)).max().dropna().sort_values(ascending=False)
    return last.iloc[int(np.ceil(test_size * len(last) - 1e-9)) - 1]


def _said(time: Any) -> str:
    if not isinstance(time, pd.Timestamp):
        return f"{time:g}"
    return f"{time:%Y-%m-%d}" if time == time.normalize() else f"{time:%Y-%m-%d %H:%M:%S} UTC"
