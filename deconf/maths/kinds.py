"""Is this column a set of categories, or a number?  One answer for the whole house."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

MOST_LEVELS = 12
"""A column of whole numbers with more distinct values than this is read as a number."""


def is_categorical(series: pd.Series[Any]) -> bool:
    """Whether a column is a set of categories.

    Booleans, text and pandas categories are; so is any number with at most two distinct values,
    and whole numbers with at most ``MOST_LEVELS`` of them (as floats too: a missing value turns a
    column of integers into floats, which must not turn sites into a measurement).

    Examples
    --------
    >>> is_categorical(pd.Series([1.0, 0.0, None])), is_categorical(pd.Series([80.5, 90.0, 120.0]))
    (True, False)
    """
    if isinstance(series.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(series.dtype):
        return True
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return False
    if not pd.api.types.is_numeric_dtype(series.dtype):
        return True
    present = np.unique(numbers(series.dropna()))
    if len(present) <= 2:
        return True
    return len(present) <= MOST_LEVELS and bool(np.all(present == np.round(present)))


def numbers(series: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """Return a numeric or date column as (n,) floats; NaN where missing or infinite; dates in days.

    A copy: writing to it leaves the table alone.
    """
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        naive = series.dt.tz_convert(None) if series.dt.tz is not None else series
        days = (naive - pd.Timestamp(0)) / pd.Timedelta(days=1)
        return np.array(days, dtype=np.float64)
    values = np.array(series.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.where(np.isfinite(values), values, np.nan)


def levels(series: pd.Series[Any]) -> list[Any]:
    """Return the distinct recorded values, sorted, as Python scalars.

    An ordered category keeps its own order.

    Examples
    --------
    >>> levels(pd.Series(["b", "a", None, "b"]))
    ['a', 'b']
    """
    present = series.dropna().unique()
    values = [v.item() if isinstance(v, np.generic) else v for v in list(present)]
    if isinstance(series.dtype, pd.CategoricalDtype) and series.dtype.ordered:
        place = {value: i for i, value in enumerate(series.dtype.categories)}
        return sorted(values, key=lambda v: place[v])
    try:
        return sorted(values)
    except TypeError:  # numbers and text in one column
        return sorted(values, key=lambda v: (type(v).__name__, str(v)))


def codes(series: pd.Series[Any]) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """Return (n,) places in ``levels``, -1 where missing, and the levels.

    Examples
    --------
    >>> codes(pd.Series(["b", None, "a"]))
    (array([ 1, -1,  0]), ['a', 'b'])
    """
    known = levels(series)
    place = {value: i for i, value in enumerate(known)}
    missing = series.isna().to_numpy()
    values = series.tolist()
    found = [-1 if gone else place[v] for v, gone in zip(values, missing, strict=True)]
    return np.asarray(found, dtype=np.int64), known


def said(value: object) -> str:
    """Return a value as a reader would write it: whole floats without their ``.0``.

    >>> said(1.0), said("PA"), said(0.25)
    ('1', 'PA', '0.25')
    """
    return f"{value:g}" if isinstance(value, float) else str(value)
