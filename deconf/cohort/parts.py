"""The parts of a cohort, however they are named: a column, subsets, masks or row numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deconf.cohort.roles import quoted, require_column
from deconf.cohort.selection import row_numbers
from deconf.cohort.splits import Rows
from deconf.errors import CohortError
from deconf.maths.kinds import is_categorical, levels, said

if TYPE_CHECKING:
    from deconf.cohort.cohort import Cohort


def rows_of_parts(whole: Cohort, parts: str | Mapping[str, Any]) -> dict[str, Rows]:
    """Return the row numbers of every part.

    Parameters
    ----------
    whole : Cohort
    parts : column name, or mapping of names
        A column of categories: each level is a part, rows without one are in none.  A mapping to
        subsets of this cohort (what `Cohort.split` returns), masks or row numbers.

    Raises
    ------
    CohortError
        Unknown column, a column of numbers, fewer than two parts, a part that is empty or no
        subset of this cohort, a row in two parts.
    """
    if isinstance(parts, str):
        require_column(whole.table, parts)
        column = whole.table[parts]
        if not is_categorical(column):
            raise CohortError(
                f"the column {parts!r} holds numbers, {column.nunique():,} different ones: parts "
                "need a column of categories, or a mapping of names to rows."
            )
        named = {f"{said(level)}": np.asarray(column == level) for level in levels(column)}
    elif isinstance(parts, Mapping):
        named = {str(name): part for name, part in parts.items()}
    else:
        raise CohortError(
            f"parts are a column or a mapping, {{'train': train, 'test': test}}; this is "
            f"{type(parts).__name__}."
        )
    if len(named) < 2:
        raise CohortError(f"{len(named)} part ({', '.join(named) or '-'}): two are needed.")
    rows = {name: _rows(whole, name, part) for name, part in named.items()}
    times = np.bincount(np.concatenate(list(rows.values())), minlength=len(whole))
    if times.max() > 1:
        raise CohortError(
            f"{(times > 1).sum():,} rows are in more than one part, first row "
            f"{int((times > 1).argmax())} (counting from 0): parts share no row."
        )
    return rows


def _rows(whole: Cohort, name: str, part: Any) -> Rows:
    if not isinstance(part, type(whole)):
        try:
            return row_numbers(part, len(whole))
        except CohortError as error:
            raise CohortError(f"part {quoted(name)}: {error}") from error
    # A subset remembers the numbers its rows had when the table was read.
    order = np.argsort(whole._number, kind="stable")
    place = np.searchsorted(whole._number[order], part._number)
    rows = order[np.minimum(place, len(order) - 1)]
    held = whole._table.iloc[rows].reset_index(drop=True)
    if not np.array_equal(whole._number[rows], part._number) or not held.equals(part._table):
        raise CohortError(
            f"part {quoted(name)} is no subset of this cohort: some of its rows are not in it, or "
            "differ. Ask the cohort that was split."
        )
    return rows
