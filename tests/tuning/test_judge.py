from __future__ import annotations

import numpy as np
import pytest

from deconf.errors import CohortError
from deconf.maths.intervals import Interval
from deconf.probes.leakage import Leakage
from deconf.tuning.judge import Judge, Score, Target


def judge(*epochs, raw=(0.9, 0.8), budget=0.02):
    scores = [Score(*one) for one in epochs]
    return Judge([], None, np.zeros(0), budget, raw=Score(*raw), epochs=scores)


def test_the_least_readable_epoch_within_the_budget_is_taken():
    assert judge((0.7, 0.79), (0.5, 0.6), (0.6, 0.781), (0.65, 0.9)).best == 2
    assert judge((0.7, 0.79), (0.5, 0.6), budget=0.3).best == 1
    assert judge((0.7, float("nan")), raw=(0.9, float("nan"))).best == 0


def test_none_is_taken_where_none_is_better_by_a_margin():
    assert judge((0.89, 0.9), (0.5, 0.7)).best is None
    assert judge().best is None


def test_what_noise_can_bring_is_not_taken_for_better():
    few, many = (0.9, 0.8, 0.05), (0.9, 0.8, 0.005)
    assert judge((0.84, 0.8), raw=few).best is None
    assert judge((0.81, 0.8), raw=few).best == 0
    assert judge((0.87, 0.8), raw=many).best == 0


def test_training_ends_when_five_epochs_bring_nothing_better_than_the_best():
    assert not judge((0.6, 0.8), *[(0.7, 0.8)] * 4).enough()
    assert judge((0.6, 0.8), *[(0.7, 0.8)] * 5).enough()
    assert not judge((0.95, 0.8), *[(0.9, 0.8)] * 9).enough()


def test_scores_are_kept_and_an_epoch_that_is_trained_again_is_forgotten(tmp_path):
    own = judge((0.7, 0.8), (0.6, float("nan")))
    own.save(tmp_path / "scores.json")
    again = judge()
    again.load(tmp_path / "scores.json", 2)
    assert str(again.epochs) == str(own.epochs)
    again.load(tmp_path / "scores.json", 1)
    assert len(again.epochs) == 1
    assert [f.name for f in tmp_path.iterdir()] == ["scores.json"]


def test_a_trace_and_a_disease_are_seen_and_the_disease_within_levels_only():
    rng = np.random.default_rng(0)
    level, ill = rng.integers(2, size=(2, 300))
    z = rng.normal(size=(300, 4))
    own = Judge([Target("x", level, np.zeros(300, int))], ill.astype(float), np.arange(300), 0.02)
    nothing = own.score(z)
    z[:, 0] += 3 * level
    shortcut = Judge([own.targets[0]], level.astype(float), np.arange(300), 0.02)
    assert nothing.leak < 0.62 < 0.9 < own.score(z).leak
    assert np.isnan(shortcut.score(z).task)  # nobody is ill but the films of one level
    z[:, 1] += 2 * ill
    assert own.score(z).task > 0.85


def test_too_few_held_out_patients_are_told():
    own = Judge([Target("portable", np.arange(6) % 2, np.zeros(6, int))], None, np.arange(6), 0.02)
    with pytest.raises(CohortError, match=r"can judge 'portable' on 6 held-out films.*tune='none'"):
        own.score(np.zeros((6, 2)))


def test_nothing_to_remove_is_said_only_where_a_leak_would_have_been_seen():
    def told(*readings):
        before = []
        for (value, low, high), p, critical in readings:
            own = {"a": Interval(value, low, high)}
            before.append(
                Leakage(own, worst="a", floor=0.51, critical=critical, p=p, upper=high, n_test=9)
            )
        targets = [Target(f"c{i}", np.zeros(0), np.zeros(0)) for i in range(len(before))]
        return Judge(targets, None, np.zeros(0), 0.02, before=tuple(before)).idle

    sure, few = ((0.51, 0.49, 0.54), 0.4, 0.53), ((0.54, 0.38, 0.7), 0.3, 0.53)
    assert told(sure).startswith("nothing to remove, ")
    for unsure in (few, ((0.5, 0.45, 0.54), 0.8, 0.6)):  # the interval, the null
        assert told(unsure).startswith("too few patients are held out to tell")
    assert "'c1' at AUROC 0.54 [0.38, 0.70]" in told(sure, few)
    leak = (0.55, 0.51, 0.58), 0.03, 0.54
    assert told(leak) == ""
    assert told(leak, sure).startswith("too few")  # of two, one is as rare by luck


def test_the_untouched_encoder_is_read_against_luck_target_by_target():
    rng = np.random.default_rng(0)
    level, other = rng.integers(2, size=(2, 300))
    z = rng.normal(size=(300, 4))
    z[:, 0] += 3 * level
    none = np.zeros(300, int)
    own = Judge([Target("a", other, none), Target("b", level, none)], None, np.arange(300), 0.02)
    own.begin(z)
    assert own.idle == ""
    assert [one.p * 2 < 0.05 for one in own.before] == [False, True]
    assert own.raw.leak == own.before[1].estimate.estimate
    own.begin(rng.normal(size=(300, 4)))
    assert own.idle.startswith("too few")
