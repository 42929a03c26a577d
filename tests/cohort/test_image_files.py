from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageFile

from deconf.cohort.images import read_image, thumbnail
from deconf.errors import ReadError

RNG = np.random.default_rng(0)
GREY = RNG.integers(256, size=(31, 45), dtype=np.uint8)
COLOUR = RNG.integers(256, size=(31, 45, 3), dtype=np.uint8)
DEEP = RNG.integers(65536, size=(31, 45), dtype=np.uint16)


def save(path: Path, values, **options) -> Path:
    (values if isinstance(values, Image.Image) else Image.fromarray(values)).save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(read_image(path))


# --- 8 bits: pixel for pixel ---------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp", ".ppm", ".TIFF"])
def test_pixels_of_8_bits_are_the_ones_pil_decodes(tmp_path, suffix):
    for values, mode in ((GREY, "L"), (COLOUR, "RGB")):
        path = save(tmp_path / f"a{suffix}", values)
        with Image.open(path) as reference:
            assert_array_equal(pixels(path), np.asarray(reference))
        read = read_image(path)
        assert read.mode == ("RGB" if suffix == ".webp" else mode)  # WebP knows no grey
        assert type(read) is Image.Image


def test_the_content_tells_the_kind_whatever_the_name(tmp_path):
    for name in ("a.jpg", "no suffix", "a.dcm"):
        save(tmp_path / name, GREY, format="PNG")
        assert_array_equal(pixels(tmp_path / name), GREY)


def test_transparency_goes_and_palettes_and_inks_become_colours(tmp_path):
    alpha = Image.fromarray(np.full(GREY.shape, 7, dtype=np.uint8))
    with_alpha = Image.fromarray(COLOUR)
    with_alpha.putalpha(alpha)
    assert_array_equal(pixels(save(tmp_path / "a.png", with_alpha)), COLOUR)
    grey_alpha = Image.fromarray(GREY)
    grey_alpha.putalpha(alpha)
    assert_array_equal(pixels(save(tmp_path / "b.png", grey_alpha)), GREY)
    palette = Image.fromarray(COLOUR).quantize(16)
    path = save(tmp_path / "c.png", palette, transparency=bytes(range(16)))
    assert_array_equal(pixels(path), np.asarray(palette.convert("RGB")))
    inks = Image.fromarray(COLOUR).convert("CMYK")
    assert_array_equal(pixels(save(tmp_path / "d.tif", inks)), np.asarray(inks.convert("RGB")))
    bits = Image.fromarray(GREY > 99)
    assert_array_equal(pixels(save(tmp_path / "e.png", bits)), (GREY > 99) * 255)


@pytest.mark.parametrize("kind", [".jpg", ".png", ".tif"])
def test_a_picture_taken_sideways_is_turned_upright(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / f"a{kind}", GREY, exif=exif)
    plain = pixels(save(tmp_path / f"b{kind}", GREY))
    assert_array_equal(pixels(path), np.rot90(plain, -1))


