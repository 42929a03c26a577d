from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from deconf.cohort.cohort import Cohort
from deconf.cohort.fingerprint import files_digest
from deconf.errors import CohortError, SettingsError


def films(n: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "image": [f"CXR-{i:04d}" for i in range(n)],
            "patient_id": rng.integers(max(n // 2, 1), size=n),
            "site": rng.choice(["A", "B", "C"], size=n),
            "portable": rng.integers(2, size=n),
            "age": rng.normal(60, 15, size=n),
            "pneumonia": rng.choice([0.0, 1.0, np.nan], p=[0.5, 0.4, 0.1], size=n),
        }
    )


def cohort(n: int = 60, seed: int = 0) -> Cohort:
    z = np.random.default_rng(seed).normal(size=(n, 4))
    return Cohort.from_arrays(
        z, films(n, seed), image="image", patient="patient_id", site="site", outcome="pneumonia"
    )


# --- splits --------------------------------------------------------------------------------


@given(st.integers(0, 500), st.integers(20, 80))
def test_no_split_fold_or_held_out_site_lets_a_patient_straddle(seed, n):
    c = cohort(n, seed)
    assert len(np.unique(c.patients)) >= 5
    pairs = [c.split(0.3, seed=seed), *((c.subset(a), c.subset(b)) for a, b in c.folds(3, seed))]
    for train, test in pairs:
        assert not set(train.patients) & set(test.patients)
        assert len(train) + len(test) == len(c)
    try:
        train, test = c.hold_out("site", "A")
    except CohortError:
        return  # everybody has been at A
    assert not set(train.patients) & set(test.patients)
    assert set(test.table["site"]) == {"A"}
    assert "A" not in set(train.table["site"])
    assert len(test) == (c.table["site"] == "A").sum()


def test_embeddings_and_rows_stay_together_through_split_and_subset():
    c = cohort()
    original = dict(zip(c.table["image"], c.embeddings, strict=True))
    for part in (*c.split(seed=1), *c.hold_out("site", ["A", "B"]), c.subset([5, 3, 3])):
        for image, z in zip(part.table["image"], part.embeddings, strict=True):
            assert_array_equal(z, original[image])


def test_a_split_keeps_the_prevalence_of_every_site():
    rng = np.random.default_rng(0)
    site = np.repeat(["A", "B"], [900, 100])
    ill = (rng.random(1000) < np.where(site == "A", 0.2, 0.7)).astype(int)
    c = Cohort.read(pd.DataFrame({"site": site, "ill": ill}), site="site", outcome="ill")
    for seed in range(5):
        _, test = c.split(0.2, seed=seed)
        count = test.table.groupby("site")["ill"].agg(["size", "sum"])
        assert abs(count.loc["B", "size"] - 20) <= 2
        assert abs(count.loc["B", "sum"] - 0.2 * ill[site == "B"].sum()) <= 1


def test_folds_of_a_continuous_outcome_share_its_range():
    severity = np.sort(np.random.default_rng(0).exponential(size=200))
    c = Cohort.read(pd.DataFrame({"severity": severity}), outcome="severity")
    means = [severity[test].mean() for _, test in c.folds(4)]
    assert np.ptp(means) < 0.35 * severity.mean()


def test_the_same_seed_gives_the_same_split():
    one, same, other = (cohort().split(seed=s)[1].table["image"].tolist() for s in (4, 4, 5))
    assert one == same != other


def test_rows_whose_site_is_missing_are_not_trained_on_when_a_site_is_held_out():
    table = pd.DataFrame({"site": ["A", "B", None, "B"]})
    train, test = Cohort.read(table).hold_out("site", "A")
    assert train.patients.tolist() == [1, 3]
    assert test.patients.tolist() == [0]


def test_holding_out_an_unknown_site_names_the_recorded_ones():
    with pytest.raises(CohortError, match=r"no row has site = 'D'.* Recorded: '.', '.', '.'"):
        cohort().hold_out("site", "D")
    with pytest.raises(CohortError, match=r"no column 'sight'.*Did you mean 'site'"):
        cohort().hold_out("sight", "A")
    with pytest.raises(CohortError, match="nobody is left to train on"):
        cohort().hold_out("site", ["A", "B", "C"])


# --- frozen, digest ------------------------------------------------------------------------


def test_the_users_table_and_array_are_not_changed_and_do_not_change_the_cohort():
    table, z = films(), np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    before, z_before = table.copy(deep=True), z.copy()
    c = Cohort.from_arrays(z, table, patient="patient_id", outcome="pneumonia")
    c.split(), c.describe(), c.hold_out("site", "A"), list(c.folds()), c.subset([0])
    pd.testing.assert_frame_equal(table, before)
    assert_array_equal(z, z_before)
    image, z0 = c.table["image"][0], c.embeddings[0, 0]
    table.loc[0, "image"], z[0, 0] = "changed", 99
    assert c.table["image"][0] == image
    assert c.embeddings[0, 0] == z0


def test_what_is_handed_out_cannot_change_the_cohort_behind_its_digest():
    c = cohort()
    handed = c.table
    handed.loc[0, "site"] = "changed"
    del handed["age"]
    assert "age" in c.table
    assert c.table.loc[0, "site"] != "changed"
    with pytest.raises(ValueError, match="read-only"):
        c.embeddings[0, 0] = 1
    with pytest.raises(TypeError):
        c.roles["site"] = "portable"
    with pytest.raises(AttributeError):
        c.dropped = 3
    c.patients[:] = 0
    assert len(np.unique(c.patients)) > 1
    assert c.digest == cohort().digest


def test_the_digest_changes_with_one_cell_one_number_and_the_order_and_not_otherwise():
    table, z = films(), np.random.default_rng(0).normal(size=(60, 4))
    digest = Cohort.from_arrays(z, table).digest
    assert Cohort.from_arrays(z.astype(np.float32), table.copy()).digest == digest
    cell, number = table.copy(), z.copy()
    cell.loc[17, "age"] += 1e-9
    number[17, 2] += 1e-3
    others = [
        Cohort.from_arrays(z, cell),
        Cohort.from_arrays(number, table),
        Cohort.from_arrays(z[::-1], table),
        Cohort.from_arrays(z, table).subset(np.arange(59)),
        Cohort.read(table),
    ]
    assert len({digest, *(c.digest for c in others)}) == 6
    assert len(digest) == 64


def test_the_digest_sees_into_the_middle_of_a_column_of_long_vectors():
    vectors = [np.arange(5000.0), np.arange(5000.0)]
    one = Cohort.read(pd.DataFrame({"v": vectors})).digest
    vectors = [v.copy() for v in vectors]
    vectors[1][2500] = -1
    assert Cohort.read(pd.DataFrame({"v": vectors})).digest != one


def test_the_digest_of_files_changes_with_one_byte_their_order_and_where_one_ends(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    found = set()
    for first, second in ((b"12", b"345"), (b"123", b"45"), (b"12", b"346"), (b"345", b"12")):
        a.write_bytes(first)
        b.write_bytes(second)
        found.add(files_digest([a, b]))
    assert len(found) == 4
    (tmp_path / "c").write_bytes(a.read_bytes())
    assert files_digest([tmp_path / "c", b]) == files_digest([a, b])  # names do not count


def test_a_cohort_survives_pickling():
    again = pickle.loads(pickle.dumps(cohort()))
    assert again.digest == cohort().digest
    assert again.roles == cohort().roles
    assert not again.embeddings.flags.writeable


# --- patients ------------------------------------------------------------------------------


def test_patient_digests_meet_where_patients_do_and_carry_no_name():
    c = cohort()
    train, test = c.split()
    assert not train.patient_digests("salt") & test.patient_digests("salt")
    assert train.patient_digests("salt") | test.patient_digests("salt") == c.patient_digests("salt")
    assert len(c.patient_digests("salt")) == len(np.unique(c.patients))
    assert not c.patient_digests("salt") & c.patient_digests("pepper")
    assert all(len(d) == 64 for d in c.patient_digests("salt"))


def test_patient_7_is_the_same_person_read_as_integer_float_or_text():
    sevens = [pd.DataFrame({"p": [v]}) for v in (7, 7.0, "7")]
    digests = {Cohort.read(t, patient="p").patient_digests("s") for t in sevens}
    assert len(digests) == 1


def test_without_patients_the_rows_of_a_split_are_told_apart_and_so_are_other_cohorts():
    def draw(seed):
        z = np.random.default_rng(seed).normal(size=(40, 3))
        return Cohort.from_arrays(z, pd.DataFrame({"site": ["A", "B"] * 20}), site="site")

    train, test = draw(0).split()
    assert not set(train.patients) & set(test.patients)
    assert not train.patient_digests("s") & test.patient_digests("s")
    assert not draw(0).patient_digests("s") & draw(1).patient_digests("s")
    assert train.patient_digests("s") < draw(0).patient_digests("s")
    bare = Cohort.read(pd.DataFrame({"site": ["A", "A", "B"]}))
    assert len(bare.patient_digests("s")) == 3


# --- subset --------------------------------------------------------------------------------


def test_masks_numbers_and_slices_choose_the_same_rows():
    c = cohort()
    mask = c.table["site"] == "A"
    choices = [mask, mask.to_numpy(), mask.tolist(), mask.astype("boolean"), np.flatnonzero(mask)]
    assert len({c.subset(rows).digest for rows in choices}) == 1
    assert c.subset(slice(5)).digest == c.subset(range(5)).digest
    assert c.subset(slice(5)).table.index.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([True, False], r"mask of shape \(2,\) for 60 rows"),
        (np.zeros(60, dtype=bool), "none of the 60 rows is left"),
        ([], "none of the 60 rows is left"),
        ([3, 60], "no row 60 among 60"),
        ([0.5, 1.0], "a mask or row numbers"),
        (pd.Series([True, None] * 30, dtype="boolean"), r"mask.fillna\(False\)"),
    ],
)
def test_a_choice_of_rows_that_cannot_be_meant_is_refused(rows, words):
    with pytest.raises(CohortError, match=words):
        cohort().subset(rows)


