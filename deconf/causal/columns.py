"""The door of a plan: columns that are there, recorded, and read as what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from deconf.causal.graph import IMAGE
from deconf.errors import CohortError, did_you_mean, listing
from deconf.maths.kinds import codes, is_categorical, levels, numbers, said

LOOKS_LIKE_A_CODE = re.compile(
    r"(^|[^a-z])(id|site|scanner|cent(er|re)|hospital|clinic|institution|ward|machine|device|"
    r"vendor|manufacturer|model|station|room|lab|code)s?([^a-z]|$)"
)
MANY_LEVELS = 0.2
"""A category with more levels than this share of its rows looks like an identifier."""


def check_columns(
    table: pd.DataFrame,
    confounders: Sequence[str],
    outcome: Sequence[str],
    given: Sequence[str],
    patient: str | None,
) -> None:
    """Raise ``CohortError`` for columns that are absent, empty, constant or the same thing."""
    if not confounders:
        raise CohortError("no confounder was named: say which column's trace is to be removed.")
    roles = {"confounder": confounders, "outcome": outcome, "given": given}
    for role, names in roles.items():
        for name in names:
            _present(table, name, role)
    if patient is not None and patient not in table.columns:
        raise CohortError(_absent(table, patient, "patient"))
    for name in confounders:
        for role in ("outcome", "given"):
            if name in roles[role]:
                raise CohortError(
                    f"{name!r} is both confounder and {role}: nothing can separate a column from "
                    f"itself. Take it out of one of the two."
                )
        known = levels(table[name])
        if len(known) == 1:
            raise CohortError(
                f"the confounder {name!r} has one level only, {said(known[0])!r}, in all "
                f"{int(table[name].notna().sum()):,} recorded rows: there is nothing to remove. "
                "Name another confounder, or add images of another level."
            )
        for y in outcome:
            _distinct(table, name, y)


def _absent(table: pd.DataFrame, name: str, role: str) -> str:
    return (
        f"the table has no column {name!r} (named as {role})."
        f"{did_you_mean(name, table.columns)} Columns: {listing(table.columns)}."
    )


def _present(table: pd.DataFrame, name: str, role: str) -> None:
    if name == IMAGE:
        raise CohortError(
            f"{IMAGE!r} stands for the pixels and cannot be the {role}: name a column of the "
            f"table. Columns: {listing(table.columns)}."
        )
    if name not in table.columns:
        raise CohortError(_absent(table, name, role))
    if not table[name].notna().any():
        raise CohortError(
            f"the {role} {name!r} has no recorded value in {len(table):,} rows. Fill the column "
            "in, or leave it out: no column means unmeasured."
        )


def _distinct(table: pd.DataFrame, confounder: str, outcome: str) -> None:
    """Raise if one column can be written in terms of the other, value for value."""
    both = table[[confounder, outcome]].dropna()
    a, b = both[confounder], both[outcome]
    if is_categorical(a) and is_categorical(b):
        pairs = len(both.drop_duplicates())
        same = pairs >= 2 and pairs == a.nunique() == b.nunique()
    elif is_categorical(a) or is_categorical(b):
        same = False
    else:
        same = len(both) > 1 and np.array_equal(numbers(a), numbers(b))
    if same:
        raise CohortError(
            f"the confounder {confounder!r} and the outcome {outcome!r} say the same thing in all "
            f"{len(both):,} rows where both are recorded: nothing can separate them. Collect "
            "images in which they differ, or check that one column was not made from the other."
        )


def readings(table: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """Say how each column was read: "site: 3 categories", "kVp: a number".

    >>> readings(pd.DataFrame({"site": ["A", "B"], "kVp": [80.5, 90.1]}).loc[[0, 1] * 9], ["site"])
    ('site: 2 categories',)
    """
    told = []
    for name in names:
        if is_categorical(table[name]):
            count = len(levels(table[name]))
            told.append(f"{name}: {count} {'category' if count == 1 else 'categories'}")
        elif pd.api.types.is_datetime64_any_dtype(table[name].dtype):
            told.append(f"{name}: a date")
        else:
            told.append(f"{name}: a number")
    return tuple(told)


def misreadings(table: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    """Warn of site codes that would be read as a number, and of identifiers as categories."""
    for name in names:
        series, rows = table[name], int(table[name].notna().sum())
        count = series.nunique()
        if is_categorical(series):
            if count > max(12, MANY_LEVELS * rows):
                yield (
                    f"{name!r} has {count:,} different values in {rows:,} rows: is it an "
                    "identifier rather than a category?"
                )
        elif pd.api.types.is_numeric_dtype(series.dtype):
            words = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
            whole = bool(np.all(numbers(series.dropna()) % 1 == 0))
            if whole and LOOKS_LIKE_A_CODE.search(words):
                yield (
                    f"{name!r} holds {count:,} different whole numbers and is read as a number. If "
                    f"they are codes, make them text: table[{name!r}].astype(str)."
                )


def one_sided(table: pd.DataFrame, confounder: str, outcome: str) -> tuple[list[str], int]:
    """Return the levels of a confounder at which the outcome has one value, and all levels' number.

    >>> one_sided(pd.DataFrame({"site": ["A", "A", "B"], "ill": [0, 1, 1]}), "site", "ill")
    (['every site=B film has ill=1'], 2)
    """
    both = table[[confounder, outcome]].dropna()
    if not (is_categorical(both[confounder]) and is_categorical(both[outcome])):
        return [], 0
    if both[outcome].nunique() < 2:
        return [], 0
    found, known = codes(both[confounder])
    told = []
    for i, level in enumerate(known):
        values = levels(both[outcome][found == i])
        if len(values) == 1:
            told.append(f"every {confounder}={said(level)} film has {outcome}={said(values[0])}")
    return told, len(known)
