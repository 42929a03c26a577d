from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from deconf.errors import SettingsError
from deconf.maths.moments import Given
from deconf.methods import Aligned, Centre
from deconf.methods.levels import LevelMoments, balance
from tests.strategies import apply, world


def moments(w, given=None, weights=None):
    return LevelMoments.of(w.z, w.c, given or w.given, weights, None, "centre")


def test_the_effect_of_a_level_is_its_mean_with_the_strata_in_their_common_shares():
    w = world(0, n=500, k=3, strata=2)
    here, reference = moments(w, weights=w.weights).effects()
    share = np.bincount(w.strata, w.weights) / w.weights.sum()
    for level, row in zip(np.unique(w.c, axis=0), here, strict=True):
        cells = [(w.c == level).all(axis=1) & (w.strata == s) for s in (0, 1)]
        means = [np.average(w.z[cell], axis=0, weights=w.weights[cell]) for cell in cells]
        expected = share @ means
        assert_allclose(row, expected)
    assert_allclose(reference, np.broadcast_to(reference[0], reference.shape))


def test_an_empty_cell_does_not_stop_levels_from_meeting_where_the_trace_is_additive():
    # Site 1 has no film without a diagnosis: without this the sites stay apart everywhere.
    rng = np.random.default_rng(1)
    strata, levels = (
        np.repeat([0, 1, 2, 0, 1, 0, 1, 2], 50),
        np.repeat([0, 0, 0, 1, 1, 2, 2, 2], 50),
    )
    site, disease = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    z = site[levels] + disease[strata]
    c = np.eye(3)[levels]
    clean = apply(Centre(rank="full").fit(z, c, given=Given(strata)), z, c)
    for s in range(3):
        spread = clean[strata == s] - clean[strata == s].mean(axis=0)
        assert np.abs(spread).max() < 1e-10
    far = [np.ptp(z[strata == s], axis=0).max() for s in range(3)]
    assert min(far) > 0.5
    kept = clean[strata == 1][0] - clean[strata == 0][0]
    assert_allclose(kept, disease[1] - disease[0])  # and disease is where it was


def test_a_continuous_member_of_the_adjustment_set_is_not_taken_for_the_site():
    rng = np.random.default_rng(2)
    age = rng.normal(size=4000)
    site = (age + rng.normal(size=4000) > 0).astype(int)
    z = 0.3 * rng.normal(size=(4000, 6))
    z[:, 0] += 2 * age
    z[:, 1] += site
    c, given = np.eye(2)[site], Given(np.zeros(4000, int), age[:, None])

    def shift_along_age(fitted):
        moved = apply(fitted, z, c) - z
        return abs(moved[site == 1, 0].mean() - moved[site == 0, 0].mean())

    assert shift_along_age(Centre(rank="full").fit(z, c)) > 1.5
    assert shift_along_age(Centre(rank="full").fit(z, c, given=given)) < 0.05
    assert shift_along_age(Aligned(read="record").fit(z, c, given=given)) < 0.05


def test_balanced_memberships_read_no_disease():
    weight = np.array([[90.0, 10.0, 0.0], [20.0, 80.0, 5.0]])
    balanced = weight * balance(weight)
    share = balanced / balanced.sum(axis=0)
    assert_allclose(share[:, 0], share[:, 1])
    assert_allclose(share[:, 0], weight.sum(axis=1) / weight.sum())
    assert balance(weight)[0, 2] == 0


def test_balancing_by_a_continuous_column_makes_the_level_independent_of_it():
    rng = np.random.default_rng(3)
    age = rng.normal(size=5000)
    level = (rng.random(5000) < 1 / (1 + np.exp(-1.2 * age))).astype(int)
    given = Given(np.zeros(5000, int), age[:, None])
    m = LevelMoments.of(age[:, None], np.eye(2)[level], given, None, None, "aligned")
    w = m.balancing(given)
    level = m.levels  # in the order of the design rows

    def difference(weights):
        means = [np.average(age[level == j], weights=weights[level == j]) for j in (0, 1)]
        return abs(means[1] - means[0])

    assert difference(np.ones(5000)) > 0.8
    assert difference(w) < 0.12


def test_sizes_count_patients_by_their_weight():
    z, c = np.random.default_rng(4).normal(size=(40, 2)), np.eye(2)[np.repeat([0, 1], 20)]
    patients = np.r_[np.zeros(10), np.arange(1, 11), np.arange(11, 31)]
    m = LevelMoments.of(z, c, Given.nothing(40), None, patients, "centre")
    # c rows sort as [0, 1] before [1, 0]: the second level of the map is the first of c
    assert_allclose(m.sizes(), [20 - 1, 20**2 / (10**2 + 10) - 1])


def test_a_level_never_seen_is_left_as_it_is_and_a_forgotten_confounder_is_asked_for():
    w = world(5, n=300, k=3)
    two = w.levels < 2
    fitted = Centre().fit(w.z[two], w.c[two], given=w.given.rows(two))
    out = apply(fitted, w.z, w.c)
    assert_allclose(out[~two], w.z[~two], rtol=0, atol=0)
    assert np.abs(out[two] - w.z[two]).max() > 0.1
    with pytest.raises(SettingsError, match=r"pass a cohort with its columns.*at_inference=False"):
        fitted(torch.from_numpy(w.z))
