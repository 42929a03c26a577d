"""Effects of known size, found; effects that cannot be known, refused; a wrong graph, caught."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import deconf
from deconf.causal.adjustment import adjustment
from deconf.causal.graph import CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, GraphError, NotIdentified, SettingsError
from deconf.hypotheses import verdict as words
from deconf.hypotheses.contrasts import adjusted
from deconf.hypotheses.reading import complete_rows, read_cause, read_outcome, with_node
from deconf.maths.sensitivity import regression
from tests.reference import effect_worlds as worlds


def ask(cohort, effect="score", graph=worlds.GRAPH, cause="portable", **settings):
    settings.setdefault("simulations", 1)
    return deconf.total_effect(cause, effect, cohort, graph=graph, **settings)


def estimate(cohort, effect="score", graph=worlds.GRAPH, cause="portable", not_through=(), **more):
    """The figures alone, identified by the graph, without what tests them."""
    drawn = CausalGraph.parse(graph)
    y = read_outcome(cohort, effect)
    drawn, _ = with_node(drawn, y)
    found = adjustment(drawn, cause, y.name, measured=cohort.table.columns, not_through=not_through)
    rows = complete_rows(cohort, read_cause(cohort.table, cause, **more), y, found.given)
    return found, adjusted(rows, found, trim=0.01, seed=0)


@pytest.fixture(scope="module", autouse=True)
def one_simulated_confounder():
    with pytest.MonkeyPatch.context() as patch:  # each costs a whole estimate
        patch.setattr("deconf.hypotheses.study.SIMULATED", (0.1,))
        yield


@pytest.fixture(scope="module")
def curved(one_simulated_confounder):
    cohort = worlds.curved(1000, 97)
    return cohort, ask(cohort, negative_outcomes=worlds.RIGHT_CONTROLS, within="patient")


def linear(cohort: Cohort) -> float:
    t = cohort.table
    held = t[["severity"]].to_numpy()
    return regression(t["score"].to_numpy(), t["portable"].to_numpy(float), held).coefficient


def naive(cohort: Cohort) -> float:
    t = cohort.table
    return t["score"][t["portable"] == 1].mean() - t["score"][t["portable"] == 0].mean()


def test_the_total_effect_is_found_where_naive_and_linear_are_wrong(curved):
    cohort, found = curved
    many = worlds.curved(20_000, 97)
    assert naive(many) == pytest.approx(0.95, abs=0.02)
    assert linear(many) == pytest.approx(0.61, abs=0.02)
    assert found.estimate.low <= worlds.TRUTH <= found.estimate.high
    assert abs(found.estimate.estimate - worlds.TRUTH) < abs(linear(cohort) - worlds.TRUTH)
    assert found.verdict == words.FOUND
    assert found.adjustment.given == ("severity",)


def test_every_design_is_in_the_table_and_the_estimate_first(curved):
    _, found = curved
    frame = found.to_frame()
    assert list(frame["is_estimate"]) == [True] + [False] * (len(frame) - 1)
    assert set(frame["design"]) == {
        "adjusted", "crude", "weighted", "overlap-weighted", "within patient"
    }  # fmt: skip
    crude = frame.set_index("design").loc["crude", "difference"]
    assert crude == pytest.approx(naive(curved[0]))
    within = frame.set_index("design").loc["within patient"]
    assert within["low"] <= worlds.TRUTH <= within["high"]  # severity is the patient's here


def test_the_paragraph_says_what_was_held_found_and_not_tested(curved):
    text = str(curved[1])
    assert text.startswith("IDENTIFIED AND FOUND")
    for said in (
        "Holding severity",
        "portable=1 rather than 0",
        "sd",
        "refuters passed",
        "rib_count",
    ):
        assert said in text
    assert "\n" not in text


def test_without_negative_controls_the_verdict_is_another_and_the_numbers_are_the_same(curved):
    cohort, found = curved
    state = np.random.get_state()[1].copy()  # noqa: NPY002  # dowhy draws from it
    untested = ask(cohort)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert found.verdict == words.FOUND
    assert untested.verdict == words.FOUND_UNTESTED
    assert untested.estimate == found.estimate
    refuters = found.refutations[found.refutations["kind"] == "refuter"]
    assert list(refuters["refuted"]) == list(untested.refutations["refuted"])


def test_the_sign_that_naive_regression_turns_round_is_right_here():
    cohort = worlds.flipped(1500, 97)
    one = estimate(cohort)[1].contrasts[0].difference
    assert naive(cohort) > 0.05
    assert one.low <= -0.3 <= one.high < 0


def test_total_and_direct_effects_are_told_apart():
    cohort = worlds.through_exposure(3000, 97)
    _, total = estimate(cohort, graph=worlds.WITH_EXPOSURE)
    found, direct = estimate(cohort, graph=worlds.WITH_EXPOSURE, not_through=("exposure",))
    all_of_it, part = total.contrasts[0].difference, direct.contrasts[0].difference
    assert all_of_it.low <= worlds.DIRECT + worlds.THROUGH_EXPOSURE <= all_of_it.high
    assert part.low <= worlds.DIRECT <= part.high < all_of_it.estimate
    assert set(found.given) == {"exposure", "severity"}


def test_direct_effect_holds_the_mediator_and_says_so():
    found = deconf.direct_effect(
        "portable", "score", worlds.through_exposure(500, 97), graph=worlds.WITH_EXPOSURE,
        not_through="exposure", simulations=1,
    )  # fmt: skip
    assert found.adjustment.kind == "direct"
    assert "Holding exposure and severity" in str(found)
    assert "no unmeasured cause is shared by exposure and score" in str(found)


def test_a_risk_difference_and_a_risk_ratio_are_found():
    cohort, difference, ratio = worlds.binary(4000, 97)
    graph = "severity -> portable; severity -> ill; portable -> ill"
    one = estimate(cohort, "ill", graph)[1].contrasts[0]
    assert one.difference.low <= difference <= one.difference.high
    assert one.ratio.low <= ratio <= one.ratio.high


def test_the_front_door_finds_what_no_adjustment_can():
    cohort = worlds.front(4000, 97)
    found, front = estimate(cohort, graph="portable <-> score; portable -> trace -> score")
    one = front.contrasts[0].difference
    assert found.kind == "front door"
    assert one.low <= 0.6 <= one.high
    assert naive(cohort) > 1.2


def test_where_severity_is_unmeasured_nothing_is_estimated():
    cohort = worlds.curved(200, 97)
    without = Cohort.read(cohort.table.drop(columns="severity"), patient="patient")
    with pytest.raises(NotIdentified, match=r"severity is not in the table.*record severity"):
        ask(without)


def test_where_severity_is_unmeasured_the_same_patients_answer_instead():
    cohort = worlds.curved(500, 97)
    without = Cohort.read(cohort.table.drop(columns="severity"), patient="patient")
    found = ask(without, within="patient", negative_outcomes=worlds.RIGHT_CONTROLS)
    assert found.design == "within patient"
    assert found.status == "identified if"
    assert found.estimate.low <= worlds.TRUTH <= found.estimate.high
    assert any("not identified" in said for said in found.warnings)


def test_patients_seen_once_say_nothing_and_are_said_to():
    table = worlds.curved(200, 97).table
    alone = Cohort.read(table.assign(patient=range(len(table))), patient="patient")
    said = str(ask(alone, within="patient"))
    assert "within patient nothing, for no patient was seen at both levels" in said
    assert "nan" not in said
    hidden = Cohort.read(alone.table.drop(columns="severity"), patient="patient")
    with pytest.raises(NotIdentified, match=r"no patient has films at 1 and 0, and the effect of"):
        ask(hidden, within="patient")


def paired_films(patients=400, seed=97, *, reverse=False):
    """Two films a patient; ill makes portable (``reverse``), or frailty makes both."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), 2)
    frail = np.repeat(rng.standard_normal(patients), 2)
    ill = (rng.random(2 * patients) < 1 / (1 + np.exp(-frail))).astype(int)
    cause = ill if reverse else frail
    portable = (rng.random(2 * patients) < 1 / (1 + np.exp(1 - 2 * cause))).astype(int)
    table = pd.DataFrame({"patient": who, "portable": portable, "ill": ill, "born": frail > 0})
    return Cohort.read(table, patient="patient")


