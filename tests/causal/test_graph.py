"""The written graph, its equality, its pictures and its refusals."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deconf.causal.graph import IMAGE, CausalGraph
from deconf.causal.presets import PRESETS
from deconf.errors import GraphError
from tests.reference import dsep

parse = CausalGraph.parse


@st.composite
def graphs(draw):
    """Any acyclic graph with awkward names, bidirected edges, brackets and workflow marks."""
    alphabet = st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters='"')
    names = draw(
        st.lists(st.text(alphabet, min_size=1, max_size=6), min_size=2, max_size=6, unique=True)
    )
    names = [n for n in names if n != IMAGE] + [IMAGE]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    edges = draw(st.lists(st.sampled_from(pairs), max_size=8)) if pairs else []
    both = draw(st.lists(st.sampled_from(pairs), max_size=3)) if pairs else []
    marks = st.lists(st.sampled_from(names[:-1]), max_size=2) if names[:-1] else st.just([])
    return CausalGraph(
        tuple(names), tuple(edges), tuple(both), tuple(draw(marks)), tuple(draw(marks))
    )


@given(graphs())
@example(CausalGraph(("→", "image"), (("→", "image"),)))  # a name that looks like an arrow
@settings(max_examples=150, deadline=None)
def test_what_is_written_reads_back_as_the_same_graph(graph):
    again = parse(str(graph))
    assert again == graph
    assert hash(again) == hash(graph)


@given(graphs())
@settings(max_examples=100, deadline=None)
def test_networkx_gives_back_the_same_graph(graph):
    assert CausalGraph.from_networkx(graph.to_networkx()) == graph


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a -> b; c -> b", "c -> b\na -> b"),
        ("a -> b -> c", "b -> c; a -> b; a -> b"),
        ("a -> b <- c", "c -> b; a -> b"),
        ("a <-> b", "b <-> a"),
        ("a → b; b ↔ c", "a->b;b<->c"),
        ("site -> [included]", "[included] <- site; [included]"),
        ("exposure! -> image", "exposure -> image; exposure!"),
        ("a -> b # the reason; x -> y", "a -> b"),
        ('"View Position" -> image', '  "View Position"->image ;; '),
    ],
)
def test_two_ways_of_writing_one_graph_are_equal(one, other):
    assert parse(one) == parse(other)


def test_the_workflow_argument_is_the_same_as_the_mark():
    assert parse("exposure -> image", workflow="exposure") == parse("exposure! -> image")


def test_a_direction_changed_is_another_graph():
    assert parse("a -> b") != parse("b -> a")
    assert parse("a -> b") != parse("a <-> b")
    assert parse("a -> [b]") != parse("a -> b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a -> b; c -> -> d", r"statement 2 .*'c -> -> d'.*character 14.*node name after '->'"),
        ("a -> b\nc d", r"statement 2 .*'c d'.*line 2, character 3.*arrow after 'c'"),
        ("[a -> b", r"expected '\]' after 'a'"),
        ("a ->", "end of the statement"),
        ("! -> b", "expected a node name"),
        ("a, b -> c", "found ','.*double quotes"),
        ("a -> b -> c -> a", "cycle, a -> b -> c -> a"),
        ("a -> a", "'a' has an arrow to itself"),
        ("a <-> a", "'a' has an arrow to itself"),
        ("", "empty"),
        ("  # nothing but a comment", "empty"),
        ("c -> [image]", "neither selected on nor workflow"),
    ],
)
def test_an_unreadable_graph_is_quoted_with_what_was_expected(text, words):
    with pytest.raises(GraphError, match=words):
        parse(text)


def test_a_mistyped_workflow_name_is_met_with_the_nearest_node():
    with pytest.raises(GraphError, match=r"'exposur' is not in the graph. Did you mean 'exposure'"):
        parse("exposure -> image", workflow=["exposur"])


def test_text_is_asked_for_where_something_else_is_given():
    with pytest.raises(GraphError, match="not list"):
        parse(["a -> b"])


def test_require_names_the_nearest_node():
    with pytest.raises(GraphError, match=r"no node 'protable'. Did you mean 'portable'"):
        parse("portable -> image").require(["protable"])


@pytest.mark.parametrize("name", ["", 'say "hi"'])
def test_a_name_that_could_not_be_written_is_refused(name):
    with pytest.raises(GraphError, match="cannot name a node"):
        CausalGraph((name, "image"))


def test_a_bidirected_attribute_and_a_latent_parent_say_the_same():
    attribute = nx.DiGraph([("c", "image")])
    attribute.add_edge("c", "y", bidirected=True)
    latent = nx.DiGraph([("c", "image"), ("u", "c"), ("u", "y")])
    latent.nodes["u"]["latent"] = True
    assert CausalGraph.from_networkx(attribute) == CausalGraph.from_networkx(latent)
    assert CausalGraph.from_networkx(latent) == parse("c -> image; c <-> y")


def test_a_latent_of_three_becomes_three_pairs():
    latent = nx.DiGraph([("u", "a"), ("u", "b"), ("u", "c")])
    latent.nodes["u"]["latent"] = True
    assert CausalGraph.from_networkx(latent) == parse("a <-> b; b <-> c; a <-> c")


def test_networkx_graphs_that_are_not_causal_are_refused():
    with pytest.raises(GraphError, match="DiGraph"):
        CausalGraph.from_networkx(nx.Graph([("a", "b")]))
    chain = nx.DiGraph([("a", "u"), ("u", "b")])
    chain.nodes["u"]["latent"] = True
    with pytest.raises(GraphError, match=r"'u' has a parent, 'a'.*no column means unmeasured"):
        CausalGraph.from_networkx(chain)


def test_only_workflow_arrows_into_the_image_are_cut():
    graph = parse("c -> image; c -> m -> image; e! -> image; y -> image; c <-> image")
    assert graph.without_trace("c") == parse("c -> m -> image; e!; y -> image; c <-> image")


def test_d_separation_agrees_with_the_definition():
    checked = 0
    for seed in range(300):
        nodes, edges, bidirected, _, _ = dsep.random_graph(seed)
        graph = CausalGraph(tuple(nodes), tuple(edges), tuple(bidirected))
        a, b, *rest = nodes
        for given_ in (rest[:1], rest[1:], rest):
            expected = dsep.separated(edges, bidirected, {a}, {b}, set(given_))
            assert graph.d_separated(a, b, given_) == expected
            checked += expected
    assert 50 < checked < 850  # both answers were seen


def test_d_separation_refuses_overlapping_sets():
    with pytest.raises(GraphError, match="three sets"):
        parse("a -> b").d_separated("a", "b", "a")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_holds_the_image_and_an_arrow_into_it(name):
    graph = CausalGraph.preset(name)
    assert any(b == IMAGE for _, b in graph.edges)


@pytest.mark.parametrize(
    ("name", "confounder", "outcome", "given_"),
    [
        ("portable_xray", "portable", "pneumonia", ("severity",)),
        ("multi_site", "site", "disease", ("disease", "age")),
        ("slide_scanner", "scanner", "tumour", ("tumour",)),
        ("skin_marker", "marker", "malignant", ("malignant",)),
    ],
)
def test_presets_demand_what_their_story_says(name, confounder, outcome, given_):
    assert CausalGraph.preset(name).invariance(confounder, outcome).given == given_


def test_an_unknown_preset_is_met_with_the_nearest_one():
    with pytest.raises(GraphError, match="Did you mean 'portable_xray'"):
        CausalGraph.preset("portable_xry")


def test_renaming_keeps_the_arrows():
    graph = parse("sev -> [c]; c! -> image; sev <-> y").renamed({"sev": "severity", "c": "ap"})
    assert graph == parse("severity -> [ap]; ap! -> image; severity <-> y")
    with pytest.raises(GraphError, match="two nodes one name"):
        graph.renamed({"severity": "ap"})
    with pytest.raises(GraphError, match="no node 'sevrity'"):
        graph.renamed({"sevrity": "x"})


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_causes_stand_left_of_their_effects_and_no_two_nodes_share_a_place(graph):
    from deconf.causal.drawing import layout

    places = layout(graph).places
    assert all(places[a][0] < places[b][0] for a, b in graph.edges)
    assert len(set(places.values())) == len(graph.nodes)


def test_the_deleted_arrow_is_drawn_apart_from_the_others():
    graph = CausalGraph.preset("portable_xray")
    figure = graph.draw(deleted="portable")
    (axes,) = figure.axes
    arrows = [t.arrow_patch for t in axes.texts if getattr(t, "arrow_patch", None)]
    dashed = [a for a in arrows if a.get_linestyle() not in ("-", "solid")]
    assert len(arrows) == len(graph.edges)
    assert len(dashed) == 2  # portable -> image, and exposure! -> image
    assert {t.get_text() for t in axes.texts} >= {"severity", "exposure!", "image"}


def test_a_drawing_goes_where_it_is_told():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    assert parse("a -> image; a <-> [s]").draw(ax=axes) is axes.figure
