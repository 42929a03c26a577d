"""Flows: exact inverses, true densities, noise that bends as its causes say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import deconf
from deconf import scm
from deconf.scm import flows
from deconf.scm.flows import FlowNoise, fit_flow

HALF = np.arange(800), np.arange(800, 1200)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(flows, "STEPS", 60)


def skewed(n: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise whose shape depends on its cause."""
    rng = np.random.default_rng(seed)
    cause = rng.integers(2, size=n)
    e = rng.normal(size=(n, width))
    e[:, -1] = np.where(cause == 1, np.exp(0.7 * e[:, -1]) - 1.3, e[:, -1])
    if width > 1:
        e[:, -1] += 0.8 * (e[:, 0] ** 2 - 1)
    return e, np.eye(2)[cause]


@pytest.fixture(scope="module", params=[1, 5])
def fitted(request):
    e, d = skewed(1200, request.param, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows, "STEPS", 60)
        return (*fit_flow(e, d, *HALF, seed=0), *skewed(300, request.param, 1))


def test_abduction_is_the_inverse_of_prediction(fitted):
    flow, *_, e, d = fitted
    np.testing.assert_allclose(flow.outward(flow.inward(e, d)[0], d), e, atol=1e-6)
    assert np.abs(flow.inward(e, d)[0] - e).max() > 0.1  # and is not the identity


def test_the_volume_is_that_of_a_numerical_jacobian(fitted):
    flow, *_, e, d = fitted
    e, d = e[:5], d[:5]
    _, volume = flow.inward(e, d)
    step = 1e-5
    for row in range(5):
        columns = [
            (flow.inward(e[row : row + 1] + s, d[row : row + 1])[0][0]
             - flow.inward(e[row : row + 1] - s, d[row : row + 1])[0][0]) / (2 * step)
            for s in step * np.eye(e.shape[1])
        ]  # fmt: skip
        assert abs(np.linalg.slogdet(np.array(columns))[1] - volume[row]) < 1e-4


def test_held_out_patients_are_likelier_under_the_flow(fitted):
    _, before, after, *_ = fitted
    assert after > before + 0.05


def test_it_is_rebuilt_from_its_spec_and_arrays(fitted):
    flow, *_, e, d = fitted
    again = FlowNoise.of(flow.spec(), flow.arrays())
    np.testing.assert_array_equal(again.inward(e, d)[0], flow.inward(e, d)[0])


def test_noise_that_is_normal_already_keeps_the_start():
    rng = np.random.default_rng(2)
    e, d = rng.normal(size=(1200, 4)), np.zeros((1200, 0))
    flow, before, after = fit_flow(e, d, *HALF, seed=0)
    assert after - before < 0.01
    assert np.abs(flow.inward(e, d)[0] - e).mean() < 0.1


def test_the_same_seed_gives_the_same_flow_and_leaves_the_callers_draws_alone():
    e, d = skewed(1200, 3, 3)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second, other = (fit_flow(e, d, *HALF, seed=s)[0] for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first.inward(e, d)[0], second.inward(e, d)[0])
    assert not np.array_equal(first.inward(e, d)[0], other.inward(e, d)[0])


def curved(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return dose and response, which saturates, and the response at another dose."""
    rng = np.random.default_rng(seed)
    dose, other, noise = rng.normal(size=n), rng.normal(size=n), rng.normal(size=n)
    respond = lambda x: 1 / (1 + np.exp(-(2.0 * x + noise)))  # noqa: E731
    return pd.DataFrame({"dose": dose, "response": respond(dose), "other": other}), respond(other)


def test_a_curved_mechanism_is_followed_by_the_flow_and_not_by_the_line():
    train, (new, truth) = curved(1000, 0)[0], curved(800, 1)
    error = {}
    for kind in ("affine", "flow"):
        model = scm.fit(deconf.Cohort.read(train), "dose -> response", numbers=kind)
        there = model.counterfactual(deconf.Cohort.read(new), {"dose": new["other"]})
        off = there.cohort.table["response"].to_numpy() - truth[there.rows]
        error[kind] = np.abs(off).mean()
    assert error["flow"] < 0.6 * error["affine"]


def test_auto_keeps_the_affine_mechanism_where_the_flow_is_no_better():
    rng = np.random.default_rng(4)
    cause = rng.normal(size=1500)
    table = pd.DataFrame({"cause": cause, "effect": cause + rng.normal(size=1500)})
    model = scm.fit(deconf.Cohort.read(table), "cause -> effect")
    assert any("affine kept" in note for note in model.notes)
    small = scm.fit(deconf.Cohort.read(table.head(300)), "cause -> effect")
    assert not small.notes  # no flow was tried