# --- the door ------------------------------------------------------------------------------


def test_several_outcomes_are_kept_in_order_and_one_is_one():
    table = films()
    assert Cohort.read(table, outcome=["pneumonia", "portable"]).outcomes == (
        "pneumonia",
        "portable",
    )
    assert Cohort.read(table, outcome=["pneumonia"]).roles["outcome"] == "pneumonia"
    assert Cohort.read(table).outcomes == ()


@pytest.mark.parametrize("role", ["image", "patient", "site", "outcome"])
def test_an_unknown_column_in_any_role_names_the_nearest_and_all(role):
    with pytest.raises(
        CohortError,
        match=f"no column 'protable' .given as {role}.*Did you mean 'portable'.*Columns: image, ",
    ):
        Cohort.read(films(), **{role: "protable"})


def test_a_column_that_is_the_index_is_found_there():
    with pytest.raises(CohortError, match=r"table.reset_index\(\)"):
        Cohort.read(films().set_index("patient_id"), patient="patient_id")


def test_a_site_is_one_column():
    with pytest.raises(CohortError, match=r"site=\['site', 'portable'\]: this role is one column"):
        Cohort.read(films(), site=["site", "portable"])


def test_one_column_cannot_have_two_roles():
    with pytest.raises(CohortError, match="'site' is given as site and again as outcome"):
        Cohort.read(films(), site="site", outcome=["pneumonia", "site"])


