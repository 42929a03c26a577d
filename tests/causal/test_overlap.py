"""Cells counted before anything is fitted, and the weights made of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.causal.overlap import cells, empty_cells, overlap_table, supported
from deconf.causal.weights import balancing_weights, propensity
from deconf.errors import SettingsError


def table_of(counts, columns=("c", "s")):
    """Return one row per unit of a dictionary {(c, s): n}."""
    rows = [pair for pair, n in counts.items() for _ in range(n)]
    return pd.DataFrame(rows, columns=list(columns))


def status_of(n, other=2000, width=None):
    frame = overlap_table(table_of({(1, 0): n, (0, 0): other}), ["c"], ["s"], width=width)
    return frame.set_index("level").loc["c=1", "status"]


@st.composite
def tables(draw):
    """A confounder of 2 to 4 levels, two given columns, gaps, patients with several films."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n, k = draw(st.integers(60, 300)), draw(st.integers(2, 4))
    s = rng.integers(0, 3, n)
    c = (s + rng.integers(0, k, n)) % k if draw(st.booleans()) else rng.integers(0, k, n)
    frame = pd.DataFrame({"c": [f"site{i}" for i in c], "s": s, "t": rng.integers(0, 2, n)})
    gaps = draw(st.floats(0, 0.3))
    frame["t"] = frame["t"].where(rng.random(n) >= gaps)
    frame["patient"] = rng.integers(0, n // 2, n)
    return frame


@given(tables())
@settings(max_examples=60, deadline=None)
def test_every_row_with_its_columns_recorded_is_counted_once(frame):
    found = overlap_table(frame, ["c"], ["s", "t"], patient="patient")
    assert found["n"].sum() + found.attrs["unlabelled"] == len(frame)
    assert found.attrs["unlabelled"] == frame["t"].isna().sum()
    assert np.allclose(found.groupby("stratum")["propensity"].sum(), 1)
    assert (found["patients"] <= found["n"]).all()
    assert len(found) == found["stratum"].nunique() * found["level"].nunique()
    for row in found.itertuples():
        level, (s, t) = row.level.split("=")[1], [p.split("=")[1] for p in row.stratum.split(", ")]
        in_cell = (frame["c"] == level) & (frame["s"] == int(s)) & (frame["t"] == float(t))
        assert row.n == in_cell.sum()
        assert row.patients == frame.loc[in_cell, "patient"].nunique()


@pytest.mark.parametrize(
    ("n", "other", "width", "expected"),
    [
        (9, 100, None, "unsupported"),
        (10, 100, None, "thin"),
        (199, 1000, None, "thin"),
        (200, 1000, None, "ok"),
        (200, 1000, 1280, "thin"),
        (640, 1000, 1280, "ok"),
        (300, 20_000, None, "thin"),
        (150, 20_000, None, "unsupported"),
    ],
)
def test_the_rule_of_smallest_cells_and_propensities(n, other, width, expected):
    assert status_of(n, other, width) == expected


def test_a_cell_is_as_large_as_its_patients_not_its_films():
    frame = table_of({(1, 0): 500, (0, 0): 500})
    frame["patient"] = np.where(frame["c"] == 1, np.arange(1000) % 5, np.arange(1000))
    found = overlap_table(frame, ["c"], ["s"], patient="patient")
    assert dict(zip(found["level"], found["status"], strict=True)) == {
        "c=0": "ok",
        "c=1": "unsupported",
    }
    assert empty_cells(found) == ["500 c=1 films (5 patients) with s=0"]


def test_empty_cells_appear_and_are_named():
    found = overlap_table(
        table_of({(1, 1): 300, (0, 1): 300, (0, 0): 300, (1, 0): 7}, ("portable", "pneumonia")),
        ["portable"],
        ["pneumonia"],
    )
    assert not supported(found)
    assert empty_cells(found) == ["7 portable=1 films with pneumonia=0"]
    holed = overlap_table(table_of({(1, 1): 300, (0, 1): 300, (0, 0): 300}), ["c"], ["s"])
    assert 0 in holed["n"].to_list()
    assert empty_cells(holed) == ["no c=1 films with s=0"]


def test_a_rare_level_is_thin_where_nothing_is_held():
    found = overlap_table(table_of({(1, 0): 4, (0, 0): 300}), ["c"], [])
    assert found["stratum"].unique().tolist() == ["all"]
    assert found["status"].tolist() == ["ok", "thin"]
    assert supported(found)


def test_a_table_without_a_usable_row_is_not_supported():
    frame = pd.DataFrame({"c": [0, 1], "s": [np.nan, np.nan]})
    assert not supported(overlap_table(frame, ["c"], ["s"]))


def test_several_confounders_are_counted_over_the_combinations_that_occur():
    frame = pd.DataFrame({"site": list("AAB") * 50, "ap": [0, 1, 1] * 50, "s": 1})
    found = overlap_table(frame, ["site", "ap"], ["s"])
    assert found["level"].tolist() == ["site=A, ap=0", "site=A, ap=1", "site=B, ap=1"]


def test_numbers_are_cut_at_their_quantiles():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"kVp": rng.normal(80, 10, 900), "age": rng.normal(60, 12, 900)})
    frame.loc[0, "age"] = np.nan
    found = overlap_table(frame, ["kVp"], ["age"])
    assert (found["level"].nunique(), found["stratum"].nunique()) == (3, 5)
    per_level = found.groupby("level")["n"].sum()
    assert per_level.between(295, 305).all()
    assert found.attrs["unlabelled"] == 1
    edges = cells(frame, ["age"], 5).labels
    assert edges[0].startswith("age=")
    assert " to " in edges[0]


