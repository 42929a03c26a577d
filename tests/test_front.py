from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from torch import nn

import deconf
from deconf.errors import (
    CohortError,
    GraphError,
    NotIdentified,
    OverlapWarning,
    SettingsError,
)
from deconf.methods import IRM, LEACE, Aligned, Method
from deconf.worlds import linear
from tests.strategies import gap

FULL = LEACE(rank="full", shrinkage=0.0, strata="stacked")


def films(n=600, **settings):
    return linear(n=n, d=24, **settings).train().cohort


def table(n=400, seed=0, follows=0.2):
    """Return films of n patients: disease, confounders of which two follow it, an embedding."""
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    portable = (rng.random(n) < 0.5 + follows * (2 * ill - 1)).astype(int)
    site = rng.choice(["north", "south", "west"], size=n)
    kvp = np.round(96 + 8 * ill + 10 * rng.normal(size=n), 1)
    frame = pd.DataFrame(
        {"patient_id": np.arange(n), "portable": portable, "site": site, "kVp": kvp, "ill": ill}
    )
    z = rng.normal(size=(n, 24))
    z[:, 0] += 2 * ill
    z[:, 1] += 2 * portable
    z[:, 2] += 2.0 * (site == "west")
    z[:, 3] += (kvp - 100) / 10
    return z, frame


def cohort(z=None, frame=None, outcome="ill", **roles):
    own_z, own = table()
    return deconf.Cohort.from_arrays(
        own_z if z is None else z,
        own if frame is None else frame,
        patient="patient_id",
        outcome=outcome,
        **roles,
    )


def within(z, c, given=None) -> float:
    """Return the largest correlation of a column of z with c inside a stratum."""
    given = np.zeros(len(z)) if given is None else np.asarray(given)
    c = np.asarray(c, dtype=float)
    worst = 0.0
    for s in np.unique(given):
        rows = given == s
        a, b = z[rows] - z[rows].mean(0), c[rows] - c[rows].mean()
        worst = max(worst, np.abs(a.T @ b / np.sqrt((a**2).sum(0) * (b**2).sum() + 1e-30)).max())
    return float(worst)


# ---------------------------------------------------------------- the plan


def test_a_plan_fits_nothing_and_looks_at_no_image():
    class Untouched(nn.Module):
        def forward(self, x):
            raise AssertionError("a plan embedded an image")

    class Unfitted(Method):
        registered_name = "unfitted"

        def fit(self, *args, **kwargs):
            raise AssertionError("a plan fitted a method")

    images = cohort(np.zeros((400, 1, 4, 4)))
    plan = deconf.deconfound(Untouched(), ["portable"], method=Unfitted()).plan(images)
    assert plan.method == "unfitted"
    assert [str(i) for i in plan.distinct()] == ["z ⊥ portable | ill"]


def test_the_plan_says_what_is_demanded_assumed_and_what_other_stories_would_ask():
    plan = deconf.deconfound("stored", ["portable"]).plan(cohort())
    text = str(plan)
    assert plan.is_identified
    assert set(plan.invariances) == {"portable"}
    assert plan.method == "auto"
    assert {"ok", "thin"} >= set(plan.overlap["status"])
    for said in (*plan.assumptions, *plan.warnings, *plan.alternatives):
        assert isinstance(said, str)
        assert said.split()[0] in text
    assert any("read from the image" in story for story in plan.alternatives)
    assert "z ⊥ portable | ill" in text


def test_the_graph_decides_what_is_held():
    def held(graph):
        plan = deconf.deconfound("stored", "portable", graph=graph).plan(films())
        return plan.invariances["portable"].given

    seen = "severity -> portable -> image; severity -> pneumonia -> image; severity -> image"
    by_chance = "portable -> image; pneumonia -> image"
    read_from = "portable -> image -> pneumonia; portable <-> pneumonia"
    assert held(seen) == ("severity",)
    assert held(by_chance) == ()
    assert held(read_from) == ()
    assert held(deconf.CausalGraph.parse(seen)) == ("severity",)
    assert held(None) == ("pneumonia",)


def test_without_outcome_and_graph_the_first_line_warns_that_disease_will_be_erased():
    cleaner = deconf.deconfound("stored", ["portable"], method="leace")
    without = cohort(outcome=None)
    first = " ".join(str(cleaner.plan(without)).split("\n\n")[0].split())
    assert "no outcome" in first
    assert "disease correlated with portable will be erased" in first
    assert cleaner.plan(without).invariances["portable"].given == ()
    keeps = " ".join(str(cleaner.plan(cohort())).split("\n\n")[0].split())
    assert "will be erased" not in keeps


