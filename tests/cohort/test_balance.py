from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from deconf.causal.weights import balancing_weights, standardised_differences
from deconf.cohort.balance import Balance
from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError


def films(n: int = 80, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "who": rng.integers(n // 2, size=n),
            "site": rng.choice(["A", "B", "C"], size=n),
            "age": rng.normal(60, 15, size=n),
            "ill": rng.choice([0.0, 1.0, np.nan], p=[0.5, 0.4, 0.1], size=n),
            "part": rng.choice(["train", "test", None], p=[0.6, 0.3, 0.1], size=n),
        }
    )


def cohort(table: pd.DataFrame) -> Cohort:
    return Cohort.read(table, patient="who", site="site", outcome="ill")


def line(balance: Balance, name: str):
    return next(line for line in balance.lines if str(line) == name)


@given(st.integers(0, 500))
def test_shares_and_means_are_those_of_patients_counted_by_hand(seed):
    table = films(seed=seed)
    found = cohort(table).balance("part", ["ill", "age"])
    assert found.parts == ("test", "train")
    for k, part in enumerate(found.parts):
        here = table[table["part"] == part]
        assert (found.films[k], found.patients[k]) == (len(here), here["who"].nunique())
        assert found.sites[k] == here["site"].nunique()
        # the mean over patients of the mean over their recorded films
        for name, column in (("ill=1", here["ill"]), ("age (mean)", here["age"])):
            each = column.groupby(here["who"]).mean().dropna()
            assert_allclose(line(found, name).values[k], each.mean())
        missing = here["ill"].isna().groupby(here["who"]).mean().mean()
        if table[table["part"].notna()]["ill"].isna().any():
            assert_allclose(line(found, "ill (missing)").values[k], missing)
        ill = here[here["ill"] == 1]
        assert line(found, "ill=1").films[k] == len(ill)
        assert line(found, "ill=1").patients[k] == ill["who"].nunique()
    assert found.left_out == table["part"].isna().sum()
    met = table[table["part"].notna()].groupby("who")["part"].nunique()
    assert found.straddling == (met > 1).sum()


def test_the_difference_of_two_shares_is_the_textbook_one():
    ill = [1] * 30 + [0] * 70 + [1] * 50 + [0] * 50
    table = pd.DataFrame({"ill": ill, "part": ["a"] * 100 + ["b"] * 100})
    found = Cohort.read(table, outcome="ill").balance("part")
    # (0.5 − 0.3) / sqrt(0.4 · 0.6)
    assert_allclose(line(found, "ill=1").difference, 0.2 / np.sqrt(0.24))
    assert_allclose(found.largest, 0.2 / np.sqrt(0.24))


def test_a_patient_filmed_a_hundred_times_counts_once():
    few = pd.DataFrame({"who": [1, 2, 3, 4], "ill": [1, 0, 1, 1], "part": list("aabb")})
    many = pd.concat([few, *[few.iloc[[0]]] * 99], ignore_index=True)
    one, other = (Cohort.read(t, patient="who", outcome="ill").balance("part") for t in (few, many))
    assert_allclose([one.lines[1].values, other.lines[1].values], [[0.5, 1.0]] * 2)
    assert_allclose(one.largest, other.largest)
    assert other.films == (101, 2)


def test_the_difference_is_the_one_by_which_weights_are_judged():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"ill": rng.integers(2, size=200), "age": rng.normal(size=200)})
    table["portable"] = (rng.random(200) < 0.3 + 0.4 * table["ill"]).astype(int)
    weights = balancing_weights(table, ["portable"], ["ill", "age"])
    w, c, ones = weights.values, table["portable"].to_numpy(), np.ones(200)
    columns = np.column_stack([table["ill"] == 0, table["ill"] == 1, table["age"]])
    raw = standardised_differences(columns, c, ones, ones)
    assert_allclose(standardised_differences(columns, c, w, ones).max(), weights.smd)
    plain = Cohort.read(table, outcome="ill").balance("portable", ["ill", "age"])
    assert_allclose([found.difference for found in plain.lines], raw)
    assert raw.max() > 3 * weights.smd


