from __future__ import annotations

import re
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from deconf.cohort.dicom import read_dicom
from deconf.cohort.images import read_image
from deconf.errors import ReadError
from tests.cohort.small_films import NAME, dataset, film, shown, write

# --- every transfer syntax -----------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
    ids=lambda uid: uid.name,
)
@pytest.mark.parametrize("kind", ["unsigned", "signed", "8 bits", "colour"])
def test_the_picture_does_not_depend_on_how_the_values_were_written(tmp_path, syntax, kind):
    values = film()
    header = {"WindowCenter": 1800, "WindowWidth": 2500}
    if kind == "signed":
        values, header = values.astype(np.int16) - 2000, {"WindowCenter": -150, "WindowWidth": 1500}
    elif kind == "8 bits":
        values, header = film(bits=8), {}
    elif kind == "colour":
        values, header = np.stack([film(seed, bits=8) for seed in range(3)], axis=-1), {}
    try:
        written = write(tmp_path / "other.dcm", values, syntax, **header)
    except (RuntimeError, ValueError) as error:
        pytest.skip(f"cannot be written here: {error}")
    plain = write(tmp_path / "plain.dcm", values, **header)
    assert_array_equal(shown(written), shown(plain))
    assert np.ptp(shown(plain)) > 100


# --- colour --------------------------------------------------------------------------------


def test_colours_are_the_ones_written_whatever_the_layout(tmp_path):
    colour = np.stack([film(seed, bits=8) for seed in range(3)], axis=-1)
    assert_array_equal(shown(write(tmp_path / "a.dcm", colour)), colour)
    ds = dataset(colour, PlanarConfiguration=1)
    ds.PixelData = np.ascontiguousarray(colour.transpose(2, 0, 1)).tobytes() + b"\0"
    ds.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert_array_equal(shown(tmp_path / "b.dcm"), colour)
    ycc = np.asarray(Image.fromarray(colour).convert("YCbCr"))
    path = write(tmp_path / "c.dcm", ycc, PhotometricInterpretation="YBR_FULL")
    assert np.abs(shown(path).astype(int) - colour).max() <= 2  # two roundings
    deep = colour.astype(np.uint16) * 257
    assert_array_equal(shown(write(tmp_path / "d.dcm", deep)), colour)


def test_a_palette_becomes_its_colours(tmp_path):
    index = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    red, green, blue = ([10, 20, 30], [40, 50, 60], [70, 80, 90])
    ds = dataset(index, PhotometricInterpretation="PALETTE COLOR")
    for name, entries in (("Red", red), ("Green", green), ("Blue", blue)):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [3, 0, 16])
        held = (np.array(entries) * 257).astype("<u2").tobytes()
        setattr(ds, f"{name}PaletteColorLookupTableData", held)
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    picture = read_dicom(tmp_path / "a.dcm")
    assert picture.mode == "RGB"
    assert picture.getpixel((1, 0)) == (20, 50, 80)
    assert picture.getpixel((0, 1)) == (30, 60, 90)


# --- frames --------------------------------------------------------------------------------


def frames(path: Path, count: int = 3) -> tuple[Path, list[np.ndarray]]:
    stack = [film(seed, shape=(8, 9)) for seed in range(count)]
    ds = dataset(stack[0], NumberOfFrames=count)
    ds.PixelData = np.stack(stack).tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path, stack


def test_one_frame_of_several_is_read_when_it_is_named(tmp_path):
    path, stack = frames(tmp_path / "a.dcm")
    for frame, values in enumerate(stack):
        alone = shown(write(tmp_path / "alone.dcm", values))
        assert_array_equal(shown(path, frame=frame), alone)
    with pytest.raises(ReadError, match=r"'.*a\.dcm' holds 3 frames.*frame=1.*save\('frame.tif'\)"):
        read_dicom(path)
    with pytest.raises(ReadError, match="has no frame 3: it holds 3, counted from 0"):
        read_dicom(path, frame=3)
    read_dicom(path, frame=1).save(tmp_path / "frame.tif")
    assert_allclose(np.asarray(read_image(tmp_path / "frame.tif")), shown(path, frame=1))


