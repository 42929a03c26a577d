"""The laws of tests/test_laws.py, on films that come in pairs, and what pairs alone can tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import deconf
from deconf.errors import CohortError, NotIdentified, SettingsError
from deconf.maths.maps import from_spec
from deconf.maths.moments import Given
from deconf.methods import Paired
from deconf.methods.base import methods
from tests.strategies import apply, gap, invertible

BARE = Paired(rank="full", shrinkage=0.0)


class Films:
    """Patients with a film at two of k levels; disease chooses the levels, and moves the films."""

    def __init__(self, seed, *, patients=120, d=8, k=2, trace=1.5, repeat=0.5, disease=2.0):
        rng = np.random.default_rng(seed)
        mix = invertible(rng, d, 5.0)
        ill = rng.integers(2, size=patients)
        away = rng.permuted(np.tile(np.arange(k), (patients, 1)), axis=1)[:, :2]
        if k == 2:  # single films of the same world follow the disease
            away = np.tile([0, 1], (patients, 1))
        single = np.where(rng.random(patients) < 0.2 + 0.6 * ill, k - 1, 0)
        person = rng.normal(size=(patients, d)) + disease * np.outer(ill, np.eye(d)[0])
        self.patients = np.concatenate([np.repeat(np.arange(patients), 2), np.arange(patients)])
        self.levels = np.concatenate([away.ravel(), single])
        self.ill = ill[self.patients]
        shift = trace * rng.normal(size=(k, d))
        noise = repeat * rng.normal(size=(3 * patients, d))
        self.z = (person[self.patients] + shift[self.levels] + noise) @ mix
        self.c = np.eye(k)[self.levels]

    def fit(self, method, z=None, c=None, **how):
        z, c = self.z if z is None else z, self.c if c is None else c
        return method.fit(z, c, patients=self.patients, **how)


SOME = st.builds(
    Films,
    st.integers(0, 10**6),
    patients=st.sampled_from([12, 60]),
    d=st.sampled_from([3, 10, 90]),
    k=st.sampled_from([2, 4]),
    trace=st.sampled_from([0.0, 3.0]),
)


def size_of(z):
    return float(np.abs(z).max())


# ---------------------------------------------------------------- what the card claims


@pytest.mark.parametrize("method", [Paired(), BARE])
@settings(max_examples=10)
@given(w=SOME)
def test_cleaning_twice_changes_nothing(method, w):
    fitted = w.fit(method)
    once = apply(fitted, w.z)
    assert np.isfinite(once).all()
    assert_allclose(apply(fitted, once), once, atol=1e-7 * size_of(w.z))


@settings(max_examples=10)
@given(w=SOME, seed=st.integers(0, 10**6))
def test_the_result_does_not_depend_on_the_basis_of_the_embedding(w, seed):
    rng = np.random.default_rng(seed)
    basis, origin = invertible(rng, w.z.shape[1], 30.0), 10 * rng.normal(size=w.z.shape[1])
    here = apply(w.fit(BARE), w.z) @ basis + origin
    there = w.z @ basis + origin
    assert_allclose(apply(w.fit(BARE, there), there), here, atol=1e-5 * size_of(here))


@pytest.mark.parametrize("method", [Paired(), BARE])
@settings(max_examples=10)
@given(w=SOME, seed=st.integers(0, 10**6))
def test_recoding_the_confounder_changes_nothing(method, w, seed):
    mixed = w.c[:, 1:] @ invertible(np.random.default_rng(seed), w.c.shape[1] - 1, 20.0) + 0.25
    expected = apply(w.fit(method), w.z)
    assert_allclose(apply(w.fit(method, c=mixed), w.z), expected, atol=1e-7 * size_of(w.z))


@pytest.mark.parametrize("method", [Paired(), BARE])
@settings(max_examples=10)
@given(w=SOME, seed=st.integers(0, 10**6))
def test_a_weight_of_two_is_a_film_seen_twice(method, w, seed):
    times = np.random.default_rng(seed).integers(1, 3, size=len(w.z))
    z, c, who = (np.repeat(x, times, axis=0) for x in (w.z, w.c, w.patients))
    weighted = w.fit(method, weights=times.astype(float))
    repeated = method.fit(z, c, patients=who)
    assert_allclose(apply(weighted, w.z), apply(repeated, w.z), atol=1e-7 * size_of(w.z))


@pytest.mark.parametrize(
    "story",
    [
        {},
        {"k": 4, "patients": 200},
        {"d": 200, "patients": 60},
        {"repeat": 0.05},
        {"repeat": 2.0, "patients": 300},
        {"patients": 8, "d": 3},
    ],
)
def test_pairs_without_a_trace_come_back_unchanged_nine_times_in_ten(story):
    kept = 0
    for seed in range(20):
        w = Films(seed, trace=0.0, **story)
        kept += np.array_equal(apply(w.fit(Paired(), seed=seed), w.z), w.z)
    assert kept >= 17


def test_a_patient_with_many_films_counts_once_and_would_else_be_taken_for_a_trace():
    kept = deceived = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        change = rng.normal(size=(12, 5))  # of each patient between the devices: chance
        z = np.concatenate([rng.normal(size=(12, 5)), change]).repeat(20, axis=0)
        z += 0.1 * rng.normal(size=z.shape)
        c, who = np.arange(24).repeat(20) // 12, np.tile(np.arange(12), 2).repeat(20)
        kept += Paired().fit(z, c, patients=who).rank == 0
        film = np.tile(np.arange(240), 2)  # as if the films were patients
        deceived += Paired().fit(z, c, patients=film).rank > 0
    assert kept >= 17
    assert deceived >= 19


# ---------------------------------------------------------------- what every method owes


@pytest.mark.parametrize("k", [2, 3])
def test_what_could_be_read_before_cannot_be_read_after_and_disease_can(k):
    w = Films(1, patients=3000, k=k, trace=1.0)
    fitted = w.fit(Paired())
    clean = apply(fitted, w.z)
    assert gap(w.z, w.levels, w.ill) > 0.3
    assert gap(clean, w.levels, w.ill) < 0.05
    assert gap(clean, w.ill, w.levels) > 0.5 * gap(w.z, w.ill, w.levels)
    rebuilt = from_spec(fitted.spec(), dict(fitted.state_dict()))
    assert_allclose(apply(rebuilt, w.z), clean, rtol=0, atol=0)
    assert "3,000 patients with films at several levels" in fitted.remarks[0]


def test_the_mean_difference_of_pairs_is_gone_exactly_and_tensors_are_arrays():
    a, b = deconf.worlds.linear(n=300, d=24, seed=98).train().do_portable
    fitted = Paired().fit_pairs(torch.tensor(a), torch.tensor(b))
    assert fitted.rank == 1
    assert np.abs((b - a).mean(axis=0)).max() > 0.5
    assert_allclose((apply(fitted, b) - apply(fitted, a)).mean(axis=0), 0, atol=1e-5)
    assert_allclose(apply(Paired().fit_pairs(a, b), a), apply(fitted, a), rtol=0, atol=0)
    assert apply(fitted, a).dtype == np.float32


def test_on_a_world_with_true_pairs_the_oracle_is_nearly_reached_without_its_graph():
    world = deconf.worlds.linear(n=2000, d=32, seed=97)
    pairs, new = world.train(), world.test("balanced", 2000)
    fitted = Paired().fit_pairs(*pairs.do_portable)
    still, mobile = new.do_portable
    apart = np.linalg.norm(mobile - still, axis=1).mean()
    left = np.linalg.norm(apply(fitted, mobile) - apply(fitted, still), axis=1).mean()
    assert left < 0.01 * apart
    ill = new.cohort.table["pneumonia"].to_numpy()
    kept = gap(apply(fitted, still), ill, np.zeros(2000))
    assert kept > 0.9 * gap(new.oracle, ill, np.zeros(2000))


def test_more_columns_than_rows_and_a_constant_column_are_no_obstacle():
    a, b = (z[:40] for z in deconf.worlds.linear(n=60, d=200, seed=97).train().do_portable)
    a, b = a.copy(), b.copy()
    a[:, 0] = b[:, 0] = 0.1
    fitted = Paired().fit_pairs(a, b)
    assert fitted.rank == 1
    assert_allclose((apply(fitted, b) - apply(fitted, a)).mean(axis=0), 0, atol=1e-5)


def test_a_device_that_moves_a_patient_further_than_patients_differ_is_seen_without_a_mean():
    rng = np.random.default_rng(0)
    found = []
    for size in (0.0, 4.0):
        person = rng.normal(size=(800, 20))
        a, b = (person + 0.5 * rng.normal(size=person.shape) for _ in range(2))
        b[:, 3] += size * rng.permutation(np.repeat([-1, 1], 400))  # a marker, dark or bright
        fitted = Paired().fit_pairs(a, b)
        found.append(fitted.rank)
        if fitted.rank:
            after = apply(fitted, b)
            assert b.var(axis=0)[3] > 10
            assert after.var(axis=0).max() < 2
    assert found == [0, 1]


def test_an_embedding_that_is_constant_comes_back():
    a = np.full((80, 3), 0.1)
    assert Paired().fit_pairs(a, a).rank == BARE.fit_pairs(a, a).rank == 0


def test_a_continuous_confounder_is_served():
    rng = np.random.default_rng(0)
    person, dose = rng.normal(size=(200, 6)).repeat(3, axis=0), rng.normal(size=(600, 1))
    z = person + 0.3 * rng.normal(size=person.shape)
    z[:, :1] += 2 * dose
    out = apply(Paired().fit(z, dose, patients=np.arange(600) // 3), z)
    assert np.abs(np.corrcoef(z.T, dose.T)[-1, :-1]).max() > 0.8
    assert np.abs(np.corrcoef(out.T, dose.T)[-1, :-1]).max() < 0.15


def test_films_are_pairs_only_where_they_are_alike_in_what_is_held():
    w = Films(3, patients=400, trace=0.0, disease=0.0)
    changed = np.where(w.levels == 1, 1, 0)  # whoever comes to device 1 has fallen ill since
    z = w.z + 3 * changed[:, None]
    assert w.fit(Paired(), z).rank == 1
    with pytest.raises(CohortError, match="0 patients have films at two levels"):
        w.fit(Paired(), z, given=Given(changed))
    age = changed + 0.1 * np.random.default_rng(0).normal(size=len(z))
    moved = w.z + 3 * age[:, None]
    free = w.fit(Paired(), moved, given=Given(np.zeros(len(z), int), age[:, None]))
    assert free.rank == 0


# ---------------------------------------------------------------- too few, and the plan


def test_one_pair_and_none_are_refused_with_their_number_and_one_is_enough_for_full():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 4))
    with pytest.raises(CohortError, match=r"1 patient has films.*'paired' needs 7.*'leace'"):
        Paired().fit_pairs(a[:1], b[:1])
    with pytest.raises(CohortError, match=r"6 patients have films.*needs 7"):
        Paired().fit_pairs(a[:6], b[:6])
    with pytest.raises(CohortError, match=r"0 patients.*Name the patient column \(patient=\)"):
        Paired(rank="full").fit(a, np.arange(30) % 2)
    one = Paired(rank="full").fit_pairs(a[:1], b[:1])
    assert one.rank == 1
    assert_allclose(apply(one, a[:1]), apply(one, b[:1]), atol=1e-12)
    with pytest.raises(SettingsError, match=r"rows belong together; got \(30, 4\) and \(29, 4\)"):
        Paired().fit_pairs(a, b[1:])
    with pytest.raises(SettingsError, match="nan in row 2, column 1"):
        Paired().fit_pairs(np.where(np.arange(120).reshape(30, 4) == 9, np.nan, a), b)


@pytest.mark.parametrize("wrong", [{"shrinkage": 2.0}, {"rank": "some"}])
def test_settings_that_cannot_be_are_named(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Paired(**wrong)


def cohort(pairs=200, single=300, seed=98):
    """Return films of which some patients have two; severity, which decides all, is not there."""
    draw = deconf.worlds.linear(n=pairs + single, d=24, severity="unrecorded", seed=seed).train()
    table = draw.cohort.table
    first = ~table["patient_id"].duplicated().to_numpy()
    rows = np.flatnonzero(first)[:pairs]
    twin = table.iloc[rows].assign(portable=1 - table["portable"].iloc[rows])
    other = np.stack(draw.do_portable)[twin["portable"].to_numpy(), rows]
    return deconf.Cohort.from_arrays(
        np.concatenate([draw.cohort.embeddings[first], other]),
        pd.concat([table[first], twin], ignore_index=True),
        patient="patient_id",
        outcome="pneumonia",
    )


GRAPH = deconf.worlds.linear(severity="unrecorded").graph


def test_the_plan_says_that_the_design_identifies_what_the_graph_does_not(tmp_path):
    films = cohort()
    with pytest.raises(NotIdentified):
        deconf.deconfound("stored", "portable", graph=GRAPH, method="leace").fit(films)
    cleaner = deconf.deconfound("stored", "portable", graph=GRAPH, method="paired")
    plan = cleaner.plan(films)
    assert plan.is_identified
    assert "200 patients have films at two levels of portable" in str(plan)
    assert "Identified by design" in plan.headline
    assert any("nothing changed but portable" in a for a in plan.assumptions)
    assert any("no audit can call it clean" in w for w in plan.warnings)
    clean = cleaner.fit(films)
    assert clean.method == "paired"
    assert any("200 patients" in reason for reason in clean.reasons)
    again = deconf.load(clean.save(tmp_path))
    assert again.plan.is_identified
    assert_allclose(again.embed(films), clean.embed(films), rtol=0, atol=0)
    mean = [clean.embed(films)[films.table["portable"] == level].mean(0) for level in (0, 1)]
    raw = [films.embeddings[films.table["portable"] == level].mean(0) for level in (0, 1)]
    assert np.linalg.norm(mean[1] - mean[0]) < 0.5 * np.linalg.norm(raw[1] - raw[0])


def test_too_few_pairs_are_counted_in_the_plan_and_refused_by_the_fit():
    films = cohort(pairs=4)
    for graph in (GRAPH, None):
        cleaner = deconf.deconfound("stored", "portable", graph=graph, method="paired")
        plan = cleaner.plan(films)
        assert not plan.is_identified
        assert "4 patients have films at two levels of portable" in plan.headline
        assert "edited copies" in plan.warnings[0]
        with pytest.raises(CohortError, match=r"4 patients have films.*needs 7"):
            cleaner.fit(films)
    bare = deconf.Cohort.from_arrays(films.embeddings, films.table, outcome="pneumonia")
    assert (
        "patient="
        in deconf.deconfound("stored", "portable", method="paired").plan(bare).warnings[0]
    )


def test_the_card_names_the_need_that_excuses_it_from_the_common_laws():
    assert "pairs" in methods.card("paired").needs


def test_a_picture_and_its_copy_in_the_other_colour_leave_the_picture_and_no_colour():
    # Colours are uneven, so that the two sides of the pairs differ a little in covariance: every
    # side must name the same differences, or the picture goes with the colour.
    rng = np.random.default_rng(0)
    grey = rng.exponential(size=(3000, 12))
    red = rng.random(3000) < 0.3 + 0.4 * (grey[:, 0] > 0.7)

    def coloured(red):
        return np.hstack([grey * red[:, None], grey * ~red[:, None]])

    fitted = Paired().fit_pairs(coloured(red), coloured(~red))
    one, other = apply(fitted, coloured(red)), apply(fitted, coloured(~red))
    assert_allclose(one, other, atol=1e-8)
    seen = np.hstack([one, np.ones((3000, 1))])
    rest = grey - seen @ np.linalg.lstsq(seen, grey, rcond=1e-9)[0]
    assert rest.var() < 1e-9 * grey.var()