def test_a_set_of_your_own_is_obeyed_and_printed_as_yours():
    z, frame = table()
    data = cohort(z, frame)
    for given in ("site", ()):
        clean = deconf.deconfound("stored", "portable", given=given, method=FULL).fit(data)
        assert clean.plan.invariances["portable"].given == ((given,) if given else ())
        assert any("your assumption" in a for a in clean.plan.assumptions)
        assert "your assumption" in " ".join(str(clean.plan).split())
        assert any("ill is not in given=" in w for w in clean.plan.warnings)
        out = clean.embed(data)
        assert within(out, frame["portable"], frame["site"] if given else None) < 1e-4
        assert within(out, frame["portable"], frame["ill"]) > 0.1  # the default set is not held


def test_the_outcome_may_be_named_on_either_side_but_not_differently():
    named_here = deconf.deconfound("stored", "portable", outcome="ill", method="leace")
    assert str(named_here.plan(cohort(outcome=None)).distinct()[0]) == "z ⊥ portable | ill"
    assert str(named_here.plan(cohort()).distinct()[0]) == "z ⊥ portable | ill"
    with pytest.raises(SettingsError, match=r"outcome=\['kVp'\] here and \['ill'\] in the cohort"):
        deconf.deconfound("stored", "portable", outcome="kVp").plan(cohort())


# ---------------------------------------------------------------- fitting


def test_the_confounder_is_gone_within_strata_and_the_disease_is_not():
    data = films()
    clean = deconf.deconfound("stored", "portable", graph=linear().graph, method=FULL).fit(data)
    z, raw, frame = clean.embed(data), data.embeddings, data.table
    assert z.dtype == np.float32
    assert z.shape == raw.shape
    assert within(raw, frame["portable"], frame["pneumonia"]) > 0.5
    assert within(z, frame["portable"], frame["pneumonia"]) < 1e-4
    assert within(z, frame["pneumonia"], frame["portable"]) > 0.3


def test_a_fit_leaves_cohort_and_cleaner_as_they_were():
    data = films()
    before = data.digest
    cleaner = deconf.deconfound("stored", "portable", graph=linear().graph, method="leace")
    first = cleaner.fit(data).embed(data)
    assert data.digest == before
    assert_array_equal(first, cleaner.fit(data).embed(data))


def test_the_same_seed_gives_the_same_numbers():
    data = films(n=240)
    fits = [
        deconf.deconfound("stored", "portable", graph=linear().graph, seed=3).fit(data)
        for _ in range(2)
    ]
    assert_array_equal(fits[0].embed(data), fits[1].embed(data))
    assert fits[0].reasons == fits[1].reasons


@pytest.mark.parametrize(
    ("method", "name"),
    [("leace", "leace"), (LEACE(rank="full"), "leace"), (Aligned(), "aligned")],
)
def test_a_method_is_a_name_or_a_settings_object(method, name):
    clean = deconf.deconfound("stored", "portable", method=method).fit(films(n=300))
    assert clean.method == name
    assert clean.plan.method == name


def test_settings_of_a_method_reach_the_fit():
    bare, shrunk = (
        deconf.deconfound("stored", "portable", method=LEACE(shrinkage=s)).fit(films(n=300))
        for s in (0.0, 0.9)
    )
    assert not np.allclose(bare.embed(films(n=300)), shrunk.embed(films(n=300)), atol=1e-3)


def test_several_confounders_go_jointly_where_one_set_serves_them_all():
    z, frame = table(n=2000)
    data = cohort(z, frame)
    clean = deconf.deconfound("stored", ["portable", "site", "kVp"], method=FULL).fit(data)
    assert len(clean.plan.distinct()) == 1
    out = clean.embed(data)
    for c in (frame["portable"], frame["site"] == "west", frame["kVp"]):
        assert within(z, c, frame["ill"]) > 0.4
        assert within(out, c, frame["ill"]) < 1e-3  # kVp is clipped at 4 sd, hence not 1e-6
    assert within(out, frame["ill"]) > 0.4