def test_an_enhanced_object_is_shown_with_the_window_of_the_frame(tmp_path):
    path, stack = frames(tmp_path / "a.dcm")
    ds = pydicom.dcmread(path)

    def group(**sequences) -> Dataset:
        item = Dataset()
        for keyword, content in sequences.items():
            inner = Dataset()
            for name, value in content.items():
                setattr(inner, name, value)
            setattr(item, keyword, [inner])
        return item

    slope = {"RescaleSlope": 2, "RescaleIntercept": -100}
    ds.SharedFunctionalGroupsSequence = [group(PixelValueTransformationSequence=slope)]
    windows = [{"WindowCenter": 3000 + i, "WindowWidth": 4000 - 500 * i} for i in range(3)]
    ds.PerFrameFunctionalGroupsSequence = [group(FrameVOILUTSequence=w) for w in windows]
    ds.save_as(path)
    for frame in range(3):
        alone = write(tmp_path / "alone.dcm", stack[frame], **slope, **windows[frame])
        assert_array_equal(shown(path, frame=frame), shown(alone))


# --- what cannot be read -------------------------------------------------------------------


def test_a_file_cut_anywhere_is_called_truncated_with_bytes(tmp_path):
    whole = write(tmp_path / "whole.dcm", film()).read_bytes()
    start = len(whole) - film().nbytes
    path = tmp_path / "cut.dcm"
    for length in (start + 1000, start + 1, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            ReadError,
            match=rf"cut.dcm' ends after {length - start:,} of 2,706 bytes of pixel data .trunc",
        ):
            read_dicom(path)
    for length in (start - 1, start - 30, 300, 200, 140):
        path.write_bytes(whole[:length])
        with pytest.raises(ReadError, match=r"cut.dcm' .*truncated copy"):
            read_dicom(path)


def test_a_compressed_file_cut_anywhere_is_called_truncated_with_bytes(tmp_path):
    whole = write(tmp_path / "whole.dcm", film(), RLELossless).read_bytes()
    path = tmp_path / "cut.dcm"
    for lost in (1, 8, 9, 500):
        path.write_bytes(whole[:-lost])
        with pytest.raises(
            ReadError, match=r"cut.dcm' ends after [\d,]+ of [\d,]+ bytes of compressed pixel data"
        ):
            read_dicom(path)


def test_pixels_that_do_not_fill_the_picture_are_refused(tmp_path):
    ds = dataset(film())
    ds.Rows += 1
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(ReadError, match=r"has 2,706 bytes of pixel data .* asks for 2,788"):
        read_dicom(tmp_path / "a.dcm")


def test_a_report_has_no_pixels_and_says_what_it_is():
    path = get_testdata_file("test-SR.dcm", download=False)
    with pytest.raises(ReadError, match=r"has no pixel data \(Comprehensive SR Storage\). Leave"):
        read_dicom(path)


def test_what_is_no_dicom_is_told_so(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"<html>404 not found</html>" * 20)
    with pytest.raises(ReadError, match=r"a.dcm' is no DICOM image, .* it has 520 bytes"):
        read_dicom(tmp_path / "a.dcm")


def test_without_a_decoder_the_pip_line_is_given(tmp_path, monkeypatch):
    path = write(tmp_path / "a.dcm", film(), JPEGLSLossless)
    decoder = pydicom.pixels.get_decoder(JPEGLSLossless)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(ReadError, match=r"JPEG-LS Lossless.*pip install 'deconf\[dicom\]'"):
        read_dicom(path)


def test_a_variant_nobody_decodes_names_it_and_the_remedy():
    path = get_testdata_file("JPGExtended.dcm", download=False)
    with pytest.raises(ReadError, match=r"JPEG Extended .*lossy JPEG of 12 bits.*gdcmconv --raw"):
        read_dicom(path)


def test_no_error_carries_a_name_or_a_date_of_the_header(tmp_path, caplog):
    path, refused = tmp_path / "a.dcm", 0
    write(path, film(), VOILUTSequence=[Dataset()], ImageComments=NAME)
    raw = path.read_bytes()
    header = len(raw) - film().nbytes
    unknown = raw.replace(b"CS\x0c\0MONOCHROME2", b"XX\x0c\0" + NAME[:12].encode())
    for broken in (raw, raw[:-99], unknown, *(raw[:cut] for cut in range(140, header, 37))):
        path.write_bytes(broken)
        with pytest.raises(ReadError) as caught:
            read_dicom(path)
        said = "".join(traceback.format_exception(caught.value)) + caplog.text
        assert not re.search("Mustermann|Erika|1964", said), said
        refused += 1
    assert refused > 10


def test_a_damaged_stream_is_refused_or_shown_and_never_ends_the_process(tmp_path):
    names = ["SC_rgb_jpeg_dcmtk.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"]
    paths = [get_testdata_file(name, download=False) for name in names]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DAMAGE, *paths, str(tmp_path / "a.dcm")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout.split()[-1]) > 10


