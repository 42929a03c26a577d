from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from deconf.errors import CohortError, SettingsError
from deconf.maths.maps import MixtureMap, from_spec
from deconf.maths.moments import Given
from deconf.methods import Aligned, Transport
from deconf.methods.levels import LevelMoments
from deconf.methods.transport import merged, monge
from deconf.probes.leakage import leakage
from tests.strategies import apply


def films(n: int = 4000, d: int = 10, seed: int = 0, follows: float = 0.4, disease: float = 2.0):
    """Return z, portable, ill: the scanner shifts, and widens ill and healthy on other axes."""
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    portable = (rng.random(n) < 0.5 + follows * (ill - 0.5)).astype(int)
    z = rng.standard_normal((n, d))
    z[:, 0] += disease * ill
    z[:, 1] += 6.0 * portable
    z[(portable == 1) & (ill == 1), 2] *= 2.5
    z[(portable == 1) & (ill == 0), 3] *= 2.5
    return z, portable, ill


def fitted(method, z, portable, ill, **more):
    return method.fit(z, np.eye(2)[portable], given=Given(ill), **more)


def spectrum(rng: np.random.Generator, r: int) -> np.ndarray:
    root = rng.standard_normal((r, 2 * r))
    return root @ root.T / r


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), r=st.integers(1, 8))
def test_the_map_between_gaussians_is_symmetric_and_carries_one_onto_the_other(seed, r):
    rng = np.random.default_rng(seed)
    sigma, reference = spectrum(rng, r), spectrum(rng, r)
    a = monge(sigma, reference)
    assert_allclose(a, a.T, atol=1e-8)
    assert_allclose(a @ sigma @ a, reference, atol=1e-6 * np.abs(reference).max())
    assert np.linalg.eigvalsh(a).min() >= 0
    assert_allclose(monge(sigma, sigma), np.eye(r), atol=1e-6)


def test_where_the_device_changes_ill_and_healthy_differently_only_cells_agree():
    z, portable, ill = films(disease=4.0)  # strata that can be told apart: else maps are mixed
    new, p, y = films(seed=1, disease=4.0)
    read = {}
    for method in (Aligned(), Transport()):
        clean = apply(fitted(method, z, portable, ill), new)
        found = leakage(clean, p, y, attackers=["quadratic"], seed=0)
        read[method.registered_name] = found.estimate.estimate, found.floor
    assert read["aligned"][0] > read["aligned"][1] + 0.08
    assert read["transport"][0] < read["transport"][1] + 0.06  # a cell holds 600 films


def test_the_disease_stays_and_a_level_where_it_is_frequent_is_not_made_to_look_ill():
    z, portable, ill = films(follows=0.8)
    new, p, y = films(seed=1, follows=0.8)
    clean = apply(fitted(Transport(), z, portable, ill), new)
    gap = {}
    for level in (0, 1):
        means = [clean[(p == level) & (y == value), 0].mean() for value in (0, 1)]
        gap[level] = means[1] - means[0]
        for value in (0, 1):
            assert means[value] == pytest.approx(new[y == value, 0].mean(), abs=0.15)
    assert gap[0] > 1.7
    assert gap[1] > 1.7


def test_a_disease_in_a_quiet_direction_is_among_the_coordinates_kept():
    rng = np.random.default_rng(0)
    z, portable, ill = films(d=40)
    z[:, 0] = 0.01 * (rng.standard_normal(len(z)) + 2 * ill)
    mapped = fitted(Transport(crowding=0.01), z, portable, ill).links()[0]
    assert isinstance(mapped, MixtureMap)
    assert mapped.rank < 10
    kept = np.linalg.norm(mapped.span.numpy()[0])
    assert kept > 0.99


def test_too_few_patients_in_a_cell_are_told_and_means_are_matched():
    z, portable, ill = films(n=200)
    found = fitted(Transport(), z, portable, ill)
    instead = apply(found, z)
    assert "'aligned' was fitted instead of 'transport', which wants two levels" in found.remarks[0]
    assert_allclose(instead, apply(fitted(Aligned(), z, portable, ill), z))


def test_films_of_one_patient_count_once_for_the_coordinates():
    z, portable, ill = films()
    few = Transport(crowding=0.01)
    alone = fitted(few, z, portable, ill).links()[0]
    grouped = fitted(few, z, portable, ill, patients=np.arange(4000) // 2).links()[0]
    assert isinstance(alone, MixtureMap)
    assert isinstance(grouped, MixtureMap)
    assert grouped.rank < alone.rank


def test_the_recorded_level_is_obeyed_and_an_unknown_one_left_in_place():
    z, portable, ill = films()
    reading = fitted(Transport(read="record"), z, portable, ill).links()[0]
    assert reading.needs_confounders
    as_portable, as_fixed = (apply(reading, z, np.eye(2)[np.full(4000, k)]) for k in (1, 0))
    assert (as_fixed - as_portable)[:, 1].mean() == pytest.approx(6.0, abs=0.3)
    unknown = apply(reading, z, np.full((4000, 2), 0.5))
    span, centre = reading.span.numpy(), reading.centre.numpy()
    assert_allclose(unknown, centre + (z - centre) @ span @ span.T, atol=1e-9)


def test_the_map_is_rebuilt_from_its_tensors_and_lets_gradients_through():
    z, portable, ill = films(n=2000)
    mapped = fitted(Transport(), z, portable, ill)
    again = from_spec(mapped.spec(), dict(mapped.state_dict()))
    assert np.array_equal(apply(again, z), apply(mapped, z))
    x = torch.tensor(z[:5], requires_grad=True)
    mapped(x).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"crowding": 0}, "crowding is 0"), ({"crowding": 1.5}, "crowding"), ({"read": "x"}, "'x'")],
)
def test_settings_out_of_range_are_refused(wrong, says):
    with pytest.raises(SettingsError, match=says):
        Transport(**wrong)


def test_a_continuous_adjustment_set_is_refused_with_the_remedy():
    z, portable, ill = films(n=500)
    held = Given(ill, np.random.default_rng(0).standard_normal((500, 1)))
    with pytest.raises(CohortError, match="bin numbers, name one outcome, or use"):
        Transport().fit(z, np.eye(2)[portable], given=held)


def test_thin_levels_are_carried_in_groups_of_the_most_alike_and_their_means_matched():
    rng = np.random.default_rng(2)
    z, portable, ill = films(n=3000)
    site = rng.integers(4, size=3000)
    z[:, 4] += 0.7 * site  # small beside the six of the scanner
    levels = 2 * site + portable
    m = LevelMoments.of(z, np.eye(8)[levels], Given(ill), None, None, "transport")
    groups = merged(m, 400)
    assert len(groups.design) == 2
    for level in range(8):
        assert np.unique(groups.levels[levels == level]).size == 1
    assert np.array_equal(groups.levels == groups.levels[portable == 1][0], portable == 1)
    assert_allclose(groups.cells.weight.sum(), 3000)
    mapped = Transport().fit(z, np.eye(8)[levels], given=Given(ill))
    assert [type(link).__name__ for link in mapped.links()] == ["MixtureMap", "AffineMap"]
    clean = apply(mapped, z)
    for value in (0, 1):
        means = np.array([clean[(site == s) & (ill == value)].mean(axis=0) for s in range(4)])
        assert np.ptp(means[:, 4]) < 0.35  # of 2.1


def test_levels_with_patients_enough_stay_as_they_are():
    z, portable, ill = films()
    m = LevelMoments.of(z, np.eye(2)[portable], Given(ill), None, None, "transport")
    assert merged(m, 1e9) is m  # two of them are never merged
    assert merged(m, 1) is m
