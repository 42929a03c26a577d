from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import deconf
from deconf import encoders
from deconf.encoders.base import BATCH, Encoder
from deconf.errors import CohortError, SettingsError


class Mean(nn.Module):
    """Images (n, channels, h, w) to (n, channels), with a dropout that must be off."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.drop = nn.Dropout(0.9)

    def forward(self, images):
        return self.drop(images.mean(dim=(2, 3))) * self.scale


def images(n=5, dtype=np.float32):
    return np.random.default_rng(0).normal(size=(n, 3, 4, 4)).astype(dtype)


def cohort(array):
    return deconf.Cohort.from_arrays(array, pd.DataFrame({"site": ["A"] * len(array)}))


# ---------------------------------------------------------------- stored


def test_stored_embeddings_are_taken_as_they_are():
    z = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    encoder = deconf.load_encoder("stored")
    assert encoder.is_stored
    assert encoder.digest == "stored"
    assert_array_equal(encoder.embed(cohort(z)), z)
    assert_array_equal(encoder.embed(z.tolist()), z)
    assert_array_equal(encoder(torch.tensor(z)).numpy(), z)
    assert encoder.embed(z.astype(np.float64)).dtype == np.float32


def test_stored_refuses_images_and_weights():
    encoder = deconf.load_encoder("stored")
    with pytest.raises(CohortError, match=r"shape \(5, 3, 4, 4\).*encoder that embeds them"):
        encoder.embed(cohort(images()))
    with pytest.raises(SettingsError, match=r"'stored' takes no weights="):
        deconf.load_encoder("stored", weights="mobilenetv2.safetensors")


def test_a_cohort_without_embeddings_is_told_what_to_pass():
    bare = deconf.Cohort.read(pd.DataFrame({"site": ["A", "B"]}))
    for encoder in (deconf.load_encoder("stored"), deconf.load_encoder(Mean())):
        with pytest.raises(CohortError, match=r"embedding= to Cohort\.read"):
            encoder.embed(bare)


# ---------------------------------------------------------------- modules


@pytest.mark.parametrize("n", [1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_batches_of_any_number_give_every_image_its_own_embedding(n):
    x = images(n)
    expected = x.mean(axis=(2, 3)) * np.array([1, 2, 3])
    encoder = deconf.load_encoder(Mean())
    assert_allclose(encoder.embed(cohort(x)), expected, atol=1e-5)
    assert encoder.width == 3
    assert encoder.reads == 4


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8, np.int64])
def test_images_of_any_type_are_brought_into_the_precision_of_the_encoder(dtype):
    x = (10 * images()).clip(0).astype(dtype)
    expected = deconf.load_encoder(Mean()).embed(x.astype(np.float32))
    assert_allclose(deconf.load_encoder(Mean()).embed(x), expected, atol=1e-5)


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_the_precision_asked_for_is_the_one_embedded_in(precision):
    encoder = deconf.load_encoder(Mean(), precision=precision)
    assert {str(p.dtype) for p in encoder.parameters()} == {f"torch.{precision}"}
    out = encoder.embed(cohort(images()))
    assert out.dtype == np.float32
    assert_allclose(out, deconf.load_encoder(Mean()).embed(images()), atol=0.05)


def test_an_unknown_precision_is_refused_with_the_choices():
    with pytest.raises(SettingsError, match=r"one of float32, .*not 'int7'"):
        deconf.load_encoder(Mean(), precision="int7")


def test_embedding_is_deterministic_and_leaves_every_part_in_its_mode():
    module = nn.Sequential(Mean(), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    module[1].eval()  # frozen on purpose
    encoder = deconf.load_encoder(module)
    modes = [m.training for m in module.modules()]
    state = {k: v.clone() for k, v in module.state_dict().items()}
    assert_array_equal(encoder.embed(images()), encoder.embed(images()))
    assert [m.training for m in module.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


def test_the_modes_come_back_when_the_encoder_fails():
    class Failing(Mean):
        def forward(self, x):
            raise RuntimeError("out of memory")

    module = Failing().train()
    with pytest.raises(RuntimeError, match="out of memory"):
        deconf.load_encoder(module).embed(images())
    assert module.training
    assert module.drop.training


def test_forward_carries_gradients_and_embed_does_not():
    encoder = deconf.load_encoder(Mean().eval())
    x = torch.tensor(images(), requires_grad=True)
    encoder(x).sum().backward()
    assert_allclose(x.grad[0, :, 0, 0], np.array([1, 2, 3]) / 16)
    assert torch.is_inference_mode_enabled() is False
    encoder.embed(images())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Identity(), r"\(5, 3, 4, 4\)"),
        (nn.Flatten(0), r"\(240,\)"),
        (nn.MaxPool2d(4, return_indices=True), "tuple"),
    ],
)
def test_an_encoder_that_does_not_return_vectors_is_told_what_it_returned(module, shape):
    with pytest.raises(SettingsError, match=rf"returns {shape}, not \(n, d\): pool it"):
        deconf.load_encoder(module).embed(images())


def test_an_encoder_that_overflows_is_named_by_its_first_bad_row():
    x = images(300)
    x[270, 1] = 1e30
    module = Mean()
    with torch.no_grad():
        module.scale[1] = 1e30
    with pytest.raises(CohortError, match=r"infinity for 1 of 300 images, first in row 270"):
        deconf.load_encoder(module).embed(x)


def test_the_width_is_known_beforehand_where_the_module_tells_it():
    assert deconf.load_encoder(nn.Linear(4, 7)).width == 7
    assert deconf.load_encoder(Mean()).width is None


# ---------------------------------------------------------------- digest


def test_the_digest_is_that_of_the_weights_and_of_nothing_else():
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1))
    before = deconf.load_encoder(module).digest
    assert deconf.load_encoder(copy.deepcopy(module)).digest == before
    module.eval()
    assert deconf.load_encoder(module).digest == before
    for change in (module[0].bias, module[1].running_mean, module[1].num_batches_tracked):
        with torch.no_grad():
            change += 1
        after = deconf.load_encoder(module).digest
        assert after != before
        before = after
    half = deconf.load_encoder(copy.deepcopy(module).to(torch.bfloat16))
    assert half.digest != before


def test_two_kinds_of_module_without_weights_differ():
    assert deconf.load_encoder(nn.ReLU()).digest != deconf.load_encoder(nn.GELU()).digest


# ---------------------------------------------------------------- names


def test_an_encoder_is_passed_on_as_it_is():
    encoder = Encoder(Mean())
    assert deconf.load_encoder(encoder) is encoder
    assert "stored" in encoders.names()
    assert encoders.card("stored")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sotred", r"no encoder is called 'sotred'.*Did you mean 'stored'\?.*torch module"),
        ("", "no encoder is called ''"),
        (None, "no encoder is called None"),
        (["stored"], "no encoder is called"),
        (np.zeros((3, 2)), "no encoder is called"),
        (Mean, "no encoder is called"),
    ],
)
def test_what_is_no_encoder_is_refused_with_what_is(name, words):
    with pytest.raises(SettingsError, match=words):
        deconf.load_encoder(name)


def test_weights_do_not_go_with_a_module():
    with pytest.raises(SettingsError, match=r"weights= goes with a name"):
        deconf.load_encoder(Mean(), weights="some.safetensors")
