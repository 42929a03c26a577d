from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from deconf.errors import SettingsError
from deconf.maths.moments import Given, cell_moments
from deconf.methods import LEACE
from deconf.methods.leace import significant
from tests.reference.leace import erased, weighted_covariance
from tests.strategies import apply, gap, world, worlds

FULL = LEACE(shrinkage=0.0, rank="full", strata="stacked")


@settings(max_examples=20)
@given(w=worlds())
def test_agrees_with_concept_erasure_where_nothing_is_conditioned_on(w):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the other package
        from concept_erasure import LeaceFitter
    fitter = LeaceFitter.fit(
        torch.tensor(w.z), torch.tensor(w.c),
        shrinkage=False, svd_tol=1e-9, constrain_cov_trace=False,
    )  # fmt: skip
    theirs = fitter.eraser(torch.tensor(w.z)).numpy()
    ours = apply(LEACE(shrinkage=0.0, rank="full").fit(w.z, w.c), w.z)
    assert_allclose(ours, theirs, atol=1e-7 * np.abs(w.z).max())


@settings(max_examples=12)
@given(
    w=worlds(most_rows=150),
    strata=st.sampled_from(["pooled", "stacked"]),
    shrinkage=st.sampled_from([0.0, 0.3]),
)
def test_agrees_with_loops_over_the_strata_and_symmetric_roots(w, strata, shrinkage):
    method = LEACE(shrinkage=shrinkage, rank="full", strata=strata)
    ours = apply(method.fit(w.z, w.c, given=w.given, weights=w.weights), w.z)
    naive = erased(w.z, w.c, w.strata, w.weights, stacked=strata == "stacked", shrinkage=shrinkage)
    assert_allclose(ours, naive, atol=1e-6 * np.abs(w.z).max())


@settings(max_examples=20)
@given(w=worlds(), shrinkage=st.sampled_from([0.0, 0.05, 0.7, 1.0, "oas"]))
def test_no_covariance_with_the_confounder_is_left_in_any_stratum_at_any_shrinkage(w, shrinkage):
    method = replace(FULL, shrinkage=shrinkage)
    out = apply(method.fit(w.z, w.c, given=w.given, weights=w.weights), w.z)
    scale = np.abs(w.z).max()
    for s in np.unique(w.strata):
        rows = w.strata == s
        before, after = (
            np.abs(weighted_covariance(z[rows], w.c[rows], w.weights[rows])).max()
            for z in (w.z, out)
        )
        assert after < 1e-9 * scale
        assert before > 1e-4 * scale  # the twin: there was something to erase


@settings(max_examples=15)
@given(w=worlds(), shrinkage=st.sampled_from([0.2, 1.0, "oas"]))
def test_shrinkage_changes_the_angle_and_never_what_is_erased(w, shrinkage):
    plain, shrunk = (
        replace(FULL, shrinkage=rho).fit(w.z, w.c, given=w.given) for rho in (0.0, shrinkage)
    )
    assert plain.rank == shrunk.rank

    def basis(fitted):
        return np.linalg.qr(fitted.left.numpy())[0]

    spans = basis(plain) @ basis(plain).T, basis(shrunk) @ basis(shrunk).T
    assert_allclose(*spans, atol=1e-6)  # one kernel: all heads without a penalty agree


@settings(max_examples=15)
@given(w=worlds())
def test_no_other_erasure_moves_the_embedding_less(w):
    least = LEACE(shrinkage=0.0, rank="full").fit(w.z, w.c)
    other = LEACE(shrinkage=1.0, rank="full").fit(w.z, w.c)  # the orthogonal one
    precision = np.linalg.pinv(np.cov(w.z.T))

    def moved(fitted, metric):
        step = apply(fitted, w.z) - w.z
        return np.einsum("ni,ij,nj->", step, metric, step)

    for metric in (np.eye(w.z.shape[1]), precision):
        assert moved(least, metric) <= moved(other, metric) * (1 + 1e-9)


