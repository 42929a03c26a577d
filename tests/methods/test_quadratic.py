from __future__ import annotations

import numpy as np
import pytest

from deconf.errors import SettingsError
from deconf.maths.moments import Given
from deconf.methods import LEACE, Quadratic
from tests.strategies import apply, gap


def stretched(n=4000, d=12, factor=3.0):
    """Two levels that agree in their means; one direction is wider in the second."""
    rng = np.random.default_rng(0)
    levels, strata = rng.integers(2, size=n), rng.integers(2, size=n)
    z = rng.normal(size=(n, d))
    z[levels == 1, 4] *= factor
    z[:, 0] += 2 * strata
    return z, levels, strata


def widest(z, levels):
    """Largest ratio of variances between levels over all directions."""
    one, other = (np.cov(z[levels == j].T) + 1e-9 * np.eye(z.shape[1]) for j in (0, 1))
    return np.linalg.eigvals(np.linalg.solve(one, other)).real.max()


def test_a_difference_in_variance_goes_and_linear_erasure_leaves_it():
    z, levels, strata = stretched()
    c, given = np.eye(2)[levels], Given(strata)
    linear, quadratic = (apply(m.fit(z, c, given=given), z) for m in (LEACE(), Quadratic()))
    assert widest(z, levels) > 8
    assert widest(linear, levels) > 8
    assert widest(quadratic, levels) < 1.3
    assert gap(quadratic, strata, levels) > 0.95 * gap(z, strata, levels)


def test_a_difference_in_means_goes_too():
    z, levels, strata = stretched()
    z[:, 6] += 2 * levels
    clean = apply(Quadratic().fit(z, np.eye(2)[levels], given=Given(strata)), z)
    assert gap(clean, levels, strata) < 0.05 < 0.2 < gap(z, levels, strata)


def test_no_more_than_the_allowed_share_of_the_dimensions_goes_and_the_strongest_first():
    z, levels, strata = stretched()
    z[levels == 1] *= np.r_[np.ones(6), np.linspace(1.4, 2.4, 6)]
    clean = apply(Quadratic(most=0.17).fit(z, np.eye(2)[levels], given=Given(strata)), z)
    spread = clean.var(axis=0) / z.var(axis=0)
    assert set(np.flatnonzero(spread < 0.3)) == {4, 11}


@pytest.mark.parametrize("most", [0.0, 1.5])
def test_a_share_outside_its_range_is_refused(most):
    with pytest.raises(SettingsError, match=rf"most is a share in \(0, 1\], not {most}"):
        Quadratic(most=most)
