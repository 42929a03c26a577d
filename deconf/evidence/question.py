"""One confounder and what is held fixed, as arrays: what attackers are asked, and of whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deconf.causal.overlap import FEW
from deconf.cohort.splits import patient_split
from deconf.errors import CohortError, listing
from deconf.maths.concordance import concordance
from deconf.maths.intervals import multilevel_auroc
from deconf.probes.cells import cells_of, levels_of

FEWEST_ROWS = 20


@dataclass(frozen=True)
class Question:
    """A confounder and its strata, rows with missing values left out.

    Attributes
    ----------
    rows : (m,) array of int
        The usable rows of the table; the arrays below follow this order.
    codes, names
        Levels 0..L-1 and what they are.
    values : (m,) array of float or None
        What films are put in order by, where the confounder has an order.
    strata, numbers
        Cells of the adjustment set, and its columns that were cut.
    thin : list of str
        Cells with hardly anybody in them.
    notes : list of str
    """

    rows: np.ndarray
    codes: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray | None
    strata: np.ndarray
    numbers: np.ndarray | None
    thin: list[str]
    notes: list[str]


def question_of(
    table: pd.DataFrame, patients: np.ndarray, confounder: str, given: Sequence[str]
) -> Question:
    """Return the question of one confounder.

    Raises
    ------
    CohortError
        Fewer than 20 usable rows, or a single level among them.
    """
    levels, cells = levels_of(table[confounder]), cells_of(table, given)
    rows = np.flatnonzero((levels.codes >= 0) & cells.known)
    if len(rows) < FEWEST_ROWS:
        needed = listing([confounder, *given])
        raise CohortError(
            f"{len(rows)} of {len(table):,} rows have {needed} recorded: an audit needs at least "
            f"{FEWEST_ROWS}, and some hundreds to decide anything. Bring more rows"
            + (", or condition on fewer columns (given=)." if given else ".")
        )
    present, codes = np.unique(levels.codes[rows], return_inverse=True)
    names = tuple(levels.names[k] for k in present)
    if len(present) < 2:
        raise CohortError(
            f"in all {len(rows):,} usable rows {names[0]}: there is nothing to audit. "
            "Bring rows of another level."
        )
    strata, who = cells.labels[rows], patients[rows]
    thin = []
    for stratum in np.unique(strata) if given else ():
        for level, name in enumerate(names):
            count = len(np.unique(who[(strata == stratum) & (codes == level)]))
            if count < FEW:
                thin.append(f"{count or 'no'} {name} patients with {stratum}")
    notes = [levels.note] if levels.note else []
    if no_level := int((levels.codes < 0).sum()):
        notes.append(f"{no_level:,} rows left out: {confounder} is missing")
    if no_cell := int(((levels.codes >= 0) & ~cells.known).sum()):
        notes.append(f"{no_cell:,} rows left out for {confounder}: {listing(given)} missing")
    return Question(
        rows,
        codes,
        names,
        None if levels.order is None else levels.order[rows],
        strata,
        None if cells.numbers is None else cells.numbers[rows],
        thin,
        notes,
    )


def told_by_strata(
    codes: np.ndarray,
    strata: np.ndarray,
    patients: np.ndarray,
    *,
    values: np.ndarray | None = None,
    seed: int,
) -> float:
    """Return how well the confounder is told from the stratum alone, on held-out patients.

    AUROC of the levels, the score of a row being the share of its level among training rows of its
    stratum; or concordance with ``values``, the score being their mean there, if that is higher.
    """
    train, test = patient_split(patients, 0.5, strata=codes, seed=seed)
    stratum = np.unique(strata, return_inverse=True)[1]
    counts = np.zeros((stratum.max() + 1, codes.max() + 1))
    np.add.at(counts, (stratum[train], codes[train]), 1)
    # Half a row each way: a stratum unseen in training is told nothing.
    share = (counts + 0.5) / (counts + 0.5).sum(1, keepdims=True)
    told = multilevel_auroc(share[stratum[test]], codes[test])
    if values is None:
        return told
    typical = np.full(len(counts), values[train].mean())
    for s in np.unique(stratum[train]):
        typical[s] = values[train][stratum[train] == s].mean()
    return float(np.fmax(told, concordance(typical[stratum[test]], values[test])))