def parted(n=800):
    """Return films whose two confounders no common set serves, and their graph.

    The ward must be held for portable; for site it is a collider, and must not.
    """
    rng = np.random.default_rng(0)
    habit, frailty = rng.integers(2, size=(2, n))
    ward = (rng.random(n) < 0.1 + 0.4 * habit + 0.4 * frailty).astype(int)
    frame = pd.DataFrame(
        {
            "ward": ward,
            "site": np.where(rng.random(n) < 0.2 + 0.6 * habit, "north", "south"),
            "portable": (rng.random(n) < 0.3 + 0.4 * ward).astype(int),
            "ill": rng.integers(2, size=n),
        }
    )
    z = rng.normal(size=(n, 8))
    z[:, 0] += 1.5 * frame["portable"]
    z[:, 1] += 1.5 * (frame["site"] == "north")
    z[:, 2] += frame["portable"] + (frame["site"] == "north")
    z[:, 3] += 2 * frailty
    z[:, 4] += 2 * frame["ill"]
    graph = (
        "ward -> portable; ward <-> image; site <-> ward; portable -> image; site -> image; "
        "ill -> image"
    )
    return deconf.Cohort.from_arrays(z, frame, outcome="ill"), graph


def test_confounders_that_no_common_set_serves_are_all_erased():
    data, graph = parted()
    clean = deconf.deconfound("stored", ["portable", "site"], graph=graph, method=FULL).fit(data)
    held = {c: i.given for c, i in clean.plan.invariances.items()}
    assert held == {"portable": ("ward",), "site": ()}
    assert clean.method == "leace then leace"
    frame, out = data.table, clean.embed(data)
    for c, s in ((frame["portable"], frame["ward"]), (frame["site"] == "north", None)):
        assert within(data.embeddings, c, s) > 0.4
        assert within(out, c, s) < 1e-4  # the second erasure has not brought the first back
    assert within(out, frame["ward"]) > 0.15
    assert within(out, frame["ill"]) > 0.6


def test_several_outcomes_are_held_together():
    rng = np.random.default_rng(1)
    n = 2000
    severity = rng.integers(4, size=n)
    first, second = (rng.random((2, n)) < np.array([0.05, 0.3, 0.7, 0.95])[severity]).astype(int)
    portable = (rng.random(n) < np.array([0.05, 0.3, 0.7, 0.95])[severity]).astype(int)
    z = rng.normal(size=(n, 8))
    z[:, 0] += 2 * first
    z[:, 1] += 2 * second
    z[:, 2] += 2 * portable
    frame = pd.DataFrame({"portable": portable, "effusion": first, "oedema": second})
    both = deconf.Cohort.from_arrays(z, frame, outcome=["effusion", "oedema"])
    one = deconf.Cohort.from_arrays(z, frame, outcome="effusion")
    kept = {}
    for name, data in (("both", both), ("one", one)):
        clean = deconf.deconfound("stored", "portable", method=FULL).fit(data)
        kept[name] = within(clean.embed(data), second)
    assert within(z, second) > 0.6
    assert kept["both"] > 0.95 * within(z, second)
    assert kept["one"] < 0.9 * within(z, second)


def test_the_covariance_with_each_of_several_outcomes_is_kept_by_a_method_that_keeps_it():
    rng = np.random.default_rng(2)
    z, frame = table(n=1500)
    frame["oedema"] = np.where(
        rng.random(1500) < 0.5, frame["portable"], rng.integers(2, size=1500)
    )
    frame["grade"] = rng.normal(size=1500)  # a number is no outcome that a method is handed
    frame.loc[:99, "oedema"] = np.nan
    z[:, 5] += 2 * frame["oedema"].fillna(0.5)
    z[:, :2] += frame[["oedema", "portable"]].fillna(0.5)  # disease and trace lean on one another
    z[:, 5] += frame["portable"]
    data = cohort(z, frame, outcome=["ill", "grade", "oedema"])
    kept = {}
    for method in ("splince", "leace"):
        clean = deconf.deconfound("stored", "portable", given=[], method=method).fit(data)
        out = clean.embed(data)
        kept[method] = {}
        for name in ("ill", "oedema"):
            y = frame[name].to_numpy()
            known = np.isfinite(y)
            before, after = (np.cov(x[known].T, y[known])[-1, :-1] for x in (z, out))
            kept[method][name] = np.abs(after - before).max()
    assert max(kept["splince"].values()) < 1e-4
    assert kept["leace"]["oedema"] > 0.1


