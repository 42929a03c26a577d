"""Patients as their own control: the regression with a dummy for each patient, and Mantel-Haenszel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deconf.maths.intervals import clustered_se, influence_interval
from deconf.maths.within import within_patient


def films(seed: int, patients: int = 60):
    rng = np.random.default_rng(seed)
    who = rng.integers(patients, size=4 * patients)
    level = rng.random(len(who)) < 0.4
    chance = np.clip(rng.random(patients)[who] * 0.6 + 0.15 * level, 0, 1)
    return (rng.random(len(who)) < chance).astype(float), level, who


def test_the_difference_is_that_of_a_regression_with_a_dummy_per_patient():
    y, a, who = films(0)
    dummies = (who[:, None] == np.unique(who)).astype(float)
    b = np.linalg.lstsq(np.column_stack([a, dummies]), y, rcond=None)[0][0]
    assert within_patient(y, a, who).difference.estimate == pytest.approx(b)


def test_the_ratio_is_mantel_haenszel_summed_patient_by_patient():
    y, a, who = films(1)
    top = bottom = 0.0
    for p in np.unique(who):
        rows = who == p
        n1, n0 = (rows & a).sum(), (rows & ~a).sum()
        if n1 and n0:
            top += y[rows & a].sum() * n0 / (n1 + n0)
            bottom += y[rows & ~a].sum() * n1 / (n1 + n0)
    assert within_patient(y, a, who).ratio.estimate == pytest.approx(top / bottom)


def test_patients_at_one_level_say_nothing():
    y, a, who = films(2)
    alone = np.full(50, 999)
    more = within_patient(
        np.r_[y, np.ones(50)], np.r_[a, np.ones(50, dtype=bool)], np.r_[who, alone]
    )
    assert more.difference == within_patient(y, a, who).difference


def test_what_does_not_change_within_a_patient_cannot_move_the_difference():
    y, a, who = films(3)
    shift = 10 * np.random.default_rng(0).normal(size=who.max() + 1)[who]
    moved = within_patient(y + shift, a, who).difference
    assert moved.estimate == pytest.approx(within_patient(y, a, who).difference.estimate)
    assert within_patient(y + shift, a, who).ratio is None


def test_nobody_at_both_levels_has_no_answer():
    found = within_patient(np.array([0.0, 1.0]), np.array([True, False]), np.array([0, 1]))
    assert found.patients == 0
    assert math.isnan(found.difference.estimate)


def test_the_interval_over_patients_holds_the_truth_nineteen_times_in_twenty():
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(80), 4)
        a = rng.random(320) < 0.5
        y = 0.3 * a + rng.normal(size=80)[who] + rng.normal(size=320) * (1 + a)
        found = within_patient(y, a, who).difference
        held += found.low <= 0.3 <= found.high
    assert 180 <= held <= 199


def test_films_of_a_patient_count_once():
    y = np.random.default_rng(0).normal(size=50)
    phi = y - y.mean()
    twice = clustered_se(np.r_[phi, phi], np.r_[np.arange(50), np.arange(50)])
    assert twice == pytest.approx(clustered_se(phi, np.arange(50)))
    assert clustered_se(phi, np.arange(50)) == pytest.approx(y.std(ddof=1) / np.sqrt(50))
    assert math.isnan(influence_interval(0.0, phi, np.zeros(50)).low)
