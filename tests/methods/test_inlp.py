from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from deconf.errors import SettingsError
from deconf.methods import INLP, LEACE
from tests.reference.leace import weighted_covariance
from tests.strategies import apply, gap, world


def test_one_round_is_the_null_space_of_the_weights_of_least_squares():
    w = world(0, n=2000, d=8, k=2, trace=1.0, strata=1, condition=4.0)
    one = np.ones(2000)
    sigma = weighted_covariance(w.z, w.z, one)
    weights = np.linalg.solve(0.5 * sigma + 0.5 * np.trace(sigma) / 8 * np.eye(8),
                              weighted_covariance(w.z, w.c[:, :1], one))  # fmt: skip
    unit = weights / np.linalg.norm(weights)
    fitted = INLP(rounds=1).fit(w.z, w.c)
    expected = w.z - (w.z - w.z.mean(axis=0)) @ unit @ unit.T
    assert_allclose(apply(fitted, w.z), expected, atol=1e-8)


def test_rounds_are_added_until_held_out_patients_are_at_chance():
    w = world(1, n=4000, d=16, k=2, trace=0.7, condition=5.0)
    few, many = INLP(rounds=1).fit(w.z, w.c, given=w.given), INLP().fit(w.z, w.c, given=w.given)
    assert "after 1 classifiers one on held-out patients still reads" in few.remarks[0]
    assert many.rank > few.rank == 1
    assert not any("still reads" in remark for remark in many.remarks)
    left = [gap(apply(m, w.z), w.levels, w.strata) for m in (few, many)]
    assert left[0] > 0.1 > left[1]


def test_weights_that_are_the_difference_of_means_need_one_round_as_leace_does():
    w = world(1, n=4000, d=16, k=2, trace=0.7, condition=5.0)
    ranks = [
        method.fit(w.z, w.c, given=w.given).rank
        for method in (LEACE(strata="pooled"), INLP(ridge=1.0), INLP(), INLP(ridge=0.1))
    ]
    assert ranks[:2] == [1, 1]
    assert 1 < ranks[2] <= ranks[3]


def test_it_says_when_it_took_most_of_the_embedding():
    w = world(1, n=3000, d=8, k=3, trace=1.0)
    fitted = INLP(ridge=0.0).fit(w.z, w.c, given=w.given)
    assert (
        f"{fitted.rank} of the 8 directions of the embedding were projected out" in fitted.remarks
    )


def test_marginally_the_disease_goes_along_and_within_strata_it_stays():
    w = world(2, n=4000, d=10, k=2, trace=0.0, disease=2.0, follows=1.0, rarest=0.1)
    assert INLP().fit(w.z, w.c, given=w.given).is_identity
    marginal = apply(INLP().fit(w.z, w.c), w.z)
    none = np.zeros(4000, int)
    assert gap(marginal, w.strata, none) < 0.5 * gap(w.z, w.strata, none)


def test_a_continuous_confounder_with_its_square():
    rng = np.random.default_rng(3)
    exposure = rng.normal(size=3000)
    z = rng.normal(size=(3000, 8))
    z[:, 1] += exposure
    z[:, 2] += exposure**2
    c = np.stack([exposure, exposure**2 - 1], axis=1)
    clean = apply(INLP().fit(z, c), z)
    before, after = (np.abs(np.corrcoef(x.T, c.T)[-2:, :8]).max() for x in (z, clean))
    assert after < 0.1 < 0.6 < before


def test_bad_settings_are_refused():
    with pytest.raises(SettingsError, match="rounds is 0: at least one classifier"):
        INLP(rounds=0)
    with pytest.raises(SettingsError, match="ridge is 2: a share, from 0 to 1"):
        INLP(ridge=2)
