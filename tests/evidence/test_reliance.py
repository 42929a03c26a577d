"""The score as its own attacker: its level under the null, its sign, any shape, no fold's scale."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from deconf.evidence.answers import HSIC_GAP, HSIC_MARGIN, depends
from deconf.evidence.reliance import WIDTH, Reliance, reliance
from deconf.maths.dependence import dependence
from deconf.maths.intervals import auroc, patient_weights, stratified_auroc
from deconf.maths.kernels import categories, gaussian
from deconf.maths.multiplicity import holm

seeds = st.integers(0, 10_000)
NAMES = ("c=a", "c=b", "c=c", "c=d")


def measured(
    score: np.ndarray,
    codes: np.ndarray,
    strata: np.ndarray | None = None,
    patients: np.ndarray | None = None,
    *,
    draws: int = 99,
    permutations: int = 199,
    seed: int = 0,
    **options: np.ndarray,
) -> Reliance:
    n = len(score)
    strata = np.zeros(n, dtype=int) if strata is None else strata
    patients = np.arange(n) if patients is None else patients
    w = np.vstack([np.ones((1, n)), patient_weights(patients, draws, seed)])
    return reliance(
        score, codes, NAMES, strata, patients, w,
        margin=0.05, permutations=permutations, seed=seed, **options,
    )  # fmt: skip


def word(found: Reliance) -> str:
    return depends(found, *holm(np.array([found.p, found.hsic_p])))


# ------------------------------------------------------------------ the figure


@settings(max_examples=10)
@given(seed=seeds, levels=st.integers(2, 4))
def test_each_level_has_its_auroc_within_strata_and_the_furthest_is_named(seed, levels):
    rng = np.random.default_rng(seed)
    c, stratum = rng.integers(levels, size=300), rng.integers(3, size=300)
    score = rng.normal(size=300) + 0.5 * c + 9.0 * stratum
    found = measured(score, c, stratum, draws=19, permutations=9)
    areas = {NAMES[k]: stratified_auroc(score, c == k, stratum) for k in range(levels)}
    if levels == 2:
        del areas["c=a"]
    assert {k: v.estimate for k, v in found.levels.items()} == pytest.approx(areas)
    assert found.level == max(areas, key=lambda k: abs(areas[k] - 0.5))


@settings(max_examples=10)
@given(seed=seeds, shift=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_the_scale_of_a_fold_changes_nothing(seed, shift, scale):
    rng = np.random.default_rng(seed)
    c, fold = rng.integers(2, size=200), rng.integers(2, size=200)
    score = rng.normal(size=200) + c
    moved = np.where(fold == 0, scale * score + shift, score)
    one, other = measured(score, c, fold), measured(moved, c, fold)
    assert one.auroc == other.auroc
    assert (one.p, one.hsic_p) == (other.p, other.hsic_p)


def test_a_score_turned_round_depends_as_much_the_other_way():
    rng = np.random.default_rng(4)
    c = rng.integers(2, size=400)
    score = rng.normal(size=400) + 0.5 * c
    one, other = measured(score, c), measured(-score, c)
    assert one.p == other.p <= 0.01
    assert other.auroc.estimate == pytest.approx(1 - one.auroc.estimate)
    assert word(other) == "yes"


def test_a_difference_between_strata_is_no_dependence():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=4000)
    c = (rng.random(4000) < np.where(y, 0.8, 0.2)).astype(int)
    score = y + 0.1 * rng.normal(size=4000)
    assert auroc(score, c) > 0.7
    found = measured(score, c, y)
    assert word(found) == "no"
    assert abs(found.auroc.estimate - 0.5) < 0.05
    assert word(measured(score, c)) == "yes"


def test_a_score_that_only_spreads_wider_at_one_level_is_caught_by_hsic_alone():
    rng = np.random.default_rng(1)
    c = rng.integers(2, size=2000)
    found = measured(rng.normal(size=2000) * (1 + c), c)
    assert found.p > 0.05
    assert found.hsic_p < 0.01
    assert found.correlation > HSIC_GAP
    assert word(found) == "yes"


def test_a_bend_over_a_number_is_caught_though_its_thirds_run_alike():
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, size=1500)
    wave = np.sin(3 * np.pi * x) + 0.5 * rng.normal(size=1500)
    thirds = np.searchsorted([-1 / 3, 1 / 3], x)
    assert measured(wave, thirds).hsic_p > 0.05
    assert measured(wave, thirds, values=x).hsic_p < 0.01


@pytest.mark.parametrize(("area", "yardstick"), [(0.52, HSIC_GAP), (0.55, HSIC_MARGIN)])
def test_the_yardsticks_of_hsic_are_shifts_to_an_auroc_of_0_52_and_0_55(area, yardstick):
    normal, half = NormalDist(), 2000
    even = np.array([normal.inv_cdf((k + 0.5) / half) for k in range(half)])
    score = np.r_[even, even + np.sqrt(2) * normal.inv_cdf(area)]
    c = np.repeat([0, 1], half)
    assert auroc(score, c) == pytest.approx(area, abs=1e-3)
    ranks = gaussian(rankdata(score) / len(c), width=WIDTH)
    found = dependence(ranks, categories(c), permutations=1)
    assert found.correlation == pytest.approx(yardstick, rel=0.05)


def test_a_number_of_the_adjustment_set_is_taken_out_inside_a_wide_stratum():
    rng = np.random.default_rng(3)
    age = rng.uniform(0, 1, size=2000)
    c = (rng.random(2000) < 0.2 + 0.6 * age).astype(int)
    score = age + 0.3 * rng.normal(size=2000)
    assert word(measured(score, c)) == "yes"
    assert word(measured(score, c, numbers=age[:, np.newaxis])) == "no"


# ------------------------------------------------------------------ the test


@pytest.mark.parametrize("levels", [2, 4])
def test_a_true_null_is_rejected_as_often_as_it_says_and_films_of_a_patient_do_not_matter(levels):
    p, hsic_p = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(60), 2)
        y = rng.integers(2, size=60)[who]
        c = ((rng.integers(levels, size=60)[who] + y) % levels).astype(int)
        score = y + rng.normal(size=60)[who] + 0.3 * rng.normal(size=120)
        found = measured(score, c, y, who, draws=19, permutations=99, seed=seed)
        p.append(found.p)
        hsic_p.append(found.hsic_p)
    for values in (p, hsic_p):  # 5 % of 60: at most 9 in 999 of 1,000 cases
        assert (np.array(values) <= 0.05).sum() <= 9
        assert np.mean(values) == pytest.approx(0.5, abs=0.12)


def test_films_taken_for_patients_would_reject_far_too_often():
    p = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(30), 4)
        c, score = rng.integers(2, size=30)[who], rng.normal(size=30)[who]
        p.append(measured(score, c, draws=19, permutations=99, seed=seed).p)
    assert np.mean(np.array(p) <= 0.05) > 0.15


# ------------------------------------------------------------------ nothing to compare


def test_where_every_stratum_holds_one_level_there_is_no_figure_but_a_reason():
    c = np.repeat([0, 1], 50)
    found = measured(np.arange(100.0), c, c)
    assert "no two films of one test part" in found.reason
    assert np.isnan(found.p)
    assert word(found) == "undecided"


def test_a_constant_score_depends_on_nothing():
    found = measured(np.zeros(400), np.arange(400) % 2)
    assert found.auroc.estimate == 0.5
    assert (found.p, found.hsic_p, found.correlation) == (1.0, 1.0, 0.0)
    assert word(found) == "no"


def test_few_films_decide_nothing():
    rng = np.random.default_rng(0)
    found = measured(rng.normal(size=60), rng.integers(2, size=60))
    assert word(found) == "undecided"