def test_a_table_with_two_columns_of_one_name_is_refused():
    table = pd.DataFrame([[1, 2]], columns=["site", "site"])
    with pytest.raises(CohortError, match="two columns named 'site'"):
        Cohort.read(table)


def test_an_empty_table_is_refused():
    with pytest.raises(CohortError, match="no rows"):
        Cohort.read(films().iloc[:0])


@pytest.mark.parametrize("blank", [None, np.nan, "", "  "])
def test_a_missing_or_blank_patient_names_its_row(blank):
    table = films().astype({"patient_id": object})
    table.loc[[17, 20], "patient_id"] = blank
    with pytest.raises(CohortError, match=r"row 17 .*'CXR-0017'.* no 'patient_id'; 2 of 60 rows"):
        Cohort.read(table, image="image", patient="patient_id")


def test_an_outcome_nobody_recorded_is_refused_and_one_with_a_single_value_is_noted():
    table = films().assign(never=np.nan, always=1)
    with pytest.raises(CohortError, match="'never' has no recorded value in any of 60 rows"):
        Cohort.read(table, outcome="never")
    noted = Cohort.read(table, outcome="always").describe().loc["always", "note"]
    assert "one recorded value only" in noted


def test_numbers_that_are_not_finite_are_named_by_row_id_and_column():
    z = np.zeros((60, 4))
    z[17, 2], z[20, 0] = np.nan, np.inf
    with pytest.raises(
        CohortError, match=r"row 17 .*'CXR-0017'.* is nan in column 2; 2 of 60 rows"
    ):
        Cohort.from_arrays(z, films(), image="image")
    with pytest.raises(CohortError, match="is inf in column 1; 1 of 2"):  # too large for float32
        Cohort.from_arrays(np.array([[0, 1e300], [0, 0]]), films(2))


