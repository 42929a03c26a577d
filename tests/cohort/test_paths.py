from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from deconf.cohort.cohort import Cohort
from deconf.cohort.images import read_image
from deconf.errors import CohortError


def save(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(read_image(path))


def study(folder: Path, n: int = 40, missing: tuple[int, ...] = ()) -> pd.DataFrame:
    """Write n small images in two folders, except some; return their table."""
    site = np.where(np.arange(n) % 4 == 0, "B", "A")
    table = pd.DataFrame(
        {
            "path": [f"st-{i % 2}/im{i:03d}.png" for i in range(n)],
            "who": np.arange(n) // 2,
            "site": site,
            "ill": np.arange(n) % 3 == 0,
        }
    )
    for i, path in enumerate(table["path"]):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if i not in missing:
            save(folder / path, np.full((2, 3), i, dtype=np.uint8))
    return table


def test_paths_start_at_the_table_at_the_folder_or_at_the_working_directory(tmp_path, monkeypatch):
    table = study(tmp_path)
    expected = [tmp_path / path for path in table["path"]]
    table.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "else").mkdir()
    table.to_csv(tmp_path / "else" / "t.csv", index=False)
    monkeypatch.chdir(tmp_path)
    cohorts = [
        Cohort.read("t.csv", image="path"),
        Cohort.read(tmp_path / "t.csv", image="path"),
        Cohort.read(tmp_path / "else" / "t.csv", image="path", folder=tmp_path),
        Cohort.read("else/t.csv", image="path", folder="."),
        Cohort.read(table, image="path"),
        Cohort.read(table.assign(path=[str(p) for p in expected]), image="path", folder="else"),
        Cohort.from_arrays(np.zeros((40, 2)), table, image="path"),
    ]
    monkeypatch.chdir("/")  # remembered, not asked again
    for cohort in cohorts:
        assert cohort.image_paths == expected
        assert all(path.is_absolute() for path in cohort.image_paths)


def test_each_row_keeps_its_image_through_subsets_splits_and_new_embeddings(tmp_path):
    table = study(tmp_path)
    cohort = Cohort.read(table, image="path", patient="who", site="site", folder=tmp_path)
    made = [
        cohort.subset([7, 3, 3]),
        *cohort.split(seed=1),
        *cohort.hold_out("site", "B"),
        cohort.with_embeddings(np.zeros((40, 2))).subset(slice(5)),
        pickle.loads(pickle.dumps(cohort)),
    ]
    for part in made:
        assert part.image_paths == [tmp_path / path for path in part.table["path"]]
        numbers = [int(path.stem[2:]) for path in part.image_paths]
        assert [pixels(path)[0, 0] for path in part.image_paths[:4]] == numbers[:4]


def test_a_cohort_without_image_column_says_how_to_name_one(tmp_path):
    table = study(tmp_path)
    with pytest.raises(CohortError, match=r"Cohort.read\(..., image=...\). Columns: path, who"):
        _ = Cohort.read(table, site="site").image_paths
    table.loc[5, "path"] = None
    cohort = Cohort.from_arrays(np.zeros((40, 2)), table, image="path")
    with pytest.raises(CohortError, match=r"row 5 .* has no 'path'; 1 of 40 rows lack it"):
        _ = cohort.image_paths


def test_the_first_missing_file_is_named_with_its_row_and_all_are_counted(tmp_path):
    table = study(tmp_path, missing=(5, 17, 30))
    with pytest.raises(
        CohortError,
        match=r"image 'st-1/im005.png' of row 5 \(counting from 0\) is not in '.*'. "
        r"3 of 40 rows lack their image file.*on_missing=.drop",
    ):
        Cohort.read(table, image="path", folder=tmp_path)
    kept = Cohort.read(table, image="path", folder=tmp_path, on_missing="drop")
    assert (len(kept), kept.dropped) == (37, 3)
    assert kept.table["path"].tolist() == table["path"].drop([5, 17, 30]).tolist()
    assert kept.patients.tolist() == [i for i in range(40) if i not in (5, 17, 30)]
    for told in (kept.describe(), kept.with_embeddings(np.zeros((37, 2))).describe()):
        assert told.loc["path", "note"] == "3 rows left out: no image file."
        assert told.attrs["dropped"] == 3
    assert kept.subset([0]).dropped == 3


