"""What is read of each confounder, and cells of confounder and adjustment set."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.maths.design import Confounder, pooled
from deconf.methods.levels import balance
from deconf.probes.leakage import Leakage, leakage
from deconf.probes.reading import ALPHA


def read_each(
    z: Float[ndarray, "n d"],
    confounders: tuple[Confounder, ...],
    *,
    ordered: bool,
    permutations: int,
    **settings: Any,
) -> tuple[Leakage, ...]:
    """Return how well fresh attackers read each confounder; see `leakage`.

    Parameters
    ----------
    ordered : bool
        Also have numbers put in order.
    permutations : int
        At least; many confounders need more, since a leak must be the rarer by luck the more of
        them are asked (`deconf.probes.reading.is_read`).
    """
    draws = max(permutations, round(len(confounders) / ALPHA))
    return tuple(
        leakage(
            z,
            pooled(one.codes),
            values=one.values if ordered else None,
            permutations=draws,
            **settings,
        )
        if len(np.unique(one.codes)) > 1
        else Leakage(reason="one level only")
        for one in confounders
    )


def cells(codes: ndarray, strata: ndarray, labelled: ndarray) -> Int[ndarray, " n"]:
    """Return the cell of level, stratum and whether the outcome is recorded."""
    return np.unique(
        np.stack([codes, strata, labelled.astype(int)], axis=1), axis=0, return_inverse=True
    )[1].ravel()


def fewest_patients(
    cell: ndarray, codes: ndarray, strata: ndarray, labelled: ndarray, patients: ndarray
) -> int:
    """Return the number of patients in the smallest labelled cell, empty ones included."""
    if not labelled.any():
        return 0
    seen = len(np.unique(cell[labelled]))
    possible = len(np.unique(codes[labelled])) * len(np.unique(strata[labelled]))
    if seen < possible:
        return 0
    return min(len(np.unique(patients[labelled & (cell == k)])) for k in np.unique(cell[labelled]))


def decided_by(strata: ndarray, outcome: ndarray, labelled: ndarray) -> bool:
    """Whether the outcome is part of the adjustment set: constant within every stratum."""
    rows = np.flatnonzero(labelled)
    pairs = np.unique(np.stack([strata[rows], outcome[rows].astype(int)]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(strata[rows])))


def balanced(codes: ndarray, strata: ndarray, labelled: ndarray) -> Float[ndarray, " n"]:
    """Return P(c) / P(c|s) over the labelled rows, zero elsewhere."""
    counts = np.zeros((codes.max() + 1, strata.max() + 1))
    np.add.at(counts, (codes[labelled], strata[labelled]), 1.0)
    with np.errstate(invalid="ignore"):
        ratio = np.nan_to_num(balance(counts))
    return np.where(labelled, ratio[codes, strata], 0.0)