@settings(max_examples=15)
@given(w=worlds())
def test_the_mean_stays_where_it_is(w):
    for method in (FULL, LEACE()):
        fitted = method.fit(w.z, w.c, given=w.given, weights=w.weights)
        means = (np.average(z, axis=0, weights=w.weights) for z in (w.z, apply(fitted, w.z)))
        assert_allclose(*means, atol=1e-9 * np.abs(w.z).max())


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("strata", "directions"), [("pooled", 2), ("stacked", 4)])
def test_no_more_directions_go_than_levels_less_one_in_either_precision(kind, strata, directions):
    # One-hot columns add up to one; single precision must not turn that into one more direction.
    w = world(0, n=3000, d=20, k=3)
    method = replace(FULL, strata=strata)
    assert method.fit((w.z + 100).astype(kind), w.c, given=w.given).rank == directions


def test_pooling_leaves_what_differs_between_strata_and_stacking_does_not():
    w = world(1, n=4000, d=10, k=2, trace=0.0)
    z = w.z.copy()
    z[:, 0] += np.where(w.strata == 1, 3.0, -3.0) * (w.levels - 0.5)  # a trace that turns round
    left = {
        strata: gap(
            apply(replace(FULL, strata=strata).fit(z, w.c, given=w.given), z), w.levels, w.strata
        )
        for strata in ("pooled", "stacked")
    }
    assert left["stacked"] < 1e-8
    assert left["pooled"] > 0.1


def test_strata_are_stacked_only_where_each_has_ten_rows_a_column():
    w = world(2, n=1000, d=10, k=2)
    auto = {
        len(z): LEACE(rank="full").fit(z, c, given=Given(s)).rank
        for z, c, s in ((w.z, w.c, w.strata), (w.z[:150], w.c[:150], w.strata[:150]))
    }
    assert auto == {1000: 2, 150: 1}


def test_marginal_erasure_takes_the_disease_and_conditional_erasure_leaves_it():
    rng = np.random.default_rng(0)
    disease = rng.integers(2, size=6000)
    portable = (rng.random(6000) < np.where(disease, 0.85, 0.15)).astype(int)
    z = rng.normal(size=(6000, 8))
    z[:, 0] += 2 * disease
    z[:, 1] += 2 * portable
    c = np.eye(2)[portable]
    marginal, conditional = (apply(LEACE().fit(z, c, given=g), z) for g in (None, Given(disease)))
    none = np.zeros_like(disease)
    before = gap(z, disease, portable)
    assert gap(conditional, disease, portable) > 0.95 * before
    assert gap(marginal, disease, none) < 0.8 * gap(conditional, disease, none)
    assert gap(conditional, portable, disease) < 0.05 < 0.3 < gap(z, portable, disease)


def test_a_continuous_member_of_the_adjustment_set_is_held_by_regression():
    rng = np.random.default_rng(1)
    age = rng.normal(size=5000)
    scanner = (age + rng.normal(size=5000) > 0).astype(float)[:, None]
    z = rng.normal(size=(5000, 6))
    z[:, 0] += 2 * age
    z[:, 1] += 1.5 * scanner[:, 0]
    given = Given(np.zeros(5000, int), age[:, None])
    held = apply(LEACE().fit(z, scanner, given=given), z)
    free = apply(LEACE().fit(z, scanner), z)
    of_age = [np.abs(np.corrcoef(x.T, age)[-1, :-1]).max() for x in (z, held, free)]
    assert of_age[1] > 0.98 * of_age[0]
    assert of_age[2] < 0.9 * of_age[0]
    left = scanner[:, 0] - np.polyval(np.polyfit(age, scanner[:, 0], 1), age)
    before, after = (np.abs(left @ x).max() / 5000 for x in (z, held))
    assert before > 0.2
    assert after < 1e-12


