from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from deconf.errors import CohortError
from deconf.maths.design import (
    CLIP,
    MOST_LEVELS,
    THIN_STRATUM,
    Encoding,
    confounders_in,
    design,
    levels_of,
    numbers_of,
)


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 600
    return pd.DataFrame(
        {
            "site": rng.choice(list("ABC"), n),
            "portable": rng.integers(2, size=n).astype(bool),
            "kvp": rng.normal(90, 12, n),
            "age": rng.normal(60, 15, n),
            "pneumonia": rng.integers(2, size=n).astype(float),
            "effusion": rng.integers(2, size=n),
        },
        index=np.arange(n) + 1000,  # a table's labels are not its row numbers
    )


def blank(table, column, rows, value=np.nan):
    return table.assign(
        **{column: table[column].where(~np.isin(np.arange(len(table)), rows), value)}
    )


def span(c):
    """Projection on the columns of a design and the intercept."""
    q = np.linalg.svd(np.hstack([c, np.ones((len(c), 1))]), full_matrices=False)
    u = q[0][:, q[1] > 1e-9 * q[1].max()]
    return u @ u.T


def test_a_set_of_levels_becomes_one_column_each(table):
    c = design(table, ["site"]).c
    assert_array_equal(c, pd.get_dummies(table["site"]).to_numpy(float))
    assert len(set(zip(levels_of(c), table["site"], strict=True))) == 3  # one code for each site


def test_a_number_becomes_its_standard_score_and_the_square_clipped_at_four(table):
    table = table.assign(kvp=np.where(np.arange(600) == 7, 1e6, table["kvp"]))
    c = design(table, ["kvp"]).c
    assert c.shape == (600, 2)
    assert c[7, 0] == CLIP
    assert c[7, 1] == CLIP**2 - 1
    assert_allclose(c[:, 1], c[:, 0] ** 2 - 1)
    assert levels_of(c) is None


def test_levels_end_where_a_number_begins():
    assert levels_of(np.arange(MOST_LEVELS, dtype=float)[:, None]) is not None
    assert levels_of(np.arange(MOST_LEVELS + 1, dtype=float)[:, None]) is None


def test_categories_are_levels_at_any_count_and_numbers_beside_them_are_found():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "site": [f"S{k}" for k in rng.integers(40, size=900)],
            "scanner": rng.choice(list("AB"), 900),
            "dose": rng.normal(size=900),
            "age": np.where(rng.random(900) < 0.2, np.nan, rng.normal(60, 9, size=900)),
        }
    )
    hot = Encoding.of(frame, ["site", "scanner"]).encode(frame)[0]
    assert len(np.unique(levels_of(hot))) == len(frame.drop_duplicates(["site", "scanner"]))
    for names in (["scanner", "dose", "age"], ["age", "dose", "scanner"]):
        encoding = Encoding.of(frame, names)
        c = encoding.encode(frame)[0]
        assert levels_of(c) is None
        assert len(numbers_of(c)) == 2
        kinds = sorted(
            (one.values is not None, len(np.unique(one.codes))) for one in confounders_in(c)
        )
        # Whether age is missing is a category too, and joins the scanner.
        assert kinds == [(False, 4), (True, 3), (True, 3)]


def test_two_small_confounders_get_every_cell_of_their_own(table):
    both = design(table, ["site", "portable"]).c
    cells = pd.get_dummies(table["site"] + table["portable"].astype(str)).to_numpy(float)
    assert_allclose(span(both), span(cells), atol=1e-9)
    apart = np.hstack([design(table, ["site"]).c, design(table, ["portable"]).c])
    assert np.abs(span(both) - span(apart)).max() > 1e-3  # it is more than either


def test_the_interaction_of_three_levels_with_three_has_four_columns(table):
    wide = table.assign(ward=(np.arange(600) % 3).astype(str))
    both = design(wide, ["site", "ward"]).c
    assert both.shape == (600, 3 + 3 + 4)
    cells = pd.get_dummies(wide["site"] + wide["ward"]).to_numpy(float)
    assert_allclose(span(both), span(cells), atol=1e-9)


