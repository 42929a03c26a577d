"""Omitted-variable bias as an identity, and E-values as published."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deconf.maths.sensitivity import benchmarks, e_value, e_value_of_limit, regression


def drawn(seed: int, n: int = 400):
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(n, 2)), rng.normal(size=n)
    a = x @ [0.5, -0.3] + 0.7 * z + rng.normal(size=n)
    y = 0.4 * a + x @ [1.0, 0.2] + 0.9 * z + rng.normal(size=n)
    return y, a, x, z


def share(block, of, given):
    design = np.column_stack([np.ones(len(of)), given])
    before = of - design @ np.linalg.lstsq(design, of, rcond=None)[0]
    more = np.column_stack([design, block])
    after = of - more @ np.linalg.lstsq(more, of, rcond=None)[0]
    return 1 - after @ after / (before @ before)


@pytest.mark.parametrize("seed", range(4))
def test_leaving_a_variable_out_moves_the_coefficient_by_exactly_the_bias(seed):
    y, a, x, z = drawn(seed)
    short, long = regression(y, a, x), regression(y, a, np.column_stack([x, z]))
    r_d, r_y = share(z, a, x), share(z, y, np.column_stack([x, a]))
    assert short.coefficient - long.coefficient == pytest.approx(short.bias(r_d, r_y), rel=1e-9)


def test_the_robustness_value_is_the_strength_that_leaves_nothing():
    y, a, x, _ = drawn(5)
    line = regression(y, a, x)
    rv = line.robustness()
    assert line.bias(rv, rv) == pytest.approx(abs(line.coefficient), rel=1e-9)
    assert 0 < line.robustness(alpha=0.05) < rv
    noise = regression(np.random.default_rng(0).normal(size=400), a, x)
    assert noise.robustness(alpha=0.05) == 0


def test_the_robustness_value_of_a_published_study():
    # Darfur (Hazlett 2020), printed by Cinelli & Hazlett 2020, table 1: t = 4.18, df = 783
    line = regression_with(t=4.184, df=783)
    assert line.partial_r2 == pytest.approx(0.022, abs=5e-4)
    assert line.robustness() == pytest.approx(0.139, abs=1e-3)
    assert line.robustness(alpha=0.05) == pytest.approx(0.076, abs=1e-3)


def regression_with(t: float, df: int):
    from deconf.maths.sensitivity import Regression

    return Regression(t, 1.0, df)


def test_a_benchmark_once_as_strong_bounds_a_twin_of_the_column():
    y, a, x, _ = drawn(7)
    first = benchmarks(y, a, {"x0": x[:, :1], "x1": x[:, 1:]}, (1.0, 2.0))
    one, two = first[0], first[1]
    assert one.name == "x0"
    assert abs(two.adjusted) < abs(one.adjusted) < abs(regression(y, a, x).coefficient)
    # k = 1 by hand: the share x0 explains of the cause, over what it leaves
    d = share(x[:, :1], a, x[:, 1:])
    assert one.r_d == pytest.approx(d / (1 - d))


def test_e_values_as_published():
    assert e_value(3.9) == pytest.approx(7.26, abs=0.005)  # VanderWeele & Ding 2017, smoking
    assert e_value_of_limit(1.8, 8.7) == pytest.approx(3.0)
    assert e_value(1 / 3.9) == pytest.approx(e_value(3.9))
    assert e_value_of_limit(0.4, 0.8) == pytest.approx(e_value(0.8))
    assert e_value_of_limit(0.9, 1.3) == 1.0
    assert math.isnan(e_value(-1.0))


def test_a_cause_decided_by_what_is_held_has_no_coefficient():
    x = np.arange(20.0)[:, None]
    assert math.isnan(regression(np.ones(20), x[:, 0] * 2, x).coefficient)
