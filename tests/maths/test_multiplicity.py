from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from deconf.errors import SettingsError
from deconf.maths.multiplicity import benjamini_hochberg, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)

# python -c "from statsmodels.stats.multitest import multipletests as m
# p = [.04, .005, .03, .01, .03, .9, .0002]; print([m(p, method=k)[1] for k in ('holm', 'fdr_bh')])"
# statsmodels 0.15.0
GOLDEN = np.array([0.04, 0.005, 0.03, 0.01, 0.03, 0.9, 0.0002])
GOLDEN_HOLM = [0.12, 0.03, 0.12, 0.05, 0.12, 0.9, 0.0014]
GOLDEN_BH = [0.7 / 15, 0.0175, 0.042, 0.07 / 3, 0.042, 0.9, 0.0014]


def test_both_agree_with_statsmodels():
    assert_allclose(holm(GOLDEN), GOLDEN_HOLM, rtol=1e-12)
    assert_allclose(benjamini_hochberg(GOLDEN), GOLDEN_BH, rtol=1e-12)


def test_holm_agrees_with_the_table_worked_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04 -> 0.06 stays.
    assert_allclose(holm(np.array([0.04, 0.005, 0.03, 0.01])), [0.06, 0.02, 0.06, 0.03])
    assert_allclose(holm(np.array([0.6, 0.5])), [1.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=50)
def test_holm_rejects_what_the_step_down_procedure_rejects(p):
    p = np.array(p)
    adjusted = holm(p)
    for alpha in (0.01, 0.05, 0.3):
        rejected = np.zeros(len(p), dtype=bool)
        for step, i in enumerate(np.argsort(p, kind="stable")):
            if p[i] * (len(p) - step) > alpha:
                break
            rejected[i] = True
        assert ((adjusted <= alpha) == rejected).all()


def test_a_test_that_was_not_run_costs_the_others_nothing():
    assert_allclose(holm(np.array([0.01, np.nan, 0.04])), [0.02, np.nan, 0.04])


@given(P_VALUES)
@settings(max_examples=50)
def test_benjamini_hochberg_rejects_what_the_step_up_procedure_rejects(p):
    p = np.array(p)
    adjusted, ordered = benjamini_hochberg(p), np.sort(p)
    for q in (0.01, 0.05, 0.3):
        passed = np.flatnonzero(ordered * len(p) / np.arange(1, len(p) + 1) <= q)
        cut = ordered[passed[-1]] if len(passed) else -1.0
        assert ((adjusted <= q) == (p <= cut)).all()


@given(P_VALUES, st.integers(0, 100))
def test_the_order_of_the_tests_changes_nothing(p, seed):
    p = np.array(p)
    order = np.random.default_rng(seed).permutation(len(p))
    for adjust in (holm, benjamini_hochberg):
        assert_allclose(adjust(p[order]), adjust(p)[order], rtol=1e-12)


@given(P_VALUES)
def test_adjusting_never_lowers_and_holm_is_never_below_benjamini_hochberg(p):
    p = np.array(p)
    slack = 1 + 1e-12
    assert (p <= benjamini_hochberg(p) * slack).all()
    assert (benjamini_hochberg(p) <= holm(p) * slack).all()


def test_a_screen_skips_tests_that_were_not_run():
    assert_allclose(benjamini_hochberg(np.array([0.01, np.nan, 0.04])), [0.02, np.nan, 0.04])
    assert np.isnan(holm(np.full(3, np.nan))).all()
    assert len(benjamini_hochberg(np.array([]))) == 0


def test_holm_holds_the_chance_of_any_false_alarm_and_the_screen_does_not():
    rng = np.random.default_rng(0)
    p = rng.random((4000, 10))
    p[:, :5] *= 1e-4  # five true findings
    any_false = [(adjust(row)[5:] <= 0.05).any() for adjust in (holm,) for row in p]
    assert 0.03 < np.mean(any_false) < 0.062  # 5 nulls left: 0.05 at the last step, 3.5 errors
    found = np.array([benjamini_hochberg(row) <= 0.05 for row in p])
    share = found[:, 5:].sum(axis=1) / np.maximum(found.sum(axis=1), 1)
    assert 0.02 < share.mean() < 0.031  # q times the share of nulls: 0.025
    assert found[:, 5:].any(axis=1).mean() > 0.1


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_a_statistic_taken_for_a_p_value_is_refused(adjust):
    with pytest.raises(SettingsError, match=r"2.3 at position 1 of 3 is not between 0 and 1"):
        adjust(np.array([0.1, 2.3, np.nan]))