def test_embeddings_of_another_length_are_refused_with_both_numbers():
    for n in (59, 61):
        with pytest.raises(CohortError, match=f"{n} embeddings but 60 rows in the table"):
            Cohort.from_arrays(np.zeros((n, 4)), films())


@pytest.mark.parametrize(
    ("z", "words"),
    [
        (np.zeros(60), r"shape \(60,\): expected \(rows, width\)"),
        (np.full((60, 2), "a"), "not real numbers"),
        (np.zeros((60, 2), dtype=complex), "not real numbers"),
        (np.zeros((60, 2), dtype=object), "not real numbers"),
        ([[1.0], [1.0, 2.0]] * 30, "different lengths"),
        (np.zeros((60, 0)), "no numbers"),
    ],
)
def test_what_is_not_one_vector_of_numbers_per_row_is_refused(z, words):
    with pytest.raises(CohortError, match=words):
        Cohort.from_arrays(z, films())


def test_lists_tensors_and_arrays_of_any_kind_become_the_same_float32():
    torch = pytest.importorskip("torch")
    z = np.random.default_rng(0).integers(-8, 8, size=(60, 4))
    given_as = [
        z,
        z.tolist(),
        np.asfortranarray(z),
        torch.tensor(z, dtype=torch.bfloat16),
        torch.tensor(z, dtype=torch.float32, requires_grad=True),
    ]
    made = [Cohort.from_arrays(values, films()) for values in given_as]
    assert len({c.digest for c in made}) == 1
    assert all(c.embeddings.dtype == np.float32 for c in made)


def test_a_stack_of_images_is_kept_in_shape():
    c = Cohort.from_arrays(np.ones((60, 1, 8, 8), dtype=np.uint8), films())
    assert c.embeddings.shape == (60, 1, 8, 8)
    assert c.subset([1, 2]).embeddings.shape == (2, 1, 8, 8)


def test_other_embeddings_are_checked_like_the_first():
    c = cohort()
    assert c.with_embeddings(np.ones((60, 9))).embeddings.shape == (60, 9)
    assert c.embeddings.shape == (60, 4)
    with pytest.raises(CohortError, match="5 embeddings but 60 rows"):
        c.with_embeddings(np.ones((5, 9)))


def test_what_to_do_with_missing_embeddings_is_one_of_two_words():
    with pytest.raises(SettingsError, match="on_missing is 'skip': expected 'raise' or 'drop'"):
        Cohort.read(films(), on_missing="skip")


def test_the_description_has_every_column_once_with_roles_first_and_true_counts():
    c = cohort()
    told = c.describe()
    assert told.index[:4].tolist() == ["image", "patient_id", "site", "pneumonia"]
    assert set(told.index) == {*films().columns, "(embeddings)"}
    assert told.index.is_unique
    assert told.loc["pneumonia", "missing"] == films()["pneumonia"].isna().sum()
    assert (told["n"] + told["missing"] == 60).all()
    assert told.loc["site", ["role", "kind", "levels"]].tolist() == ["site", "categories", 3]
    assert told.loc["age", "kind"] == "numbers"
    assert told.attrs == {"rows": 60, "patients": len(np.unique(c.patients)), "dropped": 0}


@pytest.mark.skipif(not os.environ.get("DECONF_DATA"), reason="DECONF_DATA names no real data")
def test_real_chest_films_are_read_joined_and_split():
    folder = Path(os.environ["DECONF_DATA"]) / "embeddings"
    with pytest.warns(UserWarning, match="pickled text and is not read"):
        c = Cohort.read(
            folder / "cxr_mobilenetv2.csv",
            image="image",
            embedding="cxr_mobilenetv2.npz",
            patient="patient_id",
            site="site",
            outcome="disease",
        )
    assert (len(c), c.embeddings.shape[1], len(np.unique(c.patients))) == (1163, 1280, 842)
    train, test = c.hold_out("site", "nih")
    assert (len(train), len(test)) == (214, 949)
