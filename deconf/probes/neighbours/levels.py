"""Labels of rows as numbers, checked once."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd

from deconf.errors import CohortError


def numbered(labels: np.ndarray, rows: int, called: str) -> np.ndarray:
    """Return (n,) codes 0, 1, ... in the sorted order of the labels.

    Raises
    ------
    CohortError
        Where there are fewer than two levels, the length is not that of the embedding, or a row
        has none: a code of -1, None or NaN.

    Examples
    --------
    >>> numbered(np.array(["b", "a", "b"]), 3, "site")
    array([1, 0, 1])
    """
    labels = np.asarray(labels)
    if labels.shape != (rows,):
        raise CohortError(f"{called} has shape {labels.shape}, but there are {rows} rows.")
    missing = np.asarray(pd.isna(labels))
    if np.issubdtype(labels.dtype, np.number):
        missing = missing | (labels == -1)
    if missing.any():
        raise CohortError(
            f"{called} of row {np.flatnonzero(missing)[0]} is missing ({missing.sum()} such rows): "
            "leave them out before neighbours are looked for."
        )
    levels, codes = np.unique(labels, return_inverse=True)
    if len(levels) < 2:
        raise CohortError(
            f"{called} has one level only, {levels[0]!s}: neighbours cannot differ in it."
        )
    return codes


def paired_designs(site: np.ndarray, biology: np.ndarray) -> list[np.ndarray]:
    """Return the rows of every complete design of two sites by two biological classes.

    Rows come cell by cell (class, then site), levels in the order of their first row, and within
    a cell in the order of the table: the order in which PathoROB hands them to k-means.

    Examples
    --------
    >>> paired_designs(np.array([0, 1, 0, 1, 2]), np.array([0, 0, 1, 1, 1]))
    [array([0, 1, 2, 3])]
    """
    pairs = (list(combinations(pd.unique(codes), 2)) for codes in (biology, site))
    found = []
    for classes, sites in product(*pairs):
        cells = [np.flatnonzero((biology == y) & (site == s)) for y in classes for s in sites]
        if all(len(rows) for rows in cells):
            found.append(np.concatenate(cells))
    return found
