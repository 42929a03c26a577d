from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.pixels import apply_voi_lut, apply_windowing

from deconf.cohort.dicom import read_dicom
from deconf.cohort.grayscale import grey_levels
from deconf.errors import ReadError
from tests.cohort.small_films import dataset, film, lut, shown, write


@given(st.integers(0, 99), st.sampled_from([8, 10, 12, 16]), st.booleans())
def test_monochrome1_of_inverted_values_is_monochrome2(seed, bits, has_window):
    values, top = film(seed, bits, (9, 7)), 2**bits - 1
    window = {"WindowCenter": top * 0.4, "WindowWidth": top * 0.7} if has_window else {}
    mirrored = {"WindowCenter": top - top * 0.4 + 1, "WindowWidth": top * 0.7} if has_window else {}
    one = dataset(values, BitsStored=bits, PhotometricInterpretation="MONOCHROME2", **window)
    two = dataset(
        top - values, BitsStored=bits, PhotometricInterpretation="MONOCHROME1", **mirrored
    )
    assert_allclose(grey_levels(top - values, two), grey_levels(values, one), atol=1e-3)


def test_more_dose_is_darker_in_monochrome1_and_brighter_in_monochrome2():
    values = np.arange(6, dtype=np.uint16).reshape(2, 3)
    bright = grey_levels(values, dataset(values))
    assert_allclose(bright.ravel(), np.arange(6) * 51)
    dark = grey_levels(values, dataset(values, PhotometricInterpretation="MONOCHROME1"))
    assert_allclose(dark, 255 - bright)


@given(
    st.floats(-3000, 5000),
    st.floats(1, 5000),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", None]),
    st.booleans(),
    st.sampled_from([(1, 0), (2.5, -1024), (0.1, 7)]),
)
def test_windows_agree_with_pydicom(centre, width, function, is_signed, rescale):
    values = film().astype(np.int16) - (2000 if is_signed else 0)
    values = values if is_signed else values.astype(np.uint16)
    centre, width = round(centre, 2), round(width, 2)
    ds = dataset(values, WindowCenter=[centre, 1], WindowWidth=[width, 1])
    if function:
        ds.VOILUTFunction = function
    ds.RescaleSlope, ds.RescaleIntercept = rescale
    top = np.array([-(2**15), 2**15 - 1] if is_signed else [0, 2**16 - 1])
    low, high = top * rescale[0] + rescale[1]
    with np.errstate(over="ignore"):  # its sigmoid overflows far below the window
        reference = apply_windowing(values * rescale[0] + rescale[1], ds)
    expected = (reference - low) / (high - low) * 255
    assert_allclose(grey_levels(values, ds), expected, atol=2e-4)


def test_a_window_one_value_wide_is_a_step():
    values = np.array([[99, 100, 101]], dtype=np.uint16)
    ds = dataset(values, WindowCenter=100, WindowWidth=1)
    assert_array_equal(grey_levels(values, ds), [[0, 255, 255]])
    assert_array_equal(np.sign(apply_windowing(values, ds)), [[0, 1, 1]])


@pytest.mark.parametrize(
    ("centre", "width", "words"), [(10, 0, "window 0 wide around 10"), ("nan", 9, "around nan")]
)
def test_a_window_that_shows_nothing_is_refused(tmp_path, centre, width, words):
    path = write(tmp_path / "a.dcm", film())
    ds = pydicom.dcmread(path)
    ds.add_new("WindowCenter", "LO", str(centre))
    ds.add_new("WindowWidth", "LO", str(width))
    ds.save_as(path)
    with pytest.raises(ReadError, match=words):
        read_dicom(path)


@pytest.mark.parametrize(("first", "vr"), [(-1000, "OW"), (0, "OW"), (0, "US"), (500, "US")])
def test_a_voi_lut_agrees_with_pydicom_and_comes_before_a_window(tmp_path, first, vr):
    values = film().astype(np.int16) - 500
    entries = np.sqrt(np.linspace(0, 4095**2, 3000)).astype(np.uint16)
    sequence = [lut(entries, first, 12, vr)]
    path = write(tmp_path / "a.dcm", values, VOILUTSequence=sequence, WindowCenter=0, WindowWidth=9)
    expected = apply_voi_lut(values, pydicom.dcmread(path)) * (255 / 4095)
    assert_allclose(shown(path), expected, atol=1e-4)
    assert len(np.unique(expected)) > 100


