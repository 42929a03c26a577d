"""Where a number that is held lies almost in the span of the embedding."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deconf.maths.moments import Given
from deconf.maths.shrinkage import root
from deconf.methods.base import resolve, tensor
from deconf.methods.levels import LevelMoments
from deconf.methods.spikes import spikes

NAMES = ("aligned", "quadratic", "counterfactual")


def world(noise: float, n: int = 400, d: int = 12, turn: bool = True):
    """The level shifts column 1 and stretches column 2; column 0 is y, the number held."""
    rng = np.random.default_rng(98)
    y = rng.normal(size=n)
    level = (y + rng.normal(size=n) > 0).astype(int)
    z = rng.normal(size=(n, d))
    z[:, 0] = y + noise * z[:, 0]
    z[:, 1] += 2 * level
    z[:, 2] *= 1 + level
    if turn:
        z = z @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    given = Given(np.zeros(n, dtype=np.int64), (y - y.mean())[:, None])
    return z.astype(np.float32), np.eye(2)[level], given


@pytest.mark.parametrize("noise", [0.0, 1e-5, 1e-3, 0.01, 0.03, 0.05])
@pytest.mark.parametrize("turn", [False, True], ids=["a column", "a direction"])
@pytest.mark.parametrize("name", NAMES)
def test_no_film_is_moved_further_than_where_the_number_is_not_in_the_embedding(name, turn, noise):
    def moved(noise: float) -> float:
        z, c, given = world(noise, turn=turn)
        out = resolve(name).fit(z, c, given=given)(tensor(z), tensor(c)).numpy()
        assert np.isfinite(out).all()
        return float(np.sqrt(((out - z) ** 2).mean(axis=0)).max() / z.std(axis=0).max())

    assert moved(noise) < moved(1.0) + 0.25  # deviations


@pytest.mark.parametrize("noise", [1e-4, 1e-2])
def test_the_direction_that_is_explained_is_left_and_the_others_keep_their_root(noise):
    z, c, given = world(noise, turn=False)
    m = LevelMoments.of(z, c, given, None, None, "test")
    sigmas = m.covariances()
    lower, inverse, found = spikes(sigmas, m.sizes(), m.totals())
    assert lower.shape == (12, 11)
    assert_allclose(inverse @ lower, np.eye(11), atol=1e-8)
    # What is left of the common covariance is what the root had: less of the explained direction.
    away = lower @ lower.T - sigmas.mean(axis=0)
    assert np.abs(away).max() < 2 * noise
    assert np.abs(inverse[:, 0]).max() < 1  # and no film is read in its tiny units
    stretched = [f.directions.T @ inverse @ np.eye(12)[2] for f in found]
    assert all(np.abs(along).max() > 0.4 for along in stretched)


def test_an_ordinary_world_has_the_root_it_had():
    z, c, given = world(1.0)
    m = LevelMoments.of(z, c, given, None, None, "test")
    lower, inverse, _ = spikes(m.covariances(), m.sizes(), m.totals())
    usual, usual_inverse = root(m.covariances().mean(axis=0))
    assert_array_equal(lower, usual)
    assert_array_equal(inverse, usual_inverse)


def test_totals_are_the_covariances_of_the_levels():
    z, c, given = world(1.0)
    codes = (np.arange(len(z)) % 3 > 0).astype(np.int64)
    m = LevelMoments.of(z, c, Given(codes, given.basis), None, None, "test")
    for level, total in enumerate(m.totals()):
        rows = z[(c == m.design[level]).all(axis=1)].astype(np.float64)
        assert_allclose(total, np.cov(rows.T, bias=True), atol=1e-5)
