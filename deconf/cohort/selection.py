"""Which rows are meant: by mask, by number, by the value of a column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from deconf.cohort.roles import quoted, require_column
from deconf.errors import CohortError, did_you_mean, listing


def row_numbers(rows: Any, n: int) -> Int[np.ndarray, " rows"]:
    """Return the numbers of the rows chosen by a mask, a slice or numbers.

    Raises
    ------
    CohortError
        A mask of another length or with missing values, numbers out of range, no row left.
    """
    chosen = np.arange(n)[rows] if isinstance(rows, slice) else np.asarray(rows)
    if chosen.dtype == object and all(isinstance(row, bool | np.bool_) for row in chosen):
        chosen = chosen.astype(bool)
    if chosen.dtype == bool:
        if chosen.shape != (n,):
            raise CohortError(f"a mask of shape {chosen.shape} for {n:,} rows: one value a row.")
        chosen = np.flatnonzero(chosen)
    if chosen.size == 0:
        raise CohortError(f"none of the {n:,} rows is left by this choice.")
    if not np.issubdtype(chosen.dtype, np.integer) or chosen.ndim != 1:
        raise CohortError(
            f"rows are a mask or row numbers; this is {chosen.dtype} of shape {chosen.shape}. "
            "A mask with missing values: mask.fillna(False)."
        )
    out = (chosen < -n) | (chosen >= n)
    if out.any():
        raise CohortError(f"there is no row {chosen[out][0]} among {n:,} rows.")
    return np.arange(n)[chosen]


def rows_with(table: pd.DataFrame, column: str, values: Any) -> Bool[np.ndarray, " n"]:
    """Return where a column has one of the values, each of which must occur.

    Raises
    ------
    CohortError
        Unknown column or value.
    """
    require_column(table, column)
    levels = table[column]
    wanted = list(values) if isinstance(values, list | tuple | set | np.ndarray) else [values]
    for value in wanted:
        if not (levels == value).any():
            known = levels.dropna().unique()
            raise CohortError(
                f"no row has {column} = {quoted(value)}.{did_you_mean(str(value), map(str, known))}"
                f" Recorded: {listing(map(quoted, known), 24)}."
            )
    return levels.isin(wanted).to_numpy()
