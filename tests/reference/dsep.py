"""d-separation the slow way, and random graphs to try it on.

Lauritzen et al. 1990: X and Y are d-separated by S in a DAG exactly if S separates them in the
moral graph of the smallest ancestral set that holds X, Y and S.  Written from the definition, with
sets only, so that it shares nothing with the library.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np


def expanded(edges, bidirected):
    """Replace every ``a <-> b`` by a latent parent of both."""
    latents = [(("latent", a, b), child) for a, b in bidirected for child in (a, b)]
    return [*edges, *latents]


def separated(edges, bidirected, xs, ys, given):
    """Whether every x is d-separated from every y given a set of nodes."""
    edges = expanded(edges, bidirected)
    ancestral = {*xs, *ys, *given}
    while more := {a for a, b in edges if b in ancestral} - ancestral:
        ancestral |= more
    edges = [(a, b) for a, b in edges if b in ancestral]
    joined = {frozenset(edge) for edge in edges}
    for node in ancestral:
        parents = [a for a, b in edges if b == node]
        joined |= {frozenset(pair) for pair in combinations(parents, 2)}
    reached = set(xs)
    while True:
        more = {n for pair in joined if pair & reached for n in pair} - reached - set(given)
        if not more:
            return not reached & set(ys)
        reached |= more


def minimal_sets(edges, bidirected, xs, y, candidates, always=()):
    """Every subset that separates while none of its own subsets does, by trying them all."""
    found = []
    for size in range(len(candidates) + 1):
        for subset in map(set, combinations(sorted(candidates), size)):
            if any(smaller <= subset for smaller in found):
                continue
            if separated(edges, bidirected, xs, {y}, subset | set(always)):
                found.append(subset)
    return {frozenset(subset) for subset in found}


def random_graph(seed):
    """Draw edges, bidirected edges and selected nodes over image, one or two confounders, rest."""
    rng = np.random.default_rng(seed)
    confounders = ["c", "d"][: rng.integers(1, 3)]
    rest = [f"v{i}" for i in range(rng.integers(1, 6 - len(confounders)))]
    nodes = [*confounders, *rest, "y"]
    order = [str(n) for n in rng.permutation([*nodes, "image"])]
    place = {n: i for i, n in enumerate(order)}
    density, common = rng.uniform(0.2, 0.6), rng.choice([0.0, 0.15])
    edges, bidirected = [], []
    for a, b in combinations(order, 2):
        if rng.random() < density:
            edges.append((a, b))
        if rng.random() < common:
            bidirected.append((a, b))
    for c in confounders:
        # A confounder leaves a trace: turn its edge round, unless the image comes before it.
        if place[c] < place["image"] and (c, "image") not in edges:
            edges.append((c, "image"))
    selected = [str(rng.choice([*rest, "y"]))] if rng.random() < 0.25 else []
    return [*nodes, "image"], edges, bidirected, selected, confounders


def open_simple_paths(edges, bidirected, a, b, held):
    """Every simple path that ``held`` leaves open, node by node, as Pearl 1988 defines it."""
    edges = set(expanded(edges, bidirected))
    found = set()

    def holds_or_leads_to_held(node):
        reached = {node}
        while more := {y for x, y in edges if x in reached} - reached:
            reached |= more
        return bool(reached & held)

    def passes(before, node, after):
        if (before, node) in edges and (after, node) in edges:
            return holds_or_leads_to_held(node)
        return node not in held

    def walk(path):
        if path[-1] == b:
            triples = zip(path, path[1:], path[2:], strict=False)
            if all(passes(*triple) for triple in triples):
                found.add(tuple(path))
            return
        for x, y in edges:
            step = y if x == path[-1] else x if y == path[-1] else None
            if step is not None and step not in path:
                walk([*path, step])

    walk([a])
    return found
