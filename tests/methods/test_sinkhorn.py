from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from numpy.testing import assert_allclose

from deconf.errors import CohortError, SettingsError
from deconf.maths.maps import EntropicMap
from deconf.maths.maps.entropic import debiased
from deconf.maths.moments import Given
from deconf.methods import Aligned, Sinkhorn, Transport
from deconf.methods.sinkhorn import pulls
from deconf.probes.leakage import leakage
from tests.strategies import apply


def films(n: int = 4000, d: int = 6, seed: int = 97, shape: str = "Gaussian"):
    """Return z, portable, ill: the scanner shifts, stretches, and bends or splits one axis."""
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    portable = (rng.random(n) < 0.3 + 0.4 * ill).astype(int)
    z = rng.standard_normal((n, d))
    if shape == "banana":
        z[:, 3] += 0.9 * portable * (z[:, 2] ** 2 - 1)
    elif shape == "two clumps":
        clumps = rng.choice([-1.2, 1.2], size=n) + 0.4 * rng.standard_normal(n)
        z[:, 2] = np.where(portable == 1, clumps, z[:, 2])
    z[:, 4] *= 1 + portable
    z[:, 0] += 6 * ill
    z[:, 1] += 6 * portable
    return z, portable, ill


def fitted(method, z, portable, ill, **more):
    return method.fit(z, np.eye(2)[portable], given=Given(ill), **more)


def cells(mapped, z, portable, ill):
    """Yield level, stratum, rows and the coordinates of every cell."""
    x = (z - mapped.centre.numpy()) @ mapped.span.numpy()
    for level in (0, 1):
        for stratum in (0, 1):
            rows = (portable == 1 - level) & (ill == stratum)  # levels in the order of their design
            yield level, stratum, rows, torch.tensor(x[rows])


def test_cells_that_are_gaussian_are_carried_as_the_gaussian_map_carries_them():
    z, portable, ill = films()
    new, p, y = films(seed=98)
    gauss, entropic = (
        fitted(m(read="record"), z, portable, ill).links()[0] for m in (Transport, Sinkhorn)
    )
    assert_allclose(entropic.span, gauss.span)
    for level, stratum, _, x in cells(gauss, new, p, y):
        straight, bent = (m.carried(x, level, stratum) for m in (gauss, entropic))
        moved = (straight - x).square().sum(dim=1).mean().sqrt()
        apart = (bent - straight).square().mean().sqrt()
        assert moved > 2.0
        assert apart < 0.3  # a coordinate, of about 1: the luck of 400 landmarks


def test_a_large_penalty_is_the_gaussian_map():
    z, portable, ill = films(n=2000, shape="banana")
    gauss, blunt = (fitted(m, z, portable, ill) for m in (Transport(), Sinkhorn(blur=1e6)))
    assert_allclose(apply(blunt, z), apply(gauss, z), atol=1e-4)
    sharp = fitted(Sinkhorn(), z, portable, ill)
    assert np.abs(apply(sharp, z) - apply(gauss, z)).max() > 0.5


@pytest.mark.parametrize("shape", ["banana", "two clumps"])
def test_a_shape_that_trees_read_after_the_gaussian_map_is_read_less(shape):
    z, portable, ill = films(shape=shape)
    new, p, y = films(seed=98, shape=shape)
    read = []
    for method in (Transport(), Sinkhorn()):
        clean = apply(fitted(method, z, portable, ill), new)
        read.append(leakage(clean, p, y, attackers=["boosted"], seed=0).estimate.estimate)
    assert read[0] > 0.62
    assert read[1] < read[0] - 0.05


def test_mean_and_covariance_of_every_cell_are_those_of_the_reference():
    z, portable, ill = films(shape="banana")
    weights = np.random.default_rng(0).exponential(size=len(z))
    gauss, mapped = (
        fitted(m(), z, portable, ill, weights=weights).links()[0] for m in (Transport, Sinkhorn)
    )
    assert isinstance(mapped, EntropicMap)
    for level, stratum, rows, x in cells(mapped, z, portable, ill):
        w = weights[rows]
        straight, bent = (m.carried(x, level, stratum).numpy() for m in (gauss, mapped))
        assert_allclose(np.average(bent, axis=0, weights=w), gauss.target[stratum], atol=1e-8)
        assert_allclose(*(np.cov(v.T, aweights=w) for v in (bent, straight)), atol=1e-7)