def test_a_continuous_confounder_is_removed_curve_and_all():
    z, frame = table(n=1000)
    z[:, 4] += ((frame["kVp"] - 100) / 10) ** 2
    data = cohort(z, frame)
    cleaner = deconf.deconfound("stored", "kVp", method=FULL)
    assert "kVp: a number" in cleaner.plan(data).reading
    out = cleaner.fit(data).embed(data)
    kvp, ill = frame["kVp"], frame["ill"]
    square = (kvp - kvp.mean()) ** 2
    assert within(z, kvp, ill) > 0.5
    assert within(z, square, ill) > 0.5
    assert within(out, kvp, ill) < 1e-3
    assert within(out, square, ill) < 0.1  # the few beyond 4 sd are clipped
    assert within(out, ill) > 0.4


def test_of_several_confounders_the_one_that_is_a_number_is_named():
    data = cohort(*table(n=1500))
    for method in ("aligned", "mmd", "irm"):
        cleaner = deconf.deconfound("stored", ["site", "kVp"], method=method)
        with pytest.raises(SettingsError, match=f"{method} needs .*levels, and kVp is continuous"):
            cleaner.fit(data)


def test_auto_serves_a_continuous_confounder():
    z, frame = table(n=500)
    clean = deconf.deconfound("stored", "kVp").fit(cohort(z, frame))
    assert clean.method.startswith("auto: leace")
    assert within(clean.embed(z), frame["kVp"], frame["ill"]) < 0.25  # chance, n = 250 a stratum
    assert within(z, frame["kVp"], frame["ill"]) > 0.5


def test_mixed_kinds_with_missing_values_are_served_and_what_is_left_out_is_counted():
    z, frame = table(n=4000)
    frame["portable"] = frame["portable"].astype(float)
    frame.loc[:9, "portable"] = np.nan  # 0.25 %: too few for a level of their own
    frame.loc[100:1099, "site"] = None  # 25 %: "unknown" is a level
    frame.loc[1300:1549, "kVp"] = np.nan
    frame["ill"] = frame["ill"].astype(float)
    frame.loc[3900:, "ill"] = np.nan
    data = cohort(z, frame)
    clean = deconf.deconfound("stored", ["portable", "site", "kVp"], method="leace").fit(data)
    assert any("10 rows left out: a confounder is missing" in r for r in clean.reasons)
    assert any(re.search("site is missing in 1,000 of 4,000 rows", w) for w in clean.plan.warnings)
    out = clean.embed(data)
    assert np.isfinite(out).all()
    rows = frame.dropna().index
    west = (frame["site"] == "west")[rows]
    assert within(z[rows], west, frame["ill"][rows]) > 0.4
    assert within(out[rows], west, frame["ill"][rows]) < 0.1


def test_unlabelled_films_help_to_estimate_the_trace_and_the_reasons_say_so():
    labelled, with_view_only = table(n=150), table(n=1500, seed=2, follows=0.0)
    z = np.vstack([labelled[0], with_view_only[0]])
    frame = pd.concat([labelled[1], with_view_only[1].assign(ill=np.nan)], ignore_index=True)
    data = cohort(z, frame.assign(patient_id=frame.index))
    fits = {
        use: deconf.deconfound(
            "stored", "portable", method=LEACE(strata="pooled"), unlabelled=use
        ).fit(data)
        for use in (True, False)
    }
    fresh, truth = table(n=8000, seed=1)
    codes = truth["portable"].to_numpy(), truth["ill"].to_numpy()
    left = {use: gap(m.embed(fresh), *codes) for use, m in fits.items()}
    assert left[True] < 0.5 * left[False]
    said = {use: " ".join(m.reasons) for use, m in fits.items()}
    assert "1,500 rows without ill form a stratum of their own" in said[True]
    assert "1,500 rows left out" in said[False]


@pytest.mark.filterwarnings("ignore::deconf.errors.OverlapWarning")
def test_the_smallest_cohort_that_is_taken_has_twenty_rows():
    z, frame = table(n=20)
    clean = deconf.deconfound("stored", "portable").fit(cohort(z, frame))
    assert np.isfinite(clean.embed(z)).all()


