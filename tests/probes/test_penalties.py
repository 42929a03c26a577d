from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.maths.dependence import hsic as closed_hsic
from deconf.maths.kernels import categories, gaussian
from deconf.probes.penalties import blockwise, hsic, median_distance, mixture, mmd, without


def drawn(seed: int, n: int, levels: int = 2, strata: int = 1):
    """Return coordinates, levels, strata and weights; every cell has its films."""
    rng = np.random.default_rng(seed)
    level = np.resize(np.arange(levels), n)
    stratum = np.resize(np.repeat(np.arange(strata), levels), n)
    x = torch.tensor(rng.normal(size=(n, 3)))
    return x, torch.tensor(level), torch.tensor(stratum), torch.tensor(rng.uniform(0.5, 2, size=n))


def mean_of_pairs(kernel, weight, first, second):
    """Return the weighted mean of a kernel over pairs of distinct films, pair by pair."""
    total = share = 0.0
    for i in first:
        for j in second:
            if i != j:
                total += float(weight[i] * weight[j] * kernel[i, j])
                share += float(weight[i] * weight[j])
    return total / share


def naive_mmd(kernel, weight, level, stratum):
    found = shares = 0.0
    for s in sorted(set(stratum.tolist())):
        inside = [i for i in range(len(level)) if stratum[i] == s]
        parts = [[i for i in inside if level[i] == k] for k in sorted(set(level.tolist()))]
        parts = [p for p in parts if len(p) > 1]
        pairs = [(p, q) for n, p in enumerate(parts) for q in parts[n + 1 :]]
        if not pairs:
            continue
        each = [
            mean_of_pairs(kernel, weight, p, p)
            + mean_of_pairs(kernel, weight, q, q)
            - 2 * mean_of_pairs(kernel, weight, p, q)
            for p, q in pairs
        ]
        share = float(weight[inside].sum())
        found, shares = found + share * np.mean(each), shares + share
    return found / shares


def naive_hsic(kernel, other):
    """Return the unbiased HSIC by its three means over distinct films, tuple by tuple."""
    n = len(kernel)
    two = [kernel[i, j] * other[i, j] for i, j in permutations(range(n), 2)]
    three = [kernel[i, j] * other[i, q] for i, j, q in permutations(range(n), 3)]
    four = [kernel[i, j] * other[q, r] for i, j, q, r in permutations(range(n), 4)]
    return float(sum(two) / len(two) + sum(four) / len(four) - 2 * sum(three) / len(three))


def naive_weighted_hsic(kernel, other, weight):
    """Return the weighted HSIC, the centring found as n equations in n unknowns."""
    n, w = len(weight), weight.numpy()
    equations = np.tile(w, (n, 1))  # sum over j distinct of w_j (a_i + a_j)
    np.fill_diagonal(equations, w.sum() - w)
    away = other.numpy() * (1 - np.eye(n))
    a = np.linalg.solve(equations, away @ w)
    found = 0.0
    for i, j in permutations(range(n), 2):
        found += w[i] * w[j] * float(kernel[i, j]) * (away[i, j] - a[i] - a[j])
    return found / (w.sum() ** 2 - 3 * (w**2).sum())


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), levels=st.integers(2, 3), strata=st.integers(1, 2))
def test_mmd_is_the_mean_over_pairs_of_films(seed, levels, strata):
    x, level, stratum, weight = drawn(seed, 17, levels, strata)
    kernel = mixture(x)
    expected = naive_mmd(kernel, weight, level, stratum)
    assert float(mmd(kernel, weight, level, stratum)) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_hsic_is_the_mean_over_tuples_of_films(seed):
    x, level, _, weight = drawn(seed, 7)
    kernel, alike = mixture(x), (level[:, None] == level).double()
    one, same = torch.zeros(7, dtype=torch.long), torch.full((7,), 0.3, dtype=torch.float64)
    found = float(hsic(kernel, alike, same, one))
    assert found == pytest.approx(naive_hsic(kernel, alike), abs=1e-12)
    found = float(hsic(kernel, alike, weight, one))
    assert found == pytest.approx(naive_weighted_hsic(kernel, alike, weight), abs=1e-12)


