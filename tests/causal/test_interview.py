"""Six answers make a graph; the graph is told back; a wrong answer is met with the right words."""

from __future__ import annotations

import pytest

from deconf.causal.graph import CausalGraph
from deconf.errors import GraphError

ANSWERS = {
    "outcome": "pneumonia",
    "label": "cause",
    "workflow": "portable",
    "why": "referral",
    "patient": "",
    "selected": "",
}


def asked(**changes):
    return CausalGraph.ask(answers=ANSWERS | changes, show=lambda _text: None)


@pytest.mark.parametrize(
    ("changes", "promised"),
    [
        ({}, "z ⊥ portable | pneumonia"),
        ({"why": "chance"}, "z ⊥ portable"),
        ({"why": "habit"}, "z ⊥ portable | pneumonia"),
        ({"why": "habit", "label": "read"}, "z ⊥ portable"),
        ({"why": "prevalence"}, "z ⊥ portable | pneumonia"),
        ({"why": "sicker: icu"}, "z ⊥ portable | icu"),
        ({"why": "chance", "patient": "age"}, "z ⊥ portable | age"),
        ({"why": "chance", "selected": "pneumonia, portable"}, "z ⊥ portable | pneumonia"),
        ({"outcome": ""}, "z ⊥ portable"),
        (
            {"workflow": ["site", "portable"], "why": {"site": "prevalence", "portable": "sicker"}},
            "z ⊥ site, portable | pneumonia, severity",
        ),
    ],
)
def test_each_story_gives_the_set_of_the_table_of_situations(changes, promised):
    graph = asked(**changes)
    named = changes.get("workflow", ["portable"])
    outcome = changes.get("outcome", "pneumonia") or None
    assert str(graph.invariance(named, outcome)) == promised


def test_severity_without_a_column_is_not_identified():
    graph = asked(why="sicker")
    found = graph.invariance("portable", "pneumonia", measured=["portable", "pneumonia"])
    assert not found.is_identified
    assert "severity" in found.why


def test_questions_are_put_in_order_and_a_typing_error_is_asked_again():
    typed = iter(["pnuemonia", "pneumonia", "cause", "portable", "referrrl", "referral", "", ""])
    put, told = [], []

    def read(text):
        put.append(text.split(".")[0])
        return next(typed)

    graph = CausalGraph.ask(["pneumonia", "portable", "age"], read=read, show=told.append)
    assert graph == asked()
    assert put == [f"{k} of 6" for k in (1, 1, 2, 3, 4, 4, 5, 6)]
    assert "Did you mean 'pneumonia'?" in told[0]
    assert "Did you mean 'referral'?" in told[1]
    assert "portable leaves a trace in the image, which is workflow" in told[-1]
    assert str(graph) in told[-1]


def test_an_answer_at_hand_is_not_asked():
    put = []
    CausalGraph.ask(
        answers={k: v for k, v in ANSWERS.items() if k != "why"},
        read=lambda text: put.append(text) or "chance",
        show=lambda _text: None,
    )
    assert len(put) == 1
    assert put[0].startswith("4 of 6")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labell": "x"}, "no question is called 'labell'.*Did you mean 'label'"),
        ({"label": "caus"}, "'caus' is no answer to 'label'.*Did you mean 'cause'"),
        ({"outcome": "a, b"}, "a and b: the questions are about one outcome"),
        ({"workflow": ""}, "no workflow column"),
        ({"workflow": "pneumonia"}, "'pneumonia' has a part already"),
        ({"workflow": "image"}, "'image' stands for the pixels"),
        ({"patient": "portable"}, "'portable' has a part already"),
        ({"why": "site = chance"}, "'site' is none of the workflow columns"),
        ({"workflow": "a, b", "why": "a = chance"}, "nothing was said of why 'b'"),
        ({"why": "habit: icu"}, "only 'sicker' takes a column"),
        ({"why": "referral", "label": "read"}, "cannot have decided.*'sicker: column'"),
        ({"selected": "ward"}, "'ward' has no part in the graph yet"),
    ],
)
def test_an_answer_that_cannot_be_meant_is_refused(changes, words):
    with pytest.raises(GraphError, match=words):
        asked(**changes)


def test_sentences_tell_every_arrow_mark_and_missing_arrow():
    graph = CausalGraph.parse(
        "site -> ill -> image; portable -> dose! -> image; site <-> portable; "
        "image -> report; ill -> [included] <- site"
    )
    told = graph.sentences("portable")
    assert told[:-1] == (
        "portable acts on dose.",
        "site acts on ill.",
        "report is read from the image.",
        "dose leaves a trace in the image, which is workflow and not the patient.",
        "ill shows in the image.",
        "portable and site share a cause that nobody recorded.",
        "Who is in the cohort depends on ill and site (included).",
    )
    assert "ill does not act on dose, nor dose on ill" in told[-1]
    assert "portable does not show in the image but through dose" in told[-1]
    assert "site does not show in the image but through ill" in told[-1]