@pytest.mark.parametrize("n", [12, 80])  # asked for one by one, and listed
def test_a_path_that_is_empty_missing_or_a_folder_is_no_image(tmp_path, n):
    table = study(tmp_path, n)
    table["path"] = table["path"].astype(object)
    table.loc[[1, 2, 3, 4], "path"] = [None, " ", "", "st-0"]
    kept = Cohort.read(table, image="path", folder=tmp_path, on_missing="drop")
    assert kept.table["path"].tolist() == [
        p for i, p in enumerate(table["path"]) if i not in range(1, 5)
    ]
    with pytest.raises(CohortError, match=rf"row 1 .* has no 'path'. 4 of {n} rows lack"):
        Cohort.read(table, image="path", folder=tmp_path)


def test_files_missing_at_one_site_are_said_to_be_and_at_random_are_not(tmp_path):
    of_site_b = (0, 4, 8, 12, 16, 20, 24)
    table = study(tmp_path / "a", missing=(*of_site_b, 1))
    told = r"7 of the 8 have site = 'B', as 10 of all 40 rows do: files may be missing for a reason"
    roles = {"image": "path", "site": "site", "outcome": "ill", "folder": tmp_path / "a"}
    with pytest.raises(CohortError, match=told):
        Cohort.read(table, **roles)
    with pytest.warns(UserWarning, match=told):
        kept = Cohort.read(table, **roles, on_missing="drop")
    assert "7 of the 8 have site = 'B'" in kept.describe().loc["path", "note"]
    table = study(tmp_path / "b", missing=(0, 1, 2, 3, 5, 6, 9, 11))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = Cohort.read(table, **roles | {"folder": tmp_path / "b"}, on_missing="drop")
    assert kept.describe().loc["path", "note"] == "8 rows left out: no image file."


def test_a_wrong_folder_is_met_with_the_right_one(tmp_path):
    data = tmp_path / "data"
    table = study(data)
    for wrong in (tmp_path, data / "st-0"):
        with pytest.raises(
            CohortError, match=rf"40 of 40 .*Did you mean folder='{data}'\?.*start from folder="
        ):
            Cohort.read(table, image="path", folder=wrong, on_missing="drop")
    bare = table.assign(path=[Path(p).name for p in table["path"]]).iloc[::2]
    with pytest.raises(CohortError, match=rf"Did you mean folder='{data / 'st-0'}'"):
        Cohort.read(bare, image="path", folder=data)
    moved = table.assign(path="gone/" + table["path"])
    with pytest.raises(CohortError, match=rf"'im000.png' lies in '{data / 'st-0'}': correct"):
        Cohort.read(moved, image="path", folder=data)
    with pytest.raises(CohortError, match="folder='nowhere' is not there"):
        Cohort.read(table, image="path", folder="nowhere")


def test_another_suffix_and_the_slashes_of_windows_are_pointed_out(tmp_path):
    table = study(tmp_path)
    for renamed in (".jpg", ""):
        other = table.assign(path=table["path"].str.replace(".png", renamed))
        with pytest.raises(CohortError, match=r"'im000.png' is there: another suffix\?"):
            Cohort.read(other, image="path", folder=tmp_path)
    windows = table.assign(path=table["path"].str.replace("/", "\\"))
    with pytest.raises(CohortError, match=r"'st-0/im000.png' is there: write paths with '/'"):
        Cohort.read(windows, image="path", folder=tmp_path)


def test_images_are_not_asked_for_where_embeddings_are_given(tmp_path):
    table = study(tmp_path, missing=tuple(range(40)))
    z = np.zeros((40, 3))
    assert len(Cohort.read(table, image="path", embedding=z)) == 40


def test_each_folder_is_listed_once_whatever_the_number_of_files(tmp_path, monkeypatch):
    table = study(tmp_path, n=200)
    asked: list[str] = []
    scandir, isfile = os.scandir, os.path.isfile
    monkeypatch.setattr(os, "scandir", lambda path: asked.append(str(path)) or scandir(path))
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(str(path)) or isfile(path))
    Cohort.read(table, image="path", folder=tmp_path)
    assert sorted(asked) == [str(tmp_path / "st-0"), str(tmp_path / "st-1")]


@pytest.mark.skipif(not os.environ.get("DECONF_DATA"), reason="DECONF_DATA names no real data")
def test_real_chest_films_equal_what_pil_decodes():
    folder = Path(os.environ["DECONF_DATA"]) / "cxr_sites"
    cohort = Cohort.read(folder / "metadata.csv", image="image", patient="patient_id", site="site")
    assert len(cohort.image_paths) == 1163
    for path in cohort.image_paths[::40]:
        with Image.open(path) as reference:
            assert_array_equal(pixels(path), np.asarray(reference))
