from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn

import deconf
from deconf.encoders import Preprocess
from deconf.errors import DeconfError, SettingsError
from deconf.methods import Aligned


class Small(nn.Module):
    """Two convolutions, batch norm and dropout, pooled."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(8, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip

    def forward(self, images):
        return self.net(images)


class Branching(Small):
    """A module that no graph can hold."""

    def forward(self, images):
        return super().forward(images) * (2 if images.sum() > 0 else 1)


SIZE = Preprocess(height=64, width=64)


def films(n=160, seed=0):
    """Return a cohort of grey films in which portable ones have a bright frame and more noise."""
    rng = np.random.default_rng(seed)
    portable = rng.integers(2, size=n)
    noise = rng.normal(size=(n, 64, 64)) * np.where(portable, 60, 20)[:, None, None]
    x = (110 + noise).clip(0, 255)
    x[portable == 1, :12] = 230
    return deconf.Cohort.from_arrays(x.astype(np.uint8), pd.DataFrame({"portable": portable}))


def cleaned(encoder, method):
    return deconf.deconfound(encoder, "portable", method=method).fit(films())


def run(path, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def batch(cohort, n):
    return torch.stack([SIZE(image) for image in cohort.embeddings[:n]]).numpy()


@pytest.mark.parametrize("method", ["leace", Aligned(read="image")])
def test_the_graph_says_what_the_encoder_says_for_any_number_of_images(method, tmp_path):
    clean = cleaned(deconf.load_encoder(Small(), preprocess=SIZE), method)
    assert not clean.map.is_identity
    path = clean.export("onnx", path=tmp_path / "film.onnx")
    fresh = films(seed=1)
    for n in (1, 2, 5):
        x = batch(fresh, n)
        assert_allclose(run(path, x), clean.embed(x), atol=1e-4)
    raw = clean.encoder.embed(batch(fresh, 5))
    assert abs(run(path, batch(fresh, 5)) - raw).max() > 1e-2  # the map is in it
    assert [p.name for p in tmp_path.iterdir()] == ["film.onnx"]


@pytest.mark.parametrize(
    "name",
    ["timm:test_efficientnet", pytest.param("timm:mobilenetv2_100", marks=pytest.mark.slow)],
)
def test_a_timm_model_is_exported_with_its_map(name, tmp_path):
    exact, encoder = (
        deconf.load_encoder(name, weights="random", preprocess=SIZE, device="cpu", precision=p)
        for p in ("float32", "bfloat16")
    )
    clean = cleaned(encoder, "leace")
    path = clean.export("onnx", path=tmp_path / "film.onnx")
    x = batch(films(seed=1), 3)
    z = torch.tensor(exact.embed(x))
    assert_allclose(run(path, x), clean.map(z), atol=1e-4)  # the graph is in float32


def test_stored_embeddings_have_a_graph_of_the_map_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    z = np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32)
    table = pd.DataFrame({"portable": (z[:, 0] > 0).astype(int)})
    clean = deconf.deconfound("stored", "portable", method="leace").fit(
        deconf.Cohort.from_arrays(z, table)
    )
    path = clean.export("onnx")
    assert path.name == "deconf.onnx"
    assert (tmp_path / "deconf.onnx").is_file()
    assert_allclose(run(path, z[:9]), clean.embed(z[:9]), atol=1e-5)


def test_the_file_says_how_images_are_made_and_names_no_patient(tmp_path):
    import onnx

    clean = cleaned(deconf.load_encoder(Small(), preprocess=SIZE), "leace")
    path = clean.export("onnx", path=tmp_path / "film.onnx")
    model = onnx.load(path)
    told = {p.key: p.value for p in model.metadata_props}
    assert Preprocess.from_spec(json.loads(told["deconf.preprocess"])) == SIZE
    assert told["deconf.digest"] == clean.encoder.digest
    assert told["deconf.method"] == "leace"
    assert str(tmp_path).encode() not in path.read_bytes()


def test_the_encoder_is_left_as_it_was(tmp_path):
    module = Small().train()
    clean = cleaned(deconf.load_encoder(module, preprocess=SIZE), "leace")
    before = clean.encoder.digest
    clean.export("onnx", path=tmp_path / "film.onnx")
    assert clean.encoder.digest == before
    assert module.training
    assert clean.encoder.module is module


def test_a_map_that_reads_the_record_is_refused_with_the_reason(tmp_path):
    clean = deconf.deconfound(
        deconf.load_encoder(Small(), preprocess=SIZE), "portable", method=Aligned(read="record"),
        at_inference=True,
    ).fit(films())  # fmt: skip
    with pytest.raises(SettingsError, match=r"reads the recorded confounder.*at_inference=False"):
        clean.export("onnx", path=tmp_path / "film.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_said(tmp_path, monkeypatch):
    path = tmp_path / "film.onnx"
    clean = cleaned(deconf.load_encoder(Small(), preprocess=SIZE), "leace")
    with pytest.raises(SettingsError, match=r"export writes 'onnx', not 'tflite'"):
        clean.export("tflite")
    clean.encoder.preprocess = None
    with pytest.raises(SettingsError, match=r"pass the shape of one.*shape=\(3, 224, 224\)"):
        clean.export("onnx", path=path)
    assert run(clean.export("onnx", path=path, shape=(3, 20, 20)), np.zeros((1, 3, 20, 20), "f4"))\
        .shape == (1, 12)  # fmt: skip
    path.unlink()
    branching = cleaned(deconf.load_encoder(Branching(), preprocess=SIZE), "leace")
    with pytest.raises(SettingsError, match=r"'Branching' cannot be exported.*free of branches"):
        branching.export("onnx", path=path)
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(DeconfError, match=r"'onnxscript': pip install 'deconf\[onnx\]'"):
        clean.export("onnx", path=path)
    assert not list(tmp_path.iterdir())
