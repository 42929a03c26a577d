from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError


def hospitals(seed: int, sites: int, bridges: int = 0) -> pd.DataFrame:
    """Return films of patients at hospitals of unequal size and prevalence; some at two."""
    rng = np.random.default_rng(seed)
    count = rng.integers(4, 25, size=sites)
    home = np.repeat(np.arange(sites), count)
    ill = rng.random(len(home)) < rng.random(sites)[home]
    films = rng.integers(1, 4, size=len(home))
    row = np.repeat(np.arange(len(home)), films)
    table = pd.DataFrame({"who": row, "site": home[row], "ill": ill[row].astype(float)})
    for person in rng.choice(len(home), bridges, replace=False):
        guest = table[table["who"] == person].iloc[[0]].assign(site=rng.integers(sites))
        table = pd.concat([table, guest])
    table.loc[rng.random(len(table)) < 0.1, "ill"] = np.nan
    table["site"] = "site " + table["site"].astype(str)
    return table.sample(frac=1, random_state=seed, ignore_index=True)


def cohort(table: pd.DataFrame, **roles) -> Cohort:
    return Cohort.read(table, **{"patient": "who", "site": "site", "outcome": "ill", **roles})


def unevenness(table: pd.DataFrame, fold: np.ndarray, folds: int, power: int = 1) -> float:
    """Σ (n_kc − N_c/K)² / N_c, patients shared out over their films, the slow way."""
    share = (1 / table.groupby("who")["who"].transform("size")).to_numpy()
    classes = table["ill"].map(str).to_numpy()
    total = 0.0
    for is_class in [np.ones(len(table), bool), *((classes == c) for c in np.unique(classes))]:
        whole = share[is_class].sum()
        carried = np.bincount(fold[is_class], share[is_class], minlength=folds)
        total += ((carried - whole / folds) ** 2).sum() / whole**power
    return float(total)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(5, 9), st.integers(0, 3), st.integers(2, 3))
def test_neither_a_site_nor_a_patient_is_ever_on_both_sides(seed, sites, bridges, folds):
    c = cohort(hospitals(seed, sites, bridges))
    try:
        found = c.site_folds(folds, seed)
    except CohortError:
        assert bridges > 0  # all hospitals share patients
        return
    tested = np.zeros(len(c), dtype=int)
    site = c.table["site"].to_numpy()
    for train, test in found:
        assert len(test) > 0
        assert not set(c.patients[train]) & set(c.patients[test])
        assert not set(site[train]) & set(site[test])
        tested[test] += 1
    assert (tested == 1).all()
    assert found.balance.straddling == 0
    assert len(found) == folds
    assert {s for fold in found.sites for s in fold} == set(site)


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_no_division_of_the_sites_is_more_even(seed):
    table = hospitals(seed, sites=6)
    found = cohort(table).site_folds(3, seed)
    site = pd.factorize(table["site"])[0]
    every = product(range(3), repeat=5)  # the first site is in fold 0: folds have no names
    least = min(unevenness(table, np.array([0, *fold])[site], 3) for fold in every)
    assert_allclose(unevenness(table, found.fold - 1, 3), least, rtol=1e-6)


def test_sites_that_share_patients_go_together_and_are_named():
    table = hospitals(0, sites=8)
    for person, site in ((0, "site 5"), (60, "site 0")):  # 0 shares with 5, and 5's group with 60
        table = pd.concat([table, table[table["who"] == person].iloc[[0]].assign(site=site)])
    c = cohort(table)
    home = [set(table.loc[table["who"] == person, "site"]) for person in (0, 60)]
    assert all(len(sites) == 2 for sites in home)
    found = c.site_folds(3)
    joined = set.union(*home)
    assert [set(group) for group in found.joined] == [joined]
    assert found.bridging == 2
    assert any(joined <= set(sites) for sites in found.sites)
    assert "2 patients were seen at more than one" in str(found)
    assert " + ".join(sorted(joined)) in str(found)


