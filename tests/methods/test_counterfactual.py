"""The counterfactual map against worlds whose other side is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import deconf
from deconf.errors import SettingsError
from deconf.maths.moments import Given
from deconf.methods import Counterfactual
from tests.strategies import apply

SHIFT, NOISE = 2.0, 0.5


def two_devices(n: int, seed: int, *, turn: float = 0.0, gain: float = 1.0):
    """Return z, both sides of it, device and illness; the device moves ill films further."""
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    device = (rng.random(n) < np.where(ill, 0.6, 0.3)).astype(int)
    u = rng.normal(size=(n, 6))
    base = u + 6.0 * ill[:, None] * np.eye(6)[0]
    other = base + SHIFT * np.eye(6)[1] + turn * ill[:, None] * np.eye(6)[2]
    other[:, 3] = gain * other[:, 3]
    z = np.where(device[:, None] == 1, other, base)
    return z, (base, other), device, ill


def error(z: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(((z - truth) ** 2).mean()))


@pytest.mark.parametrize(("turn", "gain"), [(0.0, 1.0), (3.0, 1.0), (0.0, 3.0)])
def test_films_of_the_other_device_become_what_the_reference_would_have_made(turn, gain):
    z, _, device, ill = two_devices(4000, 0, turn=turn, gain=gain)
    c = np.eye(2)[device]
    fitted = Counterfactual().fit(z, c, given=Given(ill))
    new, (base, _), device, _ = two_devices(2000, 1, turn=turn, gain=gain)
    there = apply(fitted, new, np.eye(2)[device])
    assert error(there[device == 1], base[device == 1]) < 0.1
    assert error(new[device == 1], base[device == 1]) > 0.7
    np.testing.assert_array_equal(there[device == 0], new[device == 0])  # the reference


def test_a_shift_of_its_own_for_each_stratum_is_used_only_where_there_is_one():
    for turn, expected in ((0.0, True), (3.0, False)):
        z, _, device, ill = two_devices(3000, 2, turn=turn)
        fitted = Counterfactual().fit(z, np.eye(2)[device], given=Given(ill))
        moved = fitted.shift.numpy()
        moved = moved[moved.any(axis=(1, 2))]
        assert len(moved) == 1  # the reference stays
        assert np.allclose(moved[0, 0], moved[0, 1]) == expected


def test_marginal_fitting_moves_the_disease_and_conditional_does_not():
    z, (base, _), device, ill = two_devices(4000, 3)
    c = np.eye(2)[device]
    held = apply(Counterfactual().fit(z, c, given=Given(ill)), z, c)
    loose = apply(Counterfactual().fit(z, c), z, c)
    moved = [abs((x - base)[device == 1, 0].mean()) for x in (held, loose)]
    assert moved[0] < 0.1 < 1.0 < moved[1]


def test_a_level_never_met_leaves_the_film_as_it_is():
    z, _, device, ill = two_devices(500, 4)
    fitted = Counterfactual().fit(z, np.eye(3)[device], given=Given(ill))
    strange = torch.tensor(np.tile(np.eye(3)[2], (500, 1)))
    assert torch.equal(fitted(torch.tensor(z), strange), torch.tensor(z))


def test_it_runs_from_the_door_only_where_the_record_may_be_read():
    world = deconf.worlds.linear(n=600, d=24, seed=97)
    films = world.train()
    settings = {"graph": world.graph, "method": "counterfactual"}
    with pytest.raises(SettingsError, match="at_inference=True"):
        deconf.deconfound("stored", ["portable"], **settings).fit(films.cohort)
    clean = deconf.deconfound("stored", ["portable"], at_inference=True, **settings)
    new = world.test("aligned", 400)
    out = clean.fit(films.cohort).embed(new.cohort)
    off = [min(error(x, side) for side in new.do_portable) for x in (out, new.cohort.embeddings)]
    assert off[0] < 0.4 * off[1]


def test_a_wrong_setting_is_named():
    with pytest.raises(SettingsError, match="rank is 'significant' or 'full', not 'half'"):
        Counterfactual(rank="half")
