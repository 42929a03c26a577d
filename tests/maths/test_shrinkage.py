from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from deconf.maths.shrinkage import inverse_root, null_edge, oas, root, shrunk
from tests.strategies import invertible


@settings(max_examples=20)
@given(n=st.integers(10, 300), d=st.integers(30, 60), seed=st.integers(0, 10**6))
def test_oas_is_that_of_scikit_learn_but_for_the_terms_in_two_over_d(n, d, seed):
    from sklearn.covariance import oas as sklearn_oas

    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ invertible(rng, d, 10.0)
    x -= x.mean(axis=0)
    expected, rho = sklearn_oas(x, assume_centered=True)
    sigma = x.T @ x / n
    assert abs(oas(sigma, n) - rho) < 2 / d * rho  # equation 23 keeps the terms in 2/d
    assert_allclose(shrunk(sigma, rho, n), expected, atol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(30, 20), (200, 20), (30, 60)])
def test_shrinking_by_oas_is_nearer_to_the_truth_than_the_sample_and_near_the_best(n, d):
    rng = np.random.default_rng(0)
    truth = invertible(rng, d, 3.0)
    truth = truth @ truth.T
    lower = np.linalg.cholesky(truth)
    losses = dict.fromkeys((0.0, "oas", *np.linspace(0.02, 1, 50)), 0.0)
    for _ in range(20):
        x = rng.normal(size=(n, d)) @ lower.T
        sigma = x.T @ x / n
        for rho in losses:
            losses[rho] += np.sum((shrunk(sigma, rho, n) - truth) ** 2)
    assert losses["oas"] < losses[0.0]
    assert losses["oas"] < 1.05 * min(losses.values())


@settings(max_examples=20)
@given(d=st.integers(2, 30), n=st.integers(2, 30), seed=st.integers(0, 10**6))
def test_shrinking_in_the_span_of_the_data_is_shrinking_in_the_whole_space(d, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d + n))
    span = np.linalg.qr(x.T)[0]
    small, whole = (x @ span).T @ (x @ span) / n, x.T @ x / n
    assert_allclose(oas(small, n, ambient=d + n), oas(whole, n))
    inside = span.T @ shrunk(whole, "oas", n) @ span
    assert_allclose(shrunk(small, "oas", n, ambient=d + n), inside, atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_shrinkage_keeps_the_trace_and_leaves_its_input_alone(rho):
    sigma = np.diag([1.0, 2.0, 3.0])
    out = shrunk(sigma, rho, 10)
    assert_allclose(np.trace(out), 6.0)
    assert_allclose(sigma, np.diag([1.0, 2.0, 3.0]))
    assert_allclose(np.diag(out), (1 - rho) * np.diag(sigma) + rho * 2.0)


@settings(max_examples=30)
@given(
    d=st.integers(1, 12),
    rank=st.integers(0, 12),
    condition=st.sampled_from([1.0, 100.0]),
    seed=st.integers(0, 10**6),
)
def test_a_root_multiplies_to_the_covariance_and_has_an_inverse_on_its_range(
    d, rank, condition, seed
):
    rng = np.random.default_rng(seed)
    half = invertible(rng, d, condition)[:, : min(rank, d)] * 10.0 ** rng.integers(-4, 4)
    sigma = half @ half.T
    lower, inverse = root(sigma)
    assert lower.shape == (d, min(rank, d))
    assert_allclose(lower @ lower.T, sigma, atol=1e-9 * np.abs(sigma).max(initial=0))
    assert_allclose(inverse @ lower, np.eye(min(rank, d)), atol=1e-7)
    assert_allclose(lower @ inverse @ half, half, atol=1e-7 * np.abs(half).max(initial=0))


def test_a_root_keeps_features_in_small_units_and_drops_constant_ones():
    rng = np.random.default_rng(0)
    unit = np.array([1.0, 1e-9, 1e7, 0.0])
    half = invertible(rng, 4, 5.0) * unit[:, None]
    lower, inverse = root(half @ half.T)
    assert lower.shape == (4, 3)
    assert_allclose(inverse @ half @ half.T @ inverse.T, np.eye(3), atol=1e-9)
    assert (inverse[:, 3] == 0).all()


def test_whitening_a_one_hot_design_drops_the_column_it_has_too_many():
    share = np.array([0.6, 0.39, 0.01])
    sigma = np.diag(share) - np.outer(share, share)
    columns = inverse_root(sigma)
    assert columns.shape == (3, 2)
    assert_allclose(columns.T @ sigma @ columns, np.eye(2), atol=1e-12)
    assert inverse_root(np.zeros((2, 2))).shape == (2, 0)


def test_the_edge_is_what_permuting_the_confounder_gives():
    rng = np.random.default_rng(1)
    n, d, k = 300, 12, 3
    z = rng.normal(size=(n, d)) @ invertible(rng, d, 5.0)
    z -= z.mean(axis=0)
    c = np.eye(k)[rng.integers(k, size=n)]
    phi = (c - c.mean(axis=0)) @ inverse_root(np.cov(c.T, bias=True))
    tops = [np.linalg.norm(z.T @ phi[rng.permutation(n)] / n, ord=2) for _ in range(600)]
    edge = null_edge(np.linalg.eigvalsh(z.T @ z / n), k - 1, n, seed=0)
    assert_allclose(edge, np.quantile(tops, 0.975), rtol=0.08)


def test_the_edge_falls_with_the_rows_rises_with_the_columns_and_ignores_empty_axes():
    spread = np.ones(10)
    assert_allclose(null_edge(spread, 2, 400.0, seed=0), null_edge(spread, 2, 100.0, seed=0) / 2)
    assert null_edge(spread, 5, 100.0, seed=0) > 1.1 * null_edge(spread, 2, 100.0, seed=0)
    padded = null_edge(np.r_[spread, np.zeros(50)], 2, 100.0, seed=0)
    assert_allclose(padded, null_edge(spread, 2, 100.0, seed=0), rtol=0.05)
    assert null_edge(spread, 0, 100.0, seed=0) == 0.0
    assert null_edge(spread, 2, 100.0, seed=3) == null_edge(spread, 2, 100.0, seed=3)
