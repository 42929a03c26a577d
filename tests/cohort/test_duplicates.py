from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from deconf.cohort.cohort import Cohort
from deconf.cohort.images import read_image
from deconf.errors import CohortError, ReadError, SettingsError

ALTERED = {
    "recompressed": lambda film, path: film.save(path.with_suffix(".jpg"), quality=30),
    "smaller": lambda film, path: film.resize((90, 70)).save(path),
    "larger": lambda film, path: film.resize((500, 600)).save(path),
    "brighter": lambda film, path: film.point(
        [int(255 * (i / 255) ** 0.6) for i in range(256)]
    ).save(path),
    "in colour": lambda film, path: film.convert("RGB").save(path),
    "in 16 bits": lambda film, path: deeper(film).save(path),
    "marked": lambda film, path: marked(film).save(path),
    "negative": lambda film, path: ImageOps.invert(film).save(path),
}


def film(seed: int) -> Image.Image:
    """Return a smooth picture with a black border, as films have."""
    rng = np.random.default_rng(seed)
    x = gaussian_filter(rng.normal(size=(160, 150)), 8)
    x = 40 + 200 * (x - x.min()) / (x.max() - x.min())
    x[:, :20] = x[:10] = 0
    return Image.fromarray(x.astype(np.uint8))


def deeper(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)


def marked(image: Image.Image) -> Image.Image:
    x = np.array(image)
    x[:18, :30] = 255
    return Image.fromarray(x)


def archive(folder: Path, alter: str | None = None) -> pd.DataFrame:
    """Write twelve films, and the altered copy of film 3 as film 12, of another patient."""
    names = []
    for k in range(12):
        film(k).save(folder / f"{k}.png")
        names.append(f"{k}.png")
    if alter is not None:
        ALTERED[alter](film(3), folder / "copy.png")
        (copy,) = folder.glob("copy.*")
        names.append(copy.name)
    return pd.DataFrame(
        {
            "image": names,
            "who": [f"patient-{k // 2}" for k in range(12)] + ["x"] * (len(names) - 12),
        }
    )


def cohort(folder: Path, table: pd.DataFrame) -> Cohort:
    return Cohort.read(table, image="image", patient="who", folder=folder)


@pytest.mark.parametrize("alter", ALTERED)
def test_a_copy_is_found_however_it_was_altered_and_nothing_else(tmp_path, alter):
    found = cohort(tmp_path, archive(tmp_path, alter)).duplicates()
    (pair,) = found.to_frame().itertuples()
    assert (pair.row, pair.other, pair.patients_differ) == (3, 12, True)
    wanted = {"negative": "negative"}.get(alter, "near")
    assert pair.kind == wanted
    assert pair.distance <= found.limit < 0.5 * found.nearest_beyond
    assert (len(found), found.patients_differ, found.compared) == (1, 1, 13)


def test_different_films_are_no_copies(tmp_path):
    found = cohort(tmp_path, archive(tmp_path)).duplicates()
    assert len(found) == 0
    assert "0 pairs of copies" in str(found)
    assert_array_equal(found.groups, np.arange(12) // 2)  # patients still go together


def test_identical_means_the_same_pixels_whatever_the_file(tmp_path):
    table = archive(tmp_path)
    film(3).save(tmp_path / "copy.bmp")
    table.loc[12] = ["copy.bmp", "x"]
    (pair,) = cohort(tmp_path, table).duplicates().to_frame().itertuples()
    assert (pair.row, pair.other, pair.kind, pair.distance) == (3, 12, "identical", 0.0)
    assert cohort(tmp_path, table).duplicates().identical == 1


def test_copies_that_straddle_a_split_come_first_and_are_counted(tmp_path):
    table = archive(tmp_path, "recompressed")
    ALTERED["smaller"](film(5), tmp_path / "again.png")
    table.loc[13] = ["again.png", "patient-2"]  # of the patient of film 5: no straddling by itself
    c = cohort(tmp_path, table)
    assert c.duplicates().straddling == 0  # no parts, nothing to straddle
    found = c.duplicates({"train": np.arange(9), "test": np.arange(9, 13)})
    frame = found.to_frame()
    assert frame[["row", "other"]].to_numpy().tolist() == [[3, 12], [5, 13]]
    assert frame["straddles"].tolist() == [True, False]
    assert frame["part"].tolist() == ["train", "train"]
    assert frame["other_part"].tolist() == ["test", None]
    assert frame["patients_differ"].tolist() == [True, False]
    told = str(found)
    assert "2 pairs of copies" in told
    assert "1 pair with different patients" in told
    assert "1 pair straddling train, test" in told
    assert "3 and 12" in told
    assert "5 and 13" not in told  # one patient's, on one side: no harm
    assert "Nothing was removed" in told
    assert "patient-" not in told
    assert "copy" not in told.replace("copies", "")


def test_a_split_by_groups_keeps_copies_on_one_side(tmp_path):
    table = archive(tmp_path, "recompressed")
    c = cohort(tmp_path, table)
    groups = c.duplicates().groups
    assert groups[3] == groups[12] == groups[2]  # film 2 is of the patient of film 3
    assert len(np.unique(groups)) == 6
    joined = Cohort.read(
        table.assign(group=groups), image="image", patient="group", folder=tmp_path
    )
    for seed in range(5):
        train, test = joined.split(0.3, seed)
        assert joined.duplicates({"train": train, "test": test}).straddling == 0
    straddled = 0
    for seed in range(5):
        train, test = c.split(0.3, seed)
        straddled += c.duplicates({"train": train, "test": test}).straddling
    assert straddled > 0


def test_a_file_that_cannot_be_read_stops_or_is_listed(tmp_path):
    table = archive(tmp_path, "smaller")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:300])
    c = cohort(tmp_path, table)
    with pytest.raises(ReadError, match=r"1\.png"):
        c.duplicates()
    found = c.duplicates(on_error="skip")
    assert [row for row, _ in found.unread] == [1]
    assert "1.png" in found.unread[0][1]
    assert found.compared == 12
    assert found.to_frame()[["row", "other"]].to_numpy().tolist() == [[3, 12]]
    assert "1 films could not be read" in str(found)
    for k in range(12):
        (tmp_path / f"{k}.png").write_bytes(b"no film")
    (tmp_path / "copy.png").write_bytes(b"no film")
    with pytest.raises(ReadError, match="none of 13 files can be read"):
        c.duplicates(on_error="skip")


