"""The code length: what the embedding saves beyond the strata, and what learning it costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from deconf.probes.online import BLOCKS, code_length, offset_logistic


def coded(z, c, s=None, who=None, **options):
    s = np.zeros(len(c)) if s is None else s
    who = np.arange(len(c)) if who is None else who
    return code_length(z, c, s, who, draws=200, seed=0, **options)


def test_without_an_offset_the_probe_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    x = rng.standard_normal((300, 6)) * [1, 1, 1, 30, 0.1, 1] + np.eye(3, 6)[y]
    theirs = LogisticRegression(C=0.05, fit_intercept=False, tol=1e-8, max_iter=5000).fit(x, y)
    _, ours = offset_logistic(x, y, np.zeros((300, 3)), (0.001, 0.05))
    np.testing.assert_allclose(ours, theirs.coef_.T, atol=2e-3)


def test_an_offset_that_tells_all_leaves_nothing_to_learn():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=200)
    x = rng.standard_normal((200, 3)) + y[:, None]
    sure = np.where(np.eye(2)[y] == 1, 0.0, -20.0)
    (alone,) = offset_logistic(x, y, np.zeros((200, 2)), (1.0,))
    (beside,) = offset_logistic(x, y, sure, (1.0,))
    assert np.abs(beside).max() < 1e-3 < np.abs(alone).max()


@settings(max_examples=20, deadline=None)
@given(patients=st.integers(130, 300), films=st.integers(1, 3), seed=st.integers(0, 99))
def test_blocks_double_and_hold_every_film_once(patients, films, seed):
    who = np.repeat(np.arange(patients), films)
    c = np.random.default_rng(seed).integers(2, size=len(who))
    found = code_length(np.zeros((len(who), 2)), c, np.zeros(len(who)), who, draws=5, seed=seed)
    sizes = np.array([n for n, _ in found.blocks])
    assert sizes.sum() == len(who)
    assert len(sizes) == BLOCKS
    told = np.cumsum(sizes)
    assert (np.abs(sizes[1:] - told[:-1]) <= 1.5 * films).all()  # as many as so far: rounding


def test_the_code_of_the_strata_is_the_shares_seen_so_far():
    rng = np.random.default_rng(0)
    s = rng.integers(2, size=4000)
    c = (rng.random(4000) < np.where(s, 0.9, 0.5)).astype(int)
    found = coded(rng.standard_normal((4000, 2)), c, s)
    entropy = (1 - 0.9 * np.log2(0.9) - 0.1 * np.log2(0.1)) / 2
    assert found.strata_bits == pytest.approx(entropy, abs=0.02)


def test_what_the_strata_tell_is_not_counted_though_the_embedding_shows_it():
    rng = np.random.default_rng(0)
    s = rng.integers(2, size=1500)
    c = (rng.random(1500) < 0.1 + 0.8 * s).astype(int)
    z = rng.standard_normal((1500, 4)) + 5 * s[:, None]
    assert coded(z, c).bits.low > 0.3  # nothing held: it is all there
    held = coded(z, c, s)
    assert abs(held.bits.estimate) < 0.01
    assert coded(z + 2 * np.outer(c, np.eye(4)[0]), c, s).bits.low > 0.05


def test_an_embedding_that_tells_nothing_costs_next_to_nothing_and_is_not_said_to_tell():
    high = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        c = rng.integers(2, size=400)
        found = coded(rng.standard_normal((400, 32)), c)
        assert -0.04 < found.bits.estimate < 0.02
        high.append(found.bits.low > 0)
    assert sum(high) <= 1


def test_more_films_pay_for_the_learning():
    rng = np.random.default_rng(0)
    c = rng.integers(2, size=4000)
    z = rng.standard_normal((4000, 20))
    z[:, 0] += 1.5 * c
    few, many = coded(z[:200], c[:200]).bits, coded(z, c).bits
    assert few.estimate < many.estimate - 0.03
    # I(z; c) of two unit normals 1.5 apart, by quadrature, less p / 2 log2(n) bits for learning.
    x = np.linspace(-8, 8, 20_001)
    p, q = np.exp(-((x + 0.75) ** 2) / 2), np.exp(-((x - 0.75) ** 2) / 2)
    told = 1 + np.sum(p * np.log2(p / (p + q))) / p.sum()
    assert many.estimate == pytest.approx(told - 10 * np.log2(4000) / 4000, abs=0.025)


def test_a_patient_who_is_told_by_their_own_films_saves_nothing():
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(60), 16)
    c = rng.integers(2, size=60)[who]
    z = rng.standard_normal((60, 30))[who] + 0.01 * rng.standard_normal((960, 30))
    assert coded(z, c).bits.estimate > 0.1  # films as patients
    assert -0.02 < coded(z, c, who=who).bits.estimate < 0.02  # the penalty is chosen by patient


def test_the_quadratic_code_finds_variances_and_says_so():
    rng = np.random.default_rng(0)
    c = rng.integers(2, size=1500)
    z = rng.standard_normal((1500, 6))
    z[:, 0] *= 1 + 2 * c
    linear = coded(z, c)
    both = coded(z, c, coders=("linear", "quadratic"))
    assert linear.bits.high < 0.03
    assert both.bits.low > 0.1
    assert both.coder == "quadratic"


def test_choosing_between_two_codes_costs_a_bit_in_all():
    rng = np.random.default_rng(0)
    c = rng.integers(2, size=600)
    z = rng.standard_normal((600, 3)) + 2 * c[:, None]
    one = coded(z, c, coders=("linear",)).bits.estimate
    twice = coded(z, c, coders=("linear", "linear")).bits.estimate
    assert one - twice == pytest.approx(1 / 600)


def test_a_number_that_is_held_is_taken_out_before_coding():
    rng = np.random.default_rng(0)
    severity = rng.standard_normal(2000)
    c = (rng.random(2000) < 1 / (1 + np.exp(-2 * severity))).astype(int)
    z = rng.standard_normal((2000, 3)) + 2 * severity[:, None]
    assert coded(z, c).bits.low > 0.1
    assert coded(z, c, numbers=severity[:, None]).bits.estimate < 0.01
