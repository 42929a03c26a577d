from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from deconf.errors import SettingsError
from deconf.maths.moments import Given
from deconf.methods import CDANN, DANN
from deconf.methods.adversarial import looked_at, reading_loss
from deconf.methods.films import films_of, stratified
from deconf.methods.game import Game, Rounds, play, pointed
from deconf.methods.views import telling
from tests.reference.dann import dann


def world(n=300, d=5, seed=0):
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    portable = (rng.random(n) < np.where(ill, 0.7, 0.3)).astype(int)
    z = rng.standard_normal((n, d))
    z[:, 0] += ill
    z[portable == 1, 2] *= 2.0
    return z, portable, ill


@pytest.mark.slow
@pytest.mark.parametrize(("sites", "n"), [(30, 4500), (70, 7000)])
def test_many_sites_are_told_apart_by_one_adversary_and_less_of_them_is_left(sites, n):
    rng = np.random.default_rng(97)
    site, ill = np.arange(n) % sites, rng.integers(2, size=n)
    z = rng.normal(size=(n, 8))
    z[:, :3] *= np.where(site % 2, 2.0, 0.5)[:, None]
    z[:, 3] += 0.5 * rng.normal(size=sites)[site]
    z[:, 4] += ill
    given, outcome = Given(ill), ill.astype(float)
    fitted = DANN(rounds=Rounds(count=1)).fit(z, np.eye(sites)[site], given=given, outcome=outcome)
    assert "lowered what fresh attackers read" in fitted.remarks[0]


def in_double(films):
    columns = ("x", "design", "basis", "outcome", "weight")
    return replace(films, **{name: getattr(films, name).double() for name in columns})


def test_training_equals_a_plain_loop_written_out():
    z, portable, _ = world()
    cpu, rounds, steps = torch.device("cpu"), Rounds(steps=40, batch=64, hidden=16), 40
    single = films_of(z, np.eye(2)[portable], Given.nothing(300), None, None, cpu)
    method = DANN(widths=(8, 16), strength=1.5, reconstruction=0.2, start="identity")
    adapter, view = pointed(single, 16, seed=3).double(), telling(single, single.x).double()
    films = in_double(single)
    torch.manual_seed(4)
    penalty = method.penalty(films, view).double()
    w = [adapter.down.weight, adapter.down.bias, adapter.up.weight, adapter.up.bias]
    own = [p.detach().clone().requires_grad_() for p in w]
    readers = []
    for r in penalty.readers:
        layer = r.body[0].parametrizations.weight
        learnt = (layer.original, r.body[0].bias, r.head.weight, r.head.bias)
        copies = [p.detach().clone().requires_grad_() for p in learnt]
        readers.append([*copies, layer[0]._u.clone(), layer[0]._v.clone()])

    order, size = stratified(films.level.numpy(), rounds.batch, steps)
    play(Game(adapter, None, penalty, 0.2), films, order, size, rounds, seed=5)
    batches = np.sort(order(np.random.default_rng([5, 0])).reshape(steps, size), axis=1)
    dann(
        films.x, films.level, [torch.tensor(b) for b in batches], own, readers,
        view.directions, strength=1.5, reconstruction=0.2, rate=rounds.learning_rate, alone=4,
    )  # fmt: skip
    assert np.abs(w[2].detach().numpy()).max() > 0.01  # the adapter has left its start
    for ours, plain in zip(w, own, strict=True):
        assert_allclose(ours.detach(), plain.detach(), atol=1e-9)
    head = penalty.readers[1].head.weight
    assert_allclose(head.detach(), readers[1][2].detach(), atol=1e-9)


def test_an_adversary_with_the_stratum_does_not_pay_for_the_disease():
    """Nothing but the disease is in z, and the scanner follows it: only DANN sees a confounder."""
    rng = np.random.default_rng(0)
    ill = rng.integers(2, size=2000)
    portable = (rng.random(2000) < np.where(ill, 0.9, 0.1)).astype(int)
    z = rng.standard_normal((2000, 3)) + 3 * ill[:, None]
    films = films_of(z, np.eye(2)[portable], Given(ill), None, None, torch.device("cpu"))
    losses = {}
    for method, own in ((DANN(widths=(16,)), films.marginal()), (CDANN(widths=(16,)), films)):
        torch.manual_seed(0)
        view = telling(own, own.x)
        penalty = method.penalty(own, view)
        seen, adam = looked_at(own.x, own, view), torch.optim.Adam(penalty.parameters(), 0.01)
        for _ in range(40):
            loss = penalty(own.x, own)
            adam.zero_grad()
            loss.backward()
            adam.step()
        said = penalty.readers[0](seen, own.stratum).detach()
        losses[method.registered_name] = float(reading_loss(said, own, own.balanced))
    assert losses["dann"] < 0.5
    assert losses["cdann"] > np.log(2) - 0.03


def test_a_trace_of_opposite_signs_in_two_strata_is_seen_by_a_head_for_each():
    rng = np.random.default_rng(0)
    ill, portable = rng.integers(2, size=(2, 1500))
    z = rng.standard_normal((1500, 3))
    z[:, 0] += 3 * (2 * portable - 1) * (2 * ill - 1)
    films = films_of(z, np.eye(2)[portable], Given(ill), None, None, torch.device("cpu"))
    torch.manual_seed(0)
    penalty = CDANN(widths=(16,)).penalty(films, telling(films, films.x))
    adam = torch.optim.Adam(penalty.parameters(), 0.01)
    for _ in range(40):
        loss = penalty(films.x, films)
        adam.zero_grad()
        loss.backward()
        adam.step()
    other = replace(films, stratum=1 - films.stratum)
    own, turned = (
        float((penalty.read(films.x, f).argmax(dim=1) == films.level).double().mean())
        for f in (films, other)
    )
    assert own > 0.95
    assert turned < 0.1  # the heads of the other stratum have learnt the other sign


def test_an_adversary_of_a_number_is_judged_by_squared_error():
    rng = np.random.default_rng(0)
    dose = rng.normal(size=200)
    z = rng.normal(size=(200, 3))
    films = films_of(z, dose[:, None], Given.nothing(200), None, None, torch.device("cpu"))
    assert films.is_number
    said = torch.zeros(200, 1)
    assert float(reading_loss(said, films, films.balanced)) == pytest.approx(
        float(films.balanced @ films.design.square().ravel()), abs=1e-6
    )


@pytest.mark.parametrize("widths", [(), (0,), (8, -1)])
@pytest.mark.parametrize("method", [DANN, CDANN])
def test_an_ensemble_has_adversaries(method, widths):
    with pytest.raises(SettingsError, match=r"one adversary at least|one whole number or more"):
        method(widths=widths)