def test_large_blocks_get_no_interaction_and_a_number_never_does(table):
    wide = table.assign(ward=np.arange(600) % 9)
    assert design(wide, ["site", "ward"]).c.shape[1] == 3 + 9
    assert design(table, ["site", "kvp"]).c.shape[1] == 3 + 2


@pytest.mark.parametrize("column", ["site", "portable", "kvp"])
def test_a_value_often_missing_is_a_level_of_its_own(table, column):
    made = design(blank(table.astype({"portable": object}), column, np.arange(60)), [column])
    assert made.dropped == 0
    unknown = made.c[:, -1]
    assert_array_equal(unknown, np.arange(600) < 60)
    assert np.isfinite(made.c).all()
    assert_allclose(made.c[:60], np.broadcast_to(made.c[0], made.c[:60].shape))


@pytest.mark.parametrize("column", ["site", "portable", "kvp"])
def test_a_value_seldom_missing_leaves_its_rows_out_and_counts_them(table, column):
    made = design(
        blank(table.astype({"portable": object}), column, [3, 8]), [column], ["pneumonia"]
    )
    assert made.dropped == 2
    assert_array_equal(made.rows, np.delete(np.arange(600), [3, 8]))
    assert len(made.c) == len(made.given.codes) == len(made.labelled) == 598
    whole = design(table, [column], ["pneumonia"])
    assert_array_equal(made.given.codes, whole.given.codes[made.rows])


def test_an_infinite_measurement_is_a_missing_one(table):
    made = design(blank(table, "kvp", [5], np.inf), ["kvp"])
    assert made.dropped == 1
    assert np.isfinite(made.c).all()
    assert_allclose(made.c, design(blank(table, "kvp", [5]), ["kvp"]).c)
    often = design(blank(table, "kvp", np.arange(100), -np.inf), ["kvp"])
    assert often.dropped == 0
    assert often.c[:, -1].sum() == 100
    held = design(blank(table, "age", [5], np.inf), ["site"], ["age"])
    assert not held.labelled[5]
    assert held.labelled.sum() == 599


def test_new_images_are_read_as_the_training_table_was(table):
    encoding = design(table, ["site", "portable", "kvp"]).encoding
    new = table.iloc[:5].assign(
        kvp=[90.0, np.nan, 1e9, 80.0, 70.0], site=["A", "B", "C", "D", None]
    )
    c, read = encoding.encode(new)
    assert_array_equal(read, [True, False, True, False, False])
    first = encoding.encode(table.iloc[:1])[0]
    assert_allclose(c[0, :5], encoding.encode(new.iloc[:1])[0][0, :5])
    assert_allclose(first, design(table, ["site", "portable", "kvp"]).c[:1])
    assert (c[3, :3] == 0).all()  # a site never seen is no site that was


def test_an_unseen_level_is_not_taken_for_unknown(table):
    encoding = Encoding.of(blank(table, "site", np.arange(60)), ["site"])
    c, read = encoding.encode(pd.DataFrame({"site": ["A", None, "Z"]}))
    assert_array_equal(read, [True, True, False])
    assert_array_equal(c, [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])


def test_strata_are_the_cells_of_the_categorical_columns(table):
    codes = design(table, ["site"], ["pneumonia", "portable"]).given.codes
    cells = table["pneumonia"].astype(str) + table["portable"].astype(str)
    assert len(set(zip(codes, cells, strict=True))) == 4 == codes.max() + 1


def test_rows_without_a_label_form_a_stratum_of_their_own_or_are_left_out(table):
    missing = blank(table, "pneumonia", np.arange(0, 90))
    kept = design(missing, ["site"], ["pneumonia"])
    assert len(np.unique(kept.given.codes)) == 3
    assert len(set(kept.given.codes[:90])) == 1
    assert not set(kept.given.codes[:90]) & set(kept.given.codes[90:])
    assert_array_equal(kept.labelled, np.arange(600) >= 90)
    out = design(missing, ["site"], ["pneumonia"], unlabelled=False)
    assert out.dropped == 90
    assert_array_equal(out.given.codes, np.unique(table["pneumonia"][90:], return_inverse=True)[1])