def test_two_blank_films_are_identical_and_a_blank_is_near_nothing(tmp_path):
    table = archive(tmp_path)
    for k, grey in enumerate((7, 7, 200)):
        Image.new("L", (150, 160), grey).save(tmp_path / f"blank{k}.png")
        table.loc[12 + k] = [f"blank{k}.png", f"blank{k}"]
    frame = cohort(tmp_path, table).duplicates().to_frame()
    assert frame[["row", "other", "kind"]].to_numpy().tolist() == [[12, 13, "identical"]]


def test_progress_is_told_film_by_film(tmp_path):
    told = []
    cohort(tmp_path, archive(tmp_path)).duplicates(
        progress=lambda done, of: told.append((done, of))
    )
    assert told == [(k, 12) for k in range(1, 13)]


# --- embeddings ----------------------------------------------------------------------------


def embeddings(n: int = 60, d: int = 32) -> np.ndarray:
    """Return embeddings that all point much the same way, as those of encoders do."""
    rng = np.random.default_rng(0)
    return (5 + rng.normal(size=(n, d))).astype(np.float32)


def test_embeddings_are_compared_where_there_are_no_images_and_a_common_mean_does_not_matter():
    z = embeddings()
    z[40] = z[7] + 0.02 * np.random.default_rng(1).normal(size=32)
    z[41] = z[8]
    raw = z / np.linalg.norm(z, axis=1, keepdims=True)
    assert (raw @ raw.T).min() > 0.9  # uncentred, all are near
    found = Cohort.from_arrays(z, pd.DataFrame({"row": range(60)})).duplicates()
    frame = found.to_frame().sort_values("row")
    assert frame[["row", "other", "kind"]].to_numpy().tolist() == [
        [7, 40, "near"],
        [8, 41, "identical"],
    ]
    assert found.by == "embedding"
    assert found.nearest_beyond > 3 * found.limit
    assert "compared by their embeddings" in str(found)


def test_a_cohort_whose_images_are_elsewhere_can_be_asked_for_its_embeddings():
    table = pd.DataFrame({"image": [f"film-{k}" for k in range(60)]})
    c = Cohort.from_arrays(embeddings(), table, image="image")
    assert len(c.duplicates(by="embedding")) == 0
    with pytest.raises(ReadError, match="film-0"):
        c.duplicates()


def test_a_wider_limit_finds_what_the_narrow_one_says_is_the_nearest_beyond():
    c = Cohort.from_arrays(embeddings(), pd.DataFrame({"row": range(60)}))
    nearest = c.duplicates().nearest_beyond
    found = c.duplicates(limit=nearest + 1e-4)
    assert_allclose(found.to_frame()["distance"], [nearest], atol=1e-5)


def test_what_cannot_be_compared_is_refused(tmp_path, monkeypatch):
    with pytest.raises(CohortError, match="neither images nor embeddings"):
        Cohort.read(pd.DataFrame({"row": [1, 2]})).duplicates()
    c = Cohort.from_arrays(embeddings(), pd.DataFrame({"row": range(60)}))
    with pytest.raises(CohortError, match="does not say where its images are"):
        c.duplicates(by="image")
    with pytest.raises(SettingsError, match="by is 'pixels': by is 'image' or 'embedding'"):
        c.duplicates(by="pixels")
    with pytest.raises(SettingsError, match="on_error is 'ignore'"):
        c.duplicates(on_error="ignore")
    for limit in (-0.1, 1.0):
        with pytest.raises(SettingsError, match=r"limit is .*less than 1"):
            c.duplicates(limit=limit)
    with pytest.raises(CohortError, match="two are needed"):
        c.duplicates({"train": [0, 1]})
    monkeypatch.setattr("deconf.cohort.duplicates.MOST_PAIRS", 10)
    blank = Cohort.from_arrays(np.zeros((7, 3)), pd.DataFrame({"row": range(7)}))
    with pytest.raises(CohortError, match=r"21 identical pairs: row 0 .*alone has 6 copies.*blank"):
        blank.duplicates()


@pytest.mark.skipif(not os.environ.get("DECONF_DATA"), reason="DECONF_DATA names no real data")
def test_among_real_films_only_the_planted_copies_are_found(tmp_path):
    folder = Path(os.environ["DECONF_DATA"]) / "cxr_sites"
    table = pd.read_csv(folder / "metadata.csv")[["image", "patient_id"]].iloc[:300]
    for k in range(10):
        copy = tmp_path / f"{k}.png"
        read_image(folder / table["image"][30 * k]).convert("L").resize((224, 224)).save(copy)
        table.loc[300 + k] = [str(copy), f"copy-{k}"]
    found = Cohort.read(table, image="image", patient="patient_id", folder=folder).duplicates()
    rows = found.to_frame()[["row", "other"]].to_numpy().tolist()
    assert sorted(rows) == [[30 * k, 300 + k] for k in range(10)]
    assert found.patients_differ == 10
    assert found.nearest_beyond > 1.3 * found.limit
