"""Overlap (positivity): whether every stratum holds enough patients at every level.

A cell of confounder x stratum that holds nobody cannot be learned from: whatever is said of it
extrapolates.  This is asked before anything is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from deconf.maths.kinds import codes, is_categorical, numbers, said

FEW, ENOUGH = 10, 200
"""Patients in the smallest cell: below ``FEW`` unsupported, below ``ENOUGH`` thin."""
RARE, SCARCE = 0.01, 0.05
"""Share of its stratum: below ``RARE`` unsupported, below ``SCARCE`` thin."""
CONFOUNDER_CELLS, GIVEN_CELLS = 3, 5
"""A continuous confounder enters by terciles, a continuous column of ``given`` by fifths."""

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """Joint levels of some columns: (n,) codes, -1 where any is missing, and their labels."""

    codes: Codes
    labels: tuple[str, ...]


def cells(table: pd.DataFrame, columns: Sequence[str], parts: int, *, alone: str = "all") -> Cells:
    """Return the joint observed levels of columns, continuous ones cut at their quantiles.

    Parameters
    ----------
    parts : int
        Quantile cells per continuous column; ties may leave fewer.
    alone : str
        The label of the single cell when there are no columns.

    Examples
    --------
    >>> cells(pd.DataFrame({"view": ["AP", "PA", None], "ill": [1, 0, 1]}), ["view", "ill"], 5)
    Cells(codes=array([ 0,  1, -1]), labels=('view=AP, ill=1', 'view=PA, ill=0'))
    """
    if not columns:
        return Cells(np.zeros(len(table), dtype=np.int64), (alone,))
    each = [_column_cells(table[name], name, parts) for name in columns]
    stacked = np.column_stack([cell.codes for cell in each])
    complete = (stacked >= 0).all(axis=1)
    joint, inverse = np.unique(stacked[complete], axis=0, return_inverse=True)
    found = np.full(len(table), -1, dtype=np.int64)
    found[complete] = inverse.reshape(-1)
    labels = (", ".join(cell.labels[i] for cell, i in zip(each, row, strict=True)) for row in joint)
    return Cells(found, tuple(labels))


def _column_cells(series: pd.Series[Any], name: str, parts: int) -> Cells:
    if is_categorical(series):
        found, known = codes(series)
        return Cells(found, tuple(f"{name}={said(value)}" for value in known))
    values = numbers(series)
    present = values[~np.isnan(values)]
    if not len(present):
        return Cells(np.full(len(series), -1, dtype=np.int64), ())
    edges = np.unique(np.quantile(present, np.linspace(0, 1, parts + 1)))
    # Cell i is (edge i, edge i+1]; searchsorted on the inner edges keeps the extremes inside.
    found = np.where(np.isnan(values), -1, np.searchsorted(edges[1:-1], values, side="left"))
    used, found[found >= 0] = np.unique(found[found >= 0], return_inverse=True)
    labels = tuple(f"{name}={_short(edges[i])} to {_short(edges[i + 1])}" for i in used)
    return Cells(found.astype(np.int64), labels)


def _short(number: float) -> str:
    return f"{number:.4g}"


def overlap_table(
    table: pd.DataFrame,
    confounders: Sequence[str],
    given: Sequence[str],
    *,
    patient: str | None = None,
    width: int | None = None,
) -> pd.DataFrame:
    """Count every level of the confounders in every stratum of ``given``.

    Parameters
    ----------
    table : DataFrame
        One row per image.
    confounders, given : sequence of str
        Columns.  Confounders are counted jointly over the combinations that occur anywhere.
    patient : str, optional
        Column of patient ids; without it every row is its own patient.
    width : int, optional
        Width d of the embedding: a cell is ok only with at least d/2 patients.

    Returns
    -------
    DataFrame
        One row per stratum x level: ``stratum``, ``level``, ``n``, ``patients``, ``propensity``
        (share of its stratum), ``status`` ("ok", "thin" or "unsupported").  Empty cells have
        n = 0.  Rows without ``given`` are counted in ``.attrs["unlabelled"]``, rows without a
        confounder in ``.attrs["unrecorded"]``.  Without ``given`` nothing is extrapolated from
        one stratum to another, so a rare level is thin, never unsupported.

    Examples
    --------
    >>> frame = pd.DataFrame({"portable": [1] * 30 + [0] * 30, "ill": [1] * 25 + [0] * 35})
    >>> overlap_table(frame, ["portable"], ["ill"])[["stratum", "level", "n", "status"]]
      stratum       level   n       status
    0   ill=0  portable=0  30         thin
    1   ill=0  portable=1   5  unsupported
    2   ill=1  portable=0   0  unsupported
    3   ill=1  portable=1  25         thin
    """
    level = cells(table, confounders, CONFOUNDER_CELLS)
    stratum = cells(table, given, GIVEN_CELLS)
    used = (level.codes >= 0) & (stratum.codes >= 0)
    who = table[patient].to_numpy() if patient is not None else np.arange(len(table))
    frame = pd.DataFrame(
        {"stratum": stratum.codes[used], "level": level.codes[used], "who": who[used]}
    )
    shape = (len(stratum.labels), len(level.labels))
    every = pd.MultiIndex.from_product([range(k) for k in shape], names=["stratum", "level"])
    grouped = frame.groupby(["stratum", "level"])["who"]
    n = grouped.size().reindex(every, fill_value=0).to_numpy()
    patients = grouped.nunique().reindex(every, fill_value=0).to_numpy()
    per_stratum = n.reshape(shape).sum(axis=1)
    propensity = n / np.repeat(np.maximum(per_stratum, 1), shape[1])
    occupied = np.repeat(per_stratum > 0, shape[1])
    found = pd.DataFrame(
        {
            "stratum": [stratum.labels[i] for i, _ in every],
            "level": [level.labels[j] for _, j in every],
            "n": n,
            "patients": patients,
            "propensity": propensity,
            "status": _status(patients, propensity, width, marginal=not given),
        }
    )[occupied].reset_index(drop=True)
    found.attrs["unlabelled"] = int((stratum.codes < 0).sum())
    found.attrs["unrecorded"] = int((level.codes < 0).sum())
    return found


def enough(width: int | None) -> int:
    """Return how many patients a cell needs to be ok for an embedding of this width."""
    return max(ENOUGH, -(-(width or 0) // 2))


def _status(
    patients: npt.NDArray[np.integer[Any]],
    propensity: npt.NDArray[np.float64],
    width: int | None,
    *,
    marginal: bool,
) -> list[str]:
    ok = (patients >= enough(width)) & (propensity >= SCARCE)
    unsupported = ((patients < FEW) | (propensity < RARE)) & (not marginal)
    return list(np.select([unsupported, ok], ["unsupported", "ok"], "thin"))


@dataclass(frozen=True)
class Cell:
    """One row of an overlap table."""

    stratum: str
    level: str
    n: int
    patients: int
    propensity: float
    status: str

    def __str__(self) -> str:
        """Say the cell in words: ``portable=1 with pneumonia=0``."""
        return self.level if self.stratum == "all" else f"{self.level} with {self.stratum}"


def rows(overlap: pd.DataFrame) -> list[Cell]:
    """Return an overlap table as cells, the fewest patients first."""
    names = ["stratum", "level", "n", "patients", "propensity", "status"]
    found = [Cell(*values) for values in overlap[names].itertuples(index=False, name=None)]
    return sorted(found, key=lambda cell: cell.patients)


def supported(overlap: pd.DataFrame) -> bool:
    """Whether an overlap table has rows and none is unsupported."""
    return bool(len(overlap)) and not bool((overlap["status"] == "unsupported").any())


def empty_cells(overlap: pd.DataFrame) -> list[str]:
    """Return the unsupported cells in words, the emptiest first.

    Examples
    --------
    >>> frame = pd.DataFrame({"portable": [1] * 30 + [0] * 30, "ill": [1] * 25 + [0] * 35})
    >>> empty_cells(overlap_table(frame, ["portable"], ["ill"]))
    ['no portable=0 films with ill=1', '5 portable=1 films with ill=0']
    """
    told = []
    for cell in rows(overlap):
        if cell.status == "unsupported":
            films = f"{cell.n or 'no'} {cell.level} films"
            if cell.patients < cell.n:
                films += f" ({cell.patients} patient{'s' if cell.patients > 1 else ''})"
            if cell.stratum != "all":
                films += f" with {cell.stratum}"
            if cell.patients >= FEW:
                films += f" ({100 * cell.propensity:.1f} % of them)"
            told.append(films)
    return told
