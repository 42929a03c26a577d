from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from deconf.errors import SettingsError
from deconf.maths.moments import CHUNK, CellMoments, Given, cell_moments, without_basis
from tests.strategies import world, worlds

FIELDS = ("count", "units", "weight", "weight2", "mean", "scatter")


def assert_same(a: CellMoments, b: CellMoments, rtol: float = 1e-9) -> None:
    assert (a.width, a.design) == (b.width, b.design)
    for name in FIELDS:
        x, y = getattr(a, name), getattr(b, name)
        assert_allclose(x, y, rtol=rtol, atol=rtol * np.abs(y).max(initial=0), err_msg=name)


def moments(w, rows=slice(None), **more) -> CellMoments:
    more = {"weights": w.weights[rows], "cells": int(w.strata.max()) + 1, **more}
    return cell_moments(w.z[rows], w.c[rows], given=Given(w.strata[rows]), **more)


@settings(max_examples=20)
@given(w=worlds())
def test_each_cell_holds_what_numpy_says_of_its_rows(w):
    m = moments(w)
    for s in np.unique(w.strata):
        rows = w.strata == s
        x = np.hstack([w.z, w.c])[rows]
        cov = np.cov(x.T, fweights=w.weights[rows].astype(int), bias=True)
        assert_allclose(m.scatter[s] / m.weight[s], cov, atol=1e-10)
        assert_allclose(m.mean[s], np.average(x, axis=0, weights=w.weights[rows]), atol=1e-10)
        assert (m.count[s], m.units[s]) == (rows.sum(), rows.sum())
        assert_allclose(m.weight[s], w.weights[rows].sum())
        assert_allclose(m.weight2[s], (w.weights[rows] ** 2).sum())


@settings(max_examples=20)
@given(w=worlds(), shards=st.integers(2, 7), seed=st.integers(0, 10**6))
def test_shards_merge_to_the_whole_in_any_partition_and_any_order(w, shards, seed):
    rng = np.random.default_rng(seed)
    shard = rng.integers(shards, size=len(w.z))
    parts = [moments(w, np.flatnonzero(shard == i)) for i in rng.permutation(shards)]
    assert_same(reduce(CellMoments.merge, parts), moments(w))
    assert_same(reduce(lambda a, b: b.merge(a), parts), moments(w))


@settings(max_examples=15)
@given(w=worlds(least_strata=3))
def test_pooling_cells_is_forgetting_the_strata(w):
    together = moments(w).pool(np.zeros(int(w.strata.max()) + 1, int))
    assert_same(together, cell_moments(w.z, w.c, weights=w.weights))
    some = moments(w).pool(np.array([1, 0, 1])[: int(w.strata.max()) + 1])
    regrouped = np.array([1, 0, 1])[w.strata]
    assert_same(some, cell_moments(w.z, w.c, given=Given(regrouped), weights=w.weights))


@settings(max_examples=15)
@given(w=worlds(), seed=st.integers(0, 10**6))
def test_weights_of_cells_can_be_put_on_after_the_pass(w, seed):
    factor = np.random.default_rng(seed).uniform(0.1, 5, size=int(w.strata.max()) + 1)
    late = moments(w).reweighted(factor)
    assert_same(late, moments(w, weights=w.weights * factor[w.strata]))


@settings(max_examples=10)
@given(w=worlds(most_rows=150))
def test_a_weight_of_two_is_a_row_seen_twice(w):
    times = w.weights.astype(int)
    twice = cell_moments(
        np.repeat(w.z, times, axis=0),
        np.repeat(w.c, times, axis=0),
        given=Given(np.repeat(w.strata, times)),
        patients=np.repeat(np.arange(len(w.z)), times),
    )
    once = moments(w)
    for name in ("units", "weight", "weight2", "mean", "scatter"):
        assert_allclose(getattr(twice, name), getattr(once, name), atol=1e-8)
    assert_allclose(twice.effective_size, once.effective_size)


