"""Sets of columns that separate the confounders from the image, and the paths they close.

Every minimal separator lies among the ancestors of what it separates, and there d-separation is
plain vertex separation in one moral graph (Lauritzen et al. 1990; van der Zander, Liskiewicz &
Textor 2019, "Separators and adjustment sets in causal graphs",
https://doi.org/10.1016/j.artint.2018.12.006).  So the graph is moralised once, and a larger set of
ancestors never separates less than a smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import combinations, islice, pairwise

import networkx as nx

from deconf.causal.graph import CausalGraph

EXHAUSTIVE = 12
"""Up to this many candidate columns every subset is tried: 4,096 of them."""
LONGEST = 8
"""Steps of the paths told to a reader, unless only longer ones are open."""
MOST_PATHS = 5_000
"""Paths looked at before a message is written from the shortest ones found so far."""


def minimal_separators(
    graph: CausalGraph,
    sources: Collection[str],
    target: str,
    candidates: Iterable[str],
    always: Collection[str] = (),
    prefer: Collection[str] = (),
) -> list[frozenset[str]]:
    """Return the minimal subsets of ``candidates`` that d-separate every source from the target.

    Parameters
    ----------
    always : collection of str
        Nodes conditioned on besides (selection).
    prefer : collection of str
        Where there are too many candidates to try all subsets, kept as long as possible.

    Returns
    -------
    list of frozenset
        All of them for up to ``EXHAUSTIVE`` candidates that matter; else a few; none: empty list.
    """
    moral = _moral_graph(graph, {*sources, target, *always})
    usable = sorted(set(candidates) & set(moral))

    def separates(held: Iterable[str]) -> bool:
        return not _reaches(moral, sources, target, {*held, *always})

    if not separates(usable):
        return []
    if len(usable) > EXHAUSTIVE:
        orders = [
            sorted(usable, key=lambda n: (n in prefer, n)),
            sorted(usable, key=lambda n: (n not in prefer, n)),
            sorted(usable, key=lambda n: (n in prefer, n), reverse=True),
        ]
        return list(dict.fromkeys(_shrunk(order, separates) for order in orders))
    found: list[frozenset[str]] = []
    for size in range(len(usable) + 1):
        for subset in map(frozenset, combinations(usable, size)):
            if not any(smaller <= subset for smaller in found) and separates(subset):
                found.append(subset)
    return found


def _shrunk(order: Sequence[str], separates: Callable[[set[str]], bool]) -> frozenset[str]:
    """Drop nodes in order while the rest separates; minimal, as separation is monotone here."""
    held = set(order)
    for node in order:
        if separates(held - {node}):
            held.discard(node)
    return frozenset(held)


def _moral_graph(graph: CausalGraph, of: set[str]) -> dict[str, set[str]]:
    """Return the neighbours of each ancestor of ``of`` once co-parents are joined."""
    digraph = graph.to_networkx()
    ancestral = set(of).union(*(nx.ancestors(digraph, node) for node in of))
    moral: dict[str, set[str]] = {node: set() for node in ancestral}
    for node in ancestral:
        family = [node, *digraph.predecessors(node)]
        for a, b in combinations(family, 2):
            moral[a].add(b)
            moral[b].add(a)
    return moral


def _reaches(
    moral: dict[str, set[str]], sources: Iterable[str], target: str, held: set[str]
) -> bool:
    reached = set(sources)
    todo = list(reached)
    while todo:
        for node in moral[todo.pop()] - reached - held:
            if node == target:
                return True
            reached.add(node)
            todo.append(node)
    return False


def open_paths(
    graph: CausalGraph, source: str, target: str, held: Collection[str] = ()
) -> list[tuple[str, ...]]:
    """Return the paths between two nodes that ``held`` leaves open, shortest first.

    Those of up to ``LONGEST`` steps (an unmeasured common cause counts two); longer ones only
    where none of these is open.  They are for words: separators are found without them.
    A path is a tuple of nodes in which an unmeasured common cause appears under its own name,
    ``a <-> b``; ``written`` turns it into arrows.
    """
    digraph = graph.to_networkx()
    if source not in digraph or target not in digraph:
        return []
    # A collider opens when it or a descendant is held.
    opened = set(held).union(*(nx.ancestors(digraph, node) for node in held))
    found: dict[tuple[str, ...], None] = {}
    skeleton = digraph.to_undirected()
    for cutoff in (LONGEST, len(skeleton)):
        for path in islice(nx.all_simple_paths(skeleton, source, target, cutoff), MOST_PATHS):
            if all(_passes(digraph, *three, held, opened) for three in _triples(path)):
                found[tuple(path)] = None
        if found:
            break
    return sorted(found, key=lambda path: (len(path), path))


def _triples(path: Sequence[str]) -> Iterable[tuple[str, str, str]]:
    return zip(path, path[1:], path[2:], strict=False)


def _passes(
    digraph: nx.DiGraph, a: str, b: str, c: str, held: Collection[str], opened: Collection[str]
) -> bool:
    collider = digraph.has_edge(a, b) and digraph.has_edge(c, b)
    return b in opened if collider else b not in held


def closers(graph: CausalGraph, path: Sequence[str], held: Collection[str]) -> list[str]:
    """Return the held nodes that block a path: those it passes through without colliding."""
    digraph = graph.to_networkx()
    return [
        b
        for a, b, c in _triples(path)
        if b in held and not (digraph.has_edge(a, b) and digraph.has_edge(c, b))
    ]


def written(graph: CausalGraph, path: Sequence[str]) -> str:
    """Return a path with its arrows: ``portable <- severity -> image``."""
    digraph = graph.to_networkx()
    text = path[0]
    for a, b in pairwise(path):
        if b not in graph.nodes:  # the latent of a <-> b: its two arrows are one
            text += " <-> "
        elif a not in graph.nodes:
            text += b
        else:
            text += f" -> {b}" if digraph.has_edge(a, b) else f" <- {b}"
    return text
