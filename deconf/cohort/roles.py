"""Which column is what: the table and its roles, checked once at the door."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from deconf.errors import CohortError, did_you_mean, listing


def checked_roles(
    table: pd.DataFrame,
    *,
    image: str | None = None,
    embedding: str | None = None,
    patient: str | None = None,
    site: str | None = None,
    outcome: str | Sequence[str] | None = None,
) -> dict[str, str | tuple[str, ...] | None]:
    """Return the roles of a table's columns; raise `CohortError` where they cannot hold.

    A column of embeddings takes no part in the roles, but can have none of them.

    Raises
    ------
    CohortError
        An empty table, two columns of one name, an unknown column, a column in two roles, a row
        without patient, an outcome nobody recorded.
    """
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()].unique()
        raise CohortError(f"the table has two columns named {listing(map(repr, twice))}: rename.")
    if len(table) == 0:
        raise CohortError("the table has no rows.")
    outcomes = () if outcome is None else (outcome,) if isinstance(outcome, str) else tuple(outcome)
    named = [("image", image), ("embedding", embedding), ("patient", patient), ("site", site)]
    named += [("outcome", name) for name in outcomes]
    held: dict[str, str] = {}
    for role, column in named:
        if column is None:
            continue
        if isinstance(column, list | tuple | set):
            raise CohortError(f"{role}={column!r}: this role is one column, not several.")
        require_column(table, column, role)
        if column in held:
            raise CohortError(
                f"the column {column!r} is given as {held[column]} and again as {role}: "
                "a column has one role."
            )
        held[column] = role
    if patient is not None:
        _require_patient_ids(table, patient, image)
    for column in outcomes:
        if table[column].isna().all():
            raise CohortError(
                f"the outcome {column!r} has no recorded value in any of {len(table):,} rows. "
                "Name another column, or leave outcome= out."
            )
    return {
        "image": image,
        "patient": patient,
        "site": site,
        "outcome": outcomes[0] if len(outcomes) == 1 else outcomes or None,
    }


def require_column(table: pd.DataFrame, column: object, role: str | None = None) -> None:
    """Raise `CohortError` unless the table has the column."""
    if column in table.columns:
        return
    asked = f" (given as {role})" if role else ""
    hint = did_you_mean(str(column), table.columns)
    if column in table.index.names:
        hint = " It is the table's index: pass table.reset_index()."
    raise CohortError(
        f"the table has no column {column!r}{asked}.{hint} Columns: {listing(table.columns, 24)}."
    )


def row_name(table: pd.DataFrame, row: int, *columns: str | None) -> str:
    """Return how a message should call a row: its number, and its id where it has one.

    Examples
    --------
    >>> row_name(pd.DataFrame({"study": ["CXR-1", "CXR-2"]}), 1, "study")
    "row 1 (counting from 0; study 'CXR-2')"
    """
    named = [f"{c} {quoted(table[c].iloc[row])}" for c in columns if c in table.columns]
    return f"row {row} (" + "; ".join(["counting from 0", *named[:1]]) + ")"


def quoted(value: object) -> str:
    """Return a value as a message should show it.

    Examples
    --------
    >>> quoted(np.int64(7)), quoted("7")
    ('7', "'7'")
    """
    return repr(value.item() if isinstance(value, np.generic) else value)


def _require_patient_ids(table: pd.DataFrame, patient: str, image: str | None) -> None:
    """Raise where a patient id is missing or blank: blanks would make one patient of strangers."""
    ids = table[patient]
    missing = (ids.isna() | (ids.astype(str).str.strip() == "")).to_numpy()
    if missing.any():
        first = row_name(table, int(missing.argmax()), image)
        raise CohortError(
            f"{first} has no {patient!r}; {missing.sum():,} of {len(table):,} rows lack it. "
            "Splits go by patient: give such rows an id of their own, or leave them out, "
            f"table.dropna(subset=[{patient!r}])."
        )
