"""Why a set closes the paths, why none does, what the answer rests on and what would mend it."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx

from deconf.causal.graph import IMAGE
from deconf.causal.narrative import in_words
from deconf.causal.question import Question, Set
from deconf.causal.separators import closers, open_paths, written

SHOWN = 3
"""Paths written out in full before the rest are counted."""


def assumptions(
    question: Question,
    confounders: Set,
    given: Set,
    stands_for: Mapping[str, str],
    between: Set,
) -> tuple[str, ...]:
    """Return what an answer takes for granted, in words."""
    labels = [y for y in given if y in question.outcome]
    said = [f"the recorded {y} is taken for the disease itself" for y in labels]
    said += [f"{proxy} stands in for {hidden}" for hidden, proxy in stands_for.items()]
    said += [
        f"the trace of {', '.join(confounders)} does not itself change the recorded {y}"
        for y in question.outcome
        if (IMAGE, y) in question.graph.edges
    ]
    said += [
        f"{m}, through which {', '.join(confounders)} acts on the image, belongs to the patient "
        f"and is kept (write {m}! if it is acquisition)"
        for m in between
    ]
    return tuple(said)


def why_closed(
    question: Question, confounders: Set, held: set[str], stands_for: Mapping[str, str]
) -> str:
    """Name the paths that a set closes, and what closes each."""
    cut, selected = question.cut, question.cut.selected
    gone = [f"{a} -> {b}" for a, b in question.graph.edges if (a, b) not in cut.edges]
    once = f"with {in_words(gone)} deleted, " if gone else ""
    clauses: list[str] = []
    for c in confounders:
        paths = open_paths(cut, c, IMAGE, selected)
        if not paths:
            clauses.append(f"no open path is left between {c} and the image")
        for path in paths[:SHOWN]:
            shut = [
                f"{n} (for which {stands_for[n]} stands in)" if n in stands_for else n
                for n in closers(cut, path, held)
            ]
            clauses.append(f"{written(cut, path)} is closed by holding {in_words(shut)}")
        if len(paths) > SHOWN:
            clauses.append(f"{len(paths) - SHOWN} more paths from {c} are closed in the same way")
    why = once + "; ".join(clauses) + "."
    if selected:
        why += f" The cohort was selected on {in_words(selected)}, so that is held throughout."
    for y in question.outcome:
        if y in question.measured and y not in {*held, *stands_for.values()}:
            more = {*held, y, *selected}
            opened = [p for c in confounders for p in open_paths(cut, c, IMAGE, more)]
            if opened:
                why += f" {y} is not held: that would open {written(cut, opened[0])}."
    return why[0].upper() + why[1:] if not gone else why.replace("with", "With", 1)


def why_open(question: Question, confounder: str) -> str:
    """Name the paths that even the best measured set leaves open."""
    selected, hidden = question.cut.selected, hidden_nodes(question)
    best = _best_measured(question, confounder)
    paths = open_paths(question.cut, confounder, IMAGE, {*best, *selected})
    missing = sorted({node for path in paths for node in path} & hidden)
    shown = [written(question.cut, path) for path in paths[:SHOWN]]
    if not shown:  # more paths than were looked at: the search for sets is still exact
        shown = [f"{confounder} ... {IMAGE}"]
    why = f"the paths {in_words(shown)} are open" if shown[1:] else f"the path {shown[0]} is open"
    if missing:
        why += f" and {in_words(missing)} {'are' if missing[1:] else 'is'} not measured"
    if best:
        why += f" (even holding {in_words(question.ordered(best))})"
    if selected:
        why += f"; the cohort was selected on {in_words(selected)}"
    return why + "."


def hidden_nodes(question: Question) -> set[str]:
    """Return the nodes that have a name but no column."""
    known = {IMAGE, *question.measured, *question.confounders, *question.graph.selected}
    return set(question.graph.nodes) - known


def _best_measured(question: Question, confounder: str) -> set[str]:
    """Return the measured ancestors: if any measured set separates, they do."""
    digraph = question.cut.to_networkx()
    ends = (confounder, IMAGE, *question.cut.selected)
    above: set[str] = set().union(*(nx.ancestors(digraph, node) for node in ends))
    return above & question.measured


def remedies(question: Question, confounder: str) -> tuple[str, ...]:
    """Return the columns, then the designs, that would close what is open."""
    hidden = hidden_nodes(question)
    held = {*_best_measured(question, confounder), *question.cut.selected}
    on_paths = {n for path in open_paths(question.cut, confounder, IMAGE, held) for n in path}
    said: list[str] = []
    additions: list[frozenset[str]] = []
    for names in question.separators((confounder,), question.measured | hidden):
        extra = names & hidden
        if extra not in additions:
            additions.append(extra)
            said.append(
                f"record {in_words(sorted(extra))}: then z ⊥ {confounder} | "
                f"{', '.join(question.ordered(names))} can be imposed"
            )
    for node in sorted(on_paths - set(question.graph.nodes)):
        a, b = node.split(" <-> ")
        said.append(f"find and record what {a} and {b} have in common (drawn {node})")
    said += [
        f"if {m} is acquisition and not the patient, write {m}!: its arrow goes too"
        for m in question.mediators((confounder,))
        if m in on_paths
    ]
    if selected := question.graph.selected:
        left_out = f"what the selection on {in_words(selected)} left out"
        said.append(f"bring back a random part of {left_out}")
    return (
        *said,
        f"paired films: the same patient imaged within hours at two levels of {confounder}",
        f"image edits: change only the trace of {confounder} on the same image and compare",
        f"a calendar-time switch: a date when {confounder} changed for all patients alike",
        f"a phantom imaged at every level of {confounder}",
    )
