"""dowhy's answer to the question whether an effect is identified, beside our own.

Two programs that share no code must agree before a figure is printed: `deconf.causal.adjustment`
finds the sets, dowhy (Sharma & Kiciman 2020, https://arxiv.org/abs/2011.04216) finds its own, and
whether ours is among those that close its back doors is asked of its d-separation.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from deconf.causal.adjustment import Adjustment
from deconf.causal.graph import CausalGraph
from deconf.errors import GraphError

CDE = "nonparametric-cde"
ATE = "nonparametric-ate"


@dataclass(frozen=True)
class ByDowhy:
    """dowhy's model and estimand with our set put in it, and what it said.

    Attributes
    ----------
    said : str
        One line for the reader.
    """

    model: Any
    estimand: Any
    said: str


def identify(graph: CausalGraph | None, found: Adjustment, data: pd.DataFrame) -> ByDowhy:
    """Ask dowhy to identify the effect, and hold its answer against ours.

    Parameters
    ----------
    graph : CausalGraph or None
        None where the user's own set was given without a graph: then one is drawn from the set.
    data : DataFrame
        Columns cause, effect and everything measured.

    Raises
    ------
    GraphError
        dowhy finds no set where we do, or says that ours leaves a back door open.
    """
    if graph is None or found.kind == "yours":
        digraph = nx.DiGraph([(found.cause, found.effect)])
        for name in found.given:
            digraph.add_edges_from([(name, found.cause), (name, found.effect)])
    else:
        digraph = _for_dowhy(graph, found)
    with quietly():
        from dowhy import CausalModel

        model = CausalModel(data=data, treatment=found.cause, outcome=found.effect, graph=digraph)
        kind = CDE if found.kind == "direct" else ATE
        estimand = model.identify_effect(
            estimand_type=kind, proceed_when_unidentifiable=True, method_name="minimal-adjustment"
        )
    said = _compared(graph, found, estimand, digraph)
    if found.kind == "front door":
        estimand.set_identifier_method("frontdoor")
        estimand.frontdoor_variables = list(found.given)
    else:
        estimand.set_identifier_method("backdoor")
        estimand.backdoor_variables = {"backdoor": list(found.given)}
        estimand.default_backdoor_id = "backdoor"
        estimand.estimands = {**(estimand.estimands or {}), "backdoor": {"deconf": True}}
        estimand.no_directed_path = False
    return ByDowhy(model, estimand, said)


def _compared(graph: CausalGraph | None, found: Adjustment, estimand: Any, digraph: Any) -> str:
    if graph is None or found.kind == "yours":
        return "dowhy was given the same set; no graph was there to check it."
    if graph.selected:
        return "dowhy knows no selection, so the set rests on our own separators."
    if found.is_null:
        return "dowhy agrees: the graph has no directed path, so it draws no effect."
    if found.kind == "front door":
        if not estimand.frontdoor_variables:
            raise GraphError(
                f"we find the front door {found.given} and dowhy none: please report this graph, "
                f"{graph}."
            )
        return f"dowhy agrees: front door by {', '.join(estimand.frontdoor_variables)}."
    sets = [
        tuple(sorted(names))
        for names in (estimand.backdoor_variables or {}).values()
        if names is not None
    ]
    if not _closes(digraph, found):
        raise GraphError(
            f"holding {found.given} leaves a path open by dowhy's graph: please report this graph, "
            f"{graph}."
        )
    if not sets:  # its back-door search never holds what descends from the cause
        return "dowhy's d-separation agrees that the set closes every path but the effect."
    if tuple(sorted(found.given)) in sets:
        return "dowhy identifies the effect by the same set."
    return f"dowhy identifies the effect too, by ({', '.join(sets[0])})."


def _closes(digraph: Any, found: Adjustment) -> bool:
    """Whether dowhy's d-separation says that our set closes every path but the effect."""
    from dowhy.graph import check_dseparation

    cut = nx.DiGraph(digraph)
    between = nx.descendants(cut, found.cause) & nx.ancestors(cut, found.effect) | {found.effect}
    around = cut.copy()
    around.remove_nodes_from(found.not_through)
    direct = nx.descendants(around, found.cause) & (between)
    cut.remove_edges_from([(found.cause, v) for v in direct])
    return bool(check_dseparation(cut, [found.cause], [found.effect], list(found.given)))


def _for_dowhy(graph: CausalGraph, found: Adjustment) -> Any:
    """Return the graph as a DAG with latent nodes; of a direct effect, what carries it folded in.

    dowhy's direct effect is one arrow, so nodes on the direct paths (the image) are summed out:
    their parents become parents of their children, and their own noise a latent of several.
    """
    digraph = nx.DiGraph(graph.to_networkx().edges)
    digraph.add_nodes_from(graph.nodes)
    if found.kind != "direct":
        return digraph
    around = digraph.copy()
    around.remove_nodes_from(found.not_through)
    carried = nx.descendants(around, found.cause) & nx.ancestors(around, found.effect)
    for node in carried:
        parents, children = list(digraph.predecessors(node)), list(digraph.successors(node))
        digraph.remove_node(node)
        digraph.add_edges_from((p, c) for p in parents for c in children)
        if len(children) > 1:
            digraph.add_edges_from((f"noise of {node}", c) for c in children)
    return digraph


@contextmanager
def quietly(seed: int | None = None) -> Iterator[None]:
    """Silence dowhy's warnings and log lines, and keep its draws from the global generator.

    Some of its refuters draw from numpy's global state: it is seeded here and put back after.  So
    is the hook by which an interactive session prints, which sympy replaces on import.
    """
    logger = logging.getLogger("dowhy")
    level, state = logger.level, np.random.get_state()  # noqa: NPY002  # dowhy's, not ours
    hook = sys.displayhook
    logger.setLevel(logging.CRITICAL)
    if seed is not None:
        np.random.seed(seed)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        sys.displayhook = hook
        np.random.set_state(state)  # noqa: NPY002