def test_a_patient_counts_once_however_many_films_and_a_heavy_one_shrinks_the_sample():
    z = np.random.default_rng(0).normal(size=(60, 3))
    single = cell_moments(z)
    pairs = cell_moments(z, patients=np.repeat([f"p{i}" for i in range(30)], 2))
    uneven = cell_moments(z, patients=np.r_[np.zeros(31, int), np.arange(1, 30)])
    assert single.effective_size == 60 - 1
    assert pairs.effective_size == 30 - 1
    assert uneven.units[0] == 30
    assert_allclose(uneven.effective_size, 60**2 / (31**2 + 29) - 1)


def test_the_effective_size_falls_by_one_for_each_stratum_and_never_below_one():
    z = np.zeros((10, 2))
    assert cell_moments(z, given=Given(np.arange(10) % 5)).effective_size == 5
    assert cell_moments(z, given=Given(np.arange(10))).effective_size == 1


@pytest.mark.parametrize("rows", [5000, CHUNK + 1, 2 * CHUNK + 777])
def test_single_precision_far_from_zero_keeps_five_digits(rows):
    w = world(1, n=rows, d=6, k=3)
    far = (w.z + 1000 * w.z.std(axis=0) * [1, -1, 1, -1, 1, -1]).astype(np.float32)
    single = cell_moments(far, w.c, given=w.given)
    double = cell_moments(far.astype(np.float64), w.c, given=w.given)
    near = cell_moments(w.z, w.c, given=w.given)
    scale = np.abs(near.scatter).max()
    assert_allclose(single.scatter, double.scatter, atol=1e-5 * scale)
    assert_allclose(single.scatter, near.scatter, atol=2e-4 * scale)  # the input's own rounding
    plain = far.astype(np.float32)
    lost = plain.T @ plain - rows * np.outer(plain.mean(0), plain.mean(0))
    assert np.abs(lost - near.scatter.sum(0)[:6, :6]).max() > scale  # the twin: it is easily lost


@pytest.mark.parametrize("drift", [0.0, 50.0])
def test_many_chunks_are_what_numpy_says_of_all_rows(drift):
    rng = np.random.default_rng(12)
    n = 2 * CHUNK + 777
    z = rng.normal(size=(n, 3)) + drift * np.linspace(-1, 1, n)[:, None] ** 2
    c, w = rng.normal(size=(n, 1)) + drift * (np.arange(n) > CHUNK)[:, None], rng.uniform(size=n)
    codes = (rng.random(n) < 0.3).astype(int)
    for weights in (None, w):
        m = cell_moments(z, c, given=Given(codes), weights=weights)
        for s in (0, 1):
            x = np.hstack([z, c])[codes == s]
            cov = np.cov(x.T, aweights=None if weights is None else w[codes == s], bias=True)
            assert_allclose(m.scatter[s] / m.weight[s], cov, rtol=1e-9, atol=1e-9)


def test_shards_that_drift_apart_lose_nothing_in_single_precision():
    # Sorted by site: the second chunk lies a thousand deviations from the first.
    rng = np.random.default_rng(2)
    z = rng.normal(size=(2 * CHUNK, 3)).astype(np.float32)
    z[CHUNK:] += 1000
    single, double = cell_moments(z), cell_moments(z.astype(np.float64))
    assert_allclose(single.scatter, double.scatter, rtol=1e-6)


def test_design_and_basis_are_exact_in_single_precision_so_that_collinear_stays_collinear():
    w = world(3, n=3000, k=4)
    m = cell_moments(w.z.astype(np.float32), w.c, given=w.given)
    for stratum in m.within():
        assert abs(stratum.cc.sum(axis=0)).max() < 1e-14  # one-hot columns add up to one