def test_at_the_landmarks_the_map_is_the_plan_of_pot():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 3)), 1 + rng.standard_normal((80, 3)) ** 2
    a, b = rng.dirichlet(np.full(60, 5.0)), rng.dirichlet(np.full(80, 5.0))
    plan = ot.sinkhorn(a, b, 0.5 * ot.dist(x, y), 0.5, numItermax=5000, stopThr=1e-12)
    own = ot.sinkhorn(a, a, 0.5 * ot.dist(x, x), 0.5, numItermax=5000, stopThr=1e-12)
    pull, own_pull = pulls(x, a, y, b, 0.5)[0], np.mean(pulls(x, a, x, a, 0.5), axis=0)
    parts = [torch.tensor(v) for v in (x, y, pull, x, own_pull)]
    expected = x + plan @ y / a[:, None] - own @ x / a[:, None]
    assert_allclose(debiased(*parts, torch.tensor(0.5)), expected, atol=0.01)


def test_a_film_far_from_every_landmark_is_moved_by_a_bounded_amount():
    z, portable, ill = films(n=2000, shape="banana")
    gauss, mapped = (fitted(m(), z, portable, ill).links()[0] for m in (Transport, Sinkhorn))
    away = torch.full((1, mapped.rank), 1e4, dtype=torch.float64)
    assert (mapped.carried(away, 1, 1) / gauss.carried(away, 1, 1) - 1).abs().max() < 0.3


def test_films_without_weight_are_as_good_as_absent():
    z, portable, ill = films(n=2000)
    here = np.arange(2000) % 2 == 0
    method = Sinkhorn(read="record", landmarks=100)
    without = fitted(method, z, portable, ill, weights=here.astype(float))
    alone = fitted(method, z[here], portable[here], ill[here])
    c = np.eye(2)[portable]
    assert_allclose(apply(without, z, c), apply(alone, z, c), atol=1e-6)


def test_the_reference_holds_other_patients_than_the_cell():
    z, portable, ill = films(n=500)
    twice = np.repeat(np.arange(500), 2)  # two films of every patient, alike to the last bit
    z, portable, ill = z[twice], portable[twice], ill[twice]
    found = []
    for patients in (twice, None):
        mapped = fitted(Sinkhorn(), z, portable, ill, patients=patients).links()[0]
        own, reference = mapped.own[0, 0].numpy(), mapped.reference[0].numpy()
        same = (np.abs(own[:, None] - reference).max(axis=2) < 1e-9) & own.any(axis=1)[:, None]
        found.append(same.any(axis=1).sum())
    assert found[0] <= 2  # the one patient between the halves
    assert found[1] > 20


def test_recorded_levels_of_one_group_share_its_map():
    z, portable, ill = films(n=3000)
    site = np.random.default_rng(0).integers(4, size=3000)
    levels = 2 * site + portable
    method = Sinkhorn(read="record", landmarks=100)
    mapped = method.fit(z, np.eye(8)[levels], given=Given(ill)).links()[0]
    assert mapped.own.shape[:2] == (8, 2)
    alike = [[bool((mapped.own[i] == mapped.own[j]).all()) for j in range(8)] for i in range(8)]
    assert_allclose(np.sum(alike, axis=0), 4)


def test_too_few_patients_in_a_cell_are_told_and_means_are_matched():
    z, portable, ill = films(n=200)
    found = fitted(Sinkhorn(), z, portable, ill)
    instead = apply(found, z)
    assert "'aligned' was fitted instead of 'sinkhorn', which wants two levels" in found.remarks[0]
    assert_allclose(instead, apply(fitted(Aligned(), z, portable, ill), z))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"blur": 0.0}, "blur is 0.0"),
        ({"landmarks": 1}, "landmarks is 1: two or more"),
        ({"crowding": 1.5}, "crowding"),
        ({"read": "x"}, "'x'"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, says):
    with pytest.raises(SettingsError, match=says):
        Sinkhorn(**wrong)


def test_a_continuous_adjustment_set_is_refused_with_the_remedy():
    z, portable, ill = films(n=500)
    held = Given(ill, np.random.default_rng(0).standard_normal((500, 1)))
    with pytest.raises(CohortError, match=r"sinkhorn holds strata.*or use 'aligned' or 'leace'"):
        Sinkhorn().fit(z, np.eye(2)[portable], given=held)
