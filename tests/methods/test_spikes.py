from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from deconf.methods.spikes import band, spikes


def levels_of_noise(seed, sizes, d, spread=None):
    """Return the covariances of levels that differ by chance alone."""
    rng = np.random.default_rng(seed)
    spread = np.ones(d) if spread is None else spread
    return np.stack([np.cov(rng.normal(size=(n, d)).T * spread[:, None], bias=True) for n in sizes])


@pytest.mark.parametrize(
    ("sizes", "d"),
    [
        ([500, 500], 8),
        ([2000, 400], 32),
        ([600] * 6, 16),
        ([3000, 300, 300, 300], 24),
        ([900, 4], 12),
        ([600, 500, 6], 12),
    ],
)
def test_levels_that_agree_show_no_spike_nineteen_times_in_twenty(sizes, d):
    seen = 0
    for seed in range(60):
        _, _, found = spikes(levels_of_noise(seed, sizes, d), np.array(sizes, float) - 1)
        seen += any(f.values.size for f in found)
    assert seen <= 5


def test_quiet_directions_are_no_difference():
    # Shrinking the yardstick alone would make every direction below its padding a spike.
    spread = np.geomspace(1, 1e-4, 10)
    for seed in range(5):
        _, _, found = spikes(levels_of_noise(seed, [400, 300], 10, spread), np.array([400.0, 300]))
        assert not any(f.values.size for f in found)


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_direction_stretched_in_one_level_is_found_there_and_nowhere_else(factor):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4000, 20)), rng.normal(size=(4000, 20))
    direction = np.linalg.qr(rng.normal(size=(20, 1)))[0][:, 0]
    y += np.outer(y @ direction, direction) * (factor - 1)
    lower, inverse, found = spikes(np.stack([np.cov(x.T), np.cov(y.T)]), np.array([4000.0, 4000.0]))
    assert [f.values.size for f in found] == [1, 1]  # the other is narrow against the average
    assert (found[1].values[0] > 1) == (factor > 1)
    # Eigenvalues against the average: f^2 / ((1 + f^2) / 2).
    assert_allclose(found[1].values[0], 2 * factor**2 / (1 + factor**2), rtol=0.1)
    there = lower @ found[1].directions[:, 0]
    assert abs(there @ direction) / np.linalg.norm(there) > 0.98
    assert_allclose(inverse @ lower, np.eye(20), atol=1e-10)


def test_a_single_level_with_rows_enough_has_nothing_to_be_compared_with():
    lower, inverse, found = spikes(levels_of_noise(0, [500, 20], 10), np.array([500.0, 20.0]))
    assert lower.shape == (10, 0)
    assert inverse.shape == (0, 10)
    assert not any(f.values.size for f in found)


@pytest.mark.parametrize(("d", "sizes"), [(4, [200, 90]), (30, [900, 400, 400])])
def test_the_band_is_passed_seldom_by_noise_and_is_not_idly_wide(d, sizes):
    low, high = band(d, sizes[0], np.array(sizes[1:], float))
    lows, highs = [], []
    for seed in range(150):
        sigmas = levels_of_noise(seed, sizes, d)
        against = np.linalg.solve(sigmas.mean(axis=0), sigmas[0])
        values = np.linalg.eigvals(against).real
        lows.append(values.min())
        highs.append(values.max())
    assert np.mean(np.array(highs) > high) <= 0.03
    assert np.mean(np.array(lows) < low) <= 0.03
    assert np.quantile(highs, 0.9) > 1 + 0.6 * (high - 1)
    assert np.quantile(lows, 0.1) < 1 - 0.6 * (1 - low)
