"""Attackers who learn at some sites and read at others: does the trace travel.

An attacker that reads the scanner at its own hospital may read nothing elsewhere, and then what it
read was the hospital; one that still reads it has found what all such scanners do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from deconf.causal.columns import check_columns
from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError
from deconf.evidence.question import question_of
from deconf.probes.leakage import Leakage


def sites_asked(cohort: Cohort, sites: str | None, effort: str) -> str | None:
    """Return the column of sites: the one named, or with "full" the cohort's own, or None.

    Raises
    ------
    CohortError
        The column named is not there, or says the same in all rows.
    """
    if sites is None:
        own = cohort.roles["site"] if effort == "full" else None
        return own if own is not None and cohort.table[own].nunique() > 1 else None
    check_columns(cohort.table, [sites], (), (), cohort.roles["patient"])
    return sites


def transferred(
    z: np.ndarray,
    cohort: Cohort,
    confounder: str,
    given: Sequence[str],
    sites: str,
    measure: Callable[..., Leakage],
) -> tuple[Leakage | None, list[str]]:
    """Return what attackers read at other sites than those they learned at, and notes.

    Within strata of ``given`` and within site, so the site itself need not be held.

    Parameters
    ----------
    measure : callable
        `deconf.probes.leakage.leakage` with its settings.
    """
    if confounder == sites:
        return None, [f"{confounder}: not read across sites, being the site itself"]
    held = [name for name in given if name != sites]
    try:
        question = question_of(cohort.table, cohort.patients, confounder, held)
    except CohortError as error:
        return None, [f"{confounder}: not read across sites: {error}"]
    column = cohort.table[sites].iloc[question.rows]
    known = np.asarray(column.notna())
    rows = question.rows[known]
    place = np.array([f"{sites} {value}" for value in column[known]])
    present, codes = np.unique(question.codes[known], return_inverse=True)
    if len(present) < 2 or len(np.unique(place)) < 2:
        return None, [f"{confounder}: not read across sites: too few rows with {sites} recorded"]
    found = measure(
        z[rows],
        codes,
        question.strata[known],
        cohort.patients[rows],
        names=tuple(question.names[k] for k in present),
        values=None if question.values is None else question.values[known],
        numbers=None if question.numbers is None else question.numbers[known],
        sites=place,
    )
    if found.reason:
        return None, [f"{confounder}: not read across sites: at the others {found.reason}"]
    return found, [f"{confounder}, across sites: {note}" for note in found.notes]
