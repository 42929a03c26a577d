"""What the graph demands, whether the table allows it, what will be done: before any fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from deconf.causal import narrative
from deconf.causal.caveats import caveats
from deconf.causal.columns import check_columns, readings
from deconf.causal.graph import IMAGE, CausalGraph, as_names
from deconf.causal.invariance import Invariance, Status, derive
from deconf.causal.narrative import in_words
from deconf.causal.overlap import (
    CONFOUNDER_CELLS,
    GIVEN_CELLS,
    cells,
    empty_cells,
    supported,
)
from deconf.causal.question import Set
from deconf.causal.request import Asked
from deconf.causal.separators import open_paths, written
from deconf.causal.stories import other_stories
from deconf.errors import GraphError


@dataclass(frozen=True, eq=False)
class Plan:
    """The independence demanded, its overlap, and every reservation, in words.

    Attributes
    ----------
    is_identified : bool
        By the graph and by the data: False also where cells are unsupported.
    status : {"identified", "identified if", "not identified"}
    invariances : mapping of confounder name to Invariance
        A joint one appears under each of its names.
    overlap : DataFrame
        ``overlap_table`` of every invariance, with a first column ``invariance``.
    method, assumptions, warnings, alternatives, reading
        Words; ``reading`` says how each column was read.
    graph, outcome
        As used; the default graph where none was given.
    unlabelled, rows, patients : int
        Rows without an outcome; all rows; all patients.
    design : str
        What identifies the trace beside the graph (`deconf.causal.pairs`); empty for none.
    """

    is_identified: bool
    status: Status
    invariances: Mapping[str, Invariance]
    overlap: pd.DataFrame
    method: str
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    alternatives: tuple[str, ...]
    graph: CausalGraph
    outcome: Set
    reading: tuple[str, ...]
    unlabelled: int
    rows: int
    patients: int
    headline: str
    design: str = ""

    def distinct(self) -> tuple[Invariance, ...]:
        """Return the different invariances, in the order of the confounders."""
        return tuple(dict.fromkeys(self.invariances.values()))

    def __str__(self) -> str:
        return narrative.tell(self)


def make_plan(
    table: pd.DataFrame,
    confounders: str | Sequence[str],
    *,
    outcome: str | Sequence[str] | None = (),
    graph: str | CausalGraph | None = None,
    given: str | Sequence[str] | None = None,
    method: Any = "auto",
    patient: str | None = None,
    width: int | None = None,
) -> Plan:
    """Derive what a clean embedding must satisfy and whether this table can teach it.

    Parameters
    ----------
    table : DataFrame
        One row per image; a column without a recorded value counts as unmeasured.
    confounders, outcome : str or sequence of str
        Columns.
    graph : CausalGraph or str, optional
        Default: ``y -> image; c -> image; c <-> y``; without an outcome ``c -> image``.
    given : str or sequence of str, optional
        Your own adjustment set, in place of the graph's; ``()`` is the empty set.
    method : str or settings object
        Named in the plan; nothing is fitted.
    patient : str, optional
        Column of patient ids.
    width : int, optional
        Width of the embedding, for the overlap rule.

    Raises
    ------
    CohortError
        If a column is absent, empty, constant (a confounder), or confounder and outcome are one.
    GraphError
        If the graph cannot be read or lacks a confounder or an outcome.

    Examples
    --------
    >>> frame = pd.DataFrame({"portable": [1, 0] * 500, "ill": [1, 1, 0, 0, 1, 0, 0, 1] * 125})
    >>> plan = make_plan(frame, "portable", outcome="ill")
    >>> print(*plan.distinct(), plan.status, plan.is_identified)
    z ⊥ portable | ill identified if True
    """
    names, outcomes = as_names(confounders), as_names(outcome)
    held = None if given is None else as_names(given)
    check_columns(table, names, outcomes, held or (), patient)
    asked = Asked(
        table=table,
        confounders=names,
        outcome=outcomes,
        graph=_graph(graph, names, outcomes),
        is_default=graph is None,
        given=held,
        patient=patient,
        width=width,
    )
    invariances = _invariances(asked)
    distinct = tuple(dict.fromkeys(invariances.values()))
    tables = {i: asked.overlap(i.confounders, i.given) for i in distinct if _is_at_work(i)}
    holes = [hole for found in tables.values() for hole in empty_cells(found)]
    inseparable = [i for i in tables if i.given and _is_constant_within(asked, i)]
    status = _status(distinct, holes, inseparable)
    is_supported = all(map(supported, tables.values()))
    columns = dict.fromkeys((*names, *outcomes, *(g for i in distinct for g in i.given)))
    homogeneity = (
        "where cells are empty, the trace of the confounder is alike in every stratum "
        "(extrapolation under homogeneity, which no data can check)",
    )
    said = as_names(a for i in distinct for a in i.assumptions)
    return Plan(
        is_identified=status != "not identified" and is_supported,
        status=status,
        invariances=invariances,
        overlap=_stacked(tables),
        method=method if isinstance(method, str) else _name(method),
        assumptions=(*said, *(homogeneity if tables and not is_supported else ())),
        warnings=tuple(caveats(asked, distinct, tables, holes, inseparable, tuple(columns))),
        alternatives=other_stories(names, outcomes, distinct),
        graph=asked.graph,
        outcome=outcomes,
        reading=readings(table, tuple(columns)),
        unlabelled=int(table[list(outcomes)].isna().any(axis=1).sum()) if outcomes else 0,
        rows=len(table),
        patients=len(table) if patient is None else int(table[patient].nunique()),
        headline=_headline(asked, status, distinct, holes, inseparable),
    )


def _graph(graph: str | CausalGraph | None, confounders: Set, outcome: Set) -> CausalGraph:
    if isinstance(graph, CausalGraph):
        return graph
    if isinstance(graph, str):
        return CausalGraph.parse(graph)
    if graph is not None:
        raise GraphError(f"a graph is text or a CausalGraph, not {type(graph).__name__}.")
    return CausalGraph(
        nodes=(IMAGE,),
        edges=tuple((name, IMAGE) for name in (*confounders, *outcome)),
        bidirected=tuple((c, y) for c in confounders for y in outcome),
    )


def _name(method: object) -> str:
    return str(getattr(method, "registered_name", type(method).__name__))


def _is_at_work(invariance: Invariance) -> bool:
    return invariance.is_needed and invariance.is_identified


def _invariances(asked: Asked) -> dict[str, Invariance]:
    table = asked.table
    measured = [name for name in table.columns if name != IMAGE and table[name].notna().any()]

    @cache
    def rank(confounders: Set, given: Set) -> tuple[Any, ...]:
        """Best overlap first; beyond "ok" more rows are no better, and the outcome decides."""
        if not given:
            return ()
        found = asked.overlap(confounders, given)
        worst = max(["ok", "thin", "unsupported"].index(s) for s in [*found["status"], "ok"])
        fewest = int(found["patients"].min()) if worst and len(found) else 0
        return worst, -fewest, -len({*given} & {*asked.outcome}), len(given), given

    answer = derive(asked.graph, asked.confounders, asked.outcome, measured, rank=rank)
    if asked.given is not None:
        answer = _as_given(asked, answer)
    elif asked.is_default:
        answer = replace(
            answer,
            status="identified if",
            assumptions=(_default_story(asked), *answer.assumptions),
        )
    parts = answer.parts or (answer,)
    return {c: next(p for p in parts if c in p.confounders) for c in asked.confounders}


def _default_story(asked: Asked) -> str:
    names = in_words(asked.confounders)
    if not asked.outcome:
        return f"no outcome and no graph were given: {names} is taken to be unrelated to disease"
    y = in_words(asked.outcome)
    return (
        f"no graph was given: {y} is taken for a cause of the image, and what links it to {names} "
        "for causes nobody recorded"
    )


def _as_given(asked: Asked, by_graph: Invariance) -> Invariance:
    """Put the user's set in place of the graph's, and say what the graph thinks of it."""
    given = asked.given or ()
    words = in_words(given) if given else "nothing"
    assumptions = [f"holding {words} is your assumption (given=), not derived from the graph"]
    assumptions += [
        f"the recorded {y} is taken for the disease itself" for y in given if y in asked.outcome
    ]
    if asked.is_default:
        why = f"{words} held because you said so; no graph was drawn to check it."
    else:
        cut = asked.graph.without_trace(asked.confounders)
        held = {*given, *cut.selected} & set(cut.nodes)
        still = [p for c in asked.confounders for p in open_paths(cut, c, IMAGE, held)]
        why = (
            f"{words} held because you said so, but the graph leaves {written(cut, still[0])} open."
            if still
            else f"{words} held because you said so; the graph agrees."
        )
    return Invariance(
        confounders=asked.confounders,
        given=given,
        status="identified if",
        is_needed=by_graph.is_needed,
        outcome=asked.outcome,
        valid_sets=(given,),
        mediators=by_graph.mediators,
        assumptions=tuple(assumptions),
        why=why,
    )


def _is_constant_within(asked: Asked, invariance: Invariance) -> bool:
    """Whether the confounders never vary inside a stratum: nothing can be learned at all."""
    level = cells(asked.table, invariance.confounders, CONFOUNDER_CELLS).codes
    stratum = cells(asked.table, invariance.given, GIVEN_CELLS).codes
    used = (level >= 0) & (stratum >= 0)
    pairs = np.unique(np.column_stack([stratum[used], level[used]]), axis=0)
    return len(pairs) == len(np.unique(stratum[used]))


def _status(
    distinct: Sequence[Invariance], holes: Sequence[str], inseparable: Sequence[Invariance]
) -> Status:
    if inseparable or any(not i.is_identified for i in distinct if i.is_needed):
        return "not identified"
    if holes or any(i.status == "identified if" for i in distinct if i.is_needed):
        return "identified if"
    return "identified"


def _stacked(tables: Mapping[Invariance, pd.DataFrame]) -> pd.DataFrame:
    blocks = []
    for invariance, found in tables.items():
        block = found.copy()
        block.attrs = {}
        block.insert(0, "invariance", str(invariance))
        blocks.append(block)
    names = ["invariance", "stratum", "level", "n", "patients", "propensity", "status"]
    return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame(columns=names)


def _headline(
    asked: Asked,
    status: Status,
    distinct: Sequence[Invariance],
    holes: Sequence[str],
    inseparable: Sequence[Invariance],
) -> str:
    if inseparable:
        i = inseparable[0]
        return (
            f"NOT IDENTIFIED by these data: {in_words(i.confounders)} never varies while "
            f"{in_words(i.given)} is held, so nothing can separate them. Collect data."
        )
    if status == "not identified":
        refused = [c for i in distinct if not i.is_identified for c in i.confounders]
        return f"NOT IDENTIFIED: no measured columns separate {in_words(refused)} from the image."
    if not any(i.is_needed for i in distinct):
        return f"Identified: there is nothing to remove for {in_words(asked.confounders)}."
    if asked.erases_disease:
        names = in_words(asked.confounders)
        return (
            f"Identified if {names} has nothing to do with disease: no outcome and no graph were "
            f"given, so disease correlated with {names} will be erased with it."
        )
    if holes:
        count = f"{len(holes)} cell{'s are' if len(holes) > 1 else ' is'}"
        return f"Identified if the trace is alike in every stratum: {count} empty or nearly so."
    if status == "identified if":
        return "Identified if what is assumed below holds."
    return "Identified: under the graph as drawn, and the data allow it."
