from __future__ import annotations

import datetime
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, SettingsError


def follow_up(seed: int = 0, n: int = 60) -> pd.DataFrame:
    """Return films of patients who come back over two years; some dates are not recorded."""
    rng = np.random.default_rng(seed)
    day = pd.Timestamp("2019-01-01") + pd.to_timedelta(rng.integers(0, 730, size=n), unit="D")
    table = pd.DataFrame({"who": rng.integers(n // 2, size=n), "taken": day})
    table["ill"] = rng.integers(2, size=n)
    table.loc[rng.random(n) < 0.05, "taken"] = pd.NaT
    return table


def cohort(table: pd.DataFrame) -> Cohort:
    return Cohort.read(table, patient="who", outcome="ill")


@given(st.integers(0, 500), st.integers(50, 650))
def test_training_ends_before_testing_begins_and_nobody_is_in_both(seed, days):
    table = follow_up(seed)
    cut = pd.Timestamp("2019-01-01") + pd.Timedelta(days=days)
    try:
        split = cohort(table).split_at("taken", cut)
    except CohortError:
        return  # every early patient comes back
    train, test = split
    assert train.table["taken"].max() < cut <= test.table["taken"].min()
    assert not set(train.patients) & set(test.patients)
    # every late film is tested, and nobody leaves training without need
    assert len(test) == (table["taken"] >= cut).sum()
    late = set(table.loc[table["taken"] >= cut, "who"])
    stays = (table["taken"] < cut) & ~table["who"].isin(late)
    assert len(train) == stays.sum()
    # and what is in neither part is told apart and counted
    returned = (table["taken"] < cut) & table["who"].isin(late)
    assert_array_equal(split.early, np.flatnonzero(returned))
    assert_array_equal(split.undated, np.flatnonzero(table["taken"].isna()))
    assert split.returning == table.loc[returned, "who"].nunique()
    assert len(train) + len(test) + len(split.early) + len(split.undated) == len(table)
    assert split.balance.straddling == 0


@given(st.integers(0, 500), st.floats(0.05, 0.6))
def test_a_share_of_the_patients_is_tested_at_the_latest_cut_that_tests_so_many(seed, share):
    table = follow_up(seed)
    last = table.groupby("who")["taken"].max().dropna()
    split = cohort(table).split_at("taken", test_size=share)
    cut = split.cut.tz_localize(None)
    assert len(np.unique(split.test.patients)) == (last >= cut).sum() >= share * len(last) - 1e-6
    later = last[last > cut]
    assert len(later) < share * len(last)


@pytest.mark.parametrize(
    "written",
    [
        ["2019-03-01", "2020-03-01", "2019-12-31", "2020-01-01"],
        ["20190301", "20200301", "20191231", "20200101"],
        ["2019-03-01 08:15", "2020-03-01T23:59:59", "2019-12-31 23:59", "2020-01-01 00:00"],
        ["2019-03-01T08:00+02:00", "2020-03-01T08:00Z", "2020-01-01T00:30+01:00", "2020-01-01"],
        [datetime.date(*day) for day in [(2019, 3, 1), (2020, 3, 1), (2019, 12, 31), (2020, 1, 1)]],
        pd.to_datetime(["2019-03-01", "2020-03-01", "2019-12-31", "2020-01-01"]),
        pd.to_datetime(["2019-03-01", "2020-03-01", "2019-12-31", "2020-01-01"]).tz_localize("UTC"),
    ],
)
@pytest.mark.parametrize(
    "cut", ["2020-01-01", "20200101", datetime.date(2020, 1, 1), pd.Timestamp("2020-01-01")]
)
def test_dates_are_read_as_they_are_written(written, cut):
    train, test = Cohort.read(pd.DataFrame({"taken": written, "row": range(4)})).split_at(
        "taken", cut
    )
    assert train.table["row"].tolist() == [0, 2]
    assert test.table["row"].tolist() == [1, 3]


def test_numbers_are_cut_like_dates_and_ties_are_tested():
    table = pd.DataFrame({"year": [2001, 2003, 2003, 2002, None]})
    train, test = Cohort.read(table).split_at("year", 2003)
    assert train.table["year"].tolist() == [2001, 2002]
    assert test.table["year"].tolist() == [2003, 2003]
    train, test = Cohort.read(table).split_at("year", test_size=0.25)  # the tie goes along
    assert test.table["year"].tolist() == [2003, 2003]


def test_what_was_left_out_is_printed_and_logged(caplog):
    table = pd.DataFrame(
        {
            "who": ["ann", "ann", "bo", "cy", "di"],
            "taken": ["2019-05-01", "2020-02-01", "2019-07-01", None, "2020-03-01"],
            "ill": [1, 1, 0, 0, 1],
        }
    )
    with caplog.at_level(logging.INFO, logger="deconf.cohort.temporal"):
        split = cohort(table).split_at("taken", "2020-01-01")
    told = str(split)
    for text in (told, caplog.text):
        assert "taken before 2020-01-01" in text
        assert "1 patients have films on both sides" in text
        assert "their 1 earlier films leave training" in text
        assert "1 films without 'taken' are in neither part" in text
        assert "ann" not in text
    assert "2 films are in no part." in told


@pytest.mark.parametrize("wrong", ["31.12.2019", "12/31/2019", "yesterday", 20191231, 2019.5])
def test_a_value_that_is_no_date_is_named_with_column_and_row(wrong):
    table = pd.DataFrame({"taken": pd.Series(["2019-03-01", " ", wrong, None], dtype=object)})
    with pytest.raises(
        CohortError, match=rf"row 2 .*has taken = '?{wrong}'?, no date.*1 of 4.*pd.to_datetime"
    ):
        Cohort.read(table).split_at("taken", "2020-01-01")


def test_a_cut_of_another_kind_than_the_column_is_refused():
    dates = Cohort.read(pd.DataFrame({"taken": ["2019-03-01", "2020-03-01"]}))
    for cut in (2020, "1.1.2020", True):
        with pytest.raises(CohortError, match="'taken' holds dates, and the cut is"):
            dates.split_at("taken", cut)
    years = Cohort.read(pd.DataFrame({"year": [2001, 2002, 2003]}))
    for cut in ("2002", float("nan"), pd.Timestamp("2002-01-01")):
        with pytest.raises(CohortError, match="'year' holds numbers, and the cut is"):
            years.split_at("year", cut)
    with pytest.raises(CohortError, match="'flag' holds true and false"):
        Cohort.read(pd.DataFrame({"flag": [True, False]})).split_at("flag", 1)


def test_a_side_without_films_is_refused_with_the_range_of_the_dates():
    c = Cohort.read(pd.DataFrame({"taken": ["2019-03-01", "2020-03-01"], "who": [1, 1]}))
    with pytest.raises(CohortError, match=r"before the cut 2021-01-01.*2019-03-01 to 2020-03-01"):
        c.split_at("taken", "2021-01-01")
    with pytest.raises(CohortError, match="after the cut 2019-01-01"):
        c.split_at("taken", "2019-01-01")
    same = Cohort.read(c.table, patient="who")
    with pytest.raises(CohortError, match=r"nobody is left to train on.*Cut later"):
        same.split_at("taken", "2020-01-01")
    blank = Cohort.read(pd.DataFrame({"taken": [None, None], "who": [1, 2]}))
    with pytest.raises(CohortError, match="'taken' has no recorded value"):
        blank.split_at("taken", "2020-01-01")


def test_a_cut_or_a_share_is_needed_and_not_both():
    c = cohort(follow_up())
    for wrong in ({}, {"cut": "2020-01-01", "test_size": 0.2}):
        with pytest.raises(SettingsError, match="one of cut= and test_size="):
            c.split_at("taken", **wrong)
    with pytest.raises(SettingsError, match="test_size is 20"):
        c.split_at("taken", test_size=20)
    with pytest.raises(CohortError, match=r"no column 'take'.*Did you mean 'taken'"):
        c.split_at("take", "2020-01-01")