def test_a_rare_class_is_shared_out_though_plain_counts_would_let_it_lie_in_one_fold():
    table = pd.DataFrame(
        [
            (site, ill)
            for site, common, rare in ((0, 306, 3), (1, 294, 3), (2, 302, 0), (3, 298, 0))
            for ill in [0] * common + [1] * rare
        ],
        columns=["site", "ill"],
    ).assign(who=range(1206))
    divisions = {"AB": [0, 0, 1, 1], "AC": [0, 1, 0, 1], "AD": [0, 1, 1, 0]}
    for power, wanted in ((0, "AB"), (1, "AD")):  # without and with the divisor N_c
        cost = {
            name: unevenness(table, np.array(fold)[table["site"]], 2, power)
            for name, fold in divisions.items()
        }
        assert min(cost, key=cost.__getitem__) == wanted
    found = cohort(table).site_folds(2)
    assert sorted(found.sites) == [("0", "3"), ("1", "2")]


def test_the_seed_decides_and_nothing_else():
    c = cohort(hospitals(0, sites=12))
    assert_array_equal(c.site_folds(3, seed=1).fold, c.site_folds(3, seed=1).fold)
    names = {tuple(c.site_folds(3, seed=seed).fold) for seed in range(4)}
    assert len(names) > 1
    assert len({round(unevenness(c.table, np.array(fold) - 1, 3), 9) for fold in names}) == 1


def test_another_column_can_be_kept_together_and_no_outcome_is_needed():
    table = hospitals(0, sites=9).rename(columns={"site": "scanner"})
    found = cohort(table, site=None, outcome=None).site_folds(3, column="scanner")
    share = np.array(found.balance.patients) / sum(found.balance.patients)
    assert np.abs(share - 1 / 3).max() < 0.05
    assert found.balance.lines == ()
    assert "levels of 'scanner' in 3 folds" in str(found)


def test_what_is_printed_says_how_even_the_folds_are_and_names_a_fold_with_one_class():
    table = hospitals(0, sites=6)
    table.loc[table["site"].isin(["site 0", "site 1"]), "ill"] = 1.0
    told = str(cohort(table).site_folds(6))
    assert "6 levels of 'site' in 6 folds" in told
    assert "(proved)" in told
    assert "fold 1: site" in told
    assert told.count("ill in fold") == 2
    assert "patients off an equal share" in told
    assert "Largest standardised difference" in told


def test_the_fold_of_each_row_cannot_be_written_to():
    found = cohort(hospitals(0, sites=5)).site_folds(2)
    with pytest.raises(ValueError, match="read-only"):
        found.fold[0] = 2


def test_too_few_sites_are_refused_with_their_number_and_the_reason():
    table = hospitals(0, sites=3)
    with pytest.raises(
        CohortError, match=r"4 folds of whole sites need 4 .* 'site' has 3 levels.*at most 3 folds"
    ):
        cohort(table).site_folds(4)
    everywhere = table[table["who"] == 0].iloc[[0] * 3].assign(site=["site 0", "site 1", "site 2"])
    with pytest.raises(
        CohortError,
        match=r"3 levels of 'site' form 1 group, because 1 patients were.*cohort.folds\(...\)",
    ):
        cohort(pd.concat([table, everywhere])).site_folds(2)
    with pytest.raises(CohortError, match="1 folds: at least 2"):
        cohort(table).site_folds(1)


def test_a_film_without_site_is_refused_by_row():
    table = hospitals(0, sites=5)
    table.loc[[7, 9], "site"] = None
    with pytest.raises(CohortError, match=r"row 7 .*has no 'site'; 2 of .*notna\(\)"):
        cohort(table).site_folds(2)
    with pytest.raises(CohortError, match=r"this cohort has no site: .*column="):
        cohort(table, site=None).site_folds(2)
