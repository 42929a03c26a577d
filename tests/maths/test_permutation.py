from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.stats import chisquare, rankdata

from deconf.maths.permutation import permutations_within


@st.composite
def layouts(draw):
    """Rows of patients over strata, many patients alike and some alone of their kind."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n = draw(st.integers(1, 60))
    patients = rng.integers(draw(st.integers(1, 40)), size=n)
    return rng.integers(draw(st.integers(1, 3)), size=n), patients


def layout_of(strata, patients, who):
    return tuple(sorted(strata[patients == who]))


@given(layouts(), st.integers(0, 100))
def test_every_stratum_keeps_its_counts(layout, seed):
    strata, patients = layout
    c = np.random.default_rng(seed).integers(3, size=len(strata))
    for index in permutations_within(strata, patients, times=3, seed=seed):
        assert_array_equal(np.sort(index), np.arange(len(strata)))
        assert_array_equal(strata[index], strata)
        assert Counter(zip(strata, c[index], strict=True)) == Counter(zip(strata, c, strict=True))


@given(layouts(), st.integers(0, 100))
def test_patients_move_whole_and_only_to_patients_laid_out_alike(layout, seed):
    strata, patients = layout
    for index in permutations_within(strata, patients, times=3, seed=seed):
        givers = []
        for who in np.unique(patients):
            giver = np.unique(patients[index[patients == who]])
            assert len(giver) == 1
            assert layout_of(strata, patients, giver[0]) == layout_of(strata, patients, who)
            givers.append(giver[0])
        assert len(set(givers)) == len(givers)


@given(layouts(), st.integers(0, 100))
def test_a_patient_laid_out_like_nobody_else_stays_put(layout, seed):
    strata, patients = layout
    kinds = Counter(layout_of(strata, patients, who) for who in np.unique(patients))
    for index in permutations_within(strata, patients, times=2, seed=seed):
        for who in np.unique(patients):
            if kinds[layout_of(strata, patients, who)] == 1:
                rows = np.flatnonzero(patients == who)
                assert_array_equal(index[rows], rows)


@given(layouts(), st.integers(0, 100))
def test_names_and_numbers_of_patients_permute_alike_and_so_do_single_films(layout, seed):
    strata, patients = layout
    names = np.array([f"p{who:03d}" for who in patients], dtype=object)
    for one, other in zip(
        permutations_within(strata, patients, times=2, seed=seed),
        permutations_within(strata, names, times=2, seed=seed),
        strict=True,
    ):
        assert_array_equal(one, other)
    single = np.arange(len(strata))
    for one, other in zip(
        permutations_within(strata, None, times=2, seed=seed),
        permutations_within(strata, single, times=2, seed=seed),
        strict=True,
    ):
        assert_array_equal(one, other)


def test_all_permutations_of_patients_are_equally_likely():
    # Three patients with a film in each of two strata, two with a film in the first: 3! x 2!.
    strata = np.array([0, 1, 0, 1, 1, 0, 0, 0])
    patients = np.array([1, 1, 2, 2, 3, 3, 4, 5])
    drawn = permutations_within(strata, patients, times=6000, seed=0)
    seen = Counter(tuple(index) for index in drawn)
    assert len(seen) == 12
    assert chisquare(list(seen.values())).pvalue > 0.001


def level(by_patient: bool, trials: int = 250, times: int = 79) -> float:
    """Return how often a permutation test at 5 % rejects when films of a patient are alike."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 5)
    rejected = 0
    for seed in range(trials):
        outcome = rng.integers(2, size=30)[patients]
        portable = rng.integers(2, size=30)[patients]
        score = 2 * rng.normal(size=30)[patients] + rng.normal(size=150) + outcome
        moved = permutations_within(
            outcome, patients if by_patient else None, times=times, seed=seed
        )
        labels = np.stack([portable, *(portable[index] for index in moved)])
        ranks = np.zeros(150)
        for stratum in range(2):
            ranks[outcome == stratum] = rankdata(score[outcome == stratum])
        sums = labels @ ranks  # the rank sum within strata: equal counts in every permutation
        far = np.abs(sums - sums[1:].mean())
        rejected += (1 + (far[1:] >= far[0]).sum()) / (times + 1) <= 0.05
    return rejected / trials


def test_the_level_is_5_percent_with_patients_as_blocks():
    assert 0.01 < level(by_patient=True) < 0.09  # 3 standard errors


def test_shuffling_films_rejects_a_true_null_far_more_often():
    assert level(by_patient=False) > 0.2
