"""From graph to independence: every row of the table of situations, and a brute-force proof."""

from __future__ import annotations

import pytest

from deconf.causal.graph import CausalGraph
from deconf.causal.invariance import derive
from deconf.causal.separators import LONGEST, open_paths, written
from deconf.errors import CohortError, GraphError
from tests.reference import dsep

parse = CausalGraph.parse
GRAPHS = 5500


def without_trace(edges, confounders):
    return [(a, b) for a, b in edges if not (a in confounders and b == "image")]


def leads_to_image(edges, node):
    reached = {node}
    while more := {b for a, b in edges if a in reached} - reached:
        reached |= more
    return "image" in reached


def test_valid_sets_are_exactly_the_minimal_separators_of_brute_force():
    seen = {"joint": 0, "none": 0, "selected": 0, "nonempty": 0}
    for seed in range(GRAPHS):
        nodes, edges, bidirected, selected, confounders = dsep.random_graph(seed)
        if not all(leads_to_image(edges, c) for c in confounders):
            continue
        graph = CausalGraph(tuple(nodes), tuple(edges), tuple(bidirected), tuple(selected))
        measured = [n for i, n in enumerate(nodes) if n in confounders or (seed >> i) % 4]
        candidates = set(measured) - {"image", *confounders, *selected}
        cut = without_trace(edges, confounders)
        expected = dsep.minimal_sets(cut, bidirected, confounders, "image", candidates, selected)
        answer = derive(graph, confounders, "y", measured=measured)
        if expected:
            assert {frozenset(s) for s in answer.valid_sets} == expected, seed
            assert answer.given == answer.valid_sets[0]
            assert answer.status == "identified"
            assert set(answer.given) <= candidates
            seen["joint"] += 1
            seen["nonempty"] += bool(answer.given)
            seen["selected"] += bool(selected)
        else:
            assert answer.status != "identified" or answer.parts
            assert answer.given == () or answer.status == "identified if"
            assert answer.is_identified == (answer.status != "not identified")
            seen["none"] += 1
        for part in answer.parts:
            alone = dsep.minimal_sets(
                cut, bidirected, part.confounders, "image", candidates, selected
            )
            assert (part.status == "identified") == bool(alone)
            if alone:
                assert {frozenset(s) for s in part.valid_sets} == alone
    assert sum(seen[k] for k in ("joint", "none")) >= 2000
    assert min(seen.values()) > 100  # every kind of answer was tried


def test_the_open_paths_are_those_of_the_definition_and_none_is_left_once_separated():
    seen = {True: 0, False: 0}
    for seed in range(600):
        nodes, edges, bidirected, _, (c, *_) = dsep.random_graph(seed)
        edges = without_trace(edges, {c})  # with its own arrow the path is open whatever is held
        graph = CausalGraph(tuple(nodes), tuple(edges), tuple(bidirected))
        rest = [n for n in nodes if n not in (c, "image")]
        held = {n for i, n in enumerate(rest) if (seed >> i) % 2}
        expected = dsep.open_simple_paths(edges, bidirected, c, "image", held)
        named = {
            tuple(" <-> ".join(sorted(n[1:])) if isinstance(n, tuple) else n for n in path)
            for path in expected
        }
        short = {path for path in named if len(path) <= LONGEST + 1}
        assert set(open_paths(graph, c, "image", held)) == (short or named), seed
        separated = dsep.separated(edges, bidirected, {c}, {"image"}, held)
        assert bool(named) != separated
        seen[separated] += 1
    assert min(seen.values()) > 100


def test_holding_a_child_of_a_collider_opens_its_path():
    graph = parse("c -> v <- u -> image; v -> w")
    assert open_paths(graph, "c", "image") == []
    (path,) = open_paths(graph, "c", "image", {"w"})
    assert written(graph, path) == "c -> v <- u -> image"
    assert written(parse("c <-> image"), ("c", "c <-> image", "image")) == "c <-> image"


