from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deconf.cohort.splits import leave_one_level_out, patient_folds, patient_split
from deconf.errors import CohortError


@st.composite
def hospitals(draw, least_patients: int = 2):
    """Patients with one or many films, most at one site and some at several."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    count = draw(st.integers(least_patients, 40))
    films = rng.integers(1, draw(st.sampled_from([2, 4, 12])), size=count)
    patients = rng.permutation(np.repeat(np.arange(count), films))
    home = rng.integers(draw(st.integers(2, 5)), size=count)
    sites = np.where(rng.random(len(patients)) < 0.1, 0, home[patients])
    return patients, sites, rng.integers(2, size=len(patients))


@given(hospitals(least_patients=6), st.integers(2, 6), st.integers(0, 50))
def test_folds_test_every_row_once_and_never_cut_a_patient(hospital, folds, seed):
    patients, sites, _ = hospital
    tested = np.zeros(len(patients), dtype=int)
    for train, test in patient_folds(patients, folds, strata=sites, seed=seed):
        assert not set(patients[train]) & set(patients[test])
        assert_array_equal(np.sort(np.r_[train, test]), np.arange(len(patients)))
        assert len(test) > 0
        tested[test] += 1
    assert (tested == 1).all()


@given(hospitals(), st.floats(0.01, 0.99), st.integers(0, 50))
def test_a_split_never_cuts_a_patient_and_leaves_someone_on_both_sides(hospital, share, seed):
    patients, sites, _ = hospital
    train, test = patient_split(patients, share, strata=sites, seed=seed)
    assert not set(patients[train]) & set(patients[test])
    assert_array_equal(np.sort(np.r_[train, test]), np.arange(len(patients)))
    count = len(np.unique(patients))
    expected = min(max(round(share * count), 1), count - 1)
    assert len(np.unique(patients[test])) == expected


@given(hospitals())
def test_a_level_is_tested_by_a_model_that_never_met_its_patients(hospital):
    patients, sites, _ = hospital
    try:
        held = list(leave_one_level_out(sites, patients))
    except CohortError:
        return  # one level, or everybody has been everywhere
    assert {level for level, _, _ in held} == set(sites)
    for level, train, test in held:
        assert_array_equal(test, np.flatnonzero(sites == level))
        assert not set(patients[train]) & set(patients[test])
        assert not (sites[train] == level).any()
        # and nobody leaves without need
        stayed = ~np.isin(patients, patients[sites == level])
        assert_array_equal(train, np.flatnonzero(stayed))


@given(st.integers(0, 1000), st.integers(2, 6))
def test_every_fold_has_its_share_of_every_stratum_to_within_one_patient(seed, folds):
    rng = np.random.default_rng(seed)
    strata = rng.choice(4, p=[0.6, 0.25, 0.1, 0.05], size=80)
    shares = [
        np.bincount(strata[test], minlength=4)
        for _, test in patient_folds(np.arange(80), folds, strata=strata, seed=seed)
    ]
    assert (np.ptp(shares, axis=0) <= 1).all()


@given(st.integers(0, 1000), st.sampled_from([0.1, 0.2, 0.5, 0.7]))
def test_a_split_takes_its_share_of_every_stratum_to_within_one_patient(seed, share):
    rng = np.random.default_rng(seed)
    strata = rng.choice(4, p=[0.6, 0.25, 0.1, 0.05], size=100)
    _, test = patient_split(np.arange(100), share, strata=strata, seed=seed)
    wanted = share * np.bincount(strata, minlength=4)
    assert (np.abs(np.bincount(strata[test], minlength=4) - wanted) < 1 + 1e-9).all()


def test_rows_are_shared_out_evenly_though_patients_have_one_film_or_thirty():
    rng = np.random.default_rng(0)
    patients = np.repeat(
        np.arange(600), rng.choice([1, 2, 5, 30], p=[0.6, 0.2, 0.15, 0.05], size=600)
    )
    for seed in range(10):
        sizes = [len(test) for _, test in patient_folds(patients, 5, seed=seed)]
        assert np.ptp(sizes) < 0.15 * np.mean(sizes)


def test_the_seed_decides_and_nothing_else():
    patients = np.repeat(np.arange(30), 2)
    one, same = patient_split(patients, seed=3), patient_split(patients, seed=3)
    assert_array_equal(one[1], same[1])
    tests = {tuple(patient_split(patients, seed=seed)[1]) for seed in range(20)}
    assert len(tests) == 20


def test_every_patient_is_tested_equally_often_over_seeds():
    tested = np.zeros(20)
    for seed in range(2000):
        tested[patient_split(np.arange(20), 0.25, seed=seed)[1]] += 1
    assert np.abs(tested / 2000 - 0.25).max() < 0.04  # 4 standard errors


def test_rows_without_a_recorded_level_are_neither_trained_on_nor_tested():
    sites = np.array(["A", "A", "B", None, "B"], dtype=object)
    held = {level: (train, test) for level, train, test in leave_one_level_out(sites, np.arange(5))}
    assert set(held) == {"A", "B"}
    assert_array_equal(held["A"][0], [2, 4])


def test_too_few_patients_for_the_folds_is_said_with_both_numbers():
    with pytest.raises(CohortError, match=r"3 patients cannot be dealt into 5 folds.*at most 3"):
        patient_folds(np.array([1, 1, 2, 3, 3, 3]), 5)
    with pytest.raises(CohortError, match="at least 2 are needed"):
        patient_folds(np.arange(9), 1)


@pytest.mark.parametrize("share", [0.0, 1.0, 5.0, -0.1])
def test_a_test_size_that_is_no_share_is_refused(share):
    with pytest.raises(CohortError, match=r"test_size is .*share of patients"):
        patient_split(np.arange(9), share)


def test_one_patient_cannot_be_split():
    with pytest.raises(CohortError, match="1 patient cannot be split"):
        patient_split(np.zeros(5))


def test_leaving_levels_out_needs_two_levels_and_somebody_left():
    with pytest.raises(CohortError, match="at least 2 levels; recorded: A"):
        list(leave_one_level_out(np.array(["A", "A"]), np.arange(2)))
    with pytest.raises(CohortError, match="nobody is left to train on when 'A'"):
        list(leave_one_level_out(np.array(["A", "B"]), np.zeros(2)))