def test_more_columns_than_rows_are_no_obstacle():
    z, frame = table(n=40)
    wide = np.hstack([4 * z, np.random.default_rng(0).normal(size=(40, 200))])
    data = cohort(wide, frame)
    for method in ("auto", FULL):
        with pytest.warns(OverlapWarning, match="too few to learn from"):
            clean = deconf.deconfound("stored", "portable", method=method).fit(data)
        assert np.isfinite(clean.embed(data)).all()
    assert within(clean.embed(data), frame["portable"]) < within(wide, frame["portable"])


# ---------------------------------------------------------------- head weights


def test_weights_follow_the_rows_of_the_cohort_and_balance_disease():
    data = films()
    clean = deconf.deconfound("stored", "portable", given="pneumonia", method="reweight").fit(data)
    frame = data.table
    for portable in (0, 1):
        rows = frame["portable"] == portable
        share = np.average(frame["pneumonia"][rows], weights=clean.weights[rows])
        assert share == pytest.approx(frame["pneumonia"].mean(), abs=1e-6)
    order = np.random.default_rng(0).permutation(len(data))
    turned = deconf.deconfound("stored", "portable", given="pneumonia", method="reweight").fit(
        data.subset(order)
    )
    np.testing.assert_allclose(turned.weights, clean.weights[order])


def test_a_row_without_confounder_or_disease_has_no_weight():
    z, frame = table()
    frame["ill"] = frame["ill"].astype(float)
    frame.loc[5, "ill"] = np.nan
    frame["portable"] = frame["portable"].astype(float)
    frame.loc[7, "portable"] = np.nan
    clean = deconf.deconfound("stored", "portable", method="reweight").fit(cohort(z, frame))
    assert len(clean.weights) == len(frame)
    assert_array_equal(np.flatnonzero(clean.weights == 0), [5, 7])


def test_erasers_bring_no_weights():
    clean = deconf.deconfound("stored", "portable", method="leace").fit(films(n=300))
    assert clean.weights is None


# ---------------------------------------------------------------- reading the confounder


@pytest.mark.parametrize("method", ["centre", Aligned(read="record")])
def test_a_map_that_reads_the_confounder_must_be_asked_for(method):
    with pytest.raises(SettingsError, match="at_inference=True"):
        deconf.deconfound("stored", "portable", method=method).fit(films(n=300))
    cleaner = deconf.deconfound("stored", "portable", method=method, at_inference=True)
    clean, test = cleaner.fit(films(n=1200)), linear(n=300, d=24).test("aligned", 1200).cohort
    assert clean.needs_confounders
    table = test.table
    raw = within(test.embeddings, table["portable"], table["pneumonia"])
    assert within(clean.embed(test), table["portable"], table["pneumonia"]) < 0.5 * raw
    with pytest.raises(CohortError, match="pass a Cohort with its columns"):
        clean.embed(test.embeddings)


def test_a_level_never_seen_in_training_is_left_as_it_is():
    z, frame = table()
    cleaner = deconf.deconfound("stored", "site", method="centre", at_inference=True)
    clean = cleaner.fit(cohort(z, frame))
    fresh, new = table(n=100, seed=1)
    new.loc[:29, "site"] = "east"
    new.loc[30:39, "site"] = None
    with pytest.warns(OverlapWarning, match=r"40 of 100 rows .*site.* never seen"):
        out = clean.embed(cohort(fresh, new))
    assert_array_equal(out[:40], fresh[:40].astype(np.float32))
    west = new["site"].to_numpy() == "west"
    assert np.abs(out[west] - fresh[west]).max() > 0.5


def test_maps_that_read_the_confounder_are_not_chained_over_different_sets():
    data, graph = parted()
    cleaner = deconf.deconfound(
        "stored", ["portable", "site"], graph=graph, method="centre", at_inference=True
    )
    with pytest.raises(SettingsError, match=r"cannot be chained.*one at a time"):
        cleaner.fit(data)


# ---------------------------------------------------------------- what the data cannot give


def test_an_open_path_is_named_with_what_would_close_it():
    world = linear(n=300, d=24, severity="unrecorded")
    cleaner = deconf.deconfound("stored", "portable", graph=world.graph)
    data = world.train().cohort
    plan = cleaner.plan(data)
    assert not plan.is_identified
    assert "NOT IDENTIFIED" in str(plan)
    with pytest.raises(
        NotIdentified,
        match=r"portable <- severity -> image.*record severity.*paired films.*given=\[",
    ):
        cleaner.fit(data)
    own = deconf.deconfound("stored", "portable", graph=world.graph, given="pneumonia", method=FULL)
    assert own.fit(data).plan.status == "identified if"


