from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import deconf
from deconf.encoders import Preprocess
from deconf.errors import CohortError, SettingsError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def pixels(height, width, colour=False, seed=0):
    shape = (height, width, 3) if colour else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# ---------------------------------------------------------------- equal to timm's and torchvision's


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("height", "width"), [(97, 131), (131, 97), (40, 40), (64, 64)])
@pytest.mark.parametrize(
    ("crop_mode", "crop_pct", "interpolation", "size"),
    [
        ("squash", 1.0, "bicubic", (3, 64, 64)),
        ("squash", 0.9, "bilinear", (3, 48, 64)),
        ("center", 0.875, "bicubic", (3, 64, 64)),
        ("center", 1.0, "bilinear", (3, 64, 64)),
        ("center", 0.95, "bicubic", (3, 48, 64)),
        (None, None, "lanczos", (3, 64, 64)),
    ],
)
def test_it_says_what_timms_own_transform_says(
    crop_mode, crop_pct, interpolation, size, height, width, colour
):
    from timm.data import create_transform

    cfg = {"input_size": size, "crop_mode": crop_mode, "crop_pct": crop_pct,
           "interpolation": interpolation, **IMAGENET}  # fmt: skip
    theirs = create_transform(**cfg)
    image = Image.fromarray(pixels(height, width, colour))
    ours = Preprocess.from_timm(cfg)(image)
    assert ours.shape == size
    assert_allclose(ours, theirs(image.convert("RGB")), atol=1e-6)


def test_it_says_what_torchvision_says():
    from torchvision.transforms import v2

    theirs = v2.Compose(
        [
            v2.Resize((32, 48), interpolation=v2.InterpolationMode.BICUBIC),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(**IMAGENET),
        ]
    )
    image = Image.fromarray(pixels(70, 61, colour=True))
    ours = Preprocess(height=32, width=48, **IMAGENET)(image)
    assert_allclose(ours, theirs(image), atol=1e-6)


def test_a_padded_border_is_refused_rather_than_made_otherwise():
    cfg = {"input_size": (3, 8, 8), "crop_mode": "border", **IMAGENET}
    with pytest.raises(SettingsError, match=r"crop_mode 'border'.*pass preprocess="):
        Preprocess.from_timm(cfg)


def test_stored_embeddings_come_back_from_the_real_films():
    folder = os.environ.get("DECONF_DATA")
    if not folder:
        pytest.skip("DECONF_DATA, the folder of real data, is not set")
    data = Path(folder)
    stored = np.load(data / "embeddings" / "cxr_mobilenetv2.npz")["emb"]
    names = pd.read_csv(data / "embeddings" / "cxr_mobilenetv2.csv")["image"]
    rows = [0, 400, 1100]
    encoder = deconf.load_encoder(
        "timm:mobilenetv2_100",
        weights=data / "weights" / "mobilenetv2_100_imagenet.safetensors",
        pad_type="same",
        preprocess=Preprocess(),
        device="cpu",
    )
    films = []
    for row in rows:
        with Image.open(data / "cxr_sites" / names[row]) as film:
            films.append(film.convert("L"))
    assert_allclose(encoder.embed(films), stored[rows], atol=1e-3)


# ---------------------------------------------------------------- modes and channels


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 9))
def test_an_array_a_grey_image_and_its_colour_copy_are_one_image(height, width, seed):
    array = pixels(height, width, seed=seed)
    made = Preprocess(height=9, width=7)
    expected = made(array)
    assert expected.dtype == torch.float32
    assert expected.is_contiguous()
    grey = Image.fromarray(array)
    for same in (grey, grey.convert("RGB"), np.stack([array] * 3, axis=2), grey.convert("LA"),
                 grey.convert("RGBA")):  # fmt: skip
        assert_allclose(made(same), expected, atol=1e-6)
    assert_array_equal(expected[0], expected[2])


@given(height=st.integers(4, 60), width=st.integers(4, 60), seed=st.integers(0, 9))
def test_a_deeper_film_agrees_with_its_8_bit_copy_to_the_rounding(height, width, seed):
    array = pixels(height, width, seed=seed)
    made = Preprocess(height=8, width=8, interpolation="bilinear")  # bicubic clips in between
    deep = made(Image.fromarray(array.astype(np.float32)))
    assert_allclose(deep, made(array), atol=2 * 1.01 / 255)  # two roundings of half a grey level
    assert deep.min() >= -1
    assert deep.max() <= 1
    assert_array_equal(made(array.astype(np.float64)), deep)


def test_a_deeper_film_is_not_rounded_to_8_bits():
    film = Image.fromarray(np.full((8, 8), 100.25, dtype=np.float32))
    made = Preprocess(height=4, width=4, mean=0, std=1)
    assert_allclose(made(film), 100.25 / 255, rtol=1e-6)


