from __future__ import annotations

import os
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, ReadError

N, D = 40, 6


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "image": [f"CXR-{i:04d}" for i in range(N)],
            "patient_id": rng.integers(15, size=N),
            "site": rng.choice(["A", "B"], size=N),
            "age": rng.normal(60, 9, size=N),
        }
    )


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(N, D)).astype(np.float32)


SHUFFLED = np.random.default_rng(2).permutation(N)


# --- tables --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.gz", "t.parquet", "T.CSV"])
def test_every_kind_of_file_gives_the_table_that_was_written(tmp_path, table, name):
    path = tmp_path / name
    if name.endswith("parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    for source in (path, str(path)):
        read = Cohort.read(source, patient="patient_id")
        pd.testing.assert_frame_equal(read.table, table)
        assert read.digest == Cohort.read(table).digest


def test_an_arrow_table_and_a_filtered_frame_are_read_like_a_frame(table):
    assert Cohort.read(pa.Table.from_pandas(table)).digest == Cohort.read(table).digest
    assert Cohort.read(table[table["site"] == "A"]).table.index.tolist()[:3] == [0, 1, 2]


def test_a_file_that_is_not_there_names_the_nearest(tmp_path, table):
    table.to_csv(tmp_path / "studies.csv", index=False)
    with pytest.raises(ReadError, match=r"stdies.csv' does not exist. Did you mean 'studies.csv'"):
        Cohort.read(tmp_path / "stdies.csv")
    with pytest.raises(ReadError, match="is a folder"):
        Cohort.read(tmp_path)


def test_another_kind_of_file_is_refused_with_the_kinds_that_can_be_read(tmp_path):
    (tmp_path / "studies.xlsx").write_bytes(b"PK")
    with pytest.raises(ReadError, match=r"'studies.xlsx' is no table file.*\.csv, .*\.parquet"):
        Cohort.read(tmp_path / "studies.xlsx")
    with pytest.raises(CohortError, match="this is dict"):
        Cohort.read({"site": ["A"]})


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet"])
def test_a_truncated_table_names_the_file(tmp_path, table, name):
    path = tmp_path / name
    table.to_parquet(path) if name.endswith("parquet") else table.to_csv(path, index=False)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ReadError, match=rf"'{name}' .*cannot be read.*truncated"):
        Cohort.read(path)


@pytest.mark.parametrize("content", [b"", b"site,age\nA,1\nB,2,3,4\n", b"site\n\xff\xfe\xff\n"])
def test_text_that_is_no_table_names_the_file(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ReadError, match=r"'t.csv' .*cannot be read"):
        Cohort.read(tmp_path / "t.csv")


def test_a_column_written_twice_in_a_file_is_not_renamed_in_silence(tmp_path):
    (tmp_path / "t.csv").write_text("site,age,site\nA,1,B\n")
    with pytest.raises(CohortError, match="two columns named 'site'"):
        Cohort.read(tmp_path / "t.csv")


def test_a_semicolon_table_is_recognised(tmp_path):
    (tmp_path / "t.csv").write_text("site;age\nA;1\n")
    with pytest.raises(ReadError, match="separated by ';'"):
        Cohort.read(tmp_path / "t.csv", site="site")


# --- embeddings: every kind of file, in every order ----------------------------------------


def fixed_size_binary(values: np.ndarray, metadata=None) -> tuple[pa.Field, pa.Array]:
    kind = pa.binary(values.shape[1] * values.itemsize)
    return pa.field("embedding", kind, metadata=metadata), pa.array(
        [row.tobytes() for row in values], type=kind
    )


def write(kind: str, path, names, values: np.ndarray) -> None:
    """Write embeddings and their names in one of the ways people do."""
    if kind == "npz text":
        np.savez(path, emb=values, image=np.array(names, dtype=str))
    elif kind == "npz any name":
        np.savez(path, features=values, image=np.array(names, dtype="S"), when=np.zeros(3))
    elif kind == "parquet list":
        pd.DataFrame({"image": names, "z": list(values)}).to_parquet(path)
    elif kind == "parquet fixed list":
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        pq.write_table(pa.table({"image": list(names), "z": vectors}), path)
    elif kind == "parquet columns":
        pd.DataFrame(values).add_prefix("f").assign(image=list(names)).to_parquet(path)
    else:
        half = "float16" in kind
        field, cells = fixed_size_binary(
            values.astype("float16") if half else values, {"dtype": "float16"} if half else None
        )
        schema = pa.schema([pa.field("image", pa.string()), field])
        pq.write_table(pa.table([pa.array(list(names)), cells], schema=schema), path)