def test_a_confounder_wholly_explained_by_the_adjustment_set_erases_nothing():
    rng = np.random.default_rng(2)
    age = rng.normal(size=(900, 1))
    z = rng.normal(size=(900, 6)) + 3 * age
    for c in (2 * age + 1, np.hstack([age, -age])):
        given = Given(np.zeros(900, int), age)
        for method in (LEACE(), FULL):
            assert method.fit(z, c, given=given).is_identity
            assert method.fit(z.astype(np.float32), c, given=given).is_identity
        assert not LEACE().fit(z, c).is_identity


@pytest.mark.parametrize("n", [60, 120])
def test_with_more_columns_than_rows_a_trace_is_found_and_streamed_moments_agree(n):
    w = world(3, n=n, d=200, k=2, strata=1, trace=0.0)
    z = w.z.copy()
    z[:, 7] += 30 * z[:, 7].std() * w.levels
    fitted = LEACE().fit(z, w.c, given=w.given)
    before, after = (
        x[w.levels == 1, 7].mean() - x[w.levels == 0, 7].mean() for x in (z, apply(fitted, z))
    )
    assert before > 2
    assert abs(after) < 1e-9
    streamed = LEACE().fit_moments(cell_moments(z, w.c, given=w.given))
    assert_allclose(apply(streamed, z), apply(fitted, z), atol=1e-6 * np.abs(z).max())


def test_with_more_columns_than_rows_the_direction_that_goes_is_that_of_the_trace():
    # Whitening orders directions by noise here: level 2 of 3 alone has a trace, and it must go.
    found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        levels = rng.integers(3, size=90)
        scale = np.r_[8.0, np.full(299, 1.0)]
        z = rng.normal(size=(90, 300)) * scale
        direction = np.zeros(300)
        direction[0] = 20.0
        z += np.outer(levels == 2, direction)
        fitted = LEACE().fit(z, np.eye(3)[levels])
        before, after = (
            np.abs(x[levels == 2, 0].mean() - x[levels != 2, 0].mean())
            for x in (z, apply(fitted, z))
        )
        found += fitted.rank > 0 and after < 0.1 * before
    assert found >= 9


def test_the_look_that_sees_more_decides_which_direction_goes():
    # A loud trace that whitening hides, beside noise that whitening lifts above it.
    loud = np.r_[50.0, np.ones(49)]
    target = np.zeros((50, 2))
    target[0, 0] = 20.0  # 0.4 once whitened; chance reaches 12
    target[1:, 1] = 0.6 / 7  # 0.6 once whitened; chance reaches 0.9
    u = significant(np.diag(1 / loud), target, np.diag(loud**2), 100.0, seed=0)
    assert_allclose(np.abs(u), np.eye(50)[:, :1], atol=1e-9)


def test_a_trace_in_a_small_stratum_counts_by_the_share_of_its_rows():
    found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        strata, levels = (rng.random(4000) < 0.1).astype(int), rng.integers(2, size=4000)
        z = rng.normal(size=(4000, 10))
        z[:, 3] += 1.2 * levels * (strata == 1)
        fitted = LEACE(strata="stacked").fit(z, np.eye(2)[levels], given=Given(strata))
        found += fitted.rank > 0
    assert found >= 9


def test_settings_out_of_range_are_refused_by_value():
    with pytest.raises(SettingsError, match=r"shrinkage is 'oas' or in \[0, 1\], not 1.5"):
        LEACE(shrinkage=1.5)
    with pytest.raises(SettingsError, match=r"shrinkage is 'oas' or a number, not 'oass'"):
        LEACE(shrinkage="oass")
    with pytest.raises(SettingsError, match="rank is 'significant' or 'full', not 'all'"):
        LEACE(rank="all")
    with pytest.raises(SettingsError, match="strata is 'auto', 'pooled' or 'stacked', not 'x'"):
        LEACE(strata="x")
