"""Pairs as a design: films of one patient at different levels identify a trace without a graph.

Disease, anatomy and whatever nobody recorded are the same on both sides of a pair, so every path
through them is held, by the patient (a within-subject, or crossover, comparison: Senn, "Cross-over
Trials in Clinical Research", 2002).  What it asks instead is that nothing else changed between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from deconf.causal.narrative import in_words
from deconf.causal.overlap import CONFOUNDER_CELLS, cells
from deconf.causal.plan import Plan
from deconf.maths.kinds import is_categorical


def patients_in_pairs(
    table: pd.DataFrame, confounders: Sequence[str], given: Sequence[str], patient: str | None
) -> int:
    """Return how many patients have films at several levels, alike in the adjustment set.

    Continuous confounders count by terciles; continuous columns of ``given`` are held by
    regression, and tell no films apart.

    Examples
    --------
    >>> films = pd.DataFrame({"id": [1, 1, 2, 2, 3], "view": ["AP", "PA", "AP", "AP", "PA"]})
    >>> patients_in_pairs(films, ["view"], [], "id")
    1
    """
    if patient is None:
        return 0
    held = [name for name in given if is_categorical(table[name])]
    level = cells(table, confounders, CONFOUNDER_CELLS).codes
    stratum = cells(table, held, 1).codes
    known = (level >= 0) & (stratum >= 0)
    frame = pd.DataFrame({"who": table[patient], "stratum": stratum, "level": level})[known]
    several = frame.groupby(["who", "stratum"])["level"].nunique() > 1
    return int(np.unique(several[several].index.get_level_values("who").astype(str)).size)


def by_design(plan: Plan, table: pd.DataFrame, patient: str | None, fewest: int) -> Plan:
    """Return a plan that rests on pairs: identified where there are enough of them.

    Parameters
    ----------
    plan : Plan
        As the graph has it; the independence that is audited stays the graph's.
    table : DataFrame
        Of that plan.
    patient : str or None
        Column of patient ids.
    fewest : int
        Pairs below which the method learns nothing.
    """
    needed = [i for i in plan.distinct() if i.is_needed]
    if not needed:
        return plan
    counts = [patients_in_pairs(table, i.confounders, i.given, patient) for i in needed]
    fewer = int(np.argmin(counts))
    count, names = counts[fewer], in_words(needed[fewer].confounders)
    has = f"{count:,} patients have" if count != 1 else "1 patient has"
    said = f"{has} films at two levels of {names}"
    if count < fewest:
        return replace(
            plan,
            is_identified=False,
            status="not identified",
            headline=f"NOT IDENTIFIED by design: {said}, and pairs of {fewest} are needed.",
            warnings=(_wanting(said, fewest, patient), *plan.warnings),
        )
    others = [i for i in needed if not i.is_identified]
    unaudited = [
        f"the graph does not say what a clean embedding may still tell of {in_words(i.confounders)}"
        ": the trace is removed, and no audit can call it clean"
        for i in others
    ]
    return replace(
        plan,
        is_identified=True,
        status="identified if",
        design=f"{said}, each film the other's control; the design identifies the trace",
        headline=f"Identified by design: {said}. No graph is needed to see the trace.",
        assumptions=(
            f"between the films of one patient nothing changed but {names} (taken close in time: "
            "disease that came or went between them is erased with the device)",
            *plan.assumptions,
        ),
        warnings=(*unaudited, *plan.warnings),
    )


def _wanting(said: str, fewest: int, patient: str | None) -> str:
    if patient is None:
        return "no column says which films are of one patient: name it, patient=."
    return (
        f"{said}, {fewest} are needed: bring films of the same patients on another device, or "
        "images and their edited copies, or choose a method that holds columns instead."
    )
