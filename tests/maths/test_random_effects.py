"""Between-site variance by its defining equation, and an interval that holds another site."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.errors import CohortError
from deconf.maths.random_effects import random_effects

seeds = st.integers(0, 10_000)


def sites(seed: int, k: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.1, 0.4, k)
    return 1.5 + spread * rng.normal(size=k) + errors * rng.normal(size=k), errors


def excess(y: np.ndarray, s: np.ndarray, between: float) -> float:
    w = 1 / (s**2 + between)
    return float((w * (y - np.average(y, weights=w)) ** 2).sum()) - (len(y) - 1)


@settings(max_examples=40)
@given(seed=seeds, k=st.integers(3, 12), spread=st.sampled_from([0.0, 0.2, 2.0]))
def test_the_spread_solves_its_equation_or_is_zero_where_chance_explains_all(seed, k, spread):
    y, s = sites(seed, k, spread)
    found = random_effects(y, s)
    if excess(y, s, 0.0) > 0:
        assert excess(y, s, found.between) == pytest.approx(0, abs=1e-6)
    else:
        assert found.between == 0
    assert found.standard_error == pytest.approx((1 / (s**2 + found.between)).sum() ** -0.5)


@settings(max_examples=20)
@given(seed=seeds, k=st.integers(3, 12), spread=st.sampled_from([0.0, 1.0]))
def test_with_equal_errors_it_is_the_variance_of_the_figures_less_that_of_chance(seed, k, spread):
    y = sites(seed, k, spread)[0]
    found = random_effects(y, np.full(k, 0.3))
    between = max(0.0, y.var(ddof=1) - 0.09)
    assert found.mean == pytest.approx(y.mean())
    assert found.between == pytest.approx(between, abs=1e-9)
    assert found.standard_error == pytest.approx(np.sqrt((between + 0.09) / k))


@settings(max_examples=20)
@given(seed=seeds, shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_another_unit_is_another_unit(seed, shift, scale):
    y, s = sites(seed, 6, 0.5)
    one, other = random_effects(y, s), random_effects(scale * y + shift, scale * s)
    assert other.mean == pytest.approx(scale * one.mean + shift, abs=1e-6)
    assert other.between == pytest.approx(scale**2 * one.between, rel=1e-5, abs=1e-9)


def test_the_thirteen_trials_of_bcg_have_the_spread_that_metafor_prints():
    """``rma(yi, vi, method="PM")`` of R's metafor on its data set ``dat.bcg``."""
    y = [-0.8893, -1.5854, -1.3481, -1.4416, -0.2175, -0.7861, -1.6209, 0.0120, -0.4694, -1.3713,
         -0.3394, 0.4459, -0.0173]  # fmt: skip
    v = [0.3256, 0.1946, 0.4154, 0.0200, 0.0512, 0.0069, 0.2230, 0.0040, 0.0564, 0.0730, 0.0124,
         0.5325, 0.0714]  # fmt: skip
    found = random_effects(np.array(y), np.sqrt(v))
    assert found.between == pytest.approx(0.3181, abs=5e-4)
    assert found.mean == pytest.approx(-0.7150, abs=5e-4)


def test_the_interval_holds_another_site_and_that_of_the_mean_does_not():
    rng = np.random.default_rng(0)
    inside = of_mean = 0
    for seed in range(1000):
        y, s = sites(seed, 8, 0.5)
        found = random_effects(y, s)
        new = 1.5 + 0.5 * rng.normal()
        limits = found.another()
        inside += limits.low <= new <= limits.high
        of_mean += abs(new - found.mean) <= 1.96 * found.standard_error
    assert 0.93 <= inside / 1000 <= 0.98
    assert of_mean / 1000 < 0.65


def test_a_new_figure_seen_with_an_error_gets_a_wider_interval():
    found = random_effects(*sites(1, 6, 0.5))
    bare, seen = found.another(), found.another(error=1.0)
    assert seen.low < bare.low < bare.high < seen.high
    assert found.another(level=0.5).high < bare.high


@pytest.mark.parametrize(
    ("y", "s", "words"),
    [
        ([1.0, 2.0], [1.0, 1.0], "2 sites: how much sites differ cannot be told from fewer than 3"),
        ([1.0], [1.0], "1 site: "),
        ([1.0, 2.0, 3.0], [1.0, 1.0], "3 figures but 2 standard errors"),
        ([1.0, np.nan, 3.0], [1.0, 1.0, 1.0], "site 1 has the figure nan"),
        ([1.0, 2.0, 3.0], [1.0, 1.0, 0.0], "site 2 .* errors above 0"),
    ],
)
def test_what_is_no_sample_of_sites_is_refused(y, s, words):
    with pytest.raises(CohortError, match=words):
        random_effects(np.array(y), np.array(s))
