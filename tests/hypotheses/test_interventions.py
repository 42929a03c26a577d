"""Pixel interventions: the identity at dose 0, physics that can be checked, order, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.errors import CohortError, SettingsError
from deconf.hypotheses.interventions import (
    BlankMarker,
    Box,
    Compose,
    Compression,
    Custom,
    DarkCorner,
    Gamma,
    Ink,
    PointSpread,
    QuantumNoise,
    Resampling,
    Ruler,
    Stain,
    TextMarker,
    Window,
    burnt_in,
)
from deconf.worlds.acquisition import SCANNERS, blurred, developed
from deconf.worlds.markings import bitmap

GREY = (
    TextMarker(),
    TextMarker("AP 2.0", corner="bottom right", plate=True),
    BlankMarker(),
    Ruler(),
    Ink(),
    DarkCorner(),
    Gamma(),
    Gamma(strength=-0.5),
    Window(),
    PointSpread(),
    QuantumNoise(),
    QuantumNoise(medium="light"),
    Compression(),
    Resampling(),
    TextMarker() | PointSpread() | QuantumNoise(),
)
COLOUR = (*(edit for edit in GREY[:-1] if edit != QuantumNoise()), Stain())


def film(shape: tuple[int, ...] = (80, 64), seed: int = 0) -> np.ndarray:
    """Return a smooth grey or colour picture with grain, 0 to 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / 20.0
    smooth = 120 + 60 * np.sin(y)[(...,) + (None,) * (len(shape) - 2)] * np.cos(
        x[(...,) + (None,) * (len(shape) - 2)]
    )
    return np.clip(smooth + 10 * rng.standard_normal(shape), 0, 255).astype(np.float32)


def images(edit) -> np.ndarray:
    """Return a picture that suits the edit, with a mark to blank."""
    picture = film((80, 64, 3) if isinstance(edit, Stain) else (80, 64))
    return TextMarker("AP", height=0.1)(picture, np.random.default_rng(0))


def drawn(edit, pixels, seed=5):
    return edit(pixels, np.random.default_rng(seed))


@pytest.mark.parametrize("edit", [*GREY, Stain()], ids=str)
def test_dose_zero_is_the_identity_to_the_last_bit_and_a_dose_is_not(edit):
    picture = images(edit)
    assert np.array_equal(drawn(edit.at(0), picture), picture)
    assert not np.array_equal(drawn(edit, picture), picture)


@pytest.mark.parametrize("edit", [*GREY, Stain()], ids=str)
def test_an_edit_is_a_function_of_pixels_and_seed_and_leaves_its_input_alone(edit):
    picture = images(edit)
    kept = picture.copy()
    first, again = drawn(edit, picture), drawn(edit, picture)
    assert np.array_equal(first, again)
    assert np.array_equal(picture, kept)
    assert first.dtype == np.float32
    assert first.shape == picture.shape
    assert 0 <= first.min() <= first.max() <= 255
    read_only = picture.copy()
    read_only.flags.writeable = False
    assert np.array_equal(drawn(edit, read_only), first)


@pytest.mark.parametrize("edit", COLOUR, ids=str)
def test_colour_stays_colour_and_grey_in_three_channels_stays_grey(edit):
    picture = images(Stain())
    assert drawn(edit, picture).shape == picture.shape
    if isinstance(edit, Gamma | Window | PointSpread | DarkCorner | TextMarker | BlankMarker):
        one = images(edit)
        three = np.repeat(one[..., None], 3, axis=2)
        # All three channels get what the grey image gets.
        assert np.allclose(drawn(edit, three), drawn(edit, one)[..., None], atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), a=st.floats(0.5, 3), b=st.floats(0.5, 3))
def test_blurs_add_in_squares_and_take_high_frequencies(seed, a, b):
    picture = film((128, 128), seed)
    both = drawn(PointSpread(strength=4 * a) | PointSpread(strength=4 * b), picture)
    once = drawn(PointSpread(strength=4 * np.hypot(a, b)), picture)
    inner = slice(24, -24)  # away from the edge, where a mirrored border would differ
    assert np.abs(both - once)[inner, inner].max() < 2.0

    def high(x: np.ndarray) -> float:
        power = np.abs(np.fft.fft2(x - x.mean())) ** 2
        fast = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n) for n in x.shape])) > 0.25
        return float(power[fast].sum())

    powers = [high(drawn(PointSpread(strength=s), picture)) for s in (0.0, 1.0, 2.0, 4.0)]
    assert powers == sorted(powers, reverse=True)
    assert powers[-1] < 0.1 * powers[0]


def test_the_blur_is_that_of_the_phantom_radiographs():
    picture = film((128, 128)) / 255
    sigma = np.full((1, 1, 1), 0.030, dtype=np.float32)  # half film widths: 0.015 of the side
    theirs = 255 * blurred(picture[None], sigma)[0]
    ours = drawn(PointSpread(strength=3), 255 * picture)
    inner = slice(12, -12)
    assert np.abs(ours - theirs)[inner, inner].max() < 0.5


