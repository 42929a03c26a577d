"""Conditional tests: their level under the null, what each of them sees, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

import deconf
from deconf.errors import CohortError, SettingsError
from deconf.hypotheses.independence import independence
from deconf.maths.moments import Given
from deconf.probes.conditional import conditional_permutations

SEEDS = 500  # of the slow test of the level


def world(seed=0, n=300, d=1, held="number", size=0.0, form="mean", confounder="levels"):
    """Return what both follow a column s, and beyond that share ``size`` of the confounder."""
    rng = np.random.default_rng(seed)
    s = rng.standard_normal(n) if held == "number" else rng.integers(0, 2, n) - 0.5
    c = (rng.random(n) < 1 / (1 + np.exp(-1.5 * s))).astype(float)
    if confounder == "number":
        c = s + rng.standard_normal(n)
    z = rng.standard_normal((n, d)) + s[:, None]
    if form == "mean":
        z[:, 0] += size * c
    else:
        z[:, 0] = (z[:, 0] - s) * (1 + size * c) + s
    return z, deconf.Cohort.read(pd.DataFrame({"c": c, "s": s}))


def p_values(seeds, *, tests=("permutation", "gcm", "kernel"), **how):
    found = []
    for seed in range(seeds):
        z, cohort = world(seed, **how)
        one = independence(z, "c", "s", cohort, tests=tests, permutations=99, seed=seed)
        found.append(one.table["p"].to_numpy())
    return np.array(found)


@pytest.mark.parametrize("held", ["number", "levels"])
def test_under_the_null_no_test_cries_wolf_too_often(held):
    hits = (p_values(30, held=held, n=150) <= 0.05).sum(axis=0)
    assert (hits <= binom.ppf(0.999, 30, 0.05)).all()


def test_a_held_number_that_acts_in_waves_is_not_taken_for_dependence():
    """A line and a parabola rejected 19, 24 and 9 of these."""
    hits = np.zeros(3)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        s = rng.standard_normal(400)
        c = (rng.random(400) < 1 / (1 + np.exp(-3 * np.sin(3 * s)))).astype(float)
        cohort = deconf.Cohort.read(pd.DataFrame({"c": c, "s": s}))
        z = 2 * np.sin(3 * s) + rng.standard_normal(400)
        hits += independence(z, "c", "s", cohort, permutations=99, seed=seed).table["p"] <= 0.05
    assert (hits <= binom.ppf(0.999, 60, 0.05)).all()


@pytest.mark.slow
@pytest.mark.parametrize("confounder", ["levels", "number"])
@pytest.mark.parametrize("held", ["number", "levels"])
def test_the_level_is_kept_over_many_seeds(held, confounder):
    p = p_values(SEEDS, held=held, confounder=confounder)
    low, high = binom.interval(0.99, SEEDS, 0.05)
    hits = (p <= 0.05 + 1e-9).sum(axis=0)
    print(f"\n{held}, {confounder}: {hits / SEEDS}")
    assert ((hits >= low) & (hits <= high)).all()


def test_without_the_set_the_shared_cause_is_taken_for_dependence():
    z, cohort = world(6, n=400)  # how often the null is rejected is tested above
    assert independence(z, "c", "s", cohort, permutations=99).verdict == "no dependence shown"
    found = independence(z, "c", None, cohort, permutations=99)
    assert found.verdict == "dependent"
    assert "It depends on c:" in str(found)


def test_a_shift_is_seen_by_all_and_a_spread_by_the_kernel_alone():
    z, cohort = world(2, n=500, size=0.7)
    assert (independence(z, "c", "s", cohort, permutations=99).table["p"] <= 0.01).all()
    z, cohort = world(2, n=500, size=1.0, form="spread")
    by = independence(z, "c", "s", cohort, permutations=99).table.set_index("test")["p"]
    assert by["kernel"] <= 0.01
    assert by["gcm"] > 0.01


def test_a_thousand_dimensions_are_read_on_patients_never_seen():
    z, cohort = world(3, n=300, d=1000, held="levels")
    tests = ("permutation", "gcm")
    null = independence(z, "c", "s", cohort, tests=tests, permutations=99)
    z[:, :60] += 1.0 * cohort.table["c"].to_numpy()[:, None]
    told = independence(z, "c", "s", cohort, tests=tests, permutations=99)
    assert null.verdict == "no dependence shown"
    assert "That is no proof of independence." in str(null)
    assert told.verdict == "dependent"
    assert (told.table["patients"] < 160).all()  # the other half taught the attackers


def test_several_confounders_pay_for_all_their_tests():
    z, cohort = world(4, size=0.7)
    table = cohort.table
    table["noise"] = np.random.default_rng(0).integers(0, 2, len(table))
    both = independence(z, ["c", "noise"], "s", deconf.Cohort.read(table), permutations=199)
    assert len(both.table) == 6
    assert (both.table["adjusted"] >= both.table["p"]).all()
    smallest = both.table["p"].min()
    assert both.table["adjusted"].min() == pytest.approx(6 * smallest)


def test_one_film_of_each_patient_counts():
    z, cohort = world(5, n=60)
    table = cohort.table.loc[np.repeat(np.arange(60), 5)].reset_index(drop=True)
    table["patient"] = np.repeat(np.arange(60), 5)
    many = deconf.Cohort.read(table, patient="patient")
    found = independence(np.repeat(z, 5, 0), "c", "s", many, permutations=99)
    assert (found.table["patients"] == 60).all()


def test_conditional_permutations_keep_what_the_confounder_owes_to_the_set():
    rng = np.random.default_rng(0)
    s = rng.standard_normal(600)
    c = (rng.random(600) < 1 / (1 + np.exp(-2 * s))).astype(int)
    given = Given(np.zeros(600, dtype=np.int64), s[:, None])
    index = conditional_permutations(c, given, times=50, seed=0)
    assert (np.sort(index, axis=1) == np.arange(600)).all()
    kept = [np.corrcoef(c[i], s)[0, 1] for i in index]
    assert np.mean(kept) == pytest.approx(np.corrcoef(c, s)[0, 1], abs=0.03)
    assert np.mean([(i == np.arange(600)).mean() for i in index]) < 0.05  # and moves everybody
    number = s + rng.standard_normal(600)
    index = conditional_permutations(number, given, times=50, seed=0)
    kept = [np.corrcoef(number[i], s)[0, 1] for i in index]
    assert np.mean(kept) == pytest.approx(np.corrcoef(number, s)[0, 1], abs=0.03)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"confounder": "cc"}, CohortError, "no column 'cc'.*Did you mean 'c'"),
        ({"given": "c"}, CohortError, "'c' is confounder and held at once"),
        ({"confounder": "one"}, CohortError, "'one' has one level only"),
        ({"what": np.zeros(3)}, CohortError, r"\(3,\) values for 300 films"),
        ({"what": np.full(300, np.nan)}, CohortError, "300 of 300 rows hold nan"),
        ({"what": "score"}, CohortError, "no column 'score'"),
        ({"what": "view"}, CohortError, "'view' holds 'AP': a score is a number"),
        ({"tests": ["kernell"]}, SettingsError, "'kernell'.*Did you mean 'kernel'"),
        ({"permutations": 0}, SettingsError, "permutations=0"),
        ({"permutations": 99.5}, SettingsError, "permutations is 99.5: expected a whole number"),
        ({"seed": -1}, SettingsError, "seed is -1"),
        ({"confounder": []}, SettingsError, "no confounder was named"),
        ({"tests": "kernell"}, SettingsError, "'kernell'.*Did you mean 'kernel'"),
        ({"permutations": 58}, SettingsError, r"at 0.05 after Holm over 3 tests: name 59 or more"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, error, words):
    z, cohort = world()
    cohort = deconf.Cohort.read(cohort.table.assign(one=1, view="AP"))
    asked = {"what": z, "confounder": "c", "given": "s"} | change
    with pytest.raises(error, match=words):
        independence(
            asked.pop("what"), asked.pop("confounder"), asked.pop("given"), cohort, **asked
        )


def test_few_patients_are_refused_and_a_constant_score_depends_on_nothing():
    z, cohort = world(n=20)
    with pytest.raises(CohortError, match=r"20 patients have c, s recorded: 40 at least"):
        independence(z, "c", "s", cohort)
    z, cohort = world()
    flat = independence(0 * z, "c", "s", cohort, permutations=59)
    assert (flat.table["p"] == 1).all()
