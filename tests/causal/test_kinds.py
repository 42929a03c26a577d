"""What is a category and what a number: one rule, so its corners are pinned here."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconf.maths.kinds import codes, is_categorical, levels, numbers

CATEGORIES = {
    "text": pd.Series(["a", "b", None]),
    "booleans": pd.Series([True, False]),
    "nullable booleans": pd.Series([True, None], dtype="boolean"),
    "a pandas category of numbers": pd.Series(np.arange(20.0)).astype("category"),
    "twelve whole numbers": pd.Series(range(12)),
    "nullable whole numbers": pd.Series([1, 2, None, 3], dtype="Int64"),
    "0 and 1 as floats with a gap": pd.Series([0.0, 1.0, np.nan]),
    "two odd floats": pd.Series([0.37, 2.5] * 9),
    "site codes that a gap made floats": pd.Series([1.0, 2.0, 3.0, np.nan]),
}
NUMBERS = {
    "thirteen whole numbers": pd.Series(range(13)),
    "three odd floats": pd.Series([0.1, 0.2, 0.3]),
    "dates": pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"])),
}


@pytest.mark.parametrize("name", CATEGORIES)
def test_these_are_categories(name):
    assert is_categorical(CATEGORIES[name])


@pytest.mark.parametrize("name", NUMBERS)
def test_these_are_numbers(name):
    assert not is_categorical(NUMBERS[name])


def test_a_gap_does_not_change_what_a_column_is():
    for series in (pd.Series(range(6)), pd.Series(range(30)), pd.Series([0.5, 1.5, 2.5])):
        assert is_categorical(series) == is_categorical(pd.concat([series, pd.Series([np.nan])]))


@given(st.lists(st.one_of(st.none(), st.text(max_size=3), st.integers(0, 3)), min_size=1))
def test_codes_point_at_the_level_of_each_row(values):
    series = pd.Series(values, dtype=object)
    found, known = codes(series)
    assert known == levels(series)
    for value, code in zip(values, found, strict=True):
        assert (code == -1) if value is None else (known[code] == value)


def test_levels_are_plain_sorted_values():
    assert levels(pd.Series([3, 1, 2, 1])) == [1, 2, 3]
    assert type(levels(pd.Series([3, 1]))[0]) is int
    grades = pd.Categorical(["high", "low"], categories=["low", "mid", "high"], ordered=True)
    assert levels(pd.Series(grades)) == ["low", "high"]


def test_writing_to_the_numbers_leaves_the_table_alone():
    series = pd.Series([1.0, np.inf, np.nan])
    values = numbers(series)
    assert np.isnan(values[1:]).all()
    values[0] = 9
    assert series[0] == 1.0
    dates = numbers(pd.Series(pd.to_datetime(["1970-01-03", None])))
    assert dates[0] == 2.0
    assert np.isnan(dates[1])
