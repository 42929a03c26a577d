"""Levels of a confounder and cells of an adjustment set, from the columns of a table.

An audit compares like with like: inside a cell nobody can tell rows apart by the adjustment
set.  Categories make cells by themselves; a number is cut at its quantiles, and what is left of
it inside a cell is handed on as ``numbers`` so that the audit can take it out as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from deconf.maths.kinds import codes, is_categorical, numbers, said
from deconf.probes.target import PARTS

# A number is cut into at most so many cells, each of at least so many rows.
QUANTILE_CELLS = 5
ROWS_PER_CELL = 50
# A confounder with more levels than this keeps the most frequent; the rest are read as one.
MOST_LEVELS = 12
MISSING = -1
RARE = "{} has {} levels: the {} rarest are audited as one"


@dataclass(frozen=True)
class Levels:
    """The levels of a confounder: ``codes`` (n,) with -1 for missing, and their ``names``.

    ``order`` (n,) holds what films can be put in order by: the number itself, or the places of
    ordered levels; nan for missing.  None where levels have no order.
    """

    codes: np.ndarray
    names: tuple[str, ...]
    note: str = ""
    order: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Cells:
    """The cells of an adjustment set.

    Attributes
    ----------
    labels : (n,) array of str
        The cell in words, such as ``"pneumonia=1, age 43 to 61"``; ``""`` where a column is
        missing; ``"all rows"`` when nothing is given.
    numbers : (n, m) array of float or None
        The columns that were cut.
    """

    labels: np.ndarray
    numbers: np.ndarray | None

    @property
    def known(self) -> np.ndarray:
        """(n,) bool: every column of the adjustment set is recorded."""
        return self.labels != ""


def levels_of(column: pd.Series) -> Levels:
    """Return the levels of a confounder; a number is cut into thirds of equal size.

    Three levels or more have an order where pandas says so (``Categorical(..., ordered=True)``).
    Whole numbers that are read as categories have none: 1, 2, 3 may be wards.

    Examples
    --------
    >>> levels_of(pd.Series(["AP", "PA", None], name="view"))
    Levels(codes=array([ 0,  1, -1]), names=('view=AP', 'view=PA'), note='')
    """
    if not is_categorical(column):
        note = (
            f"{column.name} is a number: its thirds are read (AUROC), and its order (concordance)"
        )
        return Levels(*_quantile_cells(column, PARTS), note, _numbers(column))
    code, values = codes(column)
    names = [f"{column.name}={said(value)}" for value in values]
    order, note = None, ""
    if getattr(column.dtype, "ordered", False) and len(names) > 2:
        order = np.where(code >= 0, code, np.nan)
        note = (
            f"{column.name} has ordered levels: each is read (AUROC), and their order (concordance)"
        )
    if len(names) <= MOST_LEVELS:
        return Levels(np.asarray(code), tuple(names), note, order)
    counts = np.bincount(code[code >= 0], minlength=len(names))
    kept = np.sort(np.argsort(-counts, kind="stable")[: MOST_LEVELS - 1])
    place = np.full(len(names) + 1, MOST_LEVELS - 1)
    place[kept], place[MISSING] = np.arange(len(kept)), MISSING
    merged = len(names) - len(kept)
    return Levels(
        place[code],
        (*(names[k] for k in kept), f"{column.name}=one of {merged} rarer"),
        "; ".join(filter(None, [note, RARE.format(column.name, len(names), merged)])),
        order,
    )


def cells_of(table: pd.DataFrame, given: Sequence[str]) -> Cells:
    """Return the cells of an adjustment set.

    Categories are crossed first; then each number is cut at its quantiles *inside* every cell
    so far, into at most five parts of at least fifty rows, so that no cell is too thin to
    judge: a cell with fewer than a hundred rows is not cut.

    Parameters
    ----------
    table : DataFrame of n rows
    given : names of its columns

    Examples
    --------
    >>> cells_of(pd.DataFrame({"ill": [1, 0, None]}), ["ill"]).labels.tolist()
    ['ill=1', 'ill=0', '']
    """
    labels = np.full(len(table), "" if given else "all rows", dtype=object)
    known = np.ones(len(table), dtype=bool)
    cut = [name for name in given if not is_categorical(table[name])]
    ordered = [*(name for name in given if name not in cut), *cut]
    for name in ordered:
        recorded = _numbers(table[name]) if name in cut else table[name]
        known &= np.asarray(~pd.isna(recorded))
    for name in ordered:
        if name in cut:
            part = _cut_inside(table[name], labels, known)
        else:
            part = np.array([f"{name}={said(value)}" for value in table[name]], dtype=object)
        labels = np.array([f"{a}, {b}" if a else b for a, b in zip(labels, part, strict=True)])
    labels = np.where(known, labels, "").astype(str)
    values = np.stack([_numbers(table[name]) for name in cut], axis=1) if cut else None
    return Cells(labels, values)


def _cut_inside(column: pd.Series, labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    part = np.full(len(column), "", dtype=object)
    for label in np.unique(labels[known].astype(str)):
        rows = np.flatnonzero((labels == label) & known)
        count = int(np.clip(len(rows) // ROWS_PER_CELL, 1, QUANTILE_CELLS))
        code, names = _quantile_cells(column.iloc[rows], count)
        part[rows] = np.array(names, dtype=object)[code]
    return part


def _quantile_cells(column: pd.Series, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cut a number at its quantiles; return (n,) codes, -1 for missing, and names.

    Quantiles that coincide (a column that is mostly zero) are merged; where none is left the
    smallest value is set against the rest.
    """
    values = _numbers(column)
    recorded = values[~np.isnan(values)]
    smallest, largest = recorded.min(), recorded.max()
    inner = np.quantile(recorded, np.arange(1, count) / count)
    edges = np.unique(inner[(inner > smallest) & (inner <= largest)])
    if len(edges) == 0 and count > 1 and largest > smallest:
        edges = np.array([recorded[recorded > smallest].min()])
    code = np.where(np.isnan(values), MISSING, np.searchsorted(edges, values, side="right"))
    ends = [smallest, *edges, largest]
    names = tuple(f"{column.name} {a:.4g} to {b:.4g}" for a, b in pairwise(ends))
    return code, names


def _numbers(column: pd.Series) -> np.ndarray:
    """Return (n,) floats; infinity is no measurement and counts as missing."""
    values = numbers(column)
    return np.where(np.isfinite(values), values, np.nan)
