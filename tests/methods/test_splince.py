from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import null_space

from deconf.errors import SettingsError
from deconf.methods import LEACE, SPLINCE
from tests.reference.leace import power, weighted_covariance
from tests.strategies import apply, invertible, world, worlds

BARE = SPLINCE(shrinkage=0.0, rank="full", strata="stacked")


def covariance(a, b, w):
    return weighted_covariance(a, b.reshape(len(b), -1), w)


def outcome_of(w, seed=0):
    """A continuous outcome that the strata explain in part."""
    return w.strata + np.random.default_rng(seed).normal(size=len(w.z)) + 0.3 * w.z[:, 0]


@settings(max_examples=15)
@given(w=worlds(), shrinkage=st.sampled_from([0.0, 0.3, "oas"]))
def test_the_trace_goes_in_every_stratum_and_the_covariance_with_the_outcome_stays(w, shrinkage):
    y = outcome_of(w)
    fitted = SPLINCE(shrinkage=shrinkage, rank="full", strata="stacked").fit(
        w.z, w.c, given=w.given, outcome=y, weights=w.weights
    )
    clean, size = apply(fitted, w.z), np.abs(w.z).max()
    for s in np.unique(w.strata):
        rows = w.strata == s
        left = covariance(clean[rows], w.c[rows], w.weights[rows])
        assert_allclose(left, 0, atol=1e-7 * size)
    if not fitted.remarks:
        kept = covariance(clean, y, w.weights)
        assert_allclose(kept, covariance(w.z, y, w.weights), atol=1e-6 * size)


def test_leace_does_change_that_covariance_and_both_erase():
    w = world(0, n=2000, d=10, follows=1.0)
    y, one = w.strata.astype(float), np.ones(2000)
    before = covariance(w.z, y, one)
    ours, theirs = (
        covariance(apply(m.fit(w.z, w.c, outcome=y), w.z), y, one)
        for m in (BARE, LEACE(shrinkage=0.0, rank="full"))
    )
    assert np.abs(theirs - before).max() > 0.02
    assert_allclose(ours, before, atol=1e-9)


def test_equals_the_formula_of_the_paper():
    # P = W⁺ V (Uᵀ V)⁻¹ Uᵀ W,  U a basis of (W Σ_zc)^⊥,  V of W Σ_zy and what is orthogonal to both
    w = world(1, n=1500, d=9, k=3)
    y, one = outcome_of(w), np.ones(1500)
    whiten = power(covariance(w.z, w.z, one), -0.5)
    trace, disease = whiten @ covariance(w.z, w.c, one), whiten @ covariance(w.z, y, one)
    trace = trace[:, :2]  # one-hot: the last column is minus the others
    u = null_space(trace.T)
    v = np.hstack([disease, null_space(np.hstack([trace, disease]).T)])
    p = np.linalg.inv(whiten) @ v @ np.linalg.inv(u.T @ v) @ u.T @ whiten
    mean = w.z.mean(axis=0)
    clean = apply(BARE.fit(w.z, w.c, outcome=y), w.z)
    assert_allclose(clean, mean + (w.z - mean) @ p.T, atol=1e-9)


@settings(max_examples=10)
@given(w=worlds(), seed=st.integers(0, 10**6))
def test_twice_is_once_and_the_basis_does_not_matter(w, seed):
    rng = np.random.default_rng(seed)
    y, basis = outcome_of(w), invertible(rng, w.z.shape[1], 30.0)
    fitted = BARE.fit(w.z, w.c, given=w.given, outcome=y)
    once = apply(fitted, w.z)
    assert_allclose(apply(fitted, once), once, atol=1e-6 * np.abs(once).max())
    there = apply(BARE.fit(w.z @ basis + 3, w.c, given=w.given, outcome=y), w.z @ basis + 3)
    assert_allclose(there, once @ basis + 3, atol=1e-5 * np.abs(once).max())


def test_where_trace_and_disease_are_one_the_erasure_goes_first_and_says_so():
    rng = np.random.default_rng(2)
    level = rng.integers(2, size=1000)
    z = rng.normal(size=(1000, 5))
    z[:, 0] += 3 * level
    c, y = np.eye(2)[level], level.astype(float)  # the outcome is the confounder
    fitted = BARE.fit(z, c, outcome=y)
    assert_allclose(apply(fitted, z), apply(LEACE(shrinkage=0.0, rank="full").fit(z, c), z))
    assert "trace of the confounder lies along them: 1 of the directions" in fitted.remarks[0]
    assert not BARE.fit(z, c, outcome=rng.normal(size=1000)).remarks


def test_without_an_outcome_or_a_constant_one_it_is_leace():
    w = world(3, n=500)
    plain = apply(LEACE().fit(w.z, w.c, given=w.given), w.z)
    without = SPLINCE().fit(w.z, w.c, given=w.given)
    assert_allclose(apply(without, w.z), plain)
    assert "no outcome was given" in without.remarks[0]
    for y in (np.ones(500), np.full(500, np.nan)):
        assert_allclose(apply(SPLINCE().fit(w.z, w.c, given=w.given, outcome=y), w.z), plain)


def test_films_without_a_diagnosis_help_to_erase_and_several_outcomes_are_kept():
    w = world(4, n=1200, d=10)
    y = np.stack([outcome_of(w, 1), outcome_of(w, 2)], axis=1)
    y[:200, 1] = np.nan
    clean = apply(BARE.fit(w.z, w.c, outcome=y), w.z)
    assert_allclose(covariance(clean, w.c, np.ones(1200)), 0, atol=1e-8)
    for x in y.T:  # each over the films on which it is recorded
        known = np.isfinite(x)
        one = np.ones(known.sum())
        kept = covariance(clean[known], x[known], one)
        assert_allclose(kept, covariance(w.z[known], x[known], one), atol=1e-8)


def test_more_columns_than_films():
    w = world(5, n=60, d=100, k=2)
    y, one = outcome_of(w), np.ones(60)
    fitted = SPLINCE(rank="full", strata="pooled").fit(w.z, w.c, outcome=y)
    clean = apply(fitted, w.z)
    assert np.abs(covariance(w.z, w.c, one)).max() > 0.1
    assert_allclose(covariance(clean, w.c, one), 0, atol=1e-8)
    assert_allclose(covariance(clean, y, one), covariance(w.z, y, one), atol=1e-8)


def test_bad_settings_are_refused():
    with pytest.raises(SettingsError, match="rank is 'significant' or 'full', not 'all'"):
        SPLINCE(rank="all")