def test_overshoot_of_the_interpolation_is_clipped_as_8_bits_clip_it():
    array = np.zeros((8, 8), dtype=np.float32)
    array[:, 4:] = 255
    out = Preprocess(height=32, width=32)(Image.fromarray(array))
    assert out.min() == -1
    assert out.max() == 1


def test_colour_becomes_grey_by_its_luma():
    one = Preprocess(height=1, width=1, channels=1, mean=0, std=1)
    for place, luma in enumerate((0.299, 0.587, 0.114)):
        colour = np.zeros((1, 1, 3), dtype=np.uint8)
        colour[..., place] = 255
        assert one(colour).item() == pytest.approx(luma, abs=0.51 / 255)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((4, 4), 4095.0), "run from 4095 to 4095: expected 0 to 255"),
        (np.array([[0, 300]], dtype=np.uint16), "run from 0 to 300"),
        (np.full((4, 4), np.nan), "run from nan"),
        (np.full((4, 4), -3.0), "run from -3"),
        (Image.fromarray(np.full((4, 4), 60_000, dtype=np.uint16)), "run from 60000"),
        (np.zeros((4, 4, 3)), "colour image holds float64: expected uint8"),
        (np.zeros((3, 4, 4), dtype=np.uint8), r"shape \(3, 4, 4\): expected \(height, width\)"),
        (np.zeros((0, 4), dtype=np.uint8), r"shape \(0, 4\)"),
        (np.array([["a"]]), "an image holds <U1"),
    ],
)
def test_what_are_no_pixels_is_refused_with_the_range_or_shape(image, words):
    with pytest.raises(CohortError, match=words):
        Preprocess()(image)


# ---------------------------------------------------------------- where it looks


def ramp(height, width):
    """Return an image whose grey level tells how far right it is."""
    return np.tile(np.linspace(0, 255, width, dtype=np.float32), (height, 1))


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize(("height", "width"), [(60, 100), (100, 60), (80, 80)])
def test_what_it_says_it_keeps_is_what_it_keeps(resize, share, height, width):
    made = Preprocess(height=20, width=20, resize=resize, crop_share=share, mean=0, std=1)
    left, top, right, bottom = made.seen(width, height)
    assert -0.01 <= left < right <= width + 0.01
    assert -0.01 <= top < bottom <= height + 0.01
    for flip, low, high, size in ((False, left, right, width), (True, top, bottom, height)):
        image = ramp(width, height).T if flip else ramp(height, width)
        out = made(np.ascontiguousarray(image))[0].numpy()
        row = out[:, 10] if flip else out[10]
        step = (high - low) / 20
        middles = (low + step * (np.arange(20) + 0.5) - 0.5) / (size - 1)
        assert_allclose(row[2:-2], middles[2:-2], atol=0.02)


# ---------------------------------------------------------------- settings


@given(
    height=st.integers(1, 500),
    channels=st.sampled_from([1, 3]),
    mean=st.floats(0, 1),
    std=st.floats(0.01, 1),
    share=st.floats(0.1, 1),
    resize=st.sampled_from(["squash", "crop"]),
)
def test_a_spec_survives_json(height, channels, mean, std, share, resize):
    made = Preprocess(height=height, width=7, mean=mean, std=std, resize=resize, crop_share=share,
                      interpolation="lanczos", channels=channels)  # fmt: skip
    assert Preprocess.from_spec(json.loads(json.dumps(made.spec()))) == made


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"height": 0}, "height is 0"),
        ({"width": 224.0}, r"width is 224\.0: expected pixels"),
        ({"channels": 4}, r"channels is 4: expected 1 \(grey\) or 3"),
        ({"resize": "pad"}, "resize is 'pad': expected 'squash' or 'crop'"),
        ({"crop_share": 0}, r"crop_share is 0: expected a share in \(0, 1\]"),
        ({"crop_share": float("nan")}, "crop_share is nan"),
        ({"interpolation": "bicubc"}, "'bicubc'.*Did you mean 'bicubic'"),
        ({"mean": (127.5,)}, "mean holds 127.5.*divide by 255"),
        ({"std": (57.4,) * 3}, "std holds 57.4"),
        ({"std": 0}, "std is .*above 0"),
        ({"mean": (0.5, 0.5)}, "mean has 2 numbers and channels is 3"),
        ({"mean": (0.5, 0.5, 0.5), "channels": 1}, "mean has 3 numbers and channels is 1"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, words):
    with pytest.raises(SettingsError, match=words):
        Preprocess(**settings)


def test_an_unknown_key_of_a_card_is_named_with_its_neighbour():
    with pytest.raises(SettingsError, match=r"no setting 'hight'.*Did you mean 'height'"):
        Preprocess.from_spec({"hight": 224})