def test_a_value_lies_between_the_ends_its_label_names():
    values = np.arange(101)  # the fifths, 20, 40 ..., are values that occur
    found = cells(pd.DataFrame({"x": values}), ["x"], 5)
    for i, label in enumerate(found.labels):
        low, high = (float(end) for end in label.removeprefix("x=").split(" to "))
        inside = (values > low) & (values <= high) | (i == 0) & (values == low)
        assert ((found.codes == i) == inside).all()


def test_a_number_with_many_ties_still_falls_into_cells():
    values = np.concatenate([np.zeros(900), np.linspace(1, 2, 100)])
    found = cells(pd.DataFrame({"x": values}), ["x"], 5)
    assert (found.codes >= 0).all()
    assert set(found.codes) == set(range(len(found.labels)))
    assert len(set(found.codes[:900])) == 1


@given(tables())
@settings(max_examples=60, deadline=None)
def test_under_ipw_the_confounder_is_independent_of_the_strata(frame):
    frame = frame[frame["c"].isin(["site0", "site1"])]
    counts = frame.dropna().groupby(["c", "s", "t"]).size().unstack("c").fillna(0)
    if counts.empty or (counts == 0).any(axis=None) or counts.shape[1] < 2:
        return  # with an empty cell no weights can do it
    weights = balancing_weights(frame, ["c"], ["s", "t"], trim=np.inf)
    used = weights.values > 0
    assert (used == frame["t"].notna()).all()
    assert np.isclose(weights.values[used].mean(), 1)
    kept = frame[used].assign(w=weights.values[used])
    joint = kept.groupby(["c", "s", "t"])["w"].sum().unstack("c") / kept["w"].sum()
    product = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    assert np.allclose(joint, product, atol=1e-12)
    assert weights.smd < 1e-10


def test_before_weighting_the_same_table_is_unbalanced():
    frame = table_of({(1, 1): 80, (1, 0): 20, (0, 1): 20, (0, 0): 80})
    flat = balancing_weights(frame.assign(one=0), ["c"], ["one"])
    assert np.allclose(flat.values, 1)
    means = frame.groupby("c")["s"].mean()
    assert means[1] - means[0] == pytest.approx(0.6)
    assert balancing_weights(frame, ["c"], ["s"]).smd < 1e-10


@given(tables(), st.sampled_from(["ipw", "overlap"]))
@settings(max_examples=60, deadline=None)
def test_the_effective_sample_is_kish(frame, kind):
    weights = balancing_weights(frame, ["c"], ["s"], kind)
    w = weights.values
    assert weights.ess == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert weights.ess <= len(frame) * (1 + 1e-12)