def test_several_outcomes_are_held_additively_and_one_by_its_cells(table):
    both = design(table, ["site"], ["pneumonia", "effusion"], outcomes=["pneumonia", "effusion"])
    assert both.given.codes.max() == 0
    assert_allclose(
        span(both.given.basis), span(table[["pneumonia", "effusion"]].to_numpy(float)), atol=1e-9
    )
    one = design(table, ["site"], ["pneumonia"], outcomes=["pneumonia", "effusion"])
    assert one.given.basis is None
    assert one.given.codes.max() == 1


def test_strata_too_thin_give_way_to_an_additive_basis(table):
    wards = table.assign(
        ward=(np.arange(600) % 12).astype(str), bed=(np.arange(600) // 12 % 6).astype(str)
    )
    thin = design(wards, ["site"], ["ward", "bed"]).given
    assert THIN_STRATUM > 600 / 72
    assert thin.codes.max() == 0
    assert thin.basis.shape == (600, 11 + 5)
    ample = design(wards, ["site"], ["ward"]).given
    assert ample.codes.max() == 11
    assert ample.basis is None


def test_a_continuous_column_is_held_by_a_spline_that_follows_curves(table):
    basis = design(table, ["site"], ["age"]).given.basis
    age = table["age"].to_numpy()
    curve = np.sin(age / 15)
    left = curve - span(basis) @ curve
    assert left.var() < 0.2 * curve.var()
    assert (age - span(basis) @ age).var() < 1e-12 * age.var()


def test_a_continuous_column_with_many_ties_or_dates_has_a_finite_basis(table):
    rng = np.random.default_rng(1)
    ties = np.where(rng.random(600) < 0.7, 0.0, rng.exponential(size=600))
    dates = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(900, size=600), unit="D")
    for column in (ties, dates):
        basis = design(table.assign(x=column), ["site"], ["x"]).given.basis
        assert np.isfinite(basis).all()
        assert basis.std(axis=0).max() > 0.05


def test_rows_without_the_continuous_column_weigh_nothing_in_its_basis(table):
    made = design(blank(table, "age", np.arange(80)), ["site"], ["age"])
    assert (made.given.basis[:80] == 0).all()
    assert set(made.given.codes[:80]).isdisjoint(made.given.codes[80:])


def test_an_empty_adjustment_set_is_one_stratum(table):
    made = design(table, ["site"])
    assert made.given.codes.max() == 0
    assert made.given.basis is None
    assert made.labelled.all()


def test_a_column_that_is_not_there_is_named_with_the_nearest(table):
    with pytest.raises(CohortError, match=r"no column 'sight'\. Did you mean 'site'"):
        design(table, ["sight"])
    with pytest.raises(CohortError, match=r"no column 'pnuemonia'\. Did you mean 'pneumonia'"):
        design(table, ["site"], ["pnuemonia"])
    encoding = design(table, ["site", "kvp"]).encoding
    with pytest.raises(CohortError, match="no column 'kvp'"):
        encoding.encode(table.drop(columns="kvp"))


def test_each_of_many_categories_is_found_whole_whatever_the_order():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"c{k}": rng.choice(list("abcd"), 900) for k in range(4)})
    found = []
    for names in (["c0", "c1", "c2", "c3"], ["c3", "c1", "c0", "c2"]):
        one = confounders_in(Encoding.of(frame, names).encode(frame)[0])
        assert [len(np.unique(part.codes)) for part in one] == [4] * 4
        found.append([part.codes for part in one])
    assert_array_equal(*found)


def test_a_number_that_is_mostly_its_largest_value_still_has_two_parts():
    v = np.where(np.arange(200) % 5 == 0, np.linspace(-2, 0, 200), 1.0)
    (one,) = confounders_in(v[:, None])
    assert_array_equal(one.codes, v == 1)