def test_parts_that_were_dealt_blindly_differ_as_is_said():
    ill = np.arange(600) % 3 == 0
    part = np.r_[np.zeros(400, int), np.ones(200, int)]
    rng, ones = np.random.default_rng(0), np.ones(600)
    drawn = [
        standardised_differences(ill[:, None], rng.permutation(part), ones, ones)[0]
        for _ in range(2000)
    ]
    table = pd.DataFrame({"ill": ill.astype(int), "part": part})
    said = Cohort.read(table, outcome="ill").balance("part").by_chance
    assert_allclose(np.sqrt(np.mean(np.square(drawn))), said, rtol=0.06)  # 4 standard errors


def test_subsets_masks_and_numbers_name_the_same_parts():
    whole = cohort(films()).subset(np.arange(10, 70))
    train, test = whole.split(0.3)
    is_test = np.isin(whole.patients, test.patients)
    told = str(whole.balance({"train": train, "test": test}))
    assert told == str(whole.balance({"train": ~is_test, "test": np.flatnonzero(is_test)}))
    assert "STRADDLING" not in told
    assert "difference" in told.splitlines()[0]
    for name in ("films", "patients", "sites", "site=A", "ill=1", "ill (missing)"):
        assert any(text.startswith(name) for text in told.splitlines()), name


def test_the_table_says_what_is_wrong_with_the_parts():
    table = films()
    table.loc[table["part"] == "test", "ill"] = 1.0
    told = str(cohort(table).balance("part"))
    assert "One level only: ill in test." in told
    assert "patients have films in several parts" in told
    assert f"{table['part'].isna().sum()} films are in no part." in told


def test_the_frame_has_a_row_for_every_line_and_part():
    found = cohort(films()).balance("part")
    frame = found.to_frame()
    assert len(frame) == len(found.parts) * (1 + len(found.lines))
    all_films = frame[frame["column"] == "(all)"].set_index("part")["films"]
    assert tuple(all_films[list(found.parts)]) == found.films
    shares = frame[(frame["column"] == "site")].groupby("part")["value"].sum()
    assert_allclose(shares, 1)


def test_a_column_with_many_levels_shows_those_that_differ_most():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"room": rng.integers(40, size=900).astype(str), "part": "a"})
    table.loc[450:, "part"] = "b"
    table.loc[table["part"] == "b", "room"] = table["room"].replace("7", "8")
    found = Cohort.read(table).balance("part", ["room"])
    told = str(found)
    assert "room=7" in told
    assert "28 more levels" in told
    assert len(found.to_frame()) == 2 * 41


def test_dates_are_compared_by_their_mean_day():
    table = pd.DataFrame({"day": pd.to_datetime(["2020-01-01", "2020-01-03", "2020-01-05"])})
    table["part"] = list("aab")
    found = Cohort.read(table).balance("part", ["day"])
    assert_allclose(np.diff(found.lines[0].values), 3)
    assert str(found.lines[0]) == "day (mean day since 1970)"


def test_parts_that_cannot_be_compared_are_refused():
    whole = cohort(films())
    train, test = whole.split()
    other = cohort(films(seed=1)).subset([0, 1])
    with pytest.raises(CohortError, match="part 'test' is no subset of this cohort"):
        whole.balance({"train": train, "test": other})
    with pytest.raises(CohortError, match="part 'test' is no subset"):
        train.balance({"train": train, "test": test})
    alike = Cohort.read(pd.DataFrame({"ill": [1] * 4}), outcome="ill")
    with pytest.raises(CohortError, match="part 'b' is no subset"):
        alike.subset([0, 1]).balance({"a": alike.subset([0]), "b": alike.subset([2])})
    with pytest.raises(CohortError, match=r"rows are in more than one part, first row 0"):
        whole.balance({"a": [0, 1], "b": [0, 2]})
    with pytest.raises(CohortError, match=r"1 part \(a\): two are needed"):
        whole.balance({"a": [0, 1]})
    with pytest.raises(CohortError, match="part 'b': none of the 80 rows is left"):
        whole.balance({"a": [0, 1], "b": []})
    with pytest.raises(CohortError, match="'age' holds numbers, 80 different ones"):
        whole.balance("age")
    with pytest.raises(CohortError, match=r"no column 'sit'.*Did you mean 'site'"):
        whole.balance("part", ["sit"])
    with pytest.raises(CohortError, match="parts are a column or a mapping"):
        whole.balance([train, test])
    names = pd.DataFrame({"name": [f"film {i}" for i in range(501)], "part": [0, 1, 1] * 167})
    with pytest.raises(CohortError, match="'name' has 501 levels: a column of names"):
        Cohort.read(names).balance("part", ["name"])