@pytest.mark.parametrize(
    "graph", ["ill -> portable", "portable -> included; ill -> included; [included]"]
)
def test_the_same_patients_do_not_answer_for_reverse_causes_and_selection(graph):
    with pytest.raises((NotIdentified, GraphError)) as refusal:
        ask(paired_films(reverse=True), "ill", graph, within="patient")
    assert "within=" not in str(refusal.value)


def test_a_control_that_cannot_vary_or_shares_nothing_leaves_the_graph_untested():
    cohort = paired_films()
    hidden = "frailty -> portable; frailty -> ill; portable -> ill"
    steady = ask(cohort, "ill", hidden, within="patient", negative_outcomes=["born"])
    assert set(steady.refutations["result"][steady.refutations["kind"] == "negative control"]) == {
        "uninformative"
    }
    assert "too constant, to contradict anything" in str(steady)
    curved = worlds.curved(300, 97)
    noise = np.random.default_rng(0).standard_normal(len(curved.table))
    more = Cohort.read(curved.table.assign(noise=noise), patient="patient")
    alone = ask(more, graph="portable -> score; u -> noise", negative_outcomes=["noise"])
    assert alone.verdict == words.FOUND_UNTESTED
    assert "no negative control could have contradicted the graph" in alone.reason
    for named, error, said in (
        ({"negative_outcomes": ["portable"]}, GraphError, "'portable' is the cause itself"),
        ({"negative_exposures": ["score"]}, GraphError, "'score' is the effect itself"),
        ({"negative_outcomes": ["severity"]}, SettingsError, "'severity' is held and cannot"),
    ):
        with pytest.raises(error, match=said):
            ask(more, **named)