KINDS = [
    "npz text",
    "npz any name",
    "parquet list",
    "parquet fixed list",
    "parquet columns",
    "parquet binary",
    "parquet binary float16",
]


@pytest.mark.parametrize("kind", KINDS)
def test_named_embeddings_find_their_rows_whatever_the_order(tmp_path, table, z, kind):
    path = tmp_path / f"z.{kind.split()[0]}"
    write(kind, path, table["image"].to_numpy()[SHUFFLED], z[SHUFFLED])
    read = Cohort.read(table, image="image", embedding=path)
    expected = z.astype("float16").astype("float32") if "float16" in kind else z
    assert_array_equal(read.embeddings, expected)
    assert_array_equal(Cohort.read(table, embedding=path).embeddings, expected)  # without the role


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_embedding_are_counted_named_and_dropped_on_request(tmp_path, table, z, kind):
    path = tmp_path / f"z.{kind.split()[0]}"
    have = SHUFFLED[~np.isin(SHUFFLED, [7, 20, 33])]
    write(kind, path, table["image"].to_numpy()[have], z[have])
    with pytest.raises(
        CohortError,
        match=r"37 embeddings but 40 rows in the table\. 3 rows have no embedding, "
        r"first 'CXR-0007'.*on_missing=.drop",
    ):
        Cohort.read(table, image="image", embedding=path)
    read = Cohort.read(table, image="image", embedding=path, on_missing="drop")
    assert read.dropped == 3
    assert len(read) == 37
    assert "3 rows without embedding" in read.describe().loc["(embeddings)", "note"]
    expected = np.delete(z, [7, 20, 33], axis=0)
    assert_array_equal(read.embeddings, expected.astype("float16") if "16" in kind else expected)
    assert read.patients.tolist() == np.delete(np.arange(N), [7, 20, 33]).tolist()


def test_a_bare_array_is_taken_in_the_order_of_the_table(tmp_path, table, z):
    np.save(tmp_path / "z.npy", z)
    np.savez(tmp_path / "z.npz", embeddings=z)
    for source in (z, tmp_path / "z.npy", tmp_path / "z.npz"):
        assert_array_equal(Cohort.read(table, embedding=source).embeddings, z)


@pytest.mark.parametrize("wrong", [N - 2, N + 2])
def test_a_bare_array_of_another_length_cannot_be_joined_even_on_request(tmp_path, table, wrong):
    np.save(tmp_path / "z.npy", np.zeros((wrong, D)))
    for on_missing in ("raise", "drop"):
        with pytest.raises(CohortError, match=f"{wrong} embeddings but 40 rows.*nothing to join"):
            Cohort.read(table, embedding=tmp_path / "z.npy", on_missing=on_missing)


def test_more_embeddings_than_rows_are_fine_when_they_are_named(tmp_path, table, z):
    write("npz text", tmp_path / "z.npz", table["image"], z)
    read = Cohort.read(table.iloc[5:9], image="image", embedding=tmp_path / "z.npz")
    assert_array_equal(read.embeddings, z[5:9])


def test_a_column_that_does_not_name_rows_once_still_shows_another_order(tmp_path, table, z):
    ids = table["patient_id"].to_numpy()
    np.savez(tmp_path / "same.npz", emb=z, patient_id=ids)
    assert_array_equal(Cohort.read(table, embedding=tmp_path / "same.npz").embeddings, z)
    np.savez(tmp_path / "other.npz", emb=z[::-1], patient_id=ids[::-1])
    with pytest.raises(CohortError, match=r"'other.npz' is in another order.*'patient_id' of row"):
        Cohort.read(table, embedding=tmp_path / "other.npz")


