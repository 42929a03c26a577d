"""Levels and cells: categories by themselves, numbers by quantiles, nothing lost silently."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconf.probes.cells import cells_of, levels_of


def test_a_number_is_read_in_thirds_of_equal_size():
    found = levels_of(pd.Series(np.random.default_rng(0).permutation(300) + 0.5, name="age"))
    assert np.bincount(found.codes).tolist() == [100, 100, 100]
    assert found.names[0] == "age 0.5 to 100.2"
    assert "thirds" in found.note
    assert found.order.min() == 0.5
    assert found.order.max() == 299.5


def test_a_number_that_is_mostly_zero_is_split_at_zero():
    found = levels_of(pd.Series([0.0] * 80 + [*np.linspace(1.5, 9.5, 20)], name="dose"))
    assert (found.codes == 0).sum() == 80
    assert len(found.names) == 2


def test_missing_and_infinite_values_have_no_level_and_no_cell():
    column = pd.Series([*np.linspace(0, 1, 60), np.nan, np.inf], name="dose")
    assert levels_of(column).codes[-2:].tolist() == [-1, -1]
    assert not cells_of(pd.DataFrame({"dose": column}), ["dose"]).known[-2:].any()


def test_the_rarest_of_many_sites_are_read_as_one_and_counted():
    sites = np.repeat([f"s{k:02d}" for k in range(20)], np.arange(30, 10, -1))
    found = levels_of(pd.Series([*sites, None], name="site"))
    assert len(found.names) == 12
    assert found.names[-1] == "site=one of 9 rarer"
    assert (found.codes == 11).sum() == np.arange(19, 10, -1).sum()
    assert found.codes[-1] == -1
    assert "9 rarest" in found.note


def test_categories_are_crossed_and_numbers_cut_inside_every_cell():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"ill": rng.integers(2, size=600), "age": rng.normal(60, 9, size=600)})
    table.loc[table["ill"] == 1, "age"] += 20
    cells = cells_of(table, ["age", "ill"])
    sizes = pd.Series(cells.labels).value_counts()
    assert len(sizes) == 10
    assert sizes.min() >= 50
    assert all(label.startswith(("ill=0, age ", "ill=1, age ")) for label in sizes.index)
    np.testing.assert_array_equal(cells.numbers[:, 0], table["age"])


def test_nothing_given_is_one_cell():
    cells = cells_of(pd.DataFrame({"ill": [0, 1]}), [])
    assert set(cells.labels) == {"all rows"}
    assert cells.known.all()
    assert cells.numbers is None


@given(n=st.integers(1, 400), distinct=st.integers(1, 400), seed=st.integers(0, 99))
def test_rows_alike_in_the_number_never_fall_into_different_cells(n, distinct, seed):
    values = np.random.default_rng(seed).integers(distinct, size=n) / 7
    labels = cells_of(pd.DataFrame({"age": values}), ["age"]).labels
    assert pd.DataFrame({"v": values, "l": labels}).groupby("v")["l"].nunique().max() == 1
    assert len(np.unique(labels)) <= max(5, 2)


@pytest.mark.parametrize("dtype", ["Int64", "category", "bool", "string"])
def test_any_kind_of_category_makes_cells(dtype):
    column = pd.Series([0, 1, 1, 0]).astype(dtype)
    assert len(set(cells_of(pd.DataFrame({"ill": column}), ["ill"]).labels)) == 2
