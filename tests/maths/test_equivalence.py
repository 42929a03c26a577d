from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm, ttest_1samp

from deconf.errors import SettingsError
from deconf.maths.equivalence import (
    design_effect,
    equivalence,
    equivalence_of_draws,
    hanley_mcneil,
    in_words,
    minimum_detectable_auroc,
    minimum_detectable_effect,
)
from deconf.maths.intervals import auroc

# --- two one-sided tests -------------------------------------------------------------------


@given(st.floats(-0.1, 0.1), st.floats(1e-3, 0.1), st.floats(0.005, 0.1), st.floats(0.01, 0.2))
def test_equivalent_means_that_the_narrower_interval_lies_inside_the_margin(d, se, margin, alpha):
    found = equivalence(d, se, margin, alpha=alpha)
    inside = -margin < found.interval.low and found.interval.high < margin
    if abs(found.p - alpha) > 1e-9:
        assert found.is_equivalent == inside
    assert found.interval.level == pytest.approx(1 - 2 * alpha)
    assert_allclose(found.p, equivalence(-d, se, margin, alpha=alpha).p)


def test_p_is_the_larger_of_the_two_one_sided_tests_of_scipy():
    x = np.random.default_rng(0).normal(0.02, 0.3, size=100_000)  # t is normal by then
    se = x.std(ddof=1) / math.sqrt(len(x))
    margin = 0.02 + 0.002
    low = ttest_1samp(x, -margin, alternative="greater").pvalue
    high = ttest_1samp(x, margin, alternative="less").pvalue
    assert_allclose(equivalence(x.mean(), se, margin).p, max(low, high), rtol=1e-3)


def test_at_the_margin_equivalence_is_claimed_5_percent_of_the_time_and_at_zero_nearly_always():
    rng = np.random.default_rng(0)

    def claimed(truth: float) -> float:
        estimates = truth + 0.01 * rng.normal(size=4000)
        return float(np.mean([equivalence(d, 0.01, 0.04).is_equivalent for d in estimates]))

    assert 0.037 < claimed(0.04) < 0.063  # 4 standard errors
    assert claimed(0.0) > 0.95


def test_a_difference_can_be_significant_and_still_too_small_to_matter():
    found = equivalence(0.01, 0.002, margin=0.03)
    assert found.is_equivalent
    assert "was found" in in_words(0.01, 0.002)


def test_draws_say_what_their_mean_and_error_say():
    draws = np.random.default_rng(0).normal(0.005, 0.01, size=20_000)
    for margin in (0.02, 0.03):
        by_draws = equivalence_of_draws(draws, 0.005, margin)
        assert_allclose(by_draws.p, equivalence(0.005, 0.01, margin).p, rtol=0.15)
        assert by_draws.is_equivalent == (by_draws.p <= 0.05)


def test_no_draw_beyond_the_margin_gives_one_over_the_draws_and_one():
    assert equivalence_of_draws(np.zeros(999), 0.0, 0.03).p == 1 / 1000
    assert equivalence_of_draws(np.full(999, 0.03), 0.03, 0.03).p == 1


def test_draws_that_are_mostly_lost_claim_nothing():
    draws = np.r_[np.zeros(700), [np.nan] * 300]
    found = equivalence_of_draws(draws, 0.0, 0.03)
    assert math.isnan(found.p)
    assert not found.is_equivalent


def test_no_error_is_taken_at_its_word():
    assert equivalence(0.0, 0.0, 0.03).is_equivalent
    assert not equivalence(0.03, 0.0, 0.03).is_equivalent


def test_the_verdict_says_margin_interval_and_p():
    assert str(equivalence(0.05, 0.01, 0.03)) == (
        "equivalence within ±0.03 not shown: difference +0.050 [+0.034, +0.066] (90 %), p = 0.98"
    )


# --- what would have been found ------------------------------------------------------------


