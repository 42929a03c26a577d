"""The Morpho-MNIST experiment on digits made here, and on the real ones where they are."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pandas as pd
import pytest

from deconf.errors import ReadError
from deconf.experiment import morpho
from deconf.experiment.config import read_config
from deconf.resources import development_data, packaged
from deconf.scm import flows

needs_data = pytest.mark.skipif(
    "DECONF_DATA" not in os.environ, reason="the digits are not here: set DECONF_DATA"
)


def config():
    return read_config(packaged("experiments/configs") / "morpho.toml")


def write_digits(folder, n: int) -> None:
    """Write digits that obey the equations: a bright square as wide as it is thick."""
    rng = np.random.default_rng(0)
    thickness = 0.5 + rng.gamma(10, 0.2, size=n)
    e = rng.normal(size=n)
    intensity = 64 + 191 / (1 + np.exp(-(0.5 * e + 2 * thickness - 5)))
    pixels = rng.integers(0, 40, size=(n, 28, 28)).astype(float)
    pixels[:, 4:14] += 0.7 * intensity[:, None, None]
    pixels[:, 18:] += 35.0 * thickness[:, None, None]
    table = pd.DataFrame({"index": np.arange(n), "thickness": thickness, "intensity": intensity})
    table.to_csv(folder / "t10k-morpho.csv.gz", index=False)
    images = b"\x00\x00\x08\x03" + np.array([n, 28, 28], ">i4").tobytes()
    images += pixels.clip(0, 255).astype(np.uint8).tobytes()
    labels = b"\x00\x00\x08\x01" + np.array([n], ">i4").tobytes() + bytes(i % 2 for i in range(n))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


def test_the_structural_model_beats_the_line_and_the_true_form_beats_both(tmp_path, monkeypatch):
    folder = tmp_path / "mnist" / "morpho"
    folder.mkdir(parents=True)
    write_digits(folder, 1200)
    monkeypatch.setenv("DECONF_DATA", str(tmp_path))
    monkeypatch.setattr(morpho, "QUICK", 600)
    monkeypatch.setattr(flows, "STEPS", 60)
    small = config().model_copy(update={"morpho": config().morpho.model_copy(update={"rank": 8})})
    table, text = morpho.run_morpho(small, quick=True, progress=str)
    told = table.set_index(["metric", "method"])["estimate"]
    grey = told["intensity in the table (grey levels)"]
    assert grey["oracle: the true form, coefficients fitted"] < 0.5
    assert grey["structural model, flow"] < grey["linear regression, residual kept"]
    assert grey["structural model, flow"] < grey["structural model, affine"] < grey["as it is"] / 2
    seen = told["thickness read from the pixels (pixels)"]
    assert seen["structural model, affine"] < seen["as it is"] / 2
    assert ((table["low"] <= table["estimate"]) & (table["estimate"] <= table["high"])).all()
    assert "refused" in text


def test_damaged_files_are_named(tmp_path):
    write_digits(tmp_path, 30)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    body = gzip.decompress(labels.read_bytes())
    labels.write_bytes(gzip.compress(body[:-3]))
    with pytest.raises(ReadError, match=r"labels-idx1-ubyte.gz is truncated: 27 of 30"):
        morpho.read_digits(tmp_path)
    labels.write_bytes(gzip.compress(b"\x00\x00\x0d" + body[3:]))
    with pytest.raises(ReadError, match=r"is no IDX file of bytes"):
        morpho.read_digits(tmp_path)
    labels.unlink()
    with pytest.raises(ReadError, match=r"holds no t10k-labels"):
        morpho.read_digits(tmp_path)


@needs_data
def test_the_real_digits_obey_the_equations():
    table, pixels = morpho.read_digits(development_data() / config().morpho.folder)
    assert pixels.shape == (10_000, 784)
    logit = np.log((table["intensity"] - 64) / (255 - table["intensity"]))
    e = 2 * (logit + 5 - 2 * table["thickness"])
    assert abs(e.mean()) < 0.03
    assert abs(e.std() - 1) < 0.03
    assert abs(np.corrcoef(e, table["thickness"])[0, 1]) < 0.03
