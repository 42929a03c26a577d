"""What is read at the door of a structural model: rows of a table, and what is asked of them."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from deconf.errors import CohortError, SettingsError, did_you_mean, listing
from deconf.maths import kinds
from deconf.scm.mechanism import Choice, Mechanism


def whole(name: str, value: Any, least: int) -> int:
    """Return a whole number of at least ``least``.

    Raises
    ------
    SettingsError
        It is another thing.

    Examples
    --------
    >>> whole("draws", 200, least=1)
    200
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise SettingsError(f"{name} is a whole number from {least} up, not {value!r}.")
    return int(value)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number or a date: text, True and a missing value are not."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_):
        return bool(np.isfinite(float(value)))
    return isinstance(value, pd.Timestamp | np.datetime64) and not pd.isna(value)


def action(do: Any, nodes: Mapping[str, Mechanism], n: int) -> dict[str, list[Any]]:
    """Return what each column is set to in each of n rows.

    Raises
    ------
    SettingsError
        A column the model does not have, a level it never met, or no number where one is due.
    """
    if not isinstance(do, Mapping):
        raise SettingsError(f"do is {{'column': value}}, as {{'portable': 0}}, not {do!r}.")
    out = {}
    for name, value in do.items():
        if name not in nodes:
            raise SettingsError(
                f"do({name}=...): the model has no column {name!r}."
                f"{did_you_mean(name, nodes)} Columns: {listing(nodes)}."
            )
        values = list(value) if pd.api.types.is_list_like(value) else [value] * n
        if len(values) != n:
            raise SettingsError(f"do({name}=...) has {len(values)} values for {n} films.")
        out[name] = values
        mechanism = nodes[name]
        if isinstance(mechanism, Choice):
            unknown = [v for v in values if v not in mechanism.levels]
            if unknown:
                raise SettingsError(
                    f"do({name}={unknown[0]!r}): never seen in training. "
                    f"Levels: {listing(mechanism.levels)}."
                )
            continue
        unknown = [v for v in values if not is_number(v)]
        if unknown:
            raise SettingsError(
                f"do({name}={unknown[0]!r}): {name!r} is a number in this model, so give a number "
                f"as in do={{{name!r}: {mechanism.centre:.4g}}}, or one for each film."
            )
    return out


def require(table: pd.DataFrame, nodes: Mapping[str, Mechanism]) -> None:
    """Raise `CohortError` where a column of the model is missing, or is text and no number."""
    for name, mechanism in nodes.items():
        if name not in table:
            raise CohortError(
                f"the table has no column {name!r}.{did_you_mean(name, table.columns)} "
                f"The model has {listing(nodes)}."
            )
        if isinstance(mechanism, Choice):
            continue
        try:
            kinds.numbers(table[name])
        except (TypeError, ValueError):
            odd = next((v for v in table[name].dropna() if not is_number(v)), None)
            raise CohortError(
                f"column {name!r} was a number where the model was fitted and holds {odd!r} here: "
                "read it as numbers, and leave empty what is none."
            ) from None


def unread(table: pd.DataFrame, nodes: Mapping[str, Mechanism]) -> list[str]:
    """Return for each row which value the model cannot read; empty where it reads them all."""
    why = incomplete(table[list(nodes)])
    for name, mechanism in nodes.items():
        if isinstance(mechanism, Choice):
            unknown = ~table[name].isin(mechanism.levels).to_numpy()
            for row in np.flatnonzero(unknown):
                said = kinds.said(table[name].iloc[row])
                why[row] = why[row] or f"{name}={said} was never seen in training"
    return why


def readable(table: pd.DataFrame, nodes: Mapping[str, Mechanism]) -> None:
    """Raise `CohortError` for the first row with a value that the model cannot read."""
    require(table, nodes)
    lost = [(row, told) for row, told in enumerate(unread(table, nodes)) if told]
    if lost:
        row, told = lost[0]
        raise CohortError(
            f"row {row} (counting from 0; {len(lost):,} of {len(table):,} such rows): {told}. "
            "Leave those rows out, cohort.subset(...)."
        )


def incomplete(table: pd.DataFrame) -> list[str]:
    """Return for each row which value is missing; empty where none is."""
    why = [""] * len(table)
    for name in table:
        values = table[name]
        gone = values.isna() if kinds.is_categorical(values) else np.isnan(kinds.numbers(values))
        for row in np.flatnonzero(np.asarray(gone)):
            why[row] = why[row] or f"{name} is missing"
    return why
