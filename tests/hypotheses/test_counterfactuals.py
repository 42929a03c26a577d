"""Checks that pass for a right model, and each fails for the model that breaks it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import deconf
from deconf import scm
from deconf.errors import LeakageError, SettingsError
from deconf.hypotheses.counterfactuals import check_counterfactuals, flip_test

GRAPH = "pneumonia <-> portable; pneumonia -> image <- portable"


@pytest.fixture(scope="module")
def world():
    return deconf.worlds.linear(n=6000, d=24, seed=97)


@pytest.fixture(scope="module")
def new(world):
    return world.test("aligned", 1000)


@pytest.fixture(scope="module")
def model(world):
    return scm.fit(world.train().cohort, GRAPH, embedding="affine")


@pytest.fixture(scope="module")
def checks(model, new):
    return check_counterfactuals(model, new.cohort, "portable")


def test_a_right_model_passes_every_check(checks):
    assert not checks.failures
    assert "pass every check, which a wrong model may too" in str(checks)
    assert checks.composition < 1e-4
    assert checks.reversibility < 1e-4
    assert min(i.estimate for i in checks.effectiveness.values()) > 0.8
    assert set(checks.independence) == {"pneumonia", "portable"}


def test_a_model_that_does_nothing_is_not_effective(model, new):
    a = model.embedding.affine
    idle = replace(a, slope=0 * a.slope, effects=0 * a.effects)
    found = check_counterfactuals(
        replace(model, embedding=replace(model.embedding, affine=idle)), new.cohort, "portable"
    )
    assert "films set to 1 are read as 1" in found.verdict
    assert "noise tells portable" in found.verdict


def test_a_mechanism_that_is_no_inverse_breaks_composition(model, new):
    a = model.embedding.affine
    bent = replace(model.embedding, affine=replace(a, inverse=1.1 * a.inverse))
    found = check_counterfactuals(replace(model, embedding=bent), new.cohort, "portable")
    assert "no change moves films" in found.verdict
    assert "there and back" in found.verdict


def test_the_frame_holds_every_figure(checks):
    frame = checks.to_frame().set_index(["check", "of"])
    assert {"low", "high", "n", "beside"} <= set(frame)
    assert len(frame) == 3 + 2 + 2


def test_the_flip_of_a_score_is_the_true_one(model, new):
    head = np.linspace(-1, 1, 24)
    found = flip_test(model, new.cohort, lambda z: z @ head, "portable")
    true = (new.do_portable[1] - new.do_portable[0]) @ head
    sd = (new.cohort.embeddings @ head).std()
    assert abs(found.change.estimate - true.mean()) < 0.1 * sd
    assert abs(found.moved.estimate - np.abs(true).mean() / sd) < 0.1
    assert found.change.low < found.change.estimate < found.change.high
    assert "do(portable: 0 -> 1) changes the score" in str(found)


def test_a_score_that_reads_no_trace_does_not_flip(model, new):
    a = model.coordinates
    beside = np.linalg.svd(a.axes.T)[2][-1]  # a direction that is not modelled
    found = flip_test(model, new.cohort, lambda z: z @ beside, "portable")
    assert found.moved.high < 1e-4


def test_bad_questions_are_refused(model, new, world):
    with pytest.raises(SettingsError, match=r"'age' is no discrete column.*portable"):
        check_counterfactuals(model, new.cohort, "age")
    with pytest.raises(LeakageError, match="fitted on"):
        check_counterfactuals(model, world.train().cohort, "portable")
    with pytest.raises(SettingsError, match=r"values=\(a, b\)"):
        flip_test(model, new.cohort, lambda z: z[:, 0], "age")
    for score, words in (
        (lambda z: z[:3, 0], r"shape \(3,\) for"),
        (lambda z: z[:, :2], r", 2\) for"),
        (lambda z: np.nan * z[:, 0], "some of it nan"),
    ):
        with pytest.raises(SettingsError, match=words):
            flip_test(model, new.cohort, score, "portable")
