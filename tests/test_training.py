from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from deconf import training
from deconf.errors import SettingsError
from deconf.training import Schedule, train

RNG = np.random.default_rng(0)
X = torch.tensor(RNG.normal(size=(96, 5)), dtype=torch.float32)
TRUTH = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0])
SCHEDULE = Schedule(epochs=6, batch=16, learning_rate=0.05, weight_decay=0.0, clip=100.0)


def problem(dropout=0.0):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(5, 1), nn.Dropout(dropout))

    def loss(rows, draws):
        noise = torch.tensor(draws.normal(size=len(rows)) * 0.01, dtype=torch.float32)
        return (module(X[rows])[:, 0] - X[rows] @ TRUTH - noise).square().mean()

    return module, loss


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_a_linear_problem_is_solved_and_its_loss_falls():
    module, loss = problem()
    history = train(module, loss, 96, Schedule(60, 16, 0.05, weight_decay=0.0, clip=100.0))
    assert history[-1] < 0.01 * history[0]
    assert torch.allclose(module[0].weight[0], TRUTH, atol=0.05)
    assert not module.training


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    found = []
    for seed in (0, 0, 1):
        module, loss = problem(dropout=0.3)
        train(module, loss, 96, Schedule(3, 16, 0.05, seed=seed))
        found.append(weights(module))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    class Stop(Exception):
        pass

    def stop(epoch, epochs, value):
        if epoch == 3:
            raise Stop

    whole, loss = problem(dropout=0.3)
    history = train(whole, loss, 96, SCHEDULE)
    cut, loss = problem(dropout=0.3)
    with pytest.raises(Stop):
        train(cut, loss, 96, SCHEDULE, checkpoint=tmp_path / "c.safetensors", progress=stop)
    fresh, loss = problem(dropout=0.3)
    with torch.no_grad():
        fresh[0].weight.zero_()
    resumed = train(fresh, loss, 96, SCHEDULE, checkpoint=tmp_path / "c.safetensors")
    assert torch.equal(weights(fresh), weights(whole))
    assert resumed == history
    assert [f.name for f in tmp_path.iterdir()] == ["c.safetensors"]


def test_decay_shrinks_weights_and_spares_biases():
    module = nn.Linear(3, 2)
    before = [p.detach().clone() for p in module.parameters()]

    def loss(rows, draws):
        return 0.0 * weights_sum(module)

    train(module, loss, 8, Schedule(1, 8, 0.1, weight_decay=0.5, warmup=0.0))
    assert torch.allclose(module.weight, before[0] * 0.95)
    assert torch.equal(module.bias, before[1])


def weights_sum(module):
    return sum(p.sum() for p in module.parameters())


def test_a_loss_that_is_not_finite_a_short_table_and_foreign_checkpoints_are_told(tmp_path):
    module, loss = problem()
    with pytest.raises(SettingsError, match=r"loss is nan in step 0 of epoch 1.*learning_rate"):
        train(module, lambda rows, draws: loss(rows, draws) * float("nan"), 96, SCHEDULE)
    with pytest.raises(SettingsError, match="9 rows do not fill a batch of 16"):
        train(module, loss, 9, SCHEDULE)
    train(module, loss, 96, Schedule(1, 16), checkpoint=tmp_path / "c.safetensors")
    with pytest.raises(SettingsError, match="another module"):
        train(nn.Linear(5, 1), loss, 96, SCHEDULE, checkpoint=tmp_path / "c.safetensors")


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch": 0}, {"learning_rate": -1.0}])
def test_settings_that_cannot_be_are_named(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(SettingsError, match=rf"{name} is {value}"):
        Schedule(**wrong)
    with pytest.raises(SettingsError, match=r"warmup is 1\.5"):
        Schedule(warmup=1.5)


def test_training_leaves_the_random_state_of_the_caller_alone():
    module, loss = problem(dropout=0.3)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(module, loss, 96, Schedule(1, 16))
    assert torch.equal(torch.rand(3), expected)


def test_a_batch_computed_in_parts_takes_the_same_steps():
    found = []
    for accumulate in (1, 4):
        torch.manual_seed(1)
        module = nn.Linear(5, 1).double()

        def loss(rows, draws, module=module):
            return (module(X[rows].double())[:, 0] - (X[rows] @ TRUTH).double()).square().mean()

        history = train(module, loss, 96, Schedule(3, 16, 0.05, accumulate=accumulate))
        found.append((weights(module), history))
    torch.testing.assert_close(found[1][0], found[0][0])
    assert found[1][1] == pytest.approx(found[0][1])
    with pytest.raises(SettingsError, match="batch of 16 cannot be computed in 3 equal parts"):
        Schedule(batch=16, accumulate=3)


@pytest.mark.parametrize("patience", [1, 32])  # a GPU's losses are looked at now and then
def test_a_run_stopped_inside_an_epoch_goes_on_to_the_same_bits(patience, tmp_path, monkeypatch):
    monkeypatch.setitem(training.LOOKS, "cpu", patience)

    class Stop(Exception):
        pass

    whole, loss = problem(dropout=0.3)
    history = train(whole, loss, 96, SCHEDULE)
    cut, loss = problem(dropout=0.3)
    calls = []

    def mortal(rows, draws):
        calls.append(rows)
        if len(calls) == 17:  # fifth of six steps of the third epoch
            raise Stop
        return loss(rows, draws)

    path = tmp_path / "c.safetensors"
    with pytest.raises(Stop):
        train(cut, mortal, 96, SCHEDULE, checkpoint=path, every=2)
    fresh, loss = problem(dropout=0.3)
    with torch.no_grad():
        fresh[0].weight.zero_()
    steps = []

    def counted(rows, draws):
        steps.append(rows)
        return loss(rows, draws)

    assert train(fresh, counted, 96, SCHEDULE, checkpoint=path, every=2) == history
    assert torch.equal(weights(fresh), weights(whole))
    assert len(steps) == 36 - 16  # four steps of the third epoch had been kept


def test_frozen_weights_stay_and_are_not_in_the_checkpoint_and_some_learn_faster(tmp_path):
    module = nn.ModuleDict({name: nn.Linear(3, 2) for name in ("slow", "fast", "frozen")})
    module["frozen"].requires_grad_(False)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}

    def loss(rows, draws):
        return weights_sum(module["slow"]) + weights_sum(module["fast"])

    path = tmp_path / "c.safetensors"
    schedule = Schedule(1, 8, 0.01, weight_decay=0.0, warmup=0.0)
    train(module, loss, 8, schedule, checkpoint=path, rates={"fast.": 10.0})
    moved = {n: float((p.detach() - before[n]).abs().max()) for n, p in module.named_parameters()}
    assert moved["slow.weight"] == pytest.approx(0.01, rel=1e-3)
    assert moved["fast.weight"] == pytest.approx(0.1, rel=1e-3)
    assert moved["frozen.weight"] == 0
    kept = load_file(path)
    assert "module.slow.weight" in kept
    assert not any("frozen" in name for name in kept)


def test_training_ends_when_it_is_enough_and_the_next_rows_are_known_beforehand():
    module, loss = problem()
    soon, taken = [], []

    def noted(rows, draws):
        taken.append(rows)
        return loss(rows, draws)

    epochs = iter([False, False, True])
    history = train(module, noted, 96, SCHEDULE, enough=lambda: next(epochs), soon=soon.append)
    assert len(history) == 2
    assert len(soon) == 10  # of each epoch's six batches all but the first
    assert all(np.array_equal(a, b) for a, b in zip(soon[:5], taken[1:6], strict=True))