def test_an_effect_that_the_graph_does_not_draw_contradicts_it():
    found = ask(worlds.curved(500, 98), graph="severity -> portable; severity -> score")
    assert found.verdict == words.ASSOCIATION
    assert "the graph draws no effect, and the data show one" in found.reason


def test_the_unit_of_a_cause_changes_neither_verdict_nor_e_value():
    rng = np.random.default_rng(97)
    dose = rng.standard_normal(400)
    table = pd.DataFrame({"dose": dose, "score": 0.5 * dose + rng.standard_normal(400)})
    found = [
        ask(Cohort.read(table.assign(dose=k * dose)), graph="dose -> score", cause="dose")
        for k in (0.01, 1000)
    ]
    assert {f.verdict for f in found} == {words.FOUND_UNTESTED}
    e = [f.sensitivity.set_index("measure").loc["E-value", "value"] for f in found]
    assert e[0] == pytest.approx(e[1])
    assert found[0].per_sd.estimate == pytest.approx(found[1].per_sd.estimate)
    assert found[0].estimate.estimate == pytest.approx(1e5 * found[1].estimate.estimate)
    assert "one sd of dose by 0.4" in " ".join(str(found[0]).split())


@pytest.mark.parametrize("slope", [1.0, 3.0])
def test_a_mediator_that_gives_the_cause_away_opens_no_front_door(slope):
    rng = np.random.default_rng(97)
    u = rng.standard_normal(500)
    a = (u + rng.standard_normal(500) > 0).astype(int)
    m = slope * a + (0.0 if slope == 1 else 0.5) * rng.standard_normal(500)
    table = pd.DataFrame({"a": a, "m": m, "y": m + u})
    with pytest.raises(NotIdentified, match="front door: m nearly decides 'a'"):
        ask(Cohort.read(table), "y", "U -> a; U -> y; a -> m -> y", cause="a")


def test_sensitivity_of_three_levels_is_that_of_the_two_compared():
    rng = np.random.default_rng(97)
    s = rng.standard_normal(900)
    site = np.where(s + rng.standard_normal(900) > 0.5, "b", "a")
    site = np.where(rng.random(900) < 0.15, "c", site)
    y = -3.0 * (site == "b") - 6.0 * (site == "c") + s + rng.standard_normal(900)
    table = pd.DataFrame({"site": site, "s": s, "y": y})
    cohort = Cohort.read(table)
    graph = "s -> site; s -> y; site -> y"
    found = ask(cohort, "y", graph, cause="site", reference="a")
    left = found.sensitivity.set_index("measure")["value"]
    assert found.level == "b"
    assert found.estimate.estimate < left["1 x s"] < 0  # towards nothing, as it was made
    two = ask(Cohort.read(table[table["site"] != "c"]), "y", graph, cause="site", reference="a")
    assert left["1 x s"] == pytest.approx(two.sensitivity.set_index("measure")["value"]["1 x s"])


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"given": ["severity", "score"]}, GraphError, "'score' is the effect that is asked"),
        ({"given": ["portable"]}, GraphError, "'portable' is the cause that is asked"),
        ({"given": ["name"]}, CohortError, "different texts in 120 rows: held, it leaves"),
        ({"margin": -1}, SettingsError, "margin is -1: expected standard deviations above 0"),
        ({"trim": -1}, SettingsError, "trim is -1"),
        ({"simulations": 0}, SettingsError, "simulations is 0"),
    ],
)
def test_settings_that_cannot_be_meant(change, error, said):
    table = worlds.curved(60, 97).table
    table = table.assign(name=[f"film {i}" for i in range(len(table))])
    with pytest.raises(error, match=said):
        ask(Cohort.read(table, patient="patient"), **change)