def test_overlap_weights_are_bounded_where_ipw_explodes():
    counts = {(1, 1): 2, (0, 1): 998, (1, 0): 500, (0, 0): 500}
    frame = table_of(counts)
    ipw = balancing_weights(frame, ["c"], ["s"], trim=np.inf)
    overlap = balancing_weights(frame, ["c"], ["s"], "overlap", trim=np.inf)
    assert ipw.values.max() > 50
    assert overlap.values.max() < 4
    assert overlap.ess > 1.5 * ipw.ess
    assert overlap.smd < 1e-10


def test_overlap_weights_of_two_levels_are_the_other_levels_propensity():
    frame = table_of({(1, 1): 30, (0, 1): 10, (1, 0): 5, (0, 0): 15})
    own = propensity(frame, ["c"], ["s"])
    weights = balancing_weights(frame, ["c"], ["s"], "overlap").values
    assert np.allclose(weights / weights[0], (1 - own) / (1 - own[0]))  # Li, Morgan & Zaslavsky


def test_a_stratum_that_lacks_a_level_gets_no_overlap_weight():
    frame = table_of({(1, 1): 30, (0, 1): 30, (0, 0): 30})
    weights = balancing_weights(frame, ["c"], ["s"], "overlap").values
    assert (weights[frame["s"] == 0] == 0).all()
    assert (weights[frame["s"] == 1] > 0).all()


def test_heavy_weights_are_cut_at_the_median_times_trim_and_the_share_is_told():
    frame = table_of({(1, 1): 2, (0, 1): 998, (1, 0): 500, (0, 0): 500})
    free = balancing_weights(frame, ["c"], ["s"], trim=np.inf)
    cut = balancing_weights(frame, ["c"], ["s"], trim=20)
    assert free.trimmed == 0
    assert cut.trimmed == pytest.approx(2 / 2000)
    assert cut.values.max() == pytest.approx(20 * np.median(cut.values), rel=1e-6)


def test_propensities_of_a_number_recover_the_truth_and_are_cross_fitted():
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 90, 4000)
    truth = 1 / (1 + np.exp(-np.sin(age / 12) * 1.5))
    c = (rng.random(4000) < truth).astype(int)
    frame = pd.DataFrame({"c": c, "age": age, "patient": np.arange(4000) // 2})
    own = propensity(frame, ["c"], ["age"], patient="patient")
    p1 = np.where(c == 1, own, 1 - own)
    assert np.abs(p1 - truth).mean() < 0.05
    raw = abs(np.corrcoef(c, np.sin(age / 12))[0, 1])
    weights = balancing_weights(frame, ["c"], ["age"], patient="patient")
    balanced = np.average(np.sin(age / 12) * (2 * c - 1), weights=weights.values)
    assert raw > 0.3
    assert abs(balanced) < 0.05
    assert weights.smd < 0.1


def test_a_row_does_not_learn_its_propensity_from_the_films_of_its_own_patient():
    # Pure noise, few patients, six films each: what is not cross-fitted by patient overfits.
    own, shared = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        people = pd.DataFrame(rng.normal(size=(60, 4)), columns=list("wxyz"))
        people = people.assign(c=rng.integers(0, 2, 60), patient=range(60))
        films = people.loc[np.repeat(people.index, 6)].reset_index(drop=True)
        own.append(propensity(films, ["c"], list("wxyz"), patient="patient").mean())
        shared.append(propensity(films, ["c"], list("wxyz")).mean())
    assert np.mean(own) < 0.55  # chance is 0.5
    assert np.mean(shared) > 0.59  # the twin: split by film, and noise is "predicted"


def test_missing_rows_have_no_propensity_and_no_weight():
    frame = pd.DataFrame({"c": [0, 1, 0, None], "s": [1, 1, None, 1]})
    own = propensity(frame, ["c"], ["s"])
    assert np.isnan(own).tolist() == [False, False, True, True]
    weights = balancing_weights(frame, ["c"], ["s"])
    assert weights.values.tolist() == [1, 1, 0, 0]
    nothing = balancing_weights(frame.iloc[2:], ["c"], ["s"])
    assert (nothing.ess, nothing.values.tolist()) == (0, [0, 0])


def test_unknown_weights_are_refused_by_name():
    with pytest.raises(SettingsError, match="'iptw': choose 'ipw' or 'overlap'"):
        balancing_weights(pd.DataFrame({"c": [0, 1], "s": [0, 0]}), ["c"], ["s"], "iptw")
