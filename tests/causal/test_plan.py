"""What a plan promises, what it warns of, and what it refuses."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deconf.causal.graph import CausalGraph
from deconf.causal.overlap import empty_cells, supported
from deconf.causal.plan import make_plan
from deconf.causal.refutation import independence_p
from deconf.errors import CohortError, DeconfError, GraphError

SEVERITY = "severity -> ill -> image; severity -> portable -> image"
DATA = os.environ.get("DECONF_DATA")


def cohort(n=2000, *, link=0.6, seed=0):
    """Severity (0 to 2) drives portable and, with strength ``link``, illness; two films each."""
    rng = np.random.default_rng(seed)
    severity = rng.integers(0, 3, n)
    return pd.DataFrame(
        {
            "patient": np.arange(n) // 2,
            "severity": severity,
            "portable": (rng.random(n) < 0.2 + 0.3 * severity).astype(int),
            "ill": (rng.random(n) < 0.5 + link * (severity - 1) / 2).astype(int),
            "site": rng.choice(list("ABC"), n),
            "age": rng.normal(60, 12, n),
        }
    )


def said(plan, where="warnings"):
    return " | ".join(getattr(plan, where))


def test_a_plain_case_is_identified_by_graph_and_data():
    plan = make_plan(cohort(), "portable", outcome="ill", graph=SEVERITY, patient="patient")
    assert (plan.status, plan.is_identified) == ("identified", True)
    assert supported(plan.overlap)
    assert str(plan).startswith("Identified: under the graph")
    assert list(plan.invariances) == ["portable"]
    assert (plan.rows, plan.patients, plan.unlabelled) == (2000, 1000, 0)


def test_a_joint_invariance_appears_under_each_name_and_once_among_the_distinct():
    plan = make_plan(cohort(), ["portable", "site"], outcome="ill")
    assert plan.invariances["portable"] is plan.invariances["site"]
    assert [str(i) for i in plan.distinct()] == ["z ⊥ portable, site | ill"]


def test_confounders_without_a_common_set_are_planned_apart():
    graph = "site -> severity -> portable; severity <-> image; site -> image; portable -> image"
    plan = make_plan(cohort(), ["site", "portable"], graph=graph)
    assert [str(i) for i in plan.distinct()] == ["z ⊥ site", "z ⊥ portable | severity"]
    assert set(plan.overlap["invariance"]) == {"z ⊥ site", "z ⊥ portable | severity"}
    assert plan.is_identified


def test_the_default_graph_holds_the_outcomes_and_says_that_it_was_not_drawn():
    plan = make_plan(cohort(), "portable", outcome=["ill", "severity"])
    assert plan.invariances["portable"].given == ("ill", "severity")
    assert plan.graph == CausalGraph.parse(
        "ill -> image <- severity; portable -> image; ill <-> portable; severity <-> portable"
    )
    assert plan.status == "identified if"
    assert "no graph was given" in said(plan, "assumptions")
    assert plan.is_identified


def test_without_outcome_or_graph_the_first_line_says_that_disease_will_be_erased():
    plan = make_plan(cohort(), "portable")
    assert plan.invariances["portable"].given == ()
    first = str(plan).split("\n\n")[0].replace("\n ", "")
    assert "disease correlated with portable will be erased" in first
    assert plan.status == "identified if"


def test_an_open_path_makes_the_plan_refuse_in_words_and_never_raise():
    graph = SEVERITY + "; severity -> image"
    plan = make_plan(
        cohort().drop(columns="severity"), "portable", outcome="ill", graph=graph, patient="patient"
    )
    assert (plan.status, plan.is_identified) == ("not identified", False)
    text = str(plan)
    assert text.startswith("NOT IDENTIFIED")
    for words in ("portable <- severity -> image", "record severity", "paired films", "given="):
        assert words in text
    assert "Not claimed" not in text


def test_a_column_without_a_recorded_value_counts_as_unmeasured():
    graph = SEVERITY + "; severity -> image"
    plan = make_plan(cohort().assign(severity=np.nan), "portable", outcome="ill", graph=graph)
    assert plan.status == "not identified"


def test_the_set_with_the_better_overlap_is_chosen():
    table = cohort()
    assert make_plan(table, "portable", outcome="ill", graph=SEVERITY).distinct()[0].given == (
        "ill",
    )
    # Now every portable film is of an ill patient, while severity still overlaps.
    table = table[(table["portable"] == 0) | (table["ill"] == 1)]
    plan = make_plan(table, "portable", outcome="ill", graph=SEVERITY)
    assert plan.distinct()[0].given == ("severity",)
    assert plan.distinct()[0].valid_sets == (("severity",), ("ill",))
    assert "The graph also allows z ⊥ portable | ill" in said(plan, "alternatives")
    assert plan.is_identified


def test_empty_cells_are_named_and_take_the_identification_away():
    table = cohort()
    lone = (table["portable"] == 1) & (table["ill"] == 0)
    table = table.drop(table[lone].index[7:])
    plan = make_plan(table, "portable", outcome="ill")
    assert not plan.is_identified
    assert plan.status == "identified if"
    assert empty_cells(plan.overlap) == ["7 portable=1 films with ill=0"]
    assert "7 portable=1 films with ill=0" in said(plan)
    assert "homogeneity" in said(plan)
    assert "alike in every stratum" in said(plan, "assumptions")
    assert str(plan).startswith("Identified if the trace is alike in every stratum: 1 cell is")


def test_a_confounder_fixed_by_what_is_held_is_said_aloud():
    table = pd.DataFrame({"c": [0, 1, 1] * 100, "s": [0, 1, 2] * 100})
    plan = make_plan(table, "c", given="s")
    assert (plan.status, plan.is_identified) == ("not identified", False)
    assert "NOTHING CAN SEPARATE c from s" in said(plan)
    assert str(plan).startswith("NOT IDENTIFIED by these data")


def test_sites_with_one_value_of_the_outcome_are_named():
    table = pd.DataFrame({"site": list("AABBC") * 60, "ill": [0, 1, 0, 1, 1] * 60})
    plan = make_plan(table, "site", outcome="ill")
    assert "every site=C film has ill=1" in said(plan)
    every = pd.DataFrame({"site": list("ABC") * 60, "ill": [0, 1, 1] * 60})
    assert "EACH LEVEL OF site HAS ONE VALUE OF ill ONLY" in said(
        make_plan(every, "site", outcome="ill")
    )
    fine = pd.DataFrame({"site": list("AABB") * 60, "ill": [0, 1, 0, 1] * 60})
    assert "film has" not in said(make_plan(fine, "site", outcome="ill"))


def test_your_own_set_replaces_the_graphs_and_is_called_yours():
    plan = make_plan(cohort(), "portable", outcome="ill", graph=SEVERITY, given="severity")
    assert plan.invariances["portable"].given == ("severity",)
    assert plan.status == "identified if"
    assert "severity is your assumption" in said(plan, "assumptions")
    assert "the graph agrees" in plan.invariances["portable"].why
    assert "ill is not in given=" in said(plan)


def test_your_own_set_is_told_what_the_graph_leaves_open():
    graph = SEVERITY + "; severity -> image"
    plan = make_plan(cohort(), "portable", outcome="ill", graph=graph, given="ill")
    assert "leaves portable <- severity -> image open" in plan.invariances["portable"].why
    assert plan.is_identified  # your assumption, so: identified if
    assert plan.status == "identified if"


def test_an_empty_set_of_your_own_is_not_the_same_as_none():
    assert make_plan(cohort(), "portable", outcome="ill", given=()).distinct()[0].given == ()
    assert make_plan(cohort(), "portable", outcome="ill").distinct()[0].given == ("ill",)


def test_data_that_contradict_an_empty_set_are_quoted_with_p():
    graph = "portable -> image; ill -> image"
    linked = make_plan(cohort(link=0.9), "portable", outcome="ill", graph=graph, patient="patient")
    assert linked.distinct()[0].given == ()
    assert "the data contradict the graph: it says portable and ill are independent" in said(linked)
    assert "p = " in said(linked)
    unlinked = make_plan(cohort(link=0), "portable", outcome="ill", graph=graph, patient="patient")
    assert "contradict" not in said(unlinked)


def test_the_contradiction_test_counts_patients_not_films():
    counts = {(1, 1): 18, (1, 0): 12, (0, 1): 12, (0, 0): 18}
    rows = [pair for pair, n in counts.items() for _ in range(n)]
    people = pd.DataFrame(rows, columns=["c", "y"]).assign(p=range(60))
    films = people.loc[np.repeat(people.index, 40)]
    graph = "c -> image; y -> image"
    one = make_plan(films, "c", outcome="y", graph=graph, patient="p")
    assert "contradict" not in said(one)
    assert "contradict" in said(make_plan(films, "c", outcome="y", graph=graph))  # 2,400 "patients"


def test_more_pairs_tested_ask_for_more_evidence():
    counts = {(1, 1): 58, (1, 0): 42, (0, 1): 42, (0, 0): 58}
    rows = [pair for pair, n in counts.items() for _ in range(n)]
    table = pd.DataFrame(rows, columns=["c", "y"])
    table["other"] = np.arange(200) % 2  # independent of c by construction
    assert 0.025 < independence_p(table, "c", "y") < 0.05
    graph = "c -> image; y -> image; other -> image"
    assert "contradict" in said(make_plan(table, "c", outcome="y", graph=graph))
    both = make_plan(table, "c", outcome=["y", "other"], graph=graph)
    assert "contradict" not in said(both)


def test_the_level_of_the_contradiction_test_is_nominal():
    graph = "portable -> image; ill -> image; age -> image"
    outcomes = ["ill", "age"]
    loud = 0
    for seed in range(80):
        table = cohort(200, link=0, seed=seed)
        loud += "contradict" in said(make_plan(table, "portable", outcome=outcomes, graph=graph))
    assert loud <= 10  # 80 x 5 % = 4, and three standard deviations


def test_a_mediator_is_asked_about():
    plan = make_plan(
        cohort(), "portable", graph="portable -> age -> image; portable -> image", outcome=()
    )
    assert (
        "age lies on a path from portable to the image: is it acquisition or the patient?"
        in said(plan)
    )
    marked = make_plan(cohort(), "portable", graph="portable -> age! -> image; portable -> image")
    assert "lies on a path" not in said(marked)


def test_nothing_to_remove_is_said_and_nothing_is_counted():
    plan = make_plan(cohort(), "portable", outcome="ill", graph="ill -> image; ill -> portable")
    assert plan.is_identified
    assert len(plan.overlap) == 0
    assert "nothing to remove" in str(plan).splitlines()[0]
    assert "come back unchanged" in str(plan)


def test_gaps_are_counted_and_said():
    table = cohort()
    table["ill"] = table["ill"].astype(float)
    table.loc[:399, "ill"] = np.nan
    table["portable"] = table["portable"].astype(float)
    table.loc[500:899, "portable"] = np.nan
    plan = make_plan(table, "portable", outcome="ill")
    assert plan.unlabelled == 400
    assert "portable is missing in 400 of 2,000 rows (20 %)" in said(plan)
    assert "ill is missing in 400 of 2,000 rows" in said(plan)
    assert "missing" not in said(make_plan(cohort(), "portable", outcome="ill"))


def test_a_small_effective_sample_is_said_with_its_number():
    counts = {(1, 1): 12, (0, 1): 990, (1, 0): 990, (0, 0): 12}
    rows = [pair for pair, n in counts.items() for _ in range(n)]
    table = pd.DataFrame(rows, columns=["c", "y"])
    # w = 1/2 / e: two cells of 990 at 0.506, two of 12 at 41.75.
    ess = 2004**2 / (2 * 990 * (1002 / 1980) ** 2 + 2 * 12 * (1002 / 24) ** 2)
    assert f"effective sample of {ess:,.0f} of 2,004 rows" in said(
        make_plan(table, "c", outcome="y")
    )


def test_thin_cells_say_how_many_patients_were_wanted():
    plan = make_plan(cohort(600), "portable", outcome="ill", width=1280)
    assert "of the 640 patients wanted" in said(plan)
    assert plan.is_identified


def test_site_codes_read_as_a_number_are_questioned():
    table = cohort().assign(site_id=np.arange(2000) % 40, weeks=np.arange(2000) % 40)
    plan = make_plan(table, ["site_id", "weeks"], outcome="ill")
    assert "'site_id' holds 40 different whole numbers and is read as a number" in said(plan)
    assert "'weeks'" not in said(plan)
    assert {"site_id: a number", "ill: 2 categories"} <= set(plan.reading)
    as_text = table.assign(site_id=table["site_id"].astype(str))
    assert "is read as a number" not in said(make_plan(as_text, "site_id", outcome="ill"))


def test_an_identifier_among_the_confounders_is_questioned():
    table = cohort().assign(name=[f"n{i // 3}" for i in range(2000)])
    assert "'name' has 667 different values in 2,000 rows: is it an identifier" in said(
        make_plan(table, "name", outcome="ill")
    )


def test_an_outcome_with_one_value_is_remarked_on():
    plan = make_plan(cohort().assign(ill=1), "portable", outcome="ill")
    assert "ill has one recorded value only" in said(plan)


def test_the_other_stories_are_told_with_their_own_answers():
    told = said(make_plan(cohort(), "portable", outcome="ill"), "alternatives")
    assert "(anticausal): z ⊥ portable | ill, as here" in told
    assert "ill is read from the image and habit links it to portable: z ⊥ portable." in told
    assert "selected on portable and ill: z ⊥ portable | ill, as here" in told
    assert "and the cohort selected on ill: not identified" in told
    assert "With no outcome to keep: z ⊥ portable" in told


def test_the_method_is_named_whether_word_or_settings():
    class Settings:
        registered_name = "leace"

    assert make_plan(cohort(), "portable", outcome="ill", method=Settings()).method == "leace"
    assert "'leace' is fitted within strata of ill" in str(
        make_plan(cohort(), "portable", outcome="ill", method="leace")
    )
    assert "auto" in str(make_plan(cohort(), "portable", outcome="ill"))


def test_a_clinician_can_read_it_on_one_page():
    for plan in (
        make_plan(cohort(), "portable", outcome="ill", patient="patient"),
        make_plan(cohort(), ["portable", "site", "age"], outcome="ill", graph=None, width=1280),
    ):
        lines = str(plan).splitlines()
        assert 15 <= len(lines) <= 45
        assert max(map(len, lines)) <= 96


def test_a_plan_survives_copying_and_pickling():
    plan = make_plan(cohort(), ["portable", "site"], outcome="ill")
    for again in (copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert str(again) == str(plan)
        assert len(again.distinct()) == 1


def test_the_table_is_left_as_it_was():
    table = cohort()
    before = table.copy(deep=True)
    make_plan(table, ["portable", "age"], outcome="ill", graph=None, patient="patient")
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (
            {"confounders": "protable"},
            CohortError,
            r"'protable'.*Did you mean 'portable'.*Columns:",
        ),
        ({"confounders": "portable", "outcome": "il"}, CohortError, r"'il' \(named as outcome\)"),
        ({"confounders": "portable", "given": "sevrity"}, CohortError, "Did you mean 'severity'"),
        ({"confounders": "portable", "patient": "pat"}, CohortError, r"'pat' \(named as patient\)"),
        ({"confounders": []}, CohortError, "no confounder was named"),
        ({"confounders": "empty"}, CohortError, "'empty' has no recorded value in 2,000 rows"),
        (
            {"confounders": "portable", "outcome": "empty"},
            CohortError,
            "outcome 'empty' has no rec",
        ),
        (
            {"confounders": "constant"},
            CohortError,
            "'constant' has one level only, 'A', in all 2,000",
        ),
        ({"confounders": "ill", "outcome": "ill"}, CohortError, "'ill' is both confounder and out"),
        ({"confounders": "ill", "given": "ill"}, CohortError, "'ill' is both confounder and given"),
        (
            {"confounders": "twin", "outcome": "ill"},
            CohortError,
            "'twin' .* 'ill'.*nothing can sep",
        ),
        ({"confounders": "age", "outcome": "age_copy"}, CohortError, "say the same thing"),
        ({"confounders": "image"}, CohortError, "'image' stands for the pixels"),
        ({"confounders": "site", "graph": SEVERITY}, GraphError, "no node 'site'"),
        ({"confounders": "portable", "graph": "portabel -> image"}, GraphError, "mean 'portabel'"),
        (
            {"confounders": "portable", "outcome": "site", "graph": SEVERITY},
            GraphError,
            "no node 'site'",
        ),
        ({"confounders": "portable", "graph": "portable -> "}, GraphError, "cannot be read"),
        ({"confounders": "portable", "graph": 7}, GraphError, "text or a CausalGraph, not int"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(arguments, kind, words):
    table = cohort()
    table = table.assign(
        empty=np.nan,
        constant="A",
        twin=table["ill"].map({0: "well", 1: "sick"}),
        age_copy=table["age"],
    )
    with pytest.raises(kind, match=words) as caught:
        make_plan(table, **arguments)
    assert isinstance(caught.value, DeconfError)


@pytest.mark.skipif(not DATA, reason="DECONF_DATA does not name the folder of real data")
def test_the_covid_only_hospital_is_called_by_name():
    table = pd.read_csv(Path(str(DATA)) / "cxr_sites" / "metadata.csv")
    plan = make_plan(table, "site", outcome="disease", patient="patient_id", width=1280)
    assert not plan.is_identified
    assert "every site=hannover film has disease=1" in said(plan)
    assert "no site=hannover films with disease=0" in empty_cells(plan.overlap)
    with pytest.raises(CohortError, match="'portable' has no recorded value"):
        make_plan(table, "portable", outcome="disease")