def test_a_modality_lut_takes_the_place_of_rescaling_and_the_window_sees_what_it_says(tmp_path):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4)
    entries = (1000 - 50 * np.arange(10)).astype(np.uint16)
    path = write(
        tmp_path / "a.dcm",
        values,
        ModalityLUTSequence=[lut(entries, 1, 16)],
        RescaleSlope=7,
        RescaleIntercept=7,
        WindowCenter=800,
        WindowWidth=300,
        VOILUTFunction="LINEAR_EXACT",
    )
    units = entries[np.clip(np.arange(12) - 1, 0, 9)].astype(float)
    assert_allclose(shown(path).ravel(), np.clip((units - 650) / 300, 0, 1) * 255, atol=1e-4)


def test_a_lookup_table_cut_short_is_refused(tmp_path):
    item = lut(np.arange(50), 0, 12)
    item.LUTDescriptor = [4000, 0, 12]
    path = write(tmp_path / "a.dcm", film(), VOILUTSequence=[item])
    with pytest.raises(ReadError, match=r"lookup table with 50 of 4,000 entries of 12 bits"):
        read_dicom(path)


def test_without_window_the_stored_values_fill_the_range_and_padding_does_not_count(tmp_path):
    values = film().astype(np.int16) - 1000
    full = (values - values.min()) * (255 / np.ptp(values))
    assert_allclose(shown(write(tmp_path / "a.dcm", values)), full, atol=1e-4)
    padded = values.copy()
    padded[:5] = -32000
    path = write(tmp_path / "b.dcm", padded, PixelPaddingValue=-32000)
    seen = values[5:]
    expected = (seen - seen.min()) * (255 / np.ptp(seen))
    assert_allclose(shown(path)[5:], expected, atol=1e-3)
    assert (shown(path)[:5] == 0).all()
    no_padding = shown(write(tmp_path / "c.dcm", padded))
    assert no_padding[5:].min() > 200  # or the law above says nothing


def test_empty_windows_count_as_none_and_one_value_is_mid_grey(tmp_path):
    values = film()
    plain = shown(write(tmp_path / "a.dcm", values))
    empty = {"WindowCenter": None, "WindowWidth": None, "NumberOfFrames": None}
    assert_array_equal(shown(write(tmp_path / "b.dcm", values, **empty)), plain)
    flat = np.full((4, 4), 700, dtype=np.uint16)
    for polarity in ("MONOCHROME1", "MONOCHROME2"):
        path = write(tmp_path / "c.dcm", flat, PhotometricInterpretation=polarity)
        assert (shown(path) == 127.5).all()


def test_numbers_of_32_bits_and_floats_keep_their_precision(tmp_path):
    steps = np.arange(16).reshape(4, 4)
    values = (steps + 2**31).astype(np.uint32)
    path = write(tmp_path / "a.dcm", values)
    assert_allclose(shown(path), steps * 17, atol=1e-3)
    ds = dataset(film())
    del ds.PixelData
    ds.BitsAllocated, ds.Rows, ds.Columns = 32, 4, 4
    ds.FloatPixelData = (steps / 100 - 3).astype(np.float32).tobytes()
    ds.save_as(path, enforce_file_format=True)
    assert_allclose(shown(path), steps * 17, atol=1e-3)


def test_a_number_of_too_many_digits_is_read_without_complaint(tmp_path):
    path = write(tmp_path / "a.dcm", film(), WindowCenter="1234", WindowWidth="2000")
    expected = shown(path)
    long = b"1234.000000000000000 "  # 20 digits, where the standard allows 16
    raw = path.read_bytes()
    short = b"DS\x04\x001234"
    assert raw.count(short) == 1, "the number stands there once, as text"
    path.write_bytes(raw.replace(short, b"DS" + len(long).to_bytes(2, "little") + long))
    assert_array_equal(shown(path), expected)