def test_numbers_as_names_are_joined_whatever_their_type(tmp_path, table, z):
    numbered = table.assign(study=np.arange(N))
    names = np.arange(N)[SHUFFLED]
    for keys in (names.astype(float), names.astype(str), names):
        np.savez(tmp_path / "z.npz", emb=z[SHUFFLED], study=keys)
        assert_array_equal(Cohort.read(numbered, embedding=tmp_path / "z.npz").embeddings, z)


def test_a_row_without_a_name_has_no_embedding_even_if_a_vector_is_called_nan(tmp_path, table, z):
    names = table["image"].to_numpy(dtype=object)
    names[3] = "nan"
    write("npz text", tmp_path / "z.npz", names, z)
    for missing in (None, np.nan):
        unnamed = table.astype({"image": object})
        unnamed.loc[3, "image"] = missing
        with pytest.raises(CohortError, match="1 row has no embedding"):
            Cohort.read(unnamed, image="image", embedding=tmp_path / "z.npz")


def test_an_empty_cell_among_stored_vectors_is_a_row_without_embedding(tmp_path, table, z):
    cells = [None if i == 5 else row for i, row in enumerate(z)]
    pd.DataFrame({"image": table["image"], "z": cells}).to_parquet(tmp_path / "z.parquet")
    source = {"image": "image", "embedding": tmp_path / "z.parquet"}
    with pytest.raises(CohortError, match="1 row has no embedding, first 'CXR-0005'"):
        Cohort.read(table, **source)
    read = Cohort.read(table, **source, on_missing="drop")
    assert_array_equal(read.embeddings, np.delete(z, 5, axis=0))


def test_two_embeddings_of_one_name_are_refused(tmp_path, table, z):
    names = table["image"].to_numpy(dtype=object)
    names[3] = names[2]
    write("npz text", tmp_path / "z.npz", names, z)
    with pytest.raises(CohortError, match="two embeddings for image 'CXR-0002'"):
        Cohort.read(table, image="image", embedding=tmp_path / "z.npz")


def test_names_that_never_meet_are_shown_side_by_side(tmp_path, table, z):
    write("npz text", tmp_path / "z.npz", [f"images/{i}.png" for i in range(N)], z)
    with pytest.raises(CohortError, match=r"no row .*'CXR-0000' in the table and 'images/0.png'"):
        Cohort.read(table, image="image", embedding=tmp_path / "z.npz", on_missing="drop")


def test_a_column_of_vectors_leaves_the_table_and_becomes_the_embeddings(tmp_path, table, z):
    for cells in (list(z), z.tolist()):
        read = Cohort.read(table.assign(vector=cells), embedding="vector")
        assert_array_equal(read.embeddings, z)
        assert "vector" not in read.table
    table.assign(vector=list(z)).to_parquet(tmp_path / "t.parquet")
    assert_array_equal(Cohort.read(tmp_path / "t.parquet", embedding="vector").embeddings, z)
    gaps = table.assign(vector=[None if i in (4, 9) else row for i, row in enumerate(z)])
    with pytest.raises(CohortError, match="2 rows have no embedding, first 'CXR-0004'"):
        Cohort.read(gaps, image="image", embedding="vector")
    dropped = Cohort.read(gaps, image="image", embedding="vector", on_missing="drop")
    assert_array_equal(dropped.embeddings, np.delete(z, [4, 9], axis=0))
    assert dropped.dropped == 2


def test_a_column_that_holds_no_vectors_is_refused(table, z):
    with pytest.raises(CohortError, match=r"'site' holds '.', not vectors"):
        Cohort.read(table, embedding="site")
    ragged = table.assign(vector=[row[: D - (i == 8)] for i, row in enumerate(z)])
    with pytest.raises(CohortError, match="different lengths: 6 numbers at first, 5 in row 8"):
        Cohort.read(ragged, embedding="vector")
    with pytest.raises(CohortError, match="'vector' is given as image and again as embedding"):
        Cohort.read(table.assign(vector=list(z)), image="vector", embedding="vector")
    with pytest.raises(CohortError, match="holds no embedding for any row"):
        Cohort.read(table.assign(vector=None), embedding="vector", on_missing="drop")


