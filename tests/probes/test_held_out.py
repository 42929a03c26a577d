"""Attackers train on some patients and are judged on others, within strata."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.maths.intervals import multilevel_auroc
from deconf.probes.attackers import Logistic, Quadratic
from deconf.probes.held_out import read_held_out

LOGISTIC = {"logistic": Logistic()}


def read(z, codes, strata=None, patients=None, **options):
    strata = np.full(len(z), "all") if strata is None else strata
    patients = np.arange(len(z)) if patients is None else patients
    return read_held_out(z, codes, strata, patients, LOGISTIC, seed=0, **options)


def within(held, name="logistic") -> float:
    return multilevel_auroc(held.scores[name], held.codes, held.strata)


@settings(max_examples=25, deadline=None)
@given(
    patients=st.integers(8, 40),
    films=st.integers(1, 6),
    strata=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_no_patient_is_ever_trained_on_and_judged(patients, films, strata, seed):
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, films + 1, size=patients))
    stratum = rng.integers(strata, size=len(who))  # a patient may have films in several
    codes = np.r_[0, 1, rng.integers(2, size=len(who) - 2)]
    held = read(rng.standard_normal((len(who), 2)), codes, stratum, who)
    assert not set(who[held.trained_on]) & set(who[held.rows])
    np.testing.assert_array_equal(held.patients, who[held.rows])


def test_a_trace_that_changes_sign_between_strata_is_found_stratum_by_stratum_only():
    rng = np.random.default_rng(0)
    c, s = rng.integers(2, size=(2, 400))
    z = rng.standard_normal((400, 50))
    z[:, 0] += 4 * (2 * s - 1) * c
    held = read(z, c, s)  # 100 training patients a stratum for 50 coordinates: thin
    assert within(held) > 0.8
    assert within(held, "logistic, pooled") < 0.65


def test_a_trace_alike_in_many_thin_strata_is_found_across_them_and_hardly_within():
    rng = np.random.default_rng(0)
    c, s = rng.integers(2, size=600), rng.integers(20, size=600)
    z = rng.standard_normal((600, 20)) + 5 * rng.standard_normal((20, 20))[s]
    z[:, 0] += 2 * c
    held = read(z, c, s)
    assert within(held, "logistic, pooled") > 0.8
    assert within(held) < within(held, "logistic, pooled") - 0.1


def test_thick_strata_are_not_fitted_across():
    rng = np.random.default_rng(0)
    c, s = rng.integers(2, size=(2, 400))
    assert list(read(rng.standard_normal((400, 3)), c, s).scores) == ["logistic"]


def test_what_a_number_explains_inside_a_wide_stratum_is_no_leak():
    rng = np.random.default_rng(0)
    severity = rng.standard_normal(2000)
    c = (rng.random(2000) < 1 / (1 + np.exp(-2 * severity))).astype(int)
    z = rng.standard_normal((2000, 4))
    z[:, 0] += 2 * severity + 0.5 * severity**2  # c has no trace of its own
    assert within(read(z, c)) > 0.7
    assert abs(within(read(z, c, numbers=severity[:, None])) - 0.5) < 0.04


def bent_by_severity(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return severity, and levels that follow its square; levels leave no trace of their own."""
    rng = np.random.default_rng(seed)
    severity = rng.standard_normal(3000)
    c = (rng.random(3000) < 1 / (1 + np.exp(-2 * (severity**2 - 1)))).astype(int)
    return severity, c, rng.standard_normal((3000, 2))


def test_a_parabola_in_the_number_is_no_leak():
    severity, c, z = bent_by_severity(0)
    z[:, 0] += 2 * severity**2
    assert within(read(z, c)) > 0.7
    assert abs(within(read(z, c, numbers=severity[:, None])) - 0.5) < 0.04


def test_a_spread_that_follows_the_number_is_no_leak_within_its_cells():
    one_cell, with_numbers, cells_only = [], [], []
    for seed in range(5):
        severity, c, z = bent_by_severity(seed)
        z[:, 0] *= severity  # uncorrelated with severity, but its square is not
        fifth = np.digitize(severity, np.quantile(severity, [0.2, 0.4, 0.6, 0.8]))
        ask = {"patients": np.arange(3000), "settings": {"quadratic": Quadratic()}, "seed": 0}
        for into, strata, numbers in (
            (one_cell, np.zeros(3000), None),
            (cells_only, fifth, None),
            (with_numbers, fifth, severity[:, None]),
        ):
            held = read_held_out(z, c, strata, numbers=numbers, **ask)
            into.append(within(held, "quadratic"))
    assert np.mean(one_cell) > 0.65
    assert np.mean(cells_only) > 0.53
    assert abs(np.mean(with_numbers) - 0.5) < 0.02


def test_taking_a_number_out_leaves_a_trace_of_the_confounder_itself():
    rng = np.random.default_rng(0)
    severity = rng.standard_normal(2000)
    c = (rng.random(2000) < 1 / (1 + np.exp(-severity))).astype(int)
    z = rng.standard_normal((2000, 4)) + 2 * severity[:, None]
    z[:, 0] += 1.5 * c
    assert within(read(z, c, numbers=severity[:, None])) > 0.7


def test_levels_too_rare_in_a_stratum_are_left_out_and_named():
    rng = np.random.default_rng(0)
    codes = np.r_[rng.integers(2, size=60), np.full(3, 2), rng.integers(3, size=60)]
    strata = np.repeat(["young", "old"], [63, 60])
    held = read(rng.standard_normal((123, 3)), codes, strata, names=("A", "B", "C"))
    assert any("C in young" in line and "patient" in line for line in held.skipped)
    assert not ((held.codes == 2) & (held.strata == "young")).any()
    assert ((held.codes == 2) & (held.strata == "old")).any()


def test_a_stratum_with_one_level_is_left_out_and_named():
    codes, strata = (
        np.r_[np.arange(40) % 2, np.zeros(20, int)],
        np.repeat(["ill", "well"], [40, 20]),
    )
    held = read(
        np.random.default_rng(0).standard_normal((60, 2)), codes, strata, names=("AP", "PA")
    )
    assert held.skipped == ("well: only AP occurs",)
    assert set(held.strata) == {"ill"}


def test_no_more_than_the_allowed_rows_are_trained_on_and_patients_stay_whole():
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(100), 3)
    held = read(rng.standard_normal((300, 2)), (who % 2), patients=who, most_rows=60)
    assert 50 < len(held.trained_on) <= 60
    assert set(np.bincount(who[held.trained_on])) <= {0, 3}
