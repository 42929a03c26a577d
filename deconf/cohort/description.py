"""A table described column by column, for `Cohort.describe`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from deconf.cohort.roles import quoted
from deconf.maths.kinds import is_categorical

COLUMNS = ("role", "kind", "levels", "missing", "n", "note")


def described(
    table: pd.DataFrame,
    roles: Mapping[str, Any],
    embeddings: np.ndarray | None,
    patients: int,
    dropped: int,
    left_out: str = "",
) -> pd.DataFrame:
    """Return one row per column, those with a role first, then one for the embeddings.

    ``left_out`` says which rows were dropped for want of an image: then no embedding is missing.
    """
    role_of = {}
    for role, columns in roles.items():
        for column in columns if isinstance(columns, tuple) else (columns,):
            role_of[column] = role
    role_of.pop(None, None)
    order = [*role_of, *(c for c in table.columns if c not in role_of)]
    lines = {column: _line(table[column], role_of.get(column, "")) for column in order}
    if embeddings is not None:
        shape = " x ".join(map(str, embeddings.shape[1:]))
        lack = 0 if left_out else dropped
        note = f"{lack:,} rows without embedding left out" if lack else ""
        kind = f"{shape} {'numbers' if embeddings.ndim == 2 else 'image'}"
        lines["(embeddings)"] = ("embedding", kind, pd.NA, lack, len(embeddings), note)
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=list(COLUMNS))
    if left_out:
        frame.loc[roles["image"], "note"] = left_out
    frame["levels"] = frame["levels"].astype("Int64")
    frame.index.name = "column"
    frame.attrs = {"rows": len(table), "patients": patients, "dropped": dropped}
    return frame


def _line(column: pd.Series, role: str) -> tuple[str, str, Any, int, int, str]:
    recorded = column.dropna()
    if len(recorded) and isinstance(recorded.iloc[0], list | np.ndarray):
        return role, "vectors", pd.NA, len(column) - len(recorded), len(recorded), ""
    levels = recorded.nunique()
    kind = "categories" if is_categorical(column) else "numbers"
    if role in ("image", "patient"):
        kind = "names"
    note = ""
    if levels == 0:
        note = "no recorded value"
    elif role == "outcome" and levels == 1:
        note = f"one recorded value only ({quoted(recorded.iloc[0])}): nothing to tell apart"
    return role, kind, levels, len(column) - len(recorded), len(recorded), note