def test_a_proxied_answer_holds_nothing_but_measured_columns():
    proxied = 0
    for seed in range(2000):
        nodes, edges, bidirected, selected, confounders = dsep.random_graph(seed)
        graph = CausalGraph(
            (*nodes, "p"), (*edges, ("v0", "p")), tuple(bidirected), tuple(selected)
        )
        measured = [*confounders, "p"]
        if "v0" in selected or not all(leads_to_image(edges, c) for c in confounders):
            continue
        answer = derive(graph, confounders, "y", measured=measured)
        for part in answer.parts or (answer,):
            if part.status == "identified if":
                cut = without_trace(edges, confounders)
                assert part.given == ("p",)
                held = {"v0", *selected}
                assert dsep.separated(cut, bidirected, part.confounders, {"image"}, held)
                assert any("p stands in for v0" in a for a in part.assumptions)
                proxied += 1
    assert proxied > 20


SEVERITY = "sev -> portable; sev -> pneumonia; pneumonia -> image; portable -> image"
HABIT = "image -> pneumonia; habit -> portable; habit -> pneumonia; portable -> image"
SITUATIONS = {
    "severity acts through disease": (SEVERITY, None, {("pneumonia",), ("sev",)}),
    "severity visible": (SEVERITY + "; sev -> image", None, {("sev",)}),
    "severity visible, not recorded": (SEVERITY + "; sev -> image", "no sev", None),
    "label shift": ("portable -> pneumonia -> image; portable -> image", None, {("pneumonia",)}),
    "case mix": (
        "portable -> age -> image; age -> pneumonia; portable -> image",
        None,
        {("age",)},
    ),
    "referral": ("pneumonia -> portable -> image; pneumonia -> image", None, {("pneumonia",)}),
    "label read from the image": (HABIT, None, {()}),
    "selected on both": (
        "pneumonia -> [in] <- portable; pneumonia -> image; portable -> image",
        None,
        {("pneumonia",)},
    ),
    "label from the image, selected, habit known": (
        HABIT + "; pneumonia -> [in]",
        None,
        {("habit",)},
    ),
    "label from the image, selected, habit unrecorded": (
        HABIT + "; pneumonia -> [in]",
        "no habit",
        None,
    ),
    "selection on content and site": (
        "image -> [in] <- portable; portable -> image; pneumonia -> image",
        None,
        None,
    ),
    "device follows severity, a part of the disease": (
        "pneumonia -> sev -> portable; sev -> image; portable -> image",
        None,
        {("sev",)},
    ),
    "the same, with severity unrecorded": (
        "pneumonia -> sev -> portable; sev -> image; portable -> image",
        "no sev",
        None,
    ),
    "M-shape": (
        "u1 -> portable; u1 -> v; u2 -> v; u2 -> image; portable -> image; pneumonia -> image",
        "no u1 u2",
        {()},
    ),
    "randomised": ("portable -> image; pneumonia -> image", None, {()}),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_of_the_table_gets_its_set(situation):
    text, hidden, expected = SITUATIONS[situation]
    graph = parse(text)
    gone = set((hidden or "").split()) | {"image"}
    answer = graph.invariance("portable", "pneumonia", measured=set(graph.nodes) - gone)
    if expected is None:
        assert answer.status == "not identified"
        assert not answer.is_identified
        assert answer.given == ()
    else:
        assert set(answer.valid_sets) == expected
        assert answer.is_identified


def test_of_two_sets_as_small_the_one_with_the_outcome_is_chosen():
    assert parse(SEVERITY).invariance("portable", "pneumonia").given == ("pneumonia",)
    assert parse(SEVERITY).invariance("portable", "sev").given == ("sev",)


def test_a_rank_may_choose_another_of_the_valid_sets():
    answer = derive(parse(SEVERITY), "portable", "pneumonia", rank=lambda _, s: s != ("sev",))
    assert answer.valid_sets == (("sev",), ("pneumonia",))


def test_the_recorded_label_is_never_taken_for_the_disease_in_silence():
    answer = parse(SEVERITY).invariance("portable", "pneumonia")
    assert "the recorded pneumonia is taken for the disease itself" in answer.assumptions
    assert not any(
        "taken for" in a for a in parse(HABIT).invariance("portable", "pneumonia").assumptions
    )


def test_holding_a_label_read_from_the_image_is_warned_of_by_its_path():
    why = parse(HABIT).invariance("portable", "pneumonia").why
    assert "portable <- habit -> pneumonia <- image" in why
    assert "pneumonia is not held" in why


def test_the_closed_path_and_what_closes_it_are_named():
    why = parse(SEVERITY).invariance("portable", "pneumonia").why
    assert "With portable -> image deleted" in why
    assert "portable <- sev -> pneumonia -> image is closed by holding pneumonia" in why


def test_an_open_path_is_named_with_the_column_and_the_designs_that_would_close_it():
    answer = parse(SEVERITY + "; sev -> image").invariance(
        "portable", "pneumonia", measured=["portable", "pneumonia"]
    )
    assert "portable <- sev -> image is open and sev is not measured" in answer.why
    remedies = " ".join(answer.remedies)
    assert "record sev: then z ⊥ portable | sev" in remedies
    for design in ("paired films", "image edits", "calendar-time switch", "phantom"):
        assert design in remedies


def test_an_unmeasured_common_cause_is_named_as_what_two_columns_share():
    answer = parse("c <-> image; c -> image").invariance("c")
    assert "c <-> image" in answer.why
    assert any("what c and image have in common" in r for r in answer.remedies)


def test_a_selection_that_opens_a_path_is_named():
    answer = parse("image -> [in] <- c; c -> image").invariance("c")
    assert "selected on in" in answer.why
    assert any("selection on in left out" in r for r in answer.remedies)


def test_a_label_of_an_unmeasured_disease_stands_in_for_it_and_says_so():
    graph = parse("disease -> label; disease -> image; disease -> site -> image")
    answer = graph.invariance("site", "label", measured=["site", "label"])
    assert (answer.status, answer.given) == ("identified if", ("label",))
    assert "label stands in for disease" in answer.assumptions
    assert graph.invariance("site", "label").status == "identified"  # once disease is recorded


@pytest.mark.parametrize(
    "spoiler", ["disease -> x; x -> label", "site <-> label", "label -> y", "site -> label"]
)
def test_a_proxy_that_says_anything_else_is_no_proxy(spoiler):
    text = "disease -> label; disease -> image; disease -> site -> image; "
    answer = parse(text + spoiler).invariance("site", "label", measured=["site", "label", "x"])
    assert answer.status == "not identified"


def test_a_disease_is_no_pure_proxy_of_the_severity_behind_it():
    answer = parse(SEVERITY + "; sev -> image").invariance(
        "portable", "pneumonia", measured=["portable", "pneumonia"]
    )
    assert answer.status == "not identified"


def test_several_outcomes_are_held_together():
    text = "sev -> y1 -> image; sev -> y2; sev -> c; c -> image"
    graph = parse(text)
    one = graph.invariance("c", "y1", measured=["c", "y1", "y2"])
    both = graph.invariance("c", ["y1", "y2"], measured=["c", "y1", "y2"])
    assert one.given == ("y1",)
    assert both.given == ("y1", "y2")
    assert both.valid_sets == (("y1", "y2"), ("y1",))


def test_an_outcome_whose_holding_would_open_a_path_is_left_out():
    graph = parse("sev -> y1 -> image; sev -> c; c -> image; habit -> c; habit -> y2 <- image")
    answer = graph.invariance("c", ["y1", "y2"], measured=["c", "y1", "y2"])
    assert answer.given == ("y1",)


def test_confounders_without_a_common_set_get_one_each():
    # portable needs severity held; held, severity joins site to what it shares with the image.
    graph = parse(
        "site -> severity -> portable; severity <-> image; site -> image; portable -> image"
    )
    answer = graph.invariance(["site", "portable"])
    assert [str(part) for part in answer.parts] == ["z ⊥ site", "z ⊥ portable | severity"]
    assert (answer.status, answer.given, answer.valid_sets) == ("identified", (), ())
    assert all(part.why in answer.why for part in answer.parts)


def test_an_answer_in_parts_is_identified_only_if_each_part_is():
    graph = parse("c1 -> image; c2 -> image; sev -> c2; sev -> image")
    answer = graph.invariance(["c1", "c2"], measured=["c1", "c2"])
    assert [p.status for p in answer.parts] == ["identified", "not identified"]
    assert answer.status == "not identified"
    assert "z ⊥ c1; z ⊥ c2 | ? (not identified)" in str(answer)


def test_a_confounder_that_never_reaches_the_image_needs_no_removal():
    answer = parse("y -> image; y -> c").invariance("c", "y")
    assert (answer.is_needed, answer.is_identified, answer.given) == (False, True, ())
    assert "nothing to remove" in answer.why
    assert str(answer) == "nothing to remove for c"
    both = parse("y -> image; y -> c; d -> image; y -> d").invariance(["c", "d"], "y")
    assert [(p.confounders, p.is_needed) for p in both.parts] == [(("d",), True), (("c",), False)]
    assert both.parts[0].given == ("y",)


def test_an_unmarked_mediator_is_kept_and_asked_about_and_a_marked_one_is_cut():
    text = "portable -> exposure -> image; portable -> image"
    asked = parse(text).invariance("portable")
    assert asked.mediators == ("exposure",)
    assert asked.given == ("exposure",)
    assert any("exposure!" in a for a in asked.assumptions)
    marked = parse(text, workflow="exposure").invariance("portable")
    assert (marked.mediators, marked.given) == ((), ())


def test_an_outcome_on_the_way_to_the_image_is_not_asked_about():
    assert parse("c -> y -> image; c -> image").invariance("c", "y").mediators == ()
    assert parse("c -> y -> image; c -> image").invariance("c").mediators == ("y",)


def test_only_what_is_measured_is_held():
    answer = parse(SEVERITY).invariance("portable", "pneumonia", measured=["portable", "sev"])
    assert answer.given == ("sev",)


def test_the_invariance_reads_as_a_formula():
    text = "severity -> site; severity -> portable; severity -> image; site -> image <- portable"
    assert str(parse(text).invariance(["portable", "site"])) == "z ⊥ portable, site | severity"
    assert str(parse("c -> image").invariance("c")) == "z ⊥ c"


def test_many_covariates_are_searched_without_trying_all_subsets():
    chains = "; ".join(f"c <- a{i} -> b{i} -> image" for i in range(20))
    answer = parse(f"c -> image; {chains}").invariance("c", "b3")
    for names in answer.valid_sets:
        assert len(names) == 20
        assert {int(n[1:]) for n in names} == set(range(20))
    assert "b3" in answer.given
    assert answer.is_identified
    refused = parse(f"c -> image; {chains}; c <-> image").invariance("c")
    assert not refused.is_identified


@pytest.mark.parametrize(
    ("text", "confounders", "outcome", "words"),
    [
        ("c -> y", "c", "y", "no node 'image'"),
        ("c -> image", "d", (), "no node 'd'"),
        ("portable -> image", "protable", (), "Did you mean 'portable'"),
        ("c -> image", "c", "pneumonia", "no node 'pneumonia'"),
        ("c -> image", (), (), "no confounder was named"),
        ("c -> image", "image", (), "the image itself"),
        ("c -> image; y -> image", "y", "y", "the outcome as well"),
        ("c -> image", "c", "image", "outcome cannot be 'image'"),
        ("[c] -> image", "c", (), "'c' is selected on"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_by_name(text, confounders, outcome, words):
    with pytest.raises(GraphError, match=words):
        derive(parse(text), confounders, outcome)


def test_a_confounder_without_a_column_is_refused_with_the_remedy():
    with pytest.raises(CohortError, match=r"'c' is in the graph but not among.*add the column"):
        parse("c -> image").invariance("c", measured=["site"])
