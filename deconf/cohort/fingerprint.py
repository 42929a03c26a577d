"""Digests: of the data as a whole, and of each patient without naming them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd


def digest(table: pd.DataFrame, embeddings: np.ndarray | None) -> str:
    """Return the sha256 of a table and its embeddings, in hexadecimal.

    Every cell, column name and number counts, and their order; roles do not.
    """
    sha = hashlib.sha256(_as_text(table))
    if embeddings is not None:
        sha.update(repr(embeddings.shape).encode())
        sha.update(np.ascontiguousarray(embeddings).data)
    return sha.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """Return the sha256 of the contents of files, in hexadecimal; their order counts.

    Raises
    ------
    OSError
        A file cannot be opened.
    """
    sha = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()


def patient_digests(
    salt: str,
    table: pd.DataFrame,
    column: str | None,
    embeddings: np.ndarray | None,
    numbers: np.ndarray,
) -> frozenset[str]:
    """Return a salted sha256 for each patient.

    Parameters
    ----------
    salt : str
    table : DataFrame of n rows
    column : str or None
        Holds the patient, or what stands in for it.
    embeddings : (n, ...) array or None
        Without a column, tells one row from another also across files.
    numbers : (n,) array of int
        Row numbers, told apart where there is nothing else.
    """
    if column is not None:
        # An id column with gaps elsewhere was read as float: 7.0 is patient 7.
        ids = pd.unique(table[column].dropna())
        whole = [int(i) if isinstance(i, float) and i.is_integer() else i for i in ids]
        names = {str(i).encode() for i in whole}
    elif embeddings is not None:
        names = {row.tobytes() for row in embeddings}
    else:
        rows = zip(numbers, table.itertuples(index=False, name=None), strict=True)
        names = {f"{number} {row}".encode() for number, row in rows}
    return frozenset(hashlib.sha256(salt.encode() + b"\0" + name).hexdigest() for name in names)


def _as_text(table: pd.DataFrame) -> bytes:
    """Return a table as CSV: the same for a CSV and a Parquet file of the same content."""
    table = table.copy()
    for column in table.columns:
        held = table[column].dropna()
        if len(held) and isinstance(held.iloc[0], np.ndarray):
            # numpy abbreviates long arrays with dots, which would hide a change.
            table[column] = table[column].map(lambda v: np.asarray(v).tolist())
    return table.to_csv(index=False, na_rep="<missing>", lineterminator="\n").encode()
