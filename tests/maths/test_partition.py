from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from deconf.errors import SettingsError
from deconf.maths.partition import even_partition


def excess(loads: np.ndarray, part: np.ndarray, parts: int) -> float:
    """Σₖ ‖nₖ − N/K‖² the slow way."""
    share = loads.sum(axis=0) / parts
    return sum(float(((loads[part == k].sum(axis=0) - share) ** 2).sum()) for k in range(parts))


def least_of_all(loads: np.ndarray, parts: int) -> float:
    every = product(range(parts), repeat=len(loads))
    return min(excess(loads, np.array(part), parts) for part in every)


@st.composite
def hospitals(draw, most: int = 7):
    """Patients of each class at each hospital: unequal sizes, unequal prevalence."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    sites, classes = draw(st.integers(3, most)), draw(st.integers(1, 3))
    size = np.exp(rng.normal(3, draw(st.sampled_from([0.2, 1.5])), size=(sites, 1)))
    return rng.poisson(size * rng.dirichlet(np.ones(classes), sites))


@settings(max_examples=12)
@given(hospitals(), st.sampled_from([2, 3]), st.integers(0, 5))
def test_no_division_is_more_even_than_the_one_that_is_said_to_be_best(loads, parts, seed):
    found = even_partition(loads, parts, seed=seed)
    best = least_of_all(loads, parts)
    assert_allclose(found.excess, excess(loads, found.part, parts), atol=1e-6)
    assert_allclose(found.excess, best, rtol=1e-6, atol=1e-6)
    assert found.is_proved
    assert found.bound <= best * (1 + 1e-3) + 1e-6


def test_the_solver_mends_what_the_search_alone_would_miss(monkeypatch):
    monkeypatch.setattr("deconf.maths.partition.KICKS", 0)  # the search stops where it first sticks
    rng = np.random.default_rng(3)
    mended = 0
    for _ in range(6):
        loads = rng.integers(1, 40, size=(8, 1))
        found = even_partition(loads, 3)
        assert_allclose(found.excess, least_of_all(loads, 3), atol=1e-6)
        stuck = even_partition(loads, 3, grain=np.inf)
        mended += stuck.excess > found.excess + 1e-6
    assert mended > 0


def test_a_giant_is_left_alone():
    found = even_partition(np.array([[3], [100], [4], [5]]), 2)
    assert_array_equal(found.part == found.part[1], [False, True, False, False])


def test_the_seed_decides_and_the_unit_of_the_loads_does_not_matter():
    loads = np.random.default_rng(0).poisson(20, size=(12, 2))
    once, again = even_partition(loads, 3, seed=4), even_partition(loads, 3, seed=4)
    assert_array_equal(once.part, again.part)
    small = even_partition(loads * 1e-6, 3, seed=4)
    assert_allclose(small.excess, once.excess * 1e-12, rtol=1e-6)


def test_many_groups_are_dealt_to_within_one_and_no_proof_is_asked_for():
    rng = np.random.default_rng(0)
    loads = rng.poisson(np.exp(rng.normal(1, 1, size=(150, 1))) * np.ones((1, 3)))
    found = even_partition(loads, 5, grain=1.0)
    assert_array_equal(np.unique(found.part), np.arange(5))
    carried = np.array([loads[found.part == k].sum(axis=0) for k in range(5)])
    assert np.abs(carried - loads.sum(axis=0) / 5).max() < 1
    assert not found.is_proved


def test_fewer_groups_than_parts_are_refused_with_both_numbers():
    with pytest.raises(SettingsError, match="2 groups cannot be dealt into 3 parts"):
        even_partition(np.ones((2, 1)), 3)
    with pytest.raises(SettingsError, match="into 1 parts"):
        even_partition(np.ones((2, 1)), 1)
