"""One question put to a graph: the graphs, the names, what is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import networkx as nx

from deconf.causal.graph import IMAGE, CausalGraph
from deconf.causal.separators import minimal_separators

Set = tuple[str, ...]
Rank = Callable[[Set, Set], Any]


@dataclass(frozen=True)
class Question:
    """What is fixed while separating sets are sought; ``cut`` is G*, without workflow -> image."""

    graph: CausalGraph
    cut: CausalGraph
    confounders: Set
    outcome: Set
    measured: frozenset[str]
    rank: Rank

    def separators(self, confounders: Set, candidates: Iterable[str]) -> list[frozenset[str]]:
        """Return the minimal sets of candidates that separate, selection held throughout."""
        return minimal_separators(
            self.cut, confounders, IMAGE, candidates, self.cut.selected, prefer=self.outcome
        )

    def separates(self, confounders: Set, given: Iterable[str]) -> bool:
        """Whether a set separates, by an instrument other than the one that found it."""
        return self.cut.d_separated(confounders, IMAGE, {*given, *self.cut.selected})

    def ordered(self, names: Iterable[str]) -> Set:
        """Put outcomes first, in the order given; the rest by name."""
        names = set(names)
        return (*(y for y in self.outcome if y in names), *sorted(names - set(self.outcome)))

    def mediators(self, confounders: Set) -> Set:
        """Return the unmarked nodes between confounders and image, other than outcomes."""
        digraph = nx.DiGraph(self.cut.edges)
        digraph.add_nodes_from(self.cut.nodes)
        after = set().union(*(nx.descendants(digraph, c) for c in confounders))
        between = after & nx.ancestors(digraph, IMAGE)
        known = {*self.confounders, *self.outcome, *self.graph.workflow}
        return tuple(sorted(between - known))