def test_without_overlap_the_map_is_returned_with_a_warning_that_names_the_cells():
    z, frame = table()
    frame["portable"] = np.where(frame["ill"] == 1, frame["portable"], 0)
    data = cohort(z, frame)
    cleaner = deconf.deconfound("stored", "portable")
    with pytest.warns(OverlapWarning, match="no portable=1 films with ill=0"):
        clean = cleaner.fit(data)
    assert clean.plan.is_identified is False
    assert clean.method == "auto: leace (pooled)"
    assert any("extrapolation" in r for r in clean.reasons)
    assert clean.weights is None


def test_nothing_to_remove_is_said_and_changes_nothing():
    graph = "ill -> image; ill -> portable"
    z, frame = table()
    clean = deconf.deconfound("stored", "portable", graph=graph).fit(cohort(z, frame))
    assert "no directed path leads from portable to the image" in " ".join(clean.reasons)
    assert_array_equal(clean.embed(z), z.astype(np.float32))


# ---------------------------------------------------------------- bad input


def spoilt(column, values):
    z, frame = table()
    frame[column] = values
    return cohort(z, frame)


BAD_COLUMNS = [
    (["protable"], {}, r"no column 'protable'.*Did you mean 'portable'\?"),
    (["portable"], {"given": "sit"}, r"no column 'sit' \(named as given\).*'site'"),
    (["image"], {}, "stands for the pixels"),
    (["ill"], {}, "'ill' is both confounder and outcome"),
    (["portable"], {"given": "portable"}, "'portable' is both confounder and given"),
]


@pytest.mark.parametrize(("confounders", "more", "words"), BAD_COLUMNS)
def test_a_column_that_will_not_do_is_named_before_any_work(confounders, more, words):
    cleaner = deconf.deconfound("stored", confounders, **more)
    for step in (cleaner.plan, cleaner.fit):
        with pytest.raises(CohortError, match=words):
            step(cohort())


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("portable", np.nan, "confounder 'portable' has no recorded value in 400 rows"),
        ("portable", 1, "'portable' has one level only, '1', in all 400 recorded rows"),
        ("portable", table()[1]["ill"] + 5, "'portable' and the outcome 'ill' say the same thing"),
        ("portable", table()[1]["ill"].map({0: "b", 1: "a"}), "say the same thing in all 400 rows"),
    ],
)
def test_a_confounder_that_cannot_be_told_apart_is_refused(column, values, words):
    with pytest.raises(CohortError, match=words):
        deconf.deconfound("stored", column).fit(spoilt(column, values))


def test_an_outcome_nobody_recorded_is_refused():
    with pytest.raises(CohortError, match="'ill' has no recorded value"):
        spoilt("ill", np.nan)


@pytest.mark.parametrize("n", [4, 12, 19])
def test_fewer_than_twenty_rows_are_refused_with_their_number(n):
    z, frame = table()
    frame.loc[:3, ["portable", "ill"]] = [[0, 0], [0, 1], [1, 0], [1, 1]]
    data = cohort(z[:n], frame[:n])
    with pytest.raises(CohortError, match=rf"{n} rows: at least 20"):
        deconf.deconfound("stored", "portable", given=()).fit(data)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_embedding_that_is_no_number_is_named_by_its_row(bad):
    z, frame = table()
    z[17, 3] = bad
    with pytest.raises(CohortError, match=rf"row 17 .*patient_id 17.* is {bad} in column 3"):
        cohort(z, frame)


def test_embeddings_and_rows_that_differ_in_number_are_refused():
    z, frame = table()
    with pytest.raises(CohortError, match="399 embeddings but 400 rows"):
        cohort(z[:-1], frame)


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ("portable -> image; image -> ill; ill -> portable", r"cycle, .*->.*Turn one arrow"),
        ("portable -> image; ill -> ill", "'ill' has an arrow to itself"),
        ("protable -> image; ill -> image", r"no node 'portable'.*Did you mean 'protable'"),
        ("portable -> image; site -> image", r"no node 'ill'.*Nodes: image, portable, site"),
        ("portable -> pixels; ill -> pixels", "image"),
        ("portable => image", "=>"),
        ("", "empty"),
    ],
)
def test_a_graph_that_cannot_be_read_or_lacks_a_node_is_refused(graph, words):
    with pytest.raises(GraphError, match=words):
        deconf.deconfound("stored", "portable", graph=graph).plan(cohort())


