from __future__ import annotations

import hashlib

import numpy as np
import pytest
import timm
import torch
from numpy.testing import assert_array_equal
from safetensors.torch import save_file

import deconf
from deconf import encoders
from deconf.encoders import zoo
from deconf.errors import ReadError, SettingsError

CARD = """
title = "A net that was never trained"
architecture = "timm:test_resnet"
options = {{ in_chans = 1 }}
sha256 = "{sha256}"
licence = "Apache-2.0"
source = "this test"
trained_on = ["nothing"]
width = 96
preprocess = {{ height = 32, width = 32, channels = 1, mean = [0.5], std = [0.25] }}
recipe = "recipe.toml"
not_for = "patients"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the folder of one small model, in a zoo of its own."""
    monkeypatch.setattr(zoo, "packaged", lambda name: tmp_path / name)
    model = tmp_path / "models" / "tiny"
    model.mkdir(parents=True)
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", pretrained=False, in_chans=1, num_classes=0)
    save_file(net.state_dict(), model / "weights.safetensors")
    write_card(model)
    return model


def write_card(model, old="", new=""):
    sha256 = hashlib.sha256((model / "weights.safetensors").read_bytes()).hexdigest()
    text = CARD.format(sha256=sha256)
    assert old in text
    (model / "card.toml").write_text(text.replace(old, new, 1) if old else text, encoding="utf-8")


def films(n=4):
    return np.random.default_rng(0).integers(0, 256, (n, 40, 36), dtype=np.uint8)


def test_a_model_of_the_zoo_is_loaded_by_its_name_alone(folder):
    encoder = deconf.load_encoder("zoo:tiny", device="cpu")
    assert (encoder.width, encoder.name) == (96, "zoo:tiny")
    assert encoder.preprocess.std == (0.25,)
    assert encoder.embed(films()).shape == (4, 96)
    assert_array_equal(
        encoder.embed(films()), deconf.load_encoder("zoo:tiny", device="cpu").embed(films())
    )


def test_it_is_listed_with_its_card(folder):
    assert encoders.names() == ["stored", "timm:", "zoo:tiny"]
    card = encoders.card("zoo:tiny")
    assert card.trained_on == ("nothing",)
    for words in ("never trained", "96 columns", "Apache-2.0", "not for patients"):
        assert words in str(card)
    assert "safetensors" in encoders.card("timm:resnet50")
    with pytest.raises(SettingsError, match=r"'zoo:tiny2'|no model 'tiny2'.*Did you mean 'tiny'"):
        encoders.card("zoo:tiny2")
    with pytest.raises(SettingsError, match=r"no encoder is called 'sotred'.*Did you mean 'stored"):
        encoders.card("sotred")


@pytest.mark.parametrize("place", [0, 9, 5000, -1])
def test_one_byte_changed_in_the_weights_is_found(folder, place):
    file = folder / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(ReadError, match=r"weights.safetensors was altered.*the card says"):
        deconf.load_encoder("zoo:tiny")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("licence =", "license =", r"card.toml: licen.e"),
        ('recipe = "recipe.toml"', 'recipy = ""', "recipy: an unknown key.*Did you mean 'recipe'"),
        ("width = 96", 'width = "wide"', "width: .*valid integer"),
        ("width = 96", "width = 97", "says 97 columns, and the model returns 96"),
        ("timm:", "hf:", r"names 'hf:test_resnet': expected 'timm:"),
        ('title = "', "title = ", "cannot be read as TOML"),
    ],
)
def test_a_card_that_is_not_in_order_is_refused_with_the_place(folder, old, new, words):
    write_card(folder, old, new)
    with pytest.raises(ReadError, match=words):
        deconf.load_encoder("zoo:tiny")


def test_what_is_not_there_is_said(folder):
    with pytest.raises(SettingsError, match=r"no model 'tinny'.*Did you mean 'tiny'.*holds tiny"):
        deconf.load_encoder("zoo:tinny")
    with pytest.raises(SettingsError, match="brings its own weights"):
        deconf.load_encoder("zoo:tiny", weights="mine.safetensors")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ReadError, match=r"weights.safetensors is missing"):
        deconf.load_encoder("zoo:tiny")
    (folder / "card.toml").unlink()
    with pytest.raises(SettingsError, match="It is empty"):
        deconf.load_encoder("zoo:tiny")


def test_a_map_on_a_model_of_the_zoo_comes_back_without_naming_it(folder, tmp_path):
    import pandas as pd

    x = np.random.default_rng(1).integers(0, 200, (60, 32, 32), dtype=np.uint8)
    table = pd.DataFrame({"portable": np.arange(60) % 2})
    x[table["portable"] == 1, :6] = 255
    cohort = deconf.Cohort.from_arrays(x, table)
    clean = deconf.deconfound("zoo:tiny", "portable", method="leace").fit(cohort)
    back = deconf.load(clean.save(tmp_path / "clean"))
    assert back.encoder.name == "zoo:tiny"
    assert_array_equal(back.embed(films()), clean.embed(films()))


def test_every_card_that_is_shipped_is_in_order():
    for name in zoo.zoo_names():
        encoder = deconf.load_encoder(f"zoo:{name}", device="cpu")
        assert encoder.width == zoo.zoo_card(name).width
