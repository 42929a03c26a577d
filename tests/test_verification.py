from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import deconf
from deconf.encoders.preprocess import Preprocess
from deconf.errors import ReadError, SettingsError
from deconf.methods import LEACE
from deconf.records.sealed import frozen
from deconf.worlds import linear

WORLD = linear(trace="shift", n=300, d=24)
TRAIN, OTHERS = WORLD.train().cohort, WORLD.test("aligned", 200).cohort
CLEANER = deconf.deconfound(
    "stored", "portable", graph=WORLD.graph, method=LEACE(shrinkage=0.1, strata="pooled"), seed=3
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the folder of a cleaner whose certificate was made."""
    clean = CLEANER.fit(TRAIN)
    assert clean.certificate.certifies == "procedure"
    return clean.save(tmp_path_factory.mktemp("clean"))


@pytest.fixture
def clean(saved):
    return deconf.load(saved)


def differing(found):
    return [check.what for check in found.checks if not check.agrees]


def forged(clean, **changes):
    """Put another certificate in the place of the cleaner's, as whoever seals it anew could."""
    clean.audited = replace(clean.certificate, **changes)
    return clean


def test_on_the_same_data_everything_comes_out_bit_for_bit(clean):
    found = deconf.verify(clean, TRAIN, tolerance=0)
    assert found.passed, str(found)
    assert found.identical
    assert str(found).endswith("Verified: every figure comes out bit for bit.")
    assert "map fitted anew: bit for bit" in str(found)


def test_a_map_audited_on_other_patients_is_verified_on_them_and_on_nobody_else(tmp_path):
    made = CLEANER.fit(TRAIN, audit_on=OTHERS)
    assert made.certificate.certifies == "this map"
    assert made.certificate.trained_on == TRAIN.digest
    clean = deconf.load(made.save(tmp_path))
    found = deconf.verify(clean, OTHERS, tolerance=0)
    assert found.passed, str(found)
    assert found.identical
    assert "whose cohort is not here" in str(found)
    assert differing(deconf.verify(clean, TRAIN)) == ["cohort", "patients", "figures"]
    (finding,) = made.certificate.findings
    lucky = replace(finding, word="clean")
    assert differing(deconf.verify(forged(clean, findings=(lucky,)), OTHERS)) == ["portable"]


def test_one_changed_embedding_cell_or_order_is_another_cohort(clean):
    z, table = TRAIN.embeddings.copy(), TRAIN.table
    z[17, 2] = np.nextafter(z[17, 2], 9)
    cells = table.assign(portable=table["portable"].where(table.index != 5, 1 - table["portable"]))
    for other in (
        TRAIN.with_embeddings(z),
        deconf.Cohort.from_arrays(TRAIN.embeddings, cells, patient="patient_id",
                                  outcome="pneumonia"),
        TRAIN.subset(np.arange(len(TRAIN))[::-1]),
    ):  # fmt: skip
        found = deconf.verify(clean, other)
        assert differing(found) == ["cohort", "figures"]
        assert "pass the certified table" in str(found)
    found = deconf.verify(clean, TRAIN.subset(np.arange(250)))
    assert differing(found) == ["cohort", "patients", "figures"]
    assert f"250 films of {len(set(TRAIN.patients[:250]))} patients" in str(found)


def test_a_column_in_another_role_is_another_question(clean):
    other = deconf.Cohort.from_arrays(TRAIN.embeddings, TRAIN.table, outcome="pneumonia")
    found = deconf.verify(clean, other)
    assert differing(found) == ["roles", "patients", "figures"]
    assert "certified {'patient': 'patient_id'}, here {'patient': None}" in str(found)


def test_a_better_figure_sealed_anew_does_not_come_out(clean):
    certificate = clean.certificate
    rows = list(certificate.figures)
    rows[0] = replace(rows[0], auroc=rows[0].auroc - 0.05)
    found = deconf.verify(forged(clean, figures=tuple(rows)), TRAIN)
    assert differing(found) == ["portable"]
    assert not found.identical
    assert "by 0.05" in str(found)


def test_settings_that_did_not_make_this_map_are_found(clean):
    settings = dict(clean.certificate.settings)
    settings["method"] = {"name": "leace", "settings": {"shrinkage": 0.9, "strata": "pooled"}}
    found = deconf.verify(forged(clean, settings=frozen(settings)), TRAIN)
    assert "map fitted anew" in differing(found)
    assert "settings" in differing(found)  # the rank that was left out


def test_a_reservation_taken_out_is_found(clean):
    certificate = clean.certificate
    assert certificate.assumptions
    found = deconf.verify(forged(clean, assumptions=(), trained_on="0" * 64), TRAIN)
    assert differing(found) == ["trained on", "assumptions"]
    assert certificate.assumptions[0] in str(found)


def test_the_certificate_of_another_map_or_encoder_is_not_taken_for_this_one(clean):
    other = CLEANER.fit(OTHERS)
    other.audited = clean.certificate
    found = deconf.verify(other, TRAIN)
    assert differing(found) == ["map", "figures"]
    assert differing(deconf.verify(forged(clean, encoder="f" * 64), TRAIN)) == [
        "encoder",
        "figures",
    ]


def test_a_keyed_certificate_is_verified_but_for_its_patients(clean):
    clean.audited = clean.certificate.keyed(TRAIN, "0123456789abcdef")
    found = deconf.verify(clean, TRAIN.subset(np.arange(250)))  # seen before anything is fitted
    assert differing(found) == ["cohort", "figures"]
    assert "behind a key" in str(found)


def test_other_versions_are_noted(clean):
    versions = frozen(dict(clean.certificate.versions) | {"torch": "1.0", "jax": "0.4"})
    found = deconf.verify(forged(clean, versions=versions), OTHERS)
    assert "made with jax 0.4 (here none), torch 1.0 (here " in str(found)


def test_what_cannot_be_verified_says_why(clean, tmp_path):
    without = deconf.load(CLEANER.fit(TRAIN).save(tmp_path / "without"))
    with pytest.raises(SettingsError, match=r"certificate was asked for.*deconf fit --certify"):
        deconf.verify(without, TRAIN)
    with pytest.raises(SettingsError, match=r"tolerance is -1: give a difference in AUROC"):
        deconf.verify(clean, TRAIN, tolerance=-1)
    settings = frozen(dict(clean.certificate.settings) | {"zeal": 3})
    versions = frozen({"deconf": "9.1"})
    with pytest.raises(SettingsError, match=r"made by deconf 9\.1.*zeal.*pip install 'deconf==9"):
        deconf.verify(forged(clean, settings=settings, versions=versions), TRAIN)


# ---------------------------------------------------------------- as files


def test_a_certificate_is_saved_with_its_map_and_no_other_is_read(saved, tmp_path):
    with pytest.raises(ReadError, match=r"no certificate at .*certificate\.json"):
        deconf.load(copied(saved, tmp_path / "gone", leave="certificate.json"))
    folder = copied(saved, tmp_path / "swapped")
    other = replace(deconf.load(saved).certificate, notes=())
    other.save(folder / "certificate.json")
    with pytest.raises(ReadError, match="another certificate than the one saved with this map"):
        deconf.load(folder)
    folder = copied(saved, tmp_path / "altered")
    text = (folder / "certificate.json").read_text()
    (folder / "certificate.json").write_text(text.replace("undecided", "undecidex"))
    with pytest.raises(ReadError, match=r"certificate\.json was altered"):
        deconf.load(folder)


def test_saving_another_map_takes_the_old_certificate_away(saved, tmp_path):
    folder = copied(saved, tmp_path / "again")
    CLEANER.fit(OTHERS).save(folder)
    assert not (folder / "certificate.json").exists()
    with pytest.raises(SettingsError, match="certificate was asked for"):
        _ = deconf.load(folder).certificate


def copied(folder, to, leave=""):
    to.mkdir()
    for file in folder.iterdir():
        if file.name != leave:
            (to / file.name).write_bytes(file.read_bytes())
    return to


# ---------------------------------------------------------------- films


class Corners(nn.Module):
    """An encoder of four numbers."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, images):
        return images[:, 0, ::7, ::7].flatten(1) + self.shift


def encoder(shift=0.0):
    own = Preprocess(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))
    return deconf.load_encoder(Corners(shift), preprocess=own)


def test_one_pixel_of_one_film_is_noticed_although_the_table_is_the_same(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(60)],
                          "portable": rng.integers(2, size=60)})  # fmt: skip
    for name, portable in zip(table["path"], table["portable"], strict=True):
        pixels = rng.integers(100, size=(8, 8)) + 60 * portable
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name)
    films = deconf.Cohort.read(table, image="path", folder=tmp_path)
    clean = deconf.deconfound(encoder(), "portable", given=(), method="leace").fit(films)
    certificate = clean.certificate
    assert len(certificate.sample.pixels) == len(certificate.encoder) == 64
    folder = clean.save(tmp_path / "clean")
    with pytest.raises(SettingsError, match="another encoder: its weights differ"):
        deconf.load(folder, encoder(shift=0.5))
    back = deconf.load(folder, encoder())
    assert deconf.verify(back, films, tolerance=0).identical
    pixels = np.asarray(Image.open(tmp_path / "7.png")).copy()
    pixels[3, 3] += 1  # between the pixels that this encoder reads: no figure would show it
    Image.fromarray(pixels).save(tmp_path / "7.png")
    assert differing(deconf.verify(back, films)) == ["image files", "figures"]