def test_regression_on_the_basis_is_that_of_least_squares_within_the_stratum():
    rng = np.random.default_rng(4)
    n = 800
    codes, basis = rng.integers(2, size=n), rng.normal(size=(n, 2))
    z = rng.normal(size=(n, 4)) + basis @ rng.normal(size=(2, 4)) * (1 + codes[:, None])
    c = rng.normal(size=(n, 1)) + basis[:, :1]
    collinear = np.hstack([basis, basis @ [[1.0], [-2.0]], np.ones((n, 1)) * 0.1])
    for b in (basis, collinear, basis * [1.0, 1e-3]):
        strata = cell_moments(z, c, given=Given(codes, b)).within()
        for s, stratum in enumerate(strata):
            rows = codes == s
            x = np.hstack([z, c])[rows]
            known = np.hstack([basis[rows], np.ones((rows.sum(), 1))])
            left = x - known @ np.linalg.lstsq(known, x, rcond=None)[0]
            cov = left.T @ left / rows.sum()
            assert_allclose(stratum.zz, cov[:4, :4], atol=1e-10)
            assert_allclose(stratum.zc, cov[:4, 4:], atol=1e-10)
            assert_allclose(stratum.cc, cov[4:, 4:], atol=1e-10)


def test_a_column_wholly_explained_by_the_basis_has_no_covariance_left():
    rng = np.random.default_rng(5)
    b = rng.normal(size=(500, 1))
    x = np.hstack([rng.normal(size=(500, 2)) + b, 3 * b + 1, b])
    left = without_basis(np.cov(x.T), 3)
    assert (left[2] == 0).all()
    assert (left[:, 2] == 0).all()
    assert left[0, 0] > 0.5


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.1, 1e6 / 3, 0.0])
def test_a_constant_column_has_variance_zero_and_not_a_rounding_error(kind, value):
    z = np.random.default_rng(6).normal(size=(20_000, 3)).astype(kind)
    z[:, 1] = value
    halves = cell_moments(z[:7001]).merge(cell_moments(z[7001:]))
    for m in (cell_moments(z), halves, cell_moments(z, weights=np.linspace(0, 3, len(z)))):
        assert (m.scatter[0, 1] == 0).all()
        assert_allclose(m.mean[0, 1], kind(value), rtol=1e-12)


def test_shares_and_centre_are_weighted_over_the_cells_with_weight():
    w = world(7, n=300)
    weights = np.where(w.strata == 0, 3.0, 1.0)
    m = cell_moments(w.z, w.c, given=Given(2 * w.strata), weights=weights)
    assert len(m.weight) == 3
    assert_allclose([s.share for s in m.within()], m.weight[[0, 2]] / m.weight.sum())
    assert_allclose(m.centre, np.average(w.z, axis=0, weights=weights))


def test_moments_that_do_not_belong_together_are_not_merged():
    w = world(8, n=60)
    with pytest.raises(SettingsError, match=r"one encoding and cells= for every shard"):
        moments(w).merge(moments(w, cells=5))
    with pytest.raises(SettingsError, match=r"\(8, 3, 2, 11\) and \(8, 2, 2, 10\)"):
        moments(w).merge(cell_moments(w.z, w.c[:, 1:], given=w.given))


def test_codes_outside_the_cells_and_values_that_are_no_numbers_are_refused_by_place():
    w = world(9, n=60)
    with pytest.raises(SettingsError, match=r"from 0 to 1 here.*codes 0 to 3.*cells=4"):
        cell_moments(w.z, given=Given(3 * w.strata), cells=2)
    with pytest.raises(SettingsError, match="codes -1 to 1"):
        cell_moments(w.z, given=Given(np.where(w.strata == 0, -1, 1)))
    z, c = w.z.copy(), w.c.copy()
    z[[4, 9], 2], c[7, 1] = np.inf, np.nan
    with pytest.raises(SettingsError, match=r"embedding holds inf in row 4, column 2 \(2 rows"):
        cell_moments(z, w.c)
    with pytest.raises(SettingsError, match=r"design holds nan in row 7, column 1 \(1 rows"):
        cell_moments(w.z, c)
    with pytest.raises(SettingsError, match="too large for its precision: rescale"):
        cell_moments(np.float32([[1e30, 0], [-1e30, 1], [0, 3]]))
    with pytest.raises(SettingsError, match="row 3 has nan"):
        cell_moments(w.z, weights=np.where(np.arange(60) == 3, np.nan, 1))