@given(st.floats(1e-3, 1), st.sampled_from([0.01, 0.05, 0.1]), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_detectable_effect_has_the_power_it_says(se, alpha, power):
    effect = minimum_detectable_effect(se, alpha=alpha, power=power)
    z = norm.ppf(1 - alpha / 2)
    assert_allclose(norm.sf(z - effect / se), power, rtol=1e-9)  # the far side: below 1e-4
    assert effect < minimum_detectable_effect(se, alpha=alpha, power=power + 0.01)


def test_hanley_mcneil_at_one_half_is_the_variance_of_mann_whitney():
    for m, n in ((1, 1), (30, 70), (500, 20)):
        assert_allclose(hanley_mcneil(0.5, m, n) ** 2, (m + n + 1) / (12 * m * n))
    assert hanley_mcneil(1.0, 30, 40) == 0


def test_hanley_mcneil_is_the_spread_of_exponential_scores():
    rng = np.random.default_rng(0)
    rate = 0.8 / 0.2  # A = rate / (1 + rate)
    label = np.r_[np.ones(40), np.zeros(60)]
    areas = [
        auroc(np.r_[rate * rng.exponential(size=40), rng.exponential(size=60)], label)
        for _ in range(2000)
    ]
    assert_allclose(np.mean(areas), 0.8, atol=0.005)
    assert_allclose(np.std(areas), hanley_mcneil(0.8, 40, 60), rtol=0.07)


def test_the_detectable_auroc_is_found_as_often_as_it_says():
    rng = np.random.default_rng(0)
    detectable = minimum_detectable_auroc(150, 150)
    shift = norm.ppf(detectable) * math.sqrt(2)
    label = np.r_[np.ones(150), np.zeros(150)]
    error = hanley_mcneil(0.5, 150, 150)
    found = [
        abs(auroc(rng.normal(size=300) + shift * label, label) - 0.5) > 1.96 * error
        for _ in range(1500)
    ]
    assert_allclose(np.mean(found), 0.8, atol=0.045)


def test_the_design_effect_is_the_variance_of_a_mean_of_clustered_films():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), rng.integers(1, 7, size=60))
    shared = rng.normal(size=(4000, 60))[:, patients]
    films = math.sqrt(0.6) * shared + math.sqrt(0.4) * rng.normal(size=(4000, len(patients)))
    inflated = films.mean(axis=1).var() * len(patients)
    assert_allclose(inflated, design_effect(patients, 0.6), rtol=0.1)
    assert design_effect(np.arange(9), 0.9) == 1
    assert design_effect(np.zeros(5), 1.0) == 5


def test_films_that_are_copies_leave_the_detectable_auroc_of_the_patients():
    effect = design_effect(np.repeat(np.arange(400), 3), 1.0)
    copies = minimum_detectable_auroc(600, 600, design_effect=effect)
    assert_allclose(copies, minimum_detectable_auroc(200, 200), atol=5e-4)


def test_the_sentence_says_what_was_found_or_would_have_been():
    assert in_words(0.0, 0.0107) == (
        "no difference found; differences above 0.03 would have been found with 80 % power"
    )
    assert in_words(-0.05, 0.01) == "a difference of -0.05 was found, p = 5.7e-07"
    assert in_words(0.0, 0.0).startswith("no difference found; differences above 0.00")
    assert in_words(0.2, 0.0) == "a difference of +0.20 was found, p = 0"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: equivalence(0.0, 0.01, 0.0), "margin=0 is not positive: .*does not matter"),
        (lambda: equivalence(0.0, 0.01, math.nan), "margin=nan is not positive"),
        (lambda: equivalence(0.0, -1.0, 0.03), "standard error of -1 is not"),
        (lambda: equivalence(0.0, 0.01, 0.03, alpha=0.6), "alpha=0.6 is not between 0 and 0.5"),
        (lambda: equivalence_of_draws(np.zeros(10), 0.0, 0.1), "10 draws .* take at least 19"),
        (lambda: minimum_detectable_effect(0.1, power=0.01), "power=0.01 is not between alpha"),
        (lambda: minimum_detectable_effect(math.nan), "standard error of nan"),
        (lambda: hanley_mcneil(1.2, 5, 5), "AUROC of 1.2 is not between 0 and 1"),
        (lambda: hanley_mcneil(0.7, 0, 5), "0 positives and 5 negatives: .* one of each"),
        (lambda: design_effect(np.arange(3), 1.5), "correlation of 1.5 within patients"),
        (lambda: minimum_detectable_auroc(5, 5, design_effect=0.5), "0.5 is below 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(call, words):
    with pytest.raises(SettingsError, match=words):
        call()
