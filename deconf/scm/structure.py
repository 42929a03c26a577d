"""Which columns a structural model has, in which order, and whose mechanism the data can show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import networkx as nx

from deconf.causal.graph import IMAGE, CausalGraph


@dataclass(frozen=True)
class Structure:
    """The graph over measured columns: unmeasured nodes are projected out.

    Attributes
    ----------
    graph : CausalGraph
        Its nodes are measured columns, ``image`` and what was selected on.
    order : tuple of str
        Causes before effects; ``image`` last, if it is there.
    context : mapping of node to tuple of str
        What each node is drawn from: its parents, and where a hidden cause joins it to an earlier
        node, that node and its parents.
    blocked : mapping of node to str
        Nodes whose noise goes with their parents, with the reason: no counterfactual of them.
    beyond : tuple of str
        Columns that follow from the image, which are not modelled.
    """

    graph: CausalGraph
    order: tuple[str, ...]
    context: dict[str, tuple[str, ...]]
    blocked: dict[str, str]
    beyond: tuple[str, ...]

    def after(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the modelled nodes that descend from any of these, in order, without these."""
        digraph = nx.DiGraph(self.graph.edges)
        digraph.add_nodes_from(self.graph.nodes)
        names = set(names)
        below = set().union(*(nx.descendants(digraph, name) for name in names)) - names
        return tuple(node for node in self.order if node in below)


def structure(graph: CausalGraph, measured: Iterable[str]) -> Structure:
    """Return the structure over measured columns."""
    own = projected(graph, {*measured, *graph.selected, IMAGE})
    digraph = nx.DiGraph(own.edges)
    digraph.add_nodes_from(own.nodes)
    beyond = nx.descendants(digraph, IMAGE) if IMAGE in digraph else set()
    unseen = set(own.selected) - set(measured)
    nodes = [n for n in nx.lexicographical_topological_sort(digraph) if n not in beyond | unseen]
    order = (*(n for n in nodes if n != IMAGE), *(n for n in nodes if n == IMAGE))
    context, blocked = {}, {}
    for node in order:
        parents = tuple(p for p in order if p in set(digraph.predecessors(node)))
        why = _hidden(own, node, parents)
        if why:
            blocked[node] = why
        context[node] = _earlier(own, digraph, order, node)
    return Structure(own, order, context, blocked, tuple(sorted(beyond - unseen)))


def projected(graph: CausalGraph, kept: Iterable[str]) -> CausalGraph:
    """Return the latent projection of a graph onto some of its nodes.

    ``a -> b`` where a directed path leads from a to b through nodes left out; ``a <-> b`` where
    two such paths lead to them from one node left out, or from the ends of a bidirected arrow
    (Verma & Pearl, "Equivalence and synthesis of causal models", 1990).
    """
    kept = [node for node in graph.nodes if node in set(kept)]
    digraph = graph.to_networkx()  # a <-> b has become a latent parent
    hidden = set(digraph) - set(kept)
    through = {node: _reached(digraph, node, hidden) for node in digraph}
    edges = [(a, b) for a in kept for b in through[a]]
    pairs = {
        (a, b) for node in hidden for a in through[node] for b in through[node] if a < b
    }  # fmt: skip
    return CausalGraph(
        nodes=tuple(kept),
        edges=tuple(edges),
        bidirected=tuple(pairs),
        selected=graph.selected,
        workflow=tuple(node for node in graph.workflow if node in kept),
    )


def _reached(digraph: nx.DiGraph, start: str, hidden: set[str]) -> set[str]:
    """Return the kept nodes at the end of directed paths from ``start`` through hidden ones."""
    found, todo, seen = set(), list(digraph.successors(start)), set()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in hidden:
            todo += digraph.successors(node)
        else:
            found.add(node)
    return found


def _hidden(graph: CausalGraph, node: str, parents: tuple[str, ...]) -> str:
    """Return why the noise of a node goes with its parents, or an empty string.

    It does not where node and parents are separated once the arrows between them are gone.
    """
    if not parents:
        return ""
    edges = tuple((a, b) for a, b in graph.edges if not (b == node and a in parents))
    cut = CausalGraph(graph.nodes, edges, graph.bidirected, graph.selected, graph.workflow)
    held = tuple(s for s in graph.selected if s != node and s not in parents)
    joined = [p for p in parents if not cut.d_separated(node, p, held)]
    if not joined:
        return ""
    return (
        f"something unmeasured (or the selection of the cohort) joins {node!r} and its cause "
        f"{joined[0]!r}: what is left of {node!r} after its causes is then no noise of its own"
    )


def _earlier(
    graph: CausalGraph, digraph: nx.DiGraph, order: tuple[str, ...], node: str
) -> tuple[str, ...]:
    """Return what a node must be drawn from to keep the joint law: Tian & Pearl 2002, lemma 1.

    Its parents; where a hidden cause joins it to an earlier node, that node and its parents too.
    """
    joined = nx.Graph(graph.bidirected)
    joined.add_nodes_from(graph.nodes)
    component = nx.node_connected_component(joined, node)
    before = order[: order.index(node)]
    members = [n for n in component if n in before]
    wanted = {p for n in [*members, node] for p in digraph.predecessors(n)} | set(members)
    return tuple(n for n in before if n in wanted)
