"""The permuted null: levels move within strata, patients move whole, the maximum is paid for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.maths.intervals import multilevel_auroc
from deconf.probes.null import detectable_auroc, exchangeable_rows, permuted, unmoved


def drawn(n: int, levels: int, strata: int, seed: int):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 9, size=(n, levels)).astype(float)  # many ties
    return scores, rng.integers(levels, size=n), rng.integers(strata, size=n), np.arange(n)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(12, 80),
    levels=st.integers(2, 4),
    strata=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_the_observed_statistic_is_the_auroc_of_the_house(n, levels, strata, seed):
    scores, codes, stratum, who = drawn(n, levels, strata, seed)
    _, observed = permuted({"a": scores}, codes, stratum, who, permutations=1, seed=0)
    assert observed[0] == pytest.approx(multilevel_auroc(scores, codes, stratum), nan_ok=True)


def test_the_maximum_over_attackers_lies_above_the_null_of_any_one():
    scores, codes, stratum, who = drawn(200, 2, 2, 0)
    other = np.random.default_rng(1).standard_normal((200, 2))
    options = {"permutations": 200, "seed": 0}
    both, _ = permuted({"a": scores, "b": other}, codes, stratum, who, **options)
    alone, _ = permuted({"a": scores}, codes, stratum, who, **options)
    np.testing.assert_array_equal(both[:, :1], alone)  # one permutation serves all attackers
    assert np.median(both.max(1)) > np.median(alone) + 0.005


def test_a_score_that_knows_only_the_stratum_has_a_null_at_one_half():
    _, codes, stratum, who = drawn(200, 2, 2, 0)
    score = np.stack([-stratum, stratum], axis=1).astype(float)
    null, observed = permuted({"a": score}, codes, stratum, who, permutations=50, seed=0)
    np.testing.assert_allclose([*null[:, 0], *observed], 0.5)


def test_levels_are_permuted_within_strata_and_spread_as_mann_and_whitney_say():
    stratum = np.repeat([0, 1], 100)
    codes = np.r_[np.arange(100) < 5, np.arange(100) >= 5].astype(int)  # rare here, common there
    score = np.random.default_rng(0).standard_normal(200)
    pair = {"a": np.stack([-score, score], axis=1)}
    null, _ = permuted(pair, codes, stratum, np.arange(200), permutations=500, seed=0)
    assert null.mean() == pytest.approx(0.5, abs=0.02)
    assert null.std() == pytest.approx(np.sqrt(101 / (12 * 5 * 95) / 2), rel=0.1)


def test_one_stratum_of_one_film_patients_needs_no_thinning():
    codes = np.arange(50) % 2
    kept, note = exchangeable_rows(codes, np.zeros(50), np.arange(50), seed=0)
    assert len(kept) == 50
    assert note == ""


def test_films_that_tell_the_site_by_their_number_are_thinned_until_patients_can_move():
    # Site A photographs once, site B eight times: patients with as many films are of one site.
    films = np.r_[np.ones(100, int), np.full(100, 8)]
    who = np.repeat(np.arange(200), films)
    codes = (who >= 100).astype(int)
    strata = np.zeros(len(who))
    assert unmoved(codes, strata, who) == pytest.approx(1.0)
    kept, note = exchangeable_rows(codes, strata, who, seed=0)
    assert unmoved(codes[kept], strata[kept], who[kept]) < 0.04
    assert len(np.unique(who[kept])) == 200
    assert "1 film per patient" in note


def test_a_perfect_reader_does_not_lift_the_floor_after_thinning_and_does_before():
    films = np.random.default_rng(0).integers(1, 9, size=120) + 8 * (np.arange(120) % 2)
    who = np.repeat(np.arange(120), films)
    codes, strata = who % 2, np.zeros(len(who))
    score = np.stack([-codes, codes], axis=1).astype(float)

    def floor(rows):
        null, _ = permuted(
            {"a": score[rows]}, codes[rows], strata[rows], who[rows], permutations=99, seed=0
        )
        return np.median(null)

    kept, _ = exchangeable_rows(codes, strata, who, seed=0)
    assert floor(np.arange(len(who))) > 0.9
    assert floor(kept) < 0.55


@settings(max_examples=25, deadline=None)
@given(patients=st.integers(2, 30), strata=st.integers(1, 4), seed=st.integers(0, 99))
def test_thinning_keeps_every_patient_and_ends_with_levels_that_move(patients, strata, seed):
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 10, size=patients))
    codes, stratum = rng.integers(2, size=len(who)), rng.integers(strata, size=len(who))
    kept, _ = exchangeable_rows(codes, stratum, who, seed=seed)
    assert set(who[kept]) == set(who)
    assert unmoved(codes[kept], stratum[kept], who[kept]) <= 0.04


def test_unmoved_does_not_depend_on_how_levels_are_dealt_within_a_layout():
    # So that thinning by it leaves the level of the test alone.
    who = np.repeat(np.arange(20), 2)
    codes = np.random.default_rng(0).integers(2, size=(20, 2))
    shuffled = np.random.default_rng(1).permutation(codes)
    one = np.zeros(40)
    assert unmoved(codes.ravel(), one, who) == pytest.approx(unmoved(shuffled.ravel(), one, who))


def test_the_detectable_auroc_counts_patients_not_films_and_adds_up_strata():
    codes = np.arange(200) % 2
    one = np.zeros(200)
    formula = 0.5 + 2.5 * np.sqrt(201 / (12 * 100 * 100))
    assert detectable_auroc(codes, one, np.arange(200)) == pytest.approx(formula)
    ten = {"codes": np.repeat(codes, 10), "strata": np.zeros(2000)}
    assert detectable_auroc(**ten, patients=np.repeat(np.arange(200), 10)) == pytest.approx(formula)
    split = detectable_auroc(codes, np.arange(200) // 100, np.arange(200))
    halves = 0.5 + 2.5 * np.sqrt(101 / (12 * 50 * 50) / 2)
    assert split == pytest.approx(halves)