def test_embeddings_are_also_looked_for_beside_the_table(tmp_path, table, z, monkeypatch):
    table.to_csv(tmp_path / "studies.csv", index=False)
    np.save(tmp_path / "z.npy", z)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert_array_equal(Cohort.read("../studies.csv", embedding="z.npy").embeddings, z)
    with pytest.raises(ReadError, match=r"'zz.npy' does not exist. Did you mean 'z.npy'"):
        Cohort.read("../studies.csv", embedding="zz.npy")


def test_a_name_that_is_neither_file_nor_column_says_both(table):
    with pytest.raises(CohortError, match=r"'imagee': neither a column nor .*Did you mean 'image'"):
        Cohort.read(table, embedding="imagee")


@pytest.mark.parametrize("name", ["z.npy", "z.npz", "z.parquet"])
@pytest.mark.parametrize("cut", [100, 3])
def test_truncated_embeddings_name_the_file(tmp_path, table, z, name, cut):
    path = tmp_path / name
    if name == "z.npy":
        np.save(path, z)
    else:
        write("npz text" if name == "z.npz" else "parquet list", path, table["image"], z)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ReadError, match=rf"'{name}' .*cannot be read.*truncated"):
        Cohort.read(table, embedding=path)


def test_a_matrix_among_matrices_must_be_named(tmp_path, table, z):
    np.savez(tmp_path / "two.npz", a=z, b=z)
    with pytest.raises(ReadError, match=r"'two.npz' holds a, b: which are the embeddings"):
        Cohort.read(table, embedding=tmp_path / "two.npz")
    np.savez(tmp_path / "two.npz", a=z, emb=2 * z)
    assert_array_equal(Cohort.read(table, embedding=tmp_path / "two.npz").embeddings, 2 * z)
    table[["image", "site"]].to_parquet(tmp_path / "none.parquet")
    with pytest.raises(ReadError, match=r"'none.parquet' holds image, site: no column of vectors"):
        Cohort.read(table, embedding=tmp_path / "none.parquet")


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickled_objects_are_refused_and_nothing_in_them_runs(tmp_path, table, z):
    trap = str(tmp_path / "ran")
    loaded = np.empty((N, 1), dtype=object)
    loaded[:, 0] = [Payload(trap)] + [1.0] * (N - 1)
    np.save(tmp_path / "z.npy", loaded, allow_pickle=True)
    np.savez(tmp_path / "emb.npz", emb=loaded)
    names = np.array([Payload(trap), *table["image"][1:]], dtype=object)
    np.savez(tmp_path / "names.npz", emb=z, image=names)
    for name in ("z.npy", "emb.npz"):
        with pytest.raises(ReadError, match=rf"'{name}.* pickled objects.*allow_pickle=False"):
            Cohort.read(table, embedding=tmp_path / name)
        assert not (tmp_path / "ran").exists()
    with pytest.warns(UserWarning, match="'image' of 'names.npz' is pickled text and is not read"):
        read = Cohort.read(table, embedding=tmp_path / "names.npz")
    assert_array_equal(read.embeddings, z)  # in the order of the table
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(names))  # the trap does work
    assert (tmp_path / "ran").exists()


def test_half_precision_bytes_are_not_taken_for_floats_in_silence(tmp_path, table):
    wide = np.random.default_rng(0).normal(size=(N, 128))
    field, cells = fixed_size_binary(wide.astype("float16"))
    pq.write_table(pa.table([cells], schema=pa.schema([field])), tmp_path / "z.parquet")
    with pytest.raises(ReadError, match=r"seems to hold float16.*metadata="):
        Cohort.read(table, embedding=tmp_path / "z.parquet")
    field, cells = fixed_size_binary(wide.astype("float32"))
    pq.write_table(pa.table([cells], schema=pa.schema([field])), tmp_path / "z.parquet")
    read = Cohort.read(table, embedding=tmp_path / "z.parquet")
    assert_array_equal(read.embeddings, wide.astype("float32"))
