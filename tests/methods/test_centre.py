from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from deconf.errors import SettingsError
from deconf.maths.moments import Given
from deconf.methods import Centre
from tests.strategies import apply, gap, world


def test_plain_centring_per_site_removes_prevalence_with_the_site():
    rng = np.random.default_rng(0)
    site = rng.integers(2, size=4000)
    disease = (rng.random(4000) < np.where(site, 0.8, 0.2)).astype(int)
    z = rng.normal(size=(4000, 4))
    z[:, 0] += 3 * disease
    c = np.eye(2)[site]
    plain, held = (
        apply(Centre(rank="full").fit(z, c, given=g), z, c) for g in (None, Given(disease))
    )
    none = np.zeros(4000, int)
    assert gap(plain, site, none) < 1e-10 < gap(z, site, none)  # equal means, at this price:
    sick = disease == 1
    between = [
        abs(x[sick & (site == 1), 0].mean() - x[sick & (site == 0), 0].mean())
        for x in (z, plain, held)
    ]
    assert between[0] < 0.15
    assert between[1] > 1.5  # the sick of two sites are now far apart
    assert between[2] < 0.15


@pytest.mark.parametrize("rank", ["full", "significant"])
def test_the_means_of_the_levels_meet_and_covariances_stay(rank):
    w = world(1, n=5000, d=6, k=3, trace=2.0)
    clean = apply(Centre(rank=rank).fit(w.z, w.c, given=w.given), w.z, w.c)
    assert gap(clean, w.levels, w.strata) < 0.05 < 0.5 < gap(w.z, w.levels, w.strata)
    for level in range(3):
        rows = w.levels == level
        assert_allclose(np.cov(clean[rows].T), np.cov(w.z[rows].T))


def test_plain_centring_writes_noise_into_the_films_and_the_rank_rule_does_not():
    rng = np.random.default_rng(2)
    z, c = rng.normal(size=(300, 100)), np.eye(2)[rng.integers(2, size=300)]
    noise, kept = (Centre(rank=r).fit(z, c) for r in ("full", "significant"))
    assert not noise.is_identity
    assert kept.is_identity


def test_an_unknown_rank_is_refused():
    with pytest.raises(SettingsError, match="'significant' or 'full', not 'half'"):
        Centre(rank="half")
