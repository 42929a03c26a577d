"""Embeddings from whatever holds them: one float32 array, in the order of the table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int

from deconf.cohort.roles import quoted, row_name
from deconf.errors import CohortError, listing

Embeddings = Float32[np.ndarray, "n *shape"]


@dataclass(frozen=True)
class Vectors:
    """Embeddings as they were found.

    Parameters
    ----------
    values : (m, ...) array
    source : str
        How messages should call them: ``"the file 'z.npz'"``.
    keys : DataFrame of m rows
        Columns that name the rows; none when there is nothing to join on.
    are_images : bool
        Whether ``keys`` has one column, ``image``, that names images as any table's image column
        does, whatever it is called there.
    """

    values: np.ndarray
    source: str
    keys: pd.DataFrame = field(default_factory=pd.DataFrame)
    are_images: bool = False


def as_array(values: Any) -> np.ndarray:
    """Return numbers as an array: from numpy, a torch tensor on any device, a frame or lists.

    Raises
    ------
    CohortError
        Not numbers, or lists of different lengths.
    """
    if hasattr(values, "detach"):  # a torch tensor; float() because numpy has no bfloat16
        values = values.detach().cpu().float()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise CohortError("the embeddings are lists of different lengths.") from error
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise CohortError(
            f"the embeddings are not real numbers: dtype {array.dtype}. "
            "Pass a numeric array of shape (rows, width)."
        )
    return array


def checked(values: Any, table: pd.DataFrame, *ids: str | None) -> Embeddings:
    """Return embeddings as a new float32 array, one finite vector for each row of the table.

    Parameters
    ----------
    values : (n, d) array, or (n, ...) for a stack of images
    table : DataFrame of n rows
    *ids : str or None
        Columns by which a message may call a row, best first.

    Raises
    ------
    CohortError
        One-dimensional, not numbers, another number of rows, nan or infinite.
    """
    array = as_array(values)
    if array.ndim < 2:
        raise CohortError(
            f"the embeddings have shape {array.shape}: expected (rows, width). "
            "One number per row is z.reshape(-1, 1)."
        )
    if len(array) != len(table):
        raise CohortError(
            f"{len(array):,} embeddings but {len(table):,} rows in the table, and nothing to join "
            "them on. Bring both into the same order, or read the embeddings from a .npz or "
            ".parquet file that also holds a column of the table, such as the image name."
        )
    if array.size == 0:
        raise CohortError(f"the embeddings have shape {array.shape}: no numbers in them.")
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, and is said below
        array = np.array(array, dtype=np.float32, order="C")
    flat = array.reshape(len(array), -1)
    bad = ~np.isfinite(flat).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        column = int((~np.isfinite(flat[row])).argmax())
        raise CohortError(
            f"the embedding of {row_name(table, row, *ids)} is {flat[row, column]} in column "
            f"{column}; {bad.sum():,} of {len(array):,} rows hold nan or infinite numbers. "
            "Encode them again, or leave those rows out of the table and the embeddings."
        )
    return array


def from_column(column: pd.Series) -> tuple[Vectors, Int[np.ndarray, " n"]]:
    """Return the vectors held by a column, and where each row finds its own (-1: nowhere)."""
    source = f"the column {column.name!r}"
    present = column.notna().to_numpy()
    cells = column[present]
    for cell in cells:
        if not isinstance(cell, list | tuple | np.ndarray):
            raise CohortError(f"{source} holds {cell!r}, not vectors: name a column of lists.")
    widths = cells.map(len).to_numpy()
    if len(np.unique(widths)) > 1:
        odd = int((widths != widths[0]).argmax())
        raise CohortError(
            f"{source} holds vectors of different lengths: {widths[0]} numbers at first, "
            f"{widths[odd]} in row {np.flatnonzero(present)[odd]} (counting from 0)."
        )
    values = as_array(cells.tolist()) if len(cells) else np.empty((0, 0))
    return Vectors(values, source), np.where(present, np.cumsum(present) - 1, -1)


def positions(
    vectors: Vectors, table: pd.DataFrame, image: str | None = None
) -> Int[np.ndarray, " n"] | None:
    """Return where among the vectors each row of the table finds its own (-1: nowhere).

    Joined on the image column where the vectors bring it, else on the first shared column that
    names every vector once.  None without such a column: then row by row.

    Raises
    ------
    CohortError
        A key met twice, no key in common, or a shared column that shows the rows to be in
        another order.
    """
    if vectors.are_images:
        if image is None:
            raise CohortError(
                f"{vectors.source} names its rows by image: say which column does so here, "
                f"image=... Columns: {listing(table.columns, 24)}."
            )
        vectors = replace(vectors, keys=vectors.keys.set_axis([image], axis=1))
    key = _key(vectors, table, image)
    if key is None:
        _require_same_order(vectors, table)
        return None
    position = pd.Index(as_text(vectors.keys[key])).get_indexer(pd.Index(as_text(table[key])))
    position[table[key].isna().to_numpy()] = -1
    if (position < 0).all() and len(vectors.values):
        here, there = quoted(table[key].iloc[0]), quoted(vectors.keys[key].iloc[0])
        raise CohortError(
            f"no row of the table has an embedding in {vectors.source}: the column {key!r} reads "
            f"{here} in the table and {there} there."
        )
    return position


def kept_rows(
    vectors: Vectors, position: Int[np.ndarray, " n"], ids: pd.Series, on_missing: str
) -> Int[np.ndarray, " kept"]:
    """Return the rows that have an embedding; raise `CohortError` for the others, or drop them.

    Parameters
    ----------
    ids : Series of n values
        What a message should call the rows.
    on_missing : "raise" or "drop"
    """
    missing = position < 0
    if missing.all():
        raise CohortError(f"{vectors.source} holds no embedding for any row of the table.")
    if missing.any() and on_missing == "raise":
        without = "1 row has" if missing.sum() == 1 else f"{missing.sum():,} rows have"
        raise CohortError(
            f"{len(vectors.values):,} embeddings but {len(position):,} rows in the table. "
            f"{without} no embedding, first {quoted(ids[missing].iloc[0])}. "
            'Pass on_missing="drop" to leave them out (the Report will count them).'
        )
    return np.flatnonzero(~missing)


def _key(vectors: Vectors, table: pd.DataFrame, image: str | None) -> str | None:
    """Return the column to join on, or None."""
    shared = [c for c in vectors.keys.columns if c in table.columns]
    if image in shared:
        texts = pd.Series(as_text(vectors.keys[image]))
        if texts.duplicated().any():
            twice = texts[texts.duplicated()].iloc[0]
            raise CohortError(
                f"{vectors.source} holds two embeddings for {image} {twice!r}: keep one."
            )
        return image
    unique = [c for c in shared if not pd.Series(as_text(vectors.keys[c])).duplicated().any()]
    return unique[0] if unique else None


def _require_same_order(vectors: Vectors, table: pd.DataFrame) -> None:
    """Raise where a shared column differs row by row, though it cannot be joined on."""
    if len(vectors.values) != len(table):
        return  # `checked` says so with the numbers
    for column in vectors.keys.columns.intersection(table.columns):
        here, there = as_text(table[column]), as_text(vectors.keys[column])
        if (here != there).any():
            row = int((here != there).argmax())
            raise CohortError(
                f"{vectors.source} is in another order than the table: {column!r} of row {row} is "
                f"{there[row]!r} there and {here[row]!r} here. Store a column that names every row "
                f"once, such as the image name, beside the embeddings "
                f"(shared now: {listing(vectors.keys.columns)})."
            )


def as_text(column: pd.Series) -> np.ndarray:
    """Return keys as text, so that 7, 7.0 and '7' from different files are one key."""

    def text(value: object) -> str:
        if isinstance(value, bytes):
            return value.decode("utf-8", errors="replace")
        whole = isinstance(value, float | np.floating) and float(value).is_integer()
        return str(int(value)) if whole else str(value)  # type: ignore[call-overload]

    return np.array([text(v) for v in column], dtype=object)
