from __future__ import annotations

import math
from dataclasses import replace

import pytest

from deconf.records.certificate import Figure, Finding
from deconf.records.comparison import Verification, compared, same_figures

BESIDE = {"measure": "AUROC", "p_below": 0.3, "bits": None, "bits_low": None, "bits_high": None}
COMMON = {"auroc": 0.58, "low": 0.5, "high": 0.66, "floor": 0.54, "p": 0.2, "n": 90}
FINDING = Finding("site", "z ⊥ site | ill", "undecided", "undecided: 0.58 at n = 90, p = 0.2",
                  "boosted", **COMMON, needed=400)  # fmt: skip
FIGURES = (
    Figure("site", "conditional", "ill", "boosted", **BESIDE, **COMMON),
    Figure("site", "marginal", "", "knn", **BESIDE | COMMON | {"auroc": math.nan}),
)


def check(finding=FINDING, figures=FIGURES, tolerance=0.02):
    (found,) = same_figures(([FINDING], FIGURES), ([finding], figures), tolerance)
    return found


def moved(by, name="auroc", which=0):
    figures = list(FIGURES)
    figures[which] = replace(figures[which], **{name: getattr(FIGURES[which], name) + by})
    return figures


def test_the_same_figures_agree_bit_for_bit_also_where_one_is_no_number():
    found = check(tolerance=0)
    assert found.agrees
    assert found.said == "undecided; all 2 figures bit for bit"


@pytest.mark.parametrize("name", ["auroc", "low", "high", "floor"])
def test_a_figure_may_move_by_the_tolerance_and_no_further(name):
    assert check(figures=moved(0.0199, name)).agrees
    assert check(figures=moved(-0.0199, name)).agrees
    far = check(figures=moved(0.0201, name))
    assert not far.agrees
    assert "conditional, boosted, by 0.0201" in far.said
    assert not check(figures=moved(1e-9, name), tolerance=0).agrees


def test_the_verdict_itself_is_held_to_the_tolerance():
    assert check(replace(FINDING, auroc=0.59)).agrees
    assert not check(replace(FINDING, auroc=0.61)).agrees


def test_no_number_and_a_number_never_agree():
    figures = [moved(0.001)[0], replace(FIGURES[1], auroc=0.5)]
    assert not check(figures=figures, tolerance=1.0).agrees


def test_other_patients_judged_never_agree():
    figures = [replace(moved(0.001)[0], n=91), FIGURES[1]]
    assert not check(figures=figures, tolerance=1.0).agrees


def test_a_p_value_is_held_where_no_auroc_has_moved():
    overwritten = check(figures=moved(-0.19, "p"))
    assert not overwritten.agrees
    assert "conditional, boosted, p: certified 0.2, here 0.01" in overwritten.said
    elsewhere = moved(0.001)
    elsewhere[0] = replace(elsewhere[0], p=0.3)
    assert check(figures=elsewhere).agrees


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"word": "clean"}, "certified undecided, here clean"),
        ({"invariance": "z ⊥ site"}, "certified z ⊥ site | ill, here z ⊥ site"),
        ({"sentence": "undecided: but fine"}, "the verdict, sentence: certified"),
        ({"sentence": "undecided: 0.51 at n = 90, p = 0.2"}, "the verdict, sentence"),
        ({"needed": 401}, "the verdict, needed: certified 400, here 401"),
    ],
)
def test_words_written_over_are_found(changes, said):
    found = check(replace(FINDING, **changes))
    assert not found.agrees
    assert said in found.said


def test_words_may_not_change_with_a_figure_but_their_numbers_may():
    near = {"auroc": 0.581, "sentence": "undecided: 0.59 at n = 90, p = 0.18"}
    assert check(replace(FINDING, **near), moved(0.001)).agrees
    assert "Here: undecided: 0.59" in check(replace(FINDING, **near), moved(0.001)).said
    reworded = near | {"sentence": "undecided: 0.59 at n = 90, p = 0.18, and harmless"}
    assert not check(replace(FINDING, **reworded), moved(0.001)).agrees


@pytest.mark.parametrize(
    "figures",
    [FIGURES[:1], (*FIGURES, FIGURES[0]), (*FIGURES, replace(FIGURES[0], confounder="kvp"))],
)
def test_figures_left_out_doubled_or_put_in_are_found(figures):
    found = check(figures=figures)
    assert found.what == "what was attacked"
    assert not found.agrees


def test_a_line_names_only_what_differs():
    assert str(compared("graph", "a" * 64, "a" * 64)) == "agrees  graph: aaaaaaaaaaaaaaaa"
    assert compared("notes", ("a", "b"), ("b", "c")).said == "certified ['a'], here ['c']"
    assert compared("settings", {"seed": 0, "x": 1}, {"seed": 0, "x": 1}).said == "2 alike"


def test_a_verification_passes_only_if_every_line_agrees_and_names_those_that_do_not():
    good, bad = compared("map", "a", "a"), compared("cohort", "a", "b")
    passed = Verification((good,), identical=True, notes=("made with torch 1",))
    assert passed.passed
    assert str(passed).splitlines()[1:] == [
        "note    made with torch 1",
        "Verified: every figure comes out bit for bit.",
    ]
    assert "within tolerance" in str(Verification((good,), identical=False))
    failed = Verification((good, bad), identical=True)
    assert not failed.passed
    assert str(failed).endswith("Not verified: cohort.")
