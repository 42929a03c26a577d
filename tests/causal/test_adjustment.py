"""What is held closes every path but the effect, by a second reading of d-separation."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest

from deconf.causal.adjustment import adjustment, own_adjustment
from deconf.causal.graph import CausalGraph
from deconf.errors import GraphError, NotIdentified
from tests.reference import dsep

SCORE = "severity -> ill; severity -> portable -> image -> score; ill -> image; severity -> image"


def random_graph(seed: int) -> tuple[CausalGraph, list[str]]:
    rng = np.random.default_rng(seed)
    names = [f"v{i}" for i in range(6)]
    edges = [(a, b) for a, b in itertools.combinations(names, 2) if rng.random() < 0.45]
    pairs = [(a, b) for a, b in itertools.combinations(names, 2) if rng.random() < 0.08]
    return CausalGraph(tuple(names), tuple(edges), tuple(pairs)), names


def is_valid(graph: CausalGraph, cause: str, effect: str, held: set[str]) -> bool:
    """The adjustment criterion, from its definition and with another d-separation."""
    digraph = nx.DiGraph(graph.edges)
    digraph.add_nodes_from(graph.nodes)
    causal = nx.descendants(digraph, cause) & (nx.ancestors(digraph, effect) | {effect})
    forbidden = set(causal).union(*(nx.descendants(digraph, v) for v in causal))
    if held & forbidden:
        return False
    kept = [(a, b) for a, b in graph.edges if not (a == cause and b in causal)]
    return dsep.separated(kept, graph.bidirected, {cause}, {effect}, held)


@pytest.mark.parametrize("seed", range(60))
def test_a_set_is_found_exactly_where_one_exists_and_is_valid(seed):
    graph, names = random_graph(seed)
    cause, effect = "v1", "v5"
    measured = [n for n in names if n not in ("v0", cause, effect)]
    exists = any(
        is_valid(graph, cause, effect, set(s))
        for k in range(len(measured) + 1)
        for s in itertools.combinations(measured, k)
    )
    try:
        found = adjustment(graph, cause, effect, measured=measured)
    except NotIdentified:
        assert not exists
        return
    assert exists == (found.kind == "back door")
    if found.kind == "back door":
        for names_held in found.valid_sets:
            assert is_valid(graph, cause, effect, set(names_held)), names_held


def test_the_total_effect_leaves_mediators_open_and_the_direct_one_holds_them():
    graph = CausalGraph.parse("s -> a; s -> m; s -> y; a -> m -> y; a -> y")
    measured = ["s", "m"]
    assert adjustment(graph, "a", "y", measured=measured).given == ("s",)
    direct = adjustment(graph, "a", "y", measured=measured, not_through=("m",))
    assert set(direct.given) == {"m", "s"}
    assert direct.kind == "direct"


def test_a_mediator_that_shares_an_unmeasured_cause_with_the_effect_settles_nothing():
    graph = CausalGraph.parse("a -> m -> y; a -> y; m <-> y")
    with pytest.raises(NotIdentified, match="m <-> y"):
        adjustment(graph, "a", "y", measured=["m"], not_through=("m",))


def test_the_refusal_names_the_path_the_column_and_the_designs():
    graph = CausalGraph.parse(SCORE)
    with pytest.raises(NotIdentified) as refusal:
        adjustment(graph, "portable", "score", measured=["ill"])
    for words in ("portable <- severity -> image", "record severity", "within='patient'", "edit"):
        assert words in str(refusal.value)


def test_the_front_door_is_taken_where_the_back_door_is_shut():
    graph = CausalGraph.parse("a <-> y; a -> m -> y")
    found = adjustment(graph, "a", "y", measured=["m"])
    assert (found.kind, found.given) == ("front door", ("m",))
    with pytest.raises(NotIdentified):  # the trace shares a cause with the outcome
        adjustment(CausalGraph.parse("a <-> y; a -> m -> y; m <-> y"), "a", "y", measured=["m"])


def test_the_image_and_what_is_read_from_it_are_never_held():
    graph = CausalGraph.parse(SCORE + "; image -> label")
    with pytest.raises(NotIdentified):
        adjustment(graph, "portable", "score", measured=["label", "ill", "image"])


def test_a_collider_is_not_held():
    graph = CausalGraph.parse("u1 -> a; u1 -> v; u2 -> v; u2 -> y; a -> y")
    assert adjustment(graph, "a", "y", measured=["v"]).given == ()


def test_selection_below_the_cause_is_named():
    graph = CausalGraph.parse("a -> y; a -> m -> y; m -> [included]")
    with pytest.raises(NotIdentified, match="included"):
        adjustment(graph, "a", "y", measured=["m"])


def test_a_confounder_that_descends_from_the_outcome_is_refused_with_its_path():
    graph = CausalGraph.parse("portable -> pneumonia; pneumonia -> oxygen -> severity")
    with pytest.raises(GraphError, match="pneumonia -> oxygen -> severity"):
        own_adjustment(graph, "portable", "pneumonia", ("severity",))


def test_your_own_set_is_told_what_the_graph_leaves_open():
    graph = CausalGraph.parse(SCORE)
    found = own_adjustment(graph, "portable", "score", ("ill",))
    assert "portable <- severity -> image" in found.leaves_open
    assert own_adjustment(graph, "portable", "score", ("severity",)).leaves_open == ""


@pytest.mark.parametrize(
    ("cause", "effect", "through", "words"),
    [
        ("portabel", "score", (), "portable"),
        ("portable", "portable", (), "two different"),
        ("portable", "image", (), "pixels"),
        ("portable", "score", ("severity",), "no mediator"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(cause, effect, through, words):
    graph = CausalGraph.parse(SCORE)
    with pytest.raises(GraphError, match=words):
        adjustment(graph, cause, effect, measured=["severity"], not_through=through)


def test_a_graph_without_a_directed_path_says_that_it_draws_no_effect():
    found = adjustment(CausalGraph.parse("s -> a; s -> y"), "a", "y", measured=["s"])
    assert found.is_null
    assert any("draws no effect" in said for said in found.assumptions)
