from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from deconf.maths.intervals import (
    Interval,
    auroc,
    bootstrap,
    interval,
    kish,
    multilevel_auroc,
    multilevel_aurocs,
    patient_counts,
    patient_weights,
    stratified_auroc,
    stratified_aurocs,
    weighted_aurocs,
)

EXACT = 1e-12  # sums of at most a few hundred float64 terms of order one


@st.composite
def scored(draw, strata: int = 1):
    """Scores with many or few ties, labels of any balance, strata, and weights that may be 0."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n = draw(st.integers(2, 80))
    score = rng.normal(size=n).round(draw(st.sampled_from([0, 1, 12])))
    label = rng.random(n) < draw(st.sampled_from([0.1, 0.5, 0.8]))
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], size=n)
    return score, label, rng.integers(strata, size=n), weights


# --- AUROC ---------------------------------------------------------------------------------


@given(scored())
def test_auroc_equals_that_of_scikit_learn_with_ties_and_weights(case):
    score, label, _, weights = case
    for w in (None, weights):
        held = np.ones(len(score)) if w is None else w
        if held[label].sum() > 0 and held[~label].sum() > 0:
            assert_allclose(
                auroc(score, label, w), roc_auc_score(label, score, sample_weight=w), atol=EXACT
            )
        else:
            assert math.isnan(auroc(score, label, w))


@given(scored())
def test_a_weight_of_two_is_a_row_written_twice(case):
    score, label, _, weights = case
    times = weights.round().astype(int)
    assert_allclose(
        auroc(score, label, times), auroc(np.repeat(score, times), np.repeat(label, times))
    )


@given(scored())
def test_turning_the_scores_round_turns_the_auroc_round(case):
    score, label, _, weights = case
    assert_allclose(auroc(-score, label, weights), 1 - auroc(score, label, weights), atol=EXACT)


@given(scored())
def test_auroc_sees_only_the_order_of_the_scores(case):
    score, label, _, weights = case
    assert_allclose(auroc(np.exp(score), label, weights), auroc(score, label, weights), atol=EXACT)


def test_a_nan_score_gives_nan_and_not_a_rank():
    assert math.isnan(auroc(np.array([0.1, np.nan, 0.3]), np.array([0, 1, 1])))


def test_a_thousand_draws_are_the_same_as_one_at_a_time_across_blocks():
    rng = np.random.default_rng(0)
    score, label = rng.normal(size=3000).round(1), rng.random(3000) < 0.3
    weights = rng.poisson(1, size=(200, 3000))  # more than one block
    one_by_one = [auroc(score, label, w) for w in weights]
    assert_allclose(weighted_aurocs(score, label, weights), one_by_one, atol=EXACT)


def test_a_thousand_draws_of_five_thousand_rows_take_well_under_a_second():
    rng = np.random.default_rng(0)
    score, label = rng.normal(size=5000), rng.random(5000) < 0.3
    weights = rng.poisson(1, size=(1000, 5000)).astype(np.float32)
    start = time.process_time()
    weighted_aurocs(score, label, weights)
    assert time.process_time() - start < 2.0  # 0.1 s when the machine is idle


# --- within strata, several levels ---------------------------------------------------------


@given(scored(strata=4))
def test_within_strata_is_the_average_of_the_strata_by_their_rows(case):
    score, label, strata, weights = case
    for w in (np.ones(len(score)), weights):
        areas, sizes = [], []
        for s in np.unique(strata):
            rows = strata == s
            positive, negative = w[rows & label].sum(), w[rows & ~label].sum()
            if positive > 0 and negative > 0:
                areas.append(roc_auc_score(label[rows], score[rows], sample_weight=w[rows]))
                sizes.append(w[rows].sum())
        expected = np.average(areas, weights=sizes) if areas else np.nan
        assert_allclose(stratified_auroc(score, label, strata, w), expected, atol=EXACT)


@given(scored(strata=4), st.integers(0, 100))
def test_a_shift_per_stratum_cannot_change_the_auroc_within_strata(case, seed):
    score, label, strata, weights = case
    order = np.argsort(np.argsort(score))  # whole numbers: a shift cannot make or break a tie
    shift = np.random.default_rng(seed).integers(-50, 50, size=4)[strata]
    assert_allclose(
        stratified_auroc(order + shift, label, strata, weights),
        stratified_auroc(order, label, strata, weights),
        atol=EXACT,
    )


def test_a_confounder_read_through_the_outcome_alone_shows_pooled_but_not_within():
    rng = np.random.default_rng(0)
    outcome = rng.random(4000) < 0.5
    portable = rng.random(4000) < np.where(outcome, 0.8, 0.2)
    score = outcome + rng.normal(size=4000)
    assert auroc(score, portable) > 0.62
    assert abs(stratified_auroc(score, portable, outcome) - 0.5) < 0.03


@given(scored(strata=3), st.integers(0, 100))
def test_vectorised_forms_equal_one_draw_at_a_time(case, seed):
    score, label, strata, _ = case
    rng = np.random.default_rng(seed)
    weights = rng.poisson(0.7, size=(5, len(score)))
    scores, codes = rng.normal(size=(len(score), 3)).round(1), rng.integers(3, size=len(score))
    assert_allclose(
        stratified_aurocs(score, label, strata, weights),
        [stratified_auroc(score, label, strata, w) for w in weights],
        atol=EXACT,
    )
    assert_allclose(
        multilevel_aurocs(scores, codes, strata, weights),
        [multilevel_auroc(scores, codes, strata, w) for w in weights],
        atol=EXACT,
    )


def test_several_levels_are_the_macro_average_of_scikit_learn():
    rng = np.random.default_rng(1)
    codes = rng.choice(4, p=[0.6, 0.2, 0.15, 0.05], size=400)
    scores = rng.random((400, 4)) + 0.4 * np.eye(4)[codes]
    scores /= scores.sum(axis=1, keepdims=True)  # scikit-learn wants probabilities
    expected = roc_auc_score(codes, scores, multi_class="ovr", average="macro")
    assert_allclose(multilevel_auroc(scores, codes), expected, atol=EXACT)


def test_with_two_levels_the_macro_average_is_the_ordinary_auroc_also_within_strata():
    rng = np.random.default_rng(2)
    codes, strata = rng.integers(2, size=200), rng.integers(3, size=200)
    score = rng.normal(size=200) + codes
    both = np.column_stack([-score, score])
    assert_allclose(multilevel_auroc(both, codes), auroc(score, codes), atol=EXACT)
    assert_allclose(
        multilevel_auroc(both, codes, strata), stratified_auroc(score, codes, strata), atol=EXACT
    )


def test_an_absent_level_is_left_out_of_the_average():
    rng = np.random.default_rng(3)
    scores, codes = rng.normal(size=(90, 3)), rng.integers(2, size=90)
    pair = [auroc(scores[:, k], codes == k) for k in range(2)]
    assert_allclose(multilevel_auroc(scores, codes), np.mean(pair), atol=EXACT)


def test_no_stratum_with_two_classes_gives_nan():
    strata = np.array([0, 0, 1, 1])
    assert math.isnan(stratified_auroc(np.arange(4.0), strata, strata))


# --- bootstrap of patients -----------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 1000))
def test_rows_of_a_patient_share_a_weight_and_as_many_patients_are_drawn_as_there_are(n, seed):
    patients = np.random.default_rng(seed).integers(1, 15, size=n)
    weights = patient_weights(patients, draws=6, seed=seed)
    _, first, inverse = np.unique(patients, return_index=True, return_inverse=True)
    assert (weights == weights[:, first][:, inverse]).all()
    assert (weights[:, first].sum(axis=1) == len(first)).all()


def test_each_patient_is_drawn_once_on_average_with_the_variance_of_the_multinomial():
    weights = patient_weights(np.arange(20), draws=20_000, seed=0)
    assert_allclose(weights.mean(axis=0), 1, atol=0.04)  # 5 standard errors
    assert_allclose(weights.var(axis=0), 1 - 1 / 20, atol=0.06)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    patients = np.array(["a", "b", "c", "a"])
    same = patient_weights(patients, 5, seed=1), patient_weights(patients, 5, seed=1)
    assert (same[0] == same[1]).all()
    assert (same[0] != patient_weights(patients, 5, seed=2)).any()


def test_counts_are_those_of_one_call_of_the_generator_however_they_are_blocked():
    patients = np.repeat(np.arange(3000), 2)  # 300 draws are several blocks
    codes, counts = patient_counts(patients, 300, seed=5)
    drawn = np.random.default_rng(5).integers(3000, size=(300, 3000))
    for row, once in zip(counts[::37], drawn[::37], strict=True):
        assert (row == np.bincount(once, minlength=3000)).all()
    assert (patient_weights(patients, 300, seed=5) == counts[:, codes]).all()


# --- bootstrap of sites, then patients -----------------------------------------------------


@given(st.integers(1, 60), st.integers(0, 1000))
def test_a_drawn_site_brings_as_many_patients_as_it_has_and_the_others_none(n, seed):
    rng = np.random.default_rng(seed)
    patients, site = rng.integers(12, size=n), rng.choice(list("ABCD"), size=n)
    codes, counts = patient_counts(patients, 8, seed, site=site)
    home = dict(zip(codes, site, strict=True))
    at = np.array([home[unit] for unit in range(counts.shape[1])])
    sites, sizes = np.unique(at, return_counts=True)
    per_site = np.stack([counts[:, at == s].sum(axis=1) for s in sites], axis=1)
    assert (per_site % sizes == 0).all()
    assert (per_site // sizes).sum(axis=1).tolist() == [len(sites)] * 8
    named = [tuple(pair) for pair in zip(patients, site, strict=True)]
    assert len(set(named)) == counts.shape[1]


def test_one_site_is_the_ordinary_bootstrap_of_patients_in_mean_and_variance():
    _, counts = patient_counts(np.arange(20), 20_000, seed=0, site=np.zeros(20))
    assert_allclose(counts.mean(axis=0), 1, atol=0.04)
    assert_allclose(counts.var(axis=0), 1 - 1 / 20, atol=0.06)


def test_an_interval_over_sites_is_wider_where_sites_differ():
    rng = np.random.default_rng(0)
    site = np.repeat(np.arange(12), 60)
    ill = rng.random(720) < 0.5
    score = rng.normal(size=720) + ill * np.linspace(-1, 3, 12)[site]

    def width(w):
        low, high = np.quantile(weighted_aurocs(score, ill, w), [0.025, 0.975])
        return high - low

    one, two = (patient_weights(np.arange(720), 400, 0, site=s) for s in (None, site))
    assert width(two) > 2 * width(one)


def clustered(rng, patients=40, films=6):
    """Films of a patient share most of their score; the true AUROC is Φ(1/√2)."""
    who = np.repeat(np.arange(patients), films)
    ill = (np.arange(patients) % 2).astype(bool)
    shared = np.sqrt(0.8) * rng.normal(size=patients) + ill
    return shared[who] + np.sqrt(0.2) * rng.normal(size=len(who)), ill[who], who


def covers(result: Interval) -> bool:
    return result.low <= norm.cdf(1 / np.sqrt(2)) <= result.high


def test_patient_intervals_cover_at_their_level_where_film_intervals_do_not():
    rng = np.random.default_rng(0)
    by_patient, by_film = [], []
    for seed in range(200):
        score, ill, who = clustered(rng)

        def area(w, score=score, ill=ill):
            return weighted_aurocs(score, ill, w)

        by_patient.append(covers(bootstrap(area, who, draws=200, seed=seed)))
        by_film.append(covers(bootstrap(area, np.arange(len(who)), draws=200, seed=seed)))
    # 40 patients: the percentile interval is a little short; 0.89 is 4 standard errors below 0.95.
    assert np.mean(by_patient) > 0.89
    assert np.mean(by_film) < 0.75


def test_a_paired_difference_is_far_narrower_than_an_unpaired_one():
    score, ill, who = clustered(np.random.default_rng(1))
    other = score + 0.1 * np.random.default_rng(2).normal(size=len(score))
    weights, again = patient_weights(who, 400, seed=0), patient_weights(who, 400, seed=1)
    raw = weighted_aurocs(score, ill, weights)
    paired = interval(raw - weighted_aurocs(other, ill, weights), 0.0)
    unpaired = interval(raw - weighted_aurocs(other, ill, again), 0.0)
    assert (paired.high - paired.low) < 0.3 * (unpaired.high - unpaired.low)


def test_an_interval_holds_the_middle_share_of_the_draws_that_have_a_value():
    draws = np.r_[np.linspace(0, 1, 1001), [np.nan] * 250]
    result = interval(draws, 0.5, level=0.9)
    assert_allclose([result.low, result.high], [0.05, 0.95])
    assert result.level == 0.9


def test_no_interval_is_given_once_more_than_a_fifth_of_the_draws_is_lost():
    def limits(lost: int) -> Interval:
        return interval(np.r_[np.linspace(0, 1, 100 - lost), [np.nan] * lost], 0.5)

    assert not math.isnan(limits(20).low)
    assert math.isnan(limits(21).low)
    assert math.isnan(limits(21).high)
    assert math.isnan(limits(100).low)
    assert limits(100).estimate == 0.5


# --- weights ---------------------------------------------------------------------------------


def test_kish_counts_equal_weights_fully_and_one_giant_once():
    assert kish(np.full(50, 0.3)) == pytest.approx(50)
    assert kish(np.r_[1e9, np.ones(49)]) == pytest.approx(1, abs=1e-6)
    assert kish(np.zeros(5)) == 0.0