@pytest.mark.parametrize("level", [40.0, 90.0, 180.0])
def test_the_noise_of_light_has_the_variance_of_counting(level):
    edit = QuantumNoise(medium="light", photons=4000, strength=2)
    noisy = drawn(edit, np.full((128, 128), level)) / 255
    n = noisy.size
    # Poisson: mean s, variance s t / N.  Tolerances: four standard errors.
    variance = level / 255 * 2 / 4000
    assert abs(noisy.mean() - level / 255) < 4 * np.sqrt(variance / n)
    assert abs(noisy.var() / variance - 1) < 4 * np.sqrt(2 / n)


def test_bright_parts_of_a_film_are_the_noisy_ones_and_small_pixels_too():
    spread = [drawn(QuantumNoise(), np.full((128, 128), p)).std() for p in (20.0, 120.0, 220.0)]
    assert spread == sorted(spread)
    # p = -255/span log s, so sd(p) = 255/span sqrt(t / (N s)) to first order.
    expected = 255 / 3 * np.sqrt(np.exp(3 * 20 / 255) / 3500)
    assert spread[0] == pytest.approx(expected, rel=0.05)
    fine = drawn(QuantumNoise(), np.full((256, 256), 20.0)).std()
    assert fine == pytest.approx(2 * spread[0], rel=0.05)  # a quarter of the photons each


@settings(max_examples=25, deadline=None)
@given(strength=st.floats(-1.5, 1.5), more=st.floats(0.1, 1.0))
def test_gamma_keeps_the_order_of_greys_and_darkens_with_the_dose(strength, more):
    ramp = np.linspace(0, 255, 256)[None].repeat(2, 0)
    out = drawn(Gamma(strength=strength), ramp)
    darker = drawn(Gamma(strength=strength + more), ramp)
    assert (np.diff(out, axis=1) >= 0).all()
    assert (darker[:, 1:-1] < out[:, 1:-1]).all()
    assert out[0, 0] == 0
    assert out[0, -1] == 255
    assert np.allclose(drawn(Gamma(strength=-strength), out), ramp, atol=0.05)


def test_gamma_is_the_display_curve_of_the_phantom_radiographs():
    signal = np.exp(-film((64, 64)) / 100)[None]
    one = np.ones((1, 1, 1), dtype=np.float32)
    reference, bent = (
        255 * developed(signal, levelling=0 * one, contrast=one, gamma=np.float32(g) * one)[0]
        for g in (1.0, SCANNERS["Fjord Digital"].gamma)
    )
    ours = drawn(Gamma(strength=np.log2(1.4)), reference)
    assert np.allclose(ours, bent, atol=0.01)


@settings(max_examples=25, deadline=None)
@given(strength=st.floats(-1, 1), level=st.floats(0, 255))
def test_a_window_keeps_its_level_and_a_wider_one_undoes_it_where_nothing_was_cut(strength, level):
    out = drawn(Window(strength=strength, level=level), np.full((2, 2), level))
    assert np.allclose(out, level, atol=1e-4)
    ramp = np.linspace(0, 255, 64)[None].repeat(2, 0)
    there = drawn(Window(strength=strength, level=level), ramp)
    back = drawn(Window(strength=-strength, level=level), there)
    whole = (there > 0) & (there < 255)
    assert np.allclose(back[whole], ramp[whole], atol=0.01)


def test_stronger_compression_and_resampling_are_further_from_the_image():
    picture = film((96, 96))
    for edit in (Compression(strength=1), Resampling(strength=3)):
        away = [np.abs(drawn(edit.at(d), picture) - picture).mean() for d in (0.1, 0.4, 0.7, 0.95)]
        assert away == sorted(away)
        assert away[-1] > 1.3 * away[0]
    assert Compression(strength=0.7).quality == 30


def test_resampling_by_a_whole_octave_keeps_a_coarse_image():
    flat = np.full((64, 48), 77.0)
    assert np.allclose(drawn(Resampling(), flat), 77.0, atol=1e-3)
    stripes = np.tile([0.0, 255.0], (64, 24))  # beyond the limit of the small image
    assert drawn(Resampling(), stripes)[:, 4:-4].std() < 20 < stripes.std()


def test_a_stain_of_haematoxylin_alone_is_doubled_and_glass_stays_white():
    vector = np.array([0.650, 0.704, 0.286]) / np.linalg.norm([0.650, 0.704, 0.286])
    tissue = 255 * 10.0 ** -(0.4 * vector)
    picture = np.stack([np.tile(tissue, (4, 1)), np.full((4, 3), 255.0)])
    out = drawn(Stain(strength=1, haematoxylin=1, eosin=-3), picture)
    assert np.allclose(out[0], 255 * 10.0 ** -(0.8 * vector), atol=1e-3)
    assert np.allclose(out[1], 255.0)
    back = drawn(Stain(strength=-1, haematoxylin=1, eosin=-3), out)
    assert np.allclose(back, picture, atol=1e-2)


