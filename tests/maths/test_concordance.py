"""Concordance counts every pair once, and is the AUROC where there are two classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from deconf.maths.concordance import (
    concordance,
    permuted_concordances,
    stratified_concordances,
    weighted_concordances,
)
from deconf.maths.intervals import auroc, stratified_aurocs

EXACT = {"abs": 1e-12, "nan_ok": True}
shapes = {
    "n": st.integers(1, 40),
    "scores": st.integers(1, 60),
    "values": st.integers(1, 60),
    "seed": st.integers(0, 999),
}


def drawn(n: int, scores: int, values: int, seed: int):
    """Return scores, values, strata and weights of n rows, with more or fewer ties."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(4, size=(3, n)).astype(float)
    return rng.integers(scores, size=n), rng.integers(values, size=n), rng.integers(3, size=n), (
        weights
    )  # fmt: skip


def pair_by_pair(score, value, weights) -> float:
    """Return the definition, two loops long."""
    right = total = 0.0
    for i in range(len(score)):
        for j in range(i):
            if value[i] != value[j]:
                w = weights[i] * weights[j]
                total += w
                agree = np.sign(score[i] - score[j]) * np.sign(value[i] - value[j])
                right += w * (1 + agree) / 2
    return right / total if total else np.nan


@settings(max_examples=60, deadline=None)
@given(**shapes)
def test_every_pair_is_counted_once_with_its_weight(n, scores, values, seed):
    score, value, _, weights = drawn(n, scores, values, seed)
    found = weighted_concordances(score, value, weights)
    for w, c in zip(weights, found, strict=True):
        assert c == pytest.approx(pair_by_pair(score, value, w), **EXACT)


@settings(max_examples=40, deadline=None)
@given(**shapes)
def test_permutations_at_a_time_give_what_each_gives_alone(n, scores, values, seed):
    score, value, strata, _ = drawn(n, scores, values, seed)
    rng = np.random.default_rng(seed)
    index = np.tile(np.arange(n), (4, 1))
    for row in index[1:]:
        for s in range(3):
            row[strata == s] = rng.permutation(row[strata == s])
    found = permuted_concordances(score, value, strata, index)
    one = np.ones((1, n))
    for row, c in zip(index, found, strict=True):
        alone = stratified_concordances(score, value[row], strata, one)[0]
        assert c == pytest.approx(alone, **EXACT)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 60), seed=st.integers(0, 999))
def test_two_classes_give_the_auroc(n, seed):
    score, value, strata, weights = drawn(n, 9, 2, seed)
    assert concordance(score, value) == pytest.approx(auroc(score, value), **EXACT)
    np.testing.assert_allclose(
        stratified_concordances(score, value, strata, weights),
        stratified_aurocs(score, value, strata, weights),
        atol=1e-12,
    )


def test_without_ties_it_is_kendalls_tau_on_the_scale_of_the_auroc():
    rng = np.random.default_rng(0)
    score, value = rng.standard_normal((2, 700))
    tau = kendalltau(score, value + score).statistic
    assert concordance(score, value + score) == pytest.approx((1 + tau) / 2)


def test_two_normal_variables_agree_as_often_as_their_correlation_says():
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 40_000))
    y = 0.3 * x + np.sqrt(1 - 0.3**2) * noise
    assert concordance(x, y) == pytest.approx(0.5 + np.arcsin(0.3) / np.pi, abs=0.005)  # 3 sd


def test_only_the_order_of_the_numbers_counts():
    rng = np.random.default_rng(0)
    score, value = rng.standard_normal((2, 50))
    assert concordance(score, np.exp(3 * value)) == concordance(score, value)
    assert concordance(-score, value) == pytest.approx(1 - concordance(score, value))


def test_a_stratum_with_one_value_is_left_out_and_a_nan_score_has_no_figure():
    score, value = np.array([1, 2, 3, 9, 8]), np.array([1, 2, 3, 5, 5])
    strata, one = np.array([0, 0, 0, 1, 1]), np.ones((1, 5))
    assert stratified_concordances(score, value, strata, one)[0] == 1.0
    assert permuted_concordances(score, value, strata, np.arange(5)[None])[0] == 1.0
    assert np.isnan(concordance(score, np.ones(5)))
    assert np.isnan(concordance(np.where(score == 9, np.nan, score), value))