def test_with_equal_weights_hsic_is_that_of_the_tests_of_independence():
    x, level, _, _ = drawn(3, 40)
    kernel = gaussian(x.numpy(), width=1.3)
    ours = hsic(
        torch.tensor(kernel.matrix),
        torch.tensor(categories(level.numpy()).matrix),
        torch.full((40,), 0.3, dtype=torch.float64),
        torch.zeros(40, dtype=torch.long),
    )
    expected = closed_hsic(kernel, categories(level.numpy()), unbiased=True)
    assert float(ours) == pytest.approx(expected, abs=1e-10)


def test_both_are_zero_on_the_mean_over_all_ways_to_deal_the_films():
    """Unbiased at the null, to rounding: a biased estimate of 6 films is 0.1 above."""
    x, level, stratum, weight = drawn(5, 6)
    kernel, alike = mixture(x), (level[:, None] == level).double()
    found = np.zeros((720, 2))
    for row, order in enumerate(permutations(range(6))):
        dealt = kernel[list(order)][:, list(order)]
        found[row] = mmd(dealt, weight, level, stratum), hsic(dealt, alike, weight, stratum)
    assert np.abs(found.mean(axis=0)).max() < 1e-12
    assert found.std(axis=0).min() > 0.005


def test_strata_are_kept_apart():
    """Levels differ between strata only through their shares: marginally apart, inside not."""
    rng = np.random.default_rng(0)
    stratum = torch.tensor(np.repeat([0, 1], 200))
    level = torch.tensor((rng.random(400) < np.where(stratum == 0, 0.8, 0.2)).astype(int))
    x = torch.tensor(rng.normal(size=(400, 2)) + 3 * stratum.numpy()[:, None])
    kernel, alike = mixture(x), (level[:, None] == level).double()
    weight, one = torch.ones(400, dtype=torch.float64), torch.zeros_like(stratum)
    assert mmd(kernel, weight, level, one) > 0.1
    assert abs(mmd(kernel, weight, level, stratum)) < 0.02
    assert hsic(kernel, alike, weight, one) > 0.01
    assert abs(hsic(kernel, alike, weight, stratum)) < 0.002


def test_a_level_of_one_film_and_a_stratum_of_three_are_left_out():
    x, level, stratum, weight = drawn(1, 12, 2, 1)
    lone = level.clone()
    lone[0] = 2
    kernel = mixture(x)
    assert float(mmd(kernel, weight, lone, stratum)) == pytest.approx(
        naive_mmd(kernel, weight, lone, stratum), abs=1e-12
    )
    assert float(mmd(kernel[:1, :1], weight[:1], level[:1], stratum[:1])) == 0
    alike = (level[:, None] == level).double()
    assert float(hsic(kernel[:3, :3], alike[:3, :3], weight[:3], stratum[:3])) == 0
    weight[0] = 100  # one film with half of the weight: there is no centring
    assert float(hsic(kernel, alike, weight, stratum)) == 0


def test_a_variance_in_one_coordinate_of_many_is_seen_by_the_small_kernels():
    rng = np.random.default_rng(2)
    level = torch.tensor(np.resize([0, 1], 600))
    x = torch.tensor(rng.normal(size=(600, 32)))
    x[:, 0] *= torch.where(level == 1, 1.5, 0.5)
    weight, one = torch.ones(600, dtype=torch.float64), torch.zeros(600, dtype=torch.long)
    joint, small = (mmd(k, weight, level, one) for k in (mixture(x), blockwise(x)))
    assert small > 3 * abs(joint)
    assert small > 0.001


def test_what_a_basis_explains_is_taken_out_even_where_its_columns_repeat():
    rng = np.random.default_rng(3)
    basis = torch.tensor(rng.normal(size=(200, 2)))
    basis = torch.cat([basis, basis[:, :1]], dim=1)
    h = basis @ torch.tensor(rng.normal(size=(3, 4))) + 7
    weight = torch.full((200,), 1 / 200, dtype=torch.float64)
    assert without(h, basis, weight).abs().max() < 5e-3 * h.abs().max()
    assert torch.equal(without(h, basis[:, :0], weight), h)


def test_the_median_distance_and_gradients_are_finite_where_films_coincide():
    x = torch.tensor([[0.0], [0.0], [3.0], [4.0]], requires_grad=True)
    assert median_distance(x) in (3.0, 4.0)
    assert median_distance(torch.ones(3, 2)) == 1
    blockwise(x).sum().backward()
    assert torch.isfinite(x.grad).all()