def test_a_picture_carries_no_text_of_its_file(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "Mustermann, Erika"
    for kind in (".jpg", ".tif"):
        path = save(tmp_path / f"a{kind}", GREY, exif=exif)
        assert "Mustermann" not in repr(read_image(path).info) + repr(
            dict(read_image(path).getexif())
        )


def test_a_film_of_a_large_detector_is_read_without_a_warning(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((9800, 9800), dtype=np.uint8), compress_level=1)
    with pytest.warns(Image.DecompressionBombWarning):  # or the law says nothing
        Image.open(path).close()
    limit = Image.MAX_IMAGE_PIXELS
    assert read_image(path).size == (9800, 9800)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_slide_is_sent_to_be_cut_into_tiles(tmp_path):
    path = save(tmp_path / "a.bmp", GREY)
    raw = bytearray(path.read_bytes())
    raw[18:26] = (60000).to_bytes(4, "little") * 2
    path.write_bytes(bytes(raw))
    with pytest.raises(ReadError, match=r"a.bmp' is 60,000 x 60,000 pixels: a slide\? Cut tiles"):
        read_image(path)


# --- more bits -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.tif", {}), ("b.tif", {"compression": "tiff_lzw"}), ("a.pgm", {})],
)
def test_16_bits_are_scaled_by_the_range_of_the_type_not_of_the_image(tmp_path, name, options):
    dim = (DEEP // 50).astype(np.uint16)
    for values in (DEEP, dim):
        read = read_image(save(tmp_path / name, values, **options))
        assert read.mode == "F"
        assert_allclose(np.asarray(read), values / 257, atol=1e-4)


def test_big_endian_signed_and_32_bit_tiffs_show_the_same_film(tmp_path):
    expected = DEEP / 257
    big = Image.frombytes("I;16B", (45, 31), DEEP.astype(">u2").tobytes())
    assert_allclose(pixels(save(tmp_path / "a.tif", big)), expected, atol=1e-4)
    stretched = DEEP.astype(np.int64) * 65537 - 2**31
    signed = Image.fromarray(stretched.astype(np.int32))
    assert_allclose(pixels(save(tmp_path / "b.tif", signed)), expected, atol=1e-4)
    path = tmp_path / "c.tif"
    unsigned = Image.fromarray((stretched + 2**31).astype(np.uint32).view(np.int32))
    tag = b"\x53\x01\x03\x00\x01\x00\x00\x00"  # SampleFormat, one short: 2 is signed
    raw = save(path, unsigned).read_bytes()
    assert raw.count(tag + b"\2") == 1
    path.write_bytes(raw.replace(tag + b"\2", tag + b"\1"))
    assert_allclose(pixels(path), expected, atol=1e-4)


def test_white_is_zero_is_minded_at_every_depth(tmp_path):
    for values, top in ((GREY, 255), (DEEP, 65535)):
        black_is_zero = pixels(save(tmp_path / "a.tif", values))
        raw = (tmp_path / "a.tif").read_bytes()
        tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"  # PhotometricInterpretation, one short
        assert raw.count(tag + b"\1") == 1
        (tmp_path / "b.tif").write_bytes(raw.replace(tag + b"\1", tag + b"\0"))
        assert top in (255, 65535)
        assert_allclose(pixels(tmp_path / "b.tif"), 255.0 - black_is_zero, atol=1e-4)


def test_floats_are_taken_from_0_to_1_or_from_0_to_255_and_nothing_else(tmp_path):
    unit = RNG.random((9, 9), dtype=np.float32)
    assert_allclose(pixels(save(tmp_path / "a.tif", unit)), unit * 255, atol=1e-4)
    assert_allclose(pixels(save(tmp_path / "b.tif", unit * 200)), unit * 200, atol=1e-4)
    for values, words in (
        (
            unit * 4000 - 1024,
            r"c.tif' holds floating-point values from -9\d+\.\d* to 2\d+.*0 to 1 or",
        ),
        (unit * 300, "one and the same window"),
        (np.where(unit > 0.5, np.nan, unit).astype(np.float32), "nan or infinite"),
    ):
        save(tmp_path / "c.tif", values)
        with pytest.raises(ReadError, match=words):
            read_image(tmp_path / "c.tif")


# --- what cannot be read -------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")  # PIL's, of a cut TIFF directory
@pytest.mark.parametrize("is_forgiving", [False, True])
@pytest.mark.parametrize(
    "name", ["g.png", "g.jpg", "c.jpg", "g.tif", "lzw.tif", "deep.tif", "c.bmp", "c.webp", "g.pgm"]
)
def test_a_file_cut_anywhere_is_called_truncated_with_its_bytes(
    tmp_path, monkeypatch, name, is_forgiving
):
    values = {"g": GREY, "c": COLOUR, "d": DEEP, "l": GREY}[name[0]]
    options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    whole = save(tmp_path / name, values, **options).read_bytes()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", is_forgiving)  # as some libraries do
    assert read_image(tmp_path / name).size == (45, 31)
    for share in (0.02, 0.3, 0.7, 0.97):
        cut = whole[: max(int(len(whole) * share), 20)]
        (tmp_path / name).write_bytes(cut)
        with pytest.raises(
            ReadError,
            match=rf"{name}' ends early \(truncated copy\?\), after {len(cut):,} bytes. Copy it",
        ):
            read_image(tmp_path / name)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is is_forgiving


def test_a_damaged_file_names_its_kind(tmp_path):
    path = save(tmp_path / "a.png", GREY)
    raw = bytearray(path.read_bytes())
    raw[20] ^= 255  # in the header, whose checksum no longer holds
    path.write_bytes(bytes(raw))
    with pytest.raises(
        ReadError, match=r"a.png' \([\d,]+ bytes\) is a PNG file that cannot be dec"
    ):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", b"", r"a.png' is empty \(0 bytes\)"),
        ("a.png", b"<html>not found</html>", r"is not the PNG file its name says: .* web page"),
        ("a.nii.gz", b"\x1f\x8b etc", r"no image that can be read here: expected \.png.* volume"),
        ("a.nii", b"\0\0\0\0", "write the slices you mean"),
        ("a.npy", b"\x93NUMPY", r"Cohort\.from_arrays"),
        ("a.gif", b"GIF89a etc", "Convert it to PNG"),
        ("a", b"some text", r"no image that can be read here: .*\.dcm"),
    ],
)
def test_what_is_no_image_is_refused_with_a_remedy(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReadError, match=words):
        read_image(tmp_path / name)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ReadError, match=r"the image '.*b.png' does not exist"):
        read_image(tmp_path / "b.png")
    with pytest.raises(ReadError, match="is a folder, not an image"):
        read_image(tmp_path)


def test_several_pages_are_refused_with_their_number(tmp_path):
    pages = [Image.fromarray(GREY) for _ in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ReadError, match=r"a.tif' holds 3 pages.*a file of its own"):
        read_image(tmp_path / "a.tif")
    assert_array_equal(pixels(save(tmp_path / "b.tif", pages[0])), GREY)


# --- thumbnails ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "small"),
    [((300, 200), (60, 40)), ((200, 300, 3), (40, 60, 3)), ((900, 2), (60, 1)), ((6, 3), (60, 30))],
)
def test_a_thumbnail_keeps_the_shape_and_the_brightness(tmp_path, shape, small):
    y, x = np.mgrid[: shape[0], : shape[1]]
    grey = (128 + 100 * np.sin(y / 40) * np.cos(x / 40)).astype(np.uint8)
    values = np.stack([grey, 255 - grey, grey // 2], axis=-1) if len(shape) == 3 else grey
    made = thumbnail(save(tmp_path / "a.png", values), 60)
    assert (made.dtype, made.shape) == (np.uint8, small)
    assert_allclose(made.mean(axis=(0, 1)), values.mean(axis=(0, 1)), atol=3)
    if len(shape) == 2:
        deep = thumbnail(save(tmp_path / "b.png", values.astype(np.uint16) * 257), 60)
        assert np.abs(deep.astype(int) - made).max() <= 1
