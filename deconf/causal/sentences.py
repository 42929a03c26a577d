"""A graph as plain sentences, for a reader who would rather not read arrows."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from deconf.causal.narrative import in_words

if TYPE_CHECKING:
    from deconf.causal.graph import CausalGraph

PIXELS = "image"


def sentences(graph: CausalGraph, workflow: Collection[str] = ()) -> tuple[str, ...]:
    """Return every arrow, mark and missing arrow of a graph as a sentence.

    Missing arrows are the assumptions: they are told as pairs that do not act on one another.

    Parameters
    ----------
    workflow : collection of str
        Confounders: nodes told as workflow besides those the graph marks.

    Examples
    --------
    >>> from deconf.causal.graph import CausalGraph
    >>> graph = CausalGraph.parse("severity -> ill; severity -> portable; ill -> image <- portable")
    >>> for sentence in sentences(graph, workflow=["portable"]):
    ...     print(sentence)
    severity acts on ill and portable.
    ill shows in the image.
    portable leaves a trace in the image, which is workflow and not the patient.
    Assumed, because no arrow says otherwise: portable does not act on ill, nor ill on portable;
    severity does not show in the image but through ill and portable.
    """
    marked = {*workflow, *graph.workflow}
    selected = set(graph.selected)
    told: list[str] = []
    for node in _causes_first(graph):
        effects = [b for a, b in graph.edges if a == node and b != PIXELS and b not in selected]
        if node == PIXELS:
            told += [f"{in_words(effects)} {_is(effects)} read from the image."] if effects else []
        elif effects:
            told.append(f"{node} acts on {in_words(effects)}.")
    for node in _causes_first(graph):
        if (node, PIXELS) in graph.edges:
            told.append(
                f"{node} leaves a trace in the image, which is workflow and not the patient."
                if node in marked
                else f"{node} shows in the image."
            )
    told += [f"{a} and {b} share a cause that nobody recorded." for a, b in graph.bidirected]
    for node in graph.selected:
        causes = [a for a, b in graph.edges if b == node]
        told.append(
            f"Who is in the cohort depends on {in_words(causes)} ({node})."
            if causes
            else f"Every row was selected on {node}."
        )
    missing = _missing(graph)
    if missing:
        told.append("Assumed, because no arrow says otherwise: " + "; ".join(missing) + ".")
    return tuple(told)


def _missing(graph: CausalGraph) -> list[str]:
    """Return what pairs without an arrow between them assume."""
    linked = {frozenset(pair) for pair in (*graph.edges, *graph.bidirected)}
    nodes = [n for n in graph.nodes if n not in graph.selected and n != PIXELS]
    said = []
    for i, a in enumerate(nodes):
        for b in nodes[i + 1 :]:
            if frozenset((a, b)) not in linked:
                said.append(f"{b} does not act on {a}, nor {a} on {b}")
    if PIXELS in graph.nodes:
        for node in nodes:
            if frozenset((node, PIXELS)) not in linked:
                through = [b for a, b in graph.edges if a == node and b in nodes]
                but = f" but through {in_words(through)}" if through else ""
                said.append(f"{node} does not show in the image{but}")
    return said


def _causes_first(graph: CausalGraph) -> list[str]:
    import networkx as nx

    digraph = nx.DiGraph(graph.edges)
    digraph.add_nodes_from(graph.nodes)
    return list(nx.lexicographical_topological_sort(digraph))


def _is(names: Collection[str]) -> str:
    return "are" if len(names) > 1 else "is"