def test_a_graph_of_another_kind_is_refused_by_its_type():
    with pytest.raises(GraphError, match="a graph is text or a CausalGraph, not dict"):
        deconf.deconfound("stored", "portable", graph={"portable": "image"}).plan(cohort())


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("leece", r"no method is called 'leece'.*Did you mean 'leace'\?.*Known: leace"),
        (LEACE, "a name or a settings object"),
        (None, "a name or a settings object"),
    ],
)
def test_an_unknown_method_is_refused_when_it_is_typed(method, words):
    with pytest.raises(SettingsError, match=words):
        deconf.deconfound("stored", "portable", method=method)


def test_an_unknown_encoder_is_refused_when_it_is_typed():
    with pytest.raises(SettingsError, match=r"no encoder is called 'storde'.*'stored'"):
        deconf.deconfound("storde", "portable")


@pytest.mark.parametrize("none", [[], (), None])
def test_confounders_must_be_named(none):
    with pytest.raises(SettingsError, match="name at least one confounder"):
        deconf.deconfound("stored", none)


def test_a_cohort_without_embeddings_is_told_what_to_pass():
    _, frame = table()
    bare = deconf.Cohort.read(frame, patient="patient_id", outcome="ill")
    cleaner = deconf.deconfound("stored", "portable")
    assert cleaner.plan(bare).is_identified
    with pytest.raises(CohortError, match=r"neither embeddings nor image tensors.*embedding="):
        cleaner.fit(bare)


@pytest.mark.parametrize("values", [[1, 2], ["sick", "well"], [0, 1, 2, 3], [0.5, 1.25, 7.0]])
def test_auto_takes_an_outcome_of_any_coding(values):
    z, frame = table(n=160)
    frame["ill"] = np.resize(values, 160)
    clean = deconf.deconfound("stored", "portable").fit(cohort(z, frame))
    assert clean.method != "auto: identity"
    assert within(clean.embed(z), frame["portable"], frame["ill"]) < 0.4
    assert within(z, frame["portable"], frame["ill"]) > 0.6


def measured(**columns):
    """Return films with a lung function and a grade beside the disease."""
    z, frame = table()
    rng = np.random.default_rng(1)
    fev = np.where(rng.random(len(z)) < 0.1, np.nan, z[:, 0] + 0.3 * rng.normal(size=len(z)))
    grade = np.array(["mild", "moderate", "severe"])[np.digitize(z[:, 0], [0, 2])]
    return z, frame.assign(fev=fev, grade=grade, **columns)


@pytest.mark.parametrize("name", ["fev", "grade"])
def test_a_number_or_three_classes_are_kept_by_what_can_keep_them(name):
    z, frame = measured()
    films = cohort(z, frame, outcome=name)
    known = films.table[name].notna().to_numpy()
    y = pd.get_dummies(frame["grade"]) if name == "grade" else frame[["fev"]][known]
    y = y.to_numpy(float) - y.to_numpy(float).mean(axis=0)
    asked = {"confounders": "portable", "given": (), "encoder": "stored"}
    kept, gone = (
        deconf.deconfound(method=method, **asked).fit(films) for method in ("splince", FULL)
    )
    before = y.T @ films.embeddings[known]
    np.testing.assert_allclose(y.T @ kept.embed(films)[known], before, atol=1e-2)
    assert np.abs(y.T @ gone.embed(films)[known] - before).max() > 1  # there was something to lose
    assert not kept.reasons


def test_an_outcome_that_is_left_out_is_named_with_the_reason_and_where_it_is_needed_refused():
    films = cohort(*measured(), outcome=["fev", "ill"])
    asked = {"encoder": "stored", "confounders": "site", "given": ()}
    brief = IRM(selection="training", hidden=4, epochs=4)
    said = deconf.deconfound(method=brief, **asked).fit(films).reasons
    assert said[0] == "outcome left out: 'fev' is a number, and irm learns 0 and 1"
    assert not any(
        "left out" in r for r in deconf.deconfound(method=FULL, **asked).fit(films).reasons
    )
    films = cohort(*measured(), outcome=["fev", "grade"])
    with pytest.raises(
        SettingsError, match=r"'fev' is a number; 'grade' has 3 classes: irm learns.*Cut it in two"
    ):
        deconf.deconfound(method=brief, **asked).fit(films)
