"""The reservations of a plan: what a careful colleague would say before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from deconf.causal.columns import misreadings, one_sided
from deconf.causal.invariance import Invariance
from deconf.causal.narrative import in_words
from deconf.causal.overlap import enough, rows
from deconf.causal.refutation import independence_p
from deconf.causal.request import Asked
from deconf.causal.weights import balancing_weights

SMALL_ESS = 0.3
"""Effective share of the rows under untrimmed ipw weights below which the plan warns."""
OFTEN_MISSING = 0.1
"""Share of missing values from which the plan speaks of them."""
REJECTED = 0.05
"""Level of the test of an independence the graph implies, over all pairs tested."""
MOST_ROWS = 20_000
"""Rows drawn for the effective sample size, where propensities need a regression."""


def caveats(
    asked: Asked,
    distinct: Sequence[Invariance],
    tables: Mapping[Invariance, pd.DataFrame],
    holes: Sequence[str],
    inseparable: Sequence[Invariance],
    columns: Sequence[str],
) -> Iterator[str]:
    """Yield what is to be said aloud, the gravest first.

    Parameters
    ----------
    distinct : sequence of Invariance
        What will be demanded.
    tables : mapping of Invariance to overlap table
        Of those that need and have a set.
    holes : sequence of str
        The unsupported cells, in words.
    inseparable : sequence of Invariance
        Those whose confounders never vary inside a stratum.
    columns : sequence of str
        Every column in use.
    """
    if asked.erases_disease:
        names = in_words(asked.confounders)
        yield f"disease correlated with {names} will be erased; name outcome= or graph= to keep it."
    for i in inseparable:
        yield (
            f"NOTHING CAN SEPARATE {in_words(i.confounders)} from {in_words(i.given)} in this "
            f"table: wherever {in_words(i.given)} is held, {in_words(i.confounders)} has a single "
            "value. Collect images of the missing combinations."
        )
    if holes:
        yield (
            f"too few to learn from: {in_words(holes)}. What is said there extrapolates under "
            "homogeneity (the trace taken to be alike in every stratum) and no audit can check it; "
            "leave such levels out, pool them, or collect those images."
        )
    yield from _one_sided(asked)
    for i, found in tables.items():
        yield from _about_overlap(asked, i, found)
    for i in distinct:
        if i.is_needed and not i.given and i.is_identified and not asked.is_default:
            yield from _contradictions(asked, i)
        for m in i.mediators:
            yield (
                f"{m} lies on a path from {in_words(i.confounders)} to the image: is it "
                f"acquisition or the patient? It is taken for the patient and kept; write {m}! in "
                "the graph if it is acquisition."
            )
    if asked.given is not None:
        for y in asked.outcome:
            if y not in asked.given:
                yield f"{y} is not in given=: what of {y} goes with the confounder is erased too."
    yield from _missing(asked, columns)
    yield from misreadings(asked.table, columns)


def _one_sided(asked: Asked) -> Iterator[str]:
    for c in asked.confounders:
        for y in asked.outcome:
            told, count = one_sided(asked.table, c, y)
            if asked.table[y].nunique() == 1:
                yield f"{y} has one recorded value only: whether cleaning keeps it cannot be seen."
            if told and len(told) == count:
                yield (
                    f"EACH LEVEL OF {c} HAS ONE VALUE OF {y} ONLY ({in_words(told)}): {y} cannot "
                    f"be told from {c}; collect data."
                )
            elif told:
                yield f"{in_words(told)}: there {y} cannot be told from {c}."


def _about_overlap(asked: Asked, i: Invariance, found: pd.DataFrame) -> Iterator[str]:
    if not len(found):
        yield f"no row has {in_words((*i.confounders, *i.given))} all recorded."
        return
    smallest = rows(found)[0]
    if smallest.status == "thin":
        wanted = enough(asked.width)
        lack = (
            f"{smallest.patients:,} of the {wanted:,} patients wanted"
            if smallest.patients < wanted
            else f"{100 * smallest.propensity:.1f} % of its stratum only"
        )
        yield f"thin: {smallest} has {lack}; intervals will be wide."
    if i.given:
        table = asked.table
        if len(table) > MOST_ROWS:
            table = table.sample(MOST_ROWS, random_state=0)
        weights = balancing_weights(
            table, i.confounders, i.given, patient=asked.patient, trim=float("inf")
        )
        used = int((weights.values > 0).sum())
        if weights.ess < SMALL_ESS * used:
            yield (
                f"weighting for {in_words(i.given)} leaves an effective sample of "
                f"{weights.ess:,.0f} of {used:,} rows; overlap weights are the safer choice."
            )


def _contradictions(asked: Asked, i: Invariance) -> Iterator[str]:
    """Test the independences of confounder and outcome that an empty set makes the graph imply."""
    graph = asked.graph
    pairs = [
        (c, y)
        for c in i.confounders
        for y in asked.outcome
        if graph.d_separated(c, y, set(graph.selected) - {y})
    ]
    for c, y in pairs:
        p = independence_p(asked.table, c, y, asked.patient)
        if p < REJECTED / len(pairs):
            yield (
                f"the data contradict the graph: it says {c} and {y} are independent, but they are "
                f"not (p = {p:.2g}). With nothing held, what they share is erased from the image: "
                "draw what links them."
            )


def _missing(asked: Asked, columns: Sequence[str]) -> Iterator[str]:
    size = len(asked.table)
    for name in columns:
        gone = int(asked.table[name].isna().sum())
        if gone < OFTEN_MISSING * size:
            continue
        share = f"{name} is missing in {gone:,} of {size:,} rows ({100 * gone / size:.0f} %)"
        if name in asked.confounders:
            yield f"{share}: whether it is recorded may itself be workflow."
        else:
            yield (
                f"{share}, which cannot be used where {name} is held; if being recorded depends on "
                f"disease and on the confounder, draw it as a selected node."
            )