def test_an_infinite_covariate_is_a_missing_one():
    table = worlds.curved(60, 97).table
    table.loc[3, "severity"] = np.inf
    found, contrasts = estimate(Cohort.read(table, patient="patient"))
    assert found.given == ("severity",)
    assert contrasts.contrasts[0].rows == len(table) - 1


def test_a_planted_wrong_graph_fails_its_negative_control():
    """Severity is left out of the graph: dowhy's four refuters pass, the control does not."""
    cohort = worlds.curved(800, 97)
    graph = "portable -> score; effusion"
    found = ask(cohort, graph=graph, negative_outcomes={"effusion": "confounding"})
    control = found.refutations.set_index("refuter").loc["portable -> effusion"]
    assert control["result"] == "failed"
    assert found.verdict == words.ASSOCIATION
    right = ask(cohort, graph=worlds.GRAPH + "; severity -> effusion",
                negative_outcomes={"effusion": "confounding"})  # fmt: skip
    assert right.verdict == words.FOUND


def test_a_planted_wrong_graph_whose_sets_disagree_is_refuted():
    """The graph claims that either column would do; one of them is noise."""
    cohort = worlds.curved(800, 97)
    wrong = "severity -> rib_count -> portable; severity -> score; portable -> score"
    found = ask(cohort, graph=wrong)
    assert found.verdict == words.REFUTED
    assert "instead" in found.reason


def test_labels_read_from_the_image_make_an_association_given_labels():
    cohort = worlds.curved(300, 97)
    graph = "severity -> portable; severity -> image; portable -> image; image -> effusion"
    found = deconf.total_effect(
        "portable", "score", cohort, graph=graph, given=["effusion"], simulations=1
    )
    assert found.verdict == words.GIVEN_LABELS
    assert found.status == "not identified"


def test_a_categorical_cause_is_compared_level_by_level():
    rng = np.random.default_rng(0)
    n = 1500
    age = rng.normal(60, 10, n)
    vendor = np.where(age + 10 * rng.normal(size=n) > 62, "B", rng.choice(["A", "C"], n))
    score = (vendor == "B") * 0.5 - (vendor == "C") * 0.4 + 0.03 * age + 0.5 * rng.normal(size=n)
    cohort = Cohort.read(pd.DataFrame({"age": age, "vendor": vendor, "score": score}))
    graph = "age -> vendor; age -> score; vendor -> score"
    _, found = estimate(cohort, graph=graph, cause="vendor", reference="A")
    levels = {c.level: c.difference for c in found.contrasts}
    assert set(levels) == {"B", "C"}
    for level, truth in (("B", 0.5), ("C", -0.4)):
        assert levels[level].low <= truth <= levels[level].high


def test_a_cause_that_is_a_number_has_a_slope():
    rng = np.random.default_rng(0)
    age = rng.normal(60, 10, 1200)
    kvp = 80 + 0.4 * age + 5 * rng.normal(size=1200)
    score = 0.02 * kvp + np.sin(age / 10) + 0.3 * rng.normal(size=1200)
    cohort = Cohort.read(pd.DataFrame({"age": age, "kvp": kvp, "score": score}))
    graph = "age -> kvp; age -> score; kvp -> score"
    one = estimate(cohort, graph=graph, cause="kvp")[1].contrasts[0]
    assert one.level == "per unit"
    assert one.difference.low <= 0.02 <= one.difference.high