DAMAGE = """
import random, sys
from pathlib import Path
from deconf.cohort.dicom import read_dicom
from deconf.errors import ReadError
from tests.cohort.small_films import NAME, dataset, film, shown, write
random.seed(1)
refused = 0
for source in sys.argv[1:-1]:
    whole = Path(source).read_bytes()
    stream = max(whole.find(b"\\xff\\xd8"), whole.find(b"\\xff\\x4f"))
    for _ in range(60):
        broken = bytearray(whole)
        at = stream + random.randrange(min(600, len(whole) - stream - 60))
        for _ in range(random.choice([1, 4, 40])):
            broken[at + random.randrange(50)] = random.randrange(256)
        Path(sys.argv[-1]).write_bytes(bytes(broken))
        try:
            read_dicom(sys.argv[-1])
        except ReadError:
            refused += 1
print(refused)
"""


# --- files that others wrote ---------------------------------------------------------------

OTHERS = [
    "CT_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_expb.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "image_dfl.dcm",
    "liver_expb_1frame.dcm",
    "rtdose_expb_1frame.dcm",
    "examples_overlay.dcm",
    "693_J2KI.dcm",
]


@pytest.mark.parametrize("name", OTHERS)
def test_grey_files_of_other_makers_are_shown_as_pydicom_shows_them(name):
    path = get_testdata_file(name, download=False)
    ds = pydicom.dcmread(path)
    units = ds.pixel_array.astype(float)
    if "RescaleSlope" in ds:
        units = units * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    if ds.get("WindowCenter"):
        units = apply_windowing(units, ds)
        # Back from pydicom's output range, the full range of the stored type, to 0 to 255.
        low, high = (
            (-(2 ** (ds.BitsStored - 1)), 2 ** (ds.BitsStored - 1) - 1)
            if ds.PixelRepresentation
            else (0, 2**ds.BitsStored - 1)
        )
        slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
        low, high = low * slope + intercept, high * slope + intercept
    else:
        low, high = units.min(), units.max()
    assert_allclose(shown(path), (units - low) / (high - low) * 255, atol=2e-3)


@pytest.mark.parametrize(
    "name",
    [
        "ExplVR_BigEnd.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_rle.dcm",
        "examples_jpeg2k.dcm",
    ],
)
def test_colour_files_of_other_makers_are_shown_as_pydicom_shows_them(name):
    path = get_testdata_file(name, download=False)
    assert_array_equal(shown(path), pydicom.dcmread(path).pixel_array)


def test_a_film_is_the_same_picture_as_a_png_of_16_bits(tmp_path):
    values = film(bits=16)
    values[0, 0], values[0, 1] = 0, 65535
    Image.fromarray(values).save(tmp_path / "a.png")
    path = write(tmp_path / "no suffix", values)
    window = {"WindowCenter": 32767.5, "WindowWidth": 65535, "VOILUTFunction": "LINEAR_EXACT"}
    windowed = write(tmp_path / "b.dcm", values, **window)
    for film_path in (path, windowed):
        picture = read_image(film_path)
        assert picture.mode == "F"
        assert_allclose(np.asarray(picture), np.asarray(read_image(tmp_path / "a.png")), atol=1e-3)


def test_a_film_without_preamble_is_read_by_its_suffix(tmp_path):
    whole = write(tmp_path / "a.dcm", film(), ImplicitVRLittleEndian)
    expected = shown(whole)
    ds = pydicom.dcmread(whole)
    del ds.file_meta
    ds.preamble = None
    pydicom.dcmwrite(tmp_path / "b.dcm", ds, implicit_vr=True, little_endian=True)
    assert (tmp_path / "b.dcm").read_bytes()[128:132] != b"DICM"
    assert_array_equal(np.asarray(read_image(tmp_path / "b.dcm")), expected)


def test_reading_changes_no_setting_of_pydicom_or_of_warnings(tmp_path):
    path = write(tmp_path / "a.dcm", film())
    code = (
        "import sys, warnings, pydicom\n"
        "from deconf.cohort.dicom import read_dicom\n"
        "before = repr(warnings.filters), repr(vars(pydicom.config.settings))\n"
        "read_dicom(sys.argv[1])\n"
        "assert before == (repr(warnings.filters), repr(vars(pydicom.config.settings)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, re.sub(r"\s+", " ", done.stderr)