def test_the_order_of_a_composition_is_the_order_of_writing():
    picture = film((128, 128))
    mark, blur = TextMarker("R", height=0.1), PointSpread(strength=4)
    sharp_letters, blurred_letters = drawn(blur | mark, picture), drawn(mark | blur, picture)
    assert sharp_letters.max() == pytest.approx(0.97 * 255, abs=0.1)
    assert blurred_letters.max() < sharp_letters.max() - 5
    rng = np.random.default_rng(5)
    first, second = rng.spawn(2)
    assert np.array_equal(drawn(blur | mark, picture), mark(blur(picture, first), second))


def test_composition_is_associative_and_a_dose_reaches_every_part():
    picture = film((64, 64))
    a, b, c = QuantumNoise(), Gamma(strength=0.4), Ink()
    left, right = (a | b) | c, a | (b | c)
    assert isinstance(left, Compose)
    assert np.array_equal(drawn(left, picture), drawn(right, picture))
    half = a.at(0.5) | b.at(0.5) | c.at(0.5)
    assert np.array_equal(drawn(left.at(0.5), picture), drawn(half, picture))
    assert np.array_equal(drawn(left.at(0.5) | Gamma(), picture), drawn(half | Gamma(), picture))


def test_letters_cover_what_the_font_says_on_any_shape():
    wide = drawn(TextMarker("L", corner="top right", height=0.35, inset=(0, 0)), np.zeros((20, 60)))
    # 9 rows of cells with margins; a cell is 0.35 x 20 / 7 = 1 pixel.
    assert np.array_equal(wide[:9, -7:] > 100, bitmap("L") > 0)
    assert wide[9:].max() == 0
    assert wide[:, :-7].max() == 0


def test_opacity_moves_a_marked_pixel_in_a_straight_line():
    picture = np.full((100, 100), 50.0)
    levels = [drawn(TextMarker(strength=s), picture).max() for s in (0.25, 0.5, 1.0)]
    assert np.allclose(levels, 50 + np.array([0.25, 0.5, 1.0]) * (levels[-1] - 50), atol=1e-3)


def test_marks_are_found_and_blanking_brings_the_film_back():
    y, x = np.mgrid[:256, :256] / 256
    plain = (60 + 80 * x + 40 * np.sin(3 * y)).astype(np.float32)
    assert burnt_in(plain) == ()
    marked = drawn(TextMarker("PORTABLE"), plain)
    (box,) = burnt_in(marked)
    ink = np.argwhere(marked != plain)
    assert abs(box.top - ink[:, 0].min()) <= 2
    assert abs(box.right - 1 - ink[:, 1].max()) <= 2
    blank = drawn(BlankMarker(), marked)
    assert np.abs(blank - plain).max() < 6 < np.abs(marked - plain).max() / 10
    assert np.array_equal(drawn(BlankMarker(), plain), plain)


def test_a_box_of_ones_own_is_painted_and_one_off_the_image_is_refused():
    picture = np.full((40, 40), 10.0)
    picture[10:14, 0:8] = 250
    mended = drawn(BlankMarker(find=lambda _: [Box(10, 14, 0, 8)]), picture)
    assert np.allclose(mended, 10)
    with pytest.raises(SettingsError, match=r"Box.*does not lie on an image of 40 x 40"):
        drawn(BlankMarker(find=lambda _: [Box(10, 50, 0, 8)]), picture)


def test_dark_corners_leave_the_disc_and_ink_lies_elsewhere_on_every_image():
    white = np.full((100, 100), 255.0)
    dark = drawn(DarkCorner(), white)
    assert dark[0, 0] == 0
    assert (dark[30:70, 30:70] == 255).all()
    first, second = (drawn(Ink(), white, seed) for seed in (1, 2))
    assert not np.array_equal(first, second)
    assert (first[45:55, 45:55] == 255).all()  # not on the lesion


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TextMarker(strength=1.5), r"strength of TextMarker is 1.5.*from 0 to 1"),
        (lambda: Compression(strength=-0.1), r"Compression is -0.1"),
        (lambda: Gamma(strength=float("nan")), r"Gamma is nan"),
        (lambda: TextMarker().at(2), r"TextMarker is 2"),
        (lambda: TextMarker("ä"), r"no sign for 'ä'"),
        (lambda: TextMarker("  "), r"cannot be written"),
        (lambda: TextMarker(corner="top lft"), r"Did you mean 'top left'"),
        (lambda: QuantumNoise(medium="flim"), r"'flim'.*'film' or 'light'"),
        (lambda: Compose(parts=("blur",)), r"'blur' is no intervention"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(make, words):
    with pytest.raises(SettingsError, match=words):
        make()


def test_an_image_of_the_wrong_kind_is_refused_in_words():
    with pytest.raises(CohortError, match=r"Stain needs a colour image.*Gamma or Window"):
        drawn(Stain(), film())
    with pytest.raises(CohortError, match=r"colour \(80, 64, 3\): take medium='light'"):
        drawn(QuantumNoise(), film((80, 64, 3)))
    with pytest.raises(CohortError, match=r"shape \(4, 8, 8\): expected \(h, w\)"):
        drawn(Gamma(), np.zeros((4, 8, 8)))
    with pytest.raises(SettingsError, match=r"'crop' returns an image of shape \(2, 8\)"):
        drawn(Custom(lambda p, _s, _rng: p[:2], "crop"), np.zeros((8, 8)))