def test_a_cause_that_is_a_number_goes_through_every_test_of_it():
    rng = np.random.default_rng(1)
    kvp = rng.normal(90, 8, 200)
    cohort = Cohort.read(pd.DataFrame({"kvp": kvp, "score": 0.02 * kvp + rng.normal(size=200)}))
    found = deconf.total_effect("kvp", "score", cohort, graph="kvp -> score", simulations=1)
    assert set(found.refutations["refuter"]) >= {"placebo cause", "data subset"}
    assert "one unit of kvp" in str(found)


def test_a_direction_of_the_embedding_and_a_head_score_are_effects():
    world = deconf.worlds.linear(n=800, d=24, seed=97)
    cohort = world.train().cohort
    stationary, mobile = world.train().do_portable
    shift = (mobile - stationary).mean(axis=0)
    along = estimate(cohort, shift, world.graph)[1].contrasts[0].difference
    size = np.linalg.norm(shift)  # what do(portable=1) does along itself: known exactly
    assert along.low <= size <= along.high
    head = estimate(cohort, "head score", world.graph)[1].contrasts[0].difference
    assert head.low > 0
    with pytest.raises(CohortError, match="24 entries"):
        read_outcome(cohort, np.ones(3))


def small() -> pd.DataFrame:
    return worlds.curved(100, 97).table


@pytest.mark.parametrize(
    ("change", "settings", "error", "match"),
    [
        ({}, {"graph": "severity -> portabel; severity -> score"}, GraphError, "portable"),
        ({"portable": 1}, {}, CohortError, "one level only"),
        ({"score": 0.5}, {}, CohortError, "constant"),
        ({}, {"effect": "scoer"}, CohortError, "Did you mean 'score'"),
        ({}, {"effect": "effusion"}, GraphError, "no node 'effusion'"),
        ({}, {"graph": None}, GraphError, "given="),
        ({}, {"reference": 7}, CohortError, "no level 7"),
        ({}, {"negative_outcomes": {"effusion": "sickness"}}, SettingsError, "detection"),
        ({}, {"negative_outcomes": ["score"]}, GraphError, "no negative control"),
        ({}, {"within": "patien"}, CohortError, "Did you mean 'patient'"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_the_word_and_the_remedy(change, settings, error, match):
    cohort = Cohort.read(small().assign(**change), patient="patient")
    with pytest.raises(error, match=match):
        ask(cohort, **settings)


def test_twenty_rows_are_too_few():
    with pytest.raises(CohortError, match=r"20 complete rows of 10 patients.*at least 40"):
        ask(Cohort.read(small().head(20), patient="patient"))


def test_separation_in_the_propensity_names_the_strata():
    table = small()
    table["severity"] = np.random.default_rng(0).integers(0, 4, len(table))
    table["portable"] = (table["severity"] > 1).astype(int)
    with pytest.raises(NotIdentified, match=r"no portable=\d films with severity="):
        ask(Cohort.read(table))


def test_rows_without_overlap_are_left_out_and_counted():
    rng = np.random.default_rng(0)
    severity = rng.integers(0, 10, 3000).astype(float) + rng.random(3000) * 0.01
    portable = np.where(severity > 7, 1, rng.integers(0, 2, 3000))
    score = 0.5 * portable + 0.1 * severity + rng.normal(size=3000)
    table = pd.DataFrame({"severity": severity, "portable": portable, "score": score})
    _, found = estimate(Cohort.read(table))
    assert 0.19 < found.trimmed < 0.35  # a fifth has one level only; the fit is smooth
    one = found.contrasts[0]
    assert "left out for want of overlap" in one.note
    assert one.difference.low <= 0.5 <= one.difference.high


def test_missing_values_are_left_out_and_counted():
    table = small()
    table.loc[:9, "severity"] = np.nan
    cohort = Cohort.read(table, patient="patient")
    y = read_outcome(cohort, "score")
    rows = complete_rows(cohort, read_cause(table, "portable"), y, ["severity"])
    assert rows.dropped == 10
    assert len(rows.table) == len(table) - 10


def test_an_effect_leaves_the_printing_of_a_session_alone():
    script = (
        "import sys; hook = sys.displayhook\n"
        "from tests.reference.effect_worlds import GRAPH, curved\n"
        "import deconf\n"
        "deconf.total_effect('portable', 'score', curved(60, 0), graph=GRAPH, simulations=1)\n"
        "assert sys.displayhook is hook and 'dowhy' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
