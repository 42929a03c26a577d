"""A table read with what belongs to its rows: their embeddings or their image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deconf.cohort.paths import rows_with_image, starting_folder
from deconf.cohort.roles import checked_roles
from deconf.cohort.store import existing, looks_like_path, read_table, read_vectors
from deconf.cohort.vectors import checked, from_column, kept_rows, positions
from deconf.errors import CohortError, SettingsError, did_you_mean, listing

# table, roles, embeddings, numbers of the rows in the table as read, rows dropped, where relative
# image paths start, which rows were dropped for want of an image
Read = tuple[pd.DataFrame, dict[str, Any], np.ndarray | None, np.ndarray, int, Path | None, str]


def read_rows(
    table: Any,
    *,
    image: str | None,
    embedding: Any,
    patient: str | None,
    site: str | None,
    outcome: str | Sequence[str] | None,
    on_missing: str,
    folder: str | Path | None,
) -> Read:
    """Return the fields of a `Cohort`; parameters and errors are those of `Cohort.read`."""
    if on_missing not in ("raise", "drop"):
        raise SettingsError(f"on_missing is {on_missing!r}: expected 'raise' or 'drop'.")
    frame, home = read_table(table)
    start = starting_folder(folder, home)
    in_table = embedding if isinstance(embedding, str) and embedding in frame.columns else None
    roles = checked_roles(
        frame, image=image, embedding=in_table, patient=patient, site=site, outcome=outcome
    )
    number = np.arange(len(frame))
    if embedding is None:
        note = ""
        if image is not None:
            outcomes = outcome if isinstance(outcome, list | tuple) else [outcome]
            number, note = rows_with_image(frame, image, [site, *outcomes], start, on_missing)
        dropped = len(frame) - len(number)
        return frame.iloc[number].reset_index(drop=True), roles, None, number, dropped, start, note
    if not isinstance(embedding, str | Path):
        return _with(embedding, frame, roles, number, start)
    position: np.ndarray | None
    if in_table is not None:
        vectors, position = from_column(frame.pop(in_table))
    else:
        path = _embedding_file(embedding, home, frame)
        vectors = read_vectors(path, frame.columns)
        position = positions(vectors, frame, image)
    if position is None:
        return _with(vectors.values, frame, roles, number, start)
    ids = frame[image or patient] if image or patient else pd.Series(number)
    kept = kept_rows(vectors, position, ids, on_missing)
    return _with(vectors.values[position[kept]], frame, roles, kept, start)


def _with(
    embeddings: Any,
    frame: pd.DataFrame,
    roles: dict[str, Any],
    kept: np.ndarray,
    start: Path | None,
) -> Read:
    """Return the kept rows with their embeddings."""
    dropped = len(frame) - len(kept)
    frame = frame.iloc[kept].reset_index(drop=True)
    values = checked(embeddings, frame, roles["image"], roles["patient"])
    return frame, roles, values, kept, dropped, start, ""


def _embedding_file(embedding: str | Path, folder: Path | None, table: pd.DataFrame) -> Path:
    """Return the file that is meant, or say that the name is neither a file nor a column."""
    if isinstance(embedding, str) and not looks_like_path(embedding):
        raise CohortError(
            f"embedding is {embedding!r}: neither a column nor a .npy, .npz or .parquet file."
            f"{did_you_mean(embedding, table.columns)} Columns: {listing(table.columns, 24)}."
        )
    return existing(embedding, folder)
