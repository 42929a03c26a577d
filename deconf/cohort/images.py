"""Image files as pictures: one reader for what cohorts are made of."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from deconf.errors import ReadError

if TYPE_CHECKING:
    from PIL import Image

SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
    (b"RIFF", "WEBP"),
    (b"BM", "BMP"),
    (b"P5", "PPM"),
    (b"P6", "PPM"),
)
SUFFIXES = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "PPM": (".pgm", ".ppm"),
    "DICOM": (".dcm", ".dicom"),
}
ELSEWHERE = {
    ".nii": "It is a volume: write the slices you mean to PNG or DICOM files.",
    ".gz": "Unpack it; of a volume write the slices you mean to PNG or DICOM files.",
    ".mha": "It is a volume: write the slices you mean to PNG or DICOM files.",
    ".npy": "Arrays go to Cohort.from_arrays.",
    ".npz": "Arrays go to Cohort.from_arrays.",
    ".svs": "It is a slide: cut it into tiles first.",
    ".ndpi": "It is a slide: cut it into tiles first.",
    ".zip": "Unpack it.",
}
COLOUR = {"1": "L", "LA": "L", "La": "L"}  # what a mode becomes; unlisted ones become RGB
MOST_PIXELS = 1 << 29  # 23,000 x 23,000: more is a slide, or an attack


def read_image(path: str | Path) -> Image.Image:
    """Return the picture in a file: PNG, JPEG, TIFF, BMP, WebP, PGM or DICOM.

    The kind is told by the content; the name only decides for DICOM without preamble.  An EXIF
    orientation is honoured, colour profiles are not.

    Parameters
    ----------
    path : path

    Returns
    -------
    PIL image
        8-bit files: mode "L" or "RGB", pixel for pixel as PIL decodes them; transparency is
        dropped.  Deeper ones: mode "F", 0 to 255 for the full range of the file's type, never of
        the image's own values, which would depend on its content.  Floating-point files must hold
        0 to 1 or 0 to 255.  DICOM: see `deconf.cohort.dicom.read_dicom`.

    Raises
    ------
    ReadError
        Missing, empty, of another kind, truncated or damaged, several pages, or a range of values
        that nobody declared.
    """
    path = Path(path)
    name = repr(str(path))
    try:
        with path.open("rb") as file:
            head = file.read(132)
            size = os.fstat(file.fileno()).st_size
            kind = _kind(head, path.suffix.lower())
            if kind not in (None, "DICOM"):
                return _decoded(file, kind, name, size)
    except OSError as error:
        raise ReadError(_unreadable(path, error)) from error
    if not head:
        raise ReadError(f"{name} is empty (0 bytes). Copy it again.")
    if kind is None:
        raise ReadError(_unknown(name, path.name.lower(), size))
    from deconf.cohort.dicom import read_dicom

    return read_dicom(path)


def thumbnail(path: str | Path, size: int) -> UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]:
    """Return a small copy of an image for a page, its longest side ``size`` pixels.

    Raises
    ------
    ReadError
        As `read_image`.
    """
    from PIL.Image import Resampling

    image = read_image(path)
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = np.asarray(image.resize((width, height), Resampling.BICUBIC, reducing_gap=2.0))
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _kind(head: bytes, suffix: str) -> str | None:
    """Return the kind of a file from its first bytes."""
    if head[128:132] == b"DICM":
        return "DICOM"  # first: its preamble may pose as a TIFF
    for signature, kind in SIGNATURES:
        if head.startswith(signature) and (kind != "WEBP" or head[8:12] == b"WEBP"):
            return kind
    return "DICOM" if head and suffix in SUFFIXES["DICOM"] else None


@lru_cache(maxsize=1)
def _openers() -> dict[str, Any]:
    """Return PIL's reader of each kind.

    Not `PIL.Image.open`: it warns of, and beyond a size refuses, the films of a large detector,
    and only a process-wide setting would stop it.
    """
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.PpmImagePlugin import PpmImageFile
    from PIL.TiffImagePlugin import TiffImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    return {
        "PNG": PngImageFile,
        "JPEG": JpegImageFile,
        "TIFF": TiffImageFile,
        "BMP": BmpImageFile,
        "WEBP": WebPImageFile,
        "PPM": PpmImageFile,
    }


def _decoded(file: BinaryIO, kind: str, name: str, size: int) -> Image.Image:
    """Return the picture in an open file of a known kind."""
    from PIL import ImageFile, ImageOps

    file.seek(0)
    try:
        with _openers()[kind](file) as image:
            pages = getattr(image, "n_frames", 1)
            if pages > 1:
                raise ReadError(
                    f"{name} holds {pages:,} pages, and one picture a row is read. Write the one "
                    "you mean to a file of its own; of a slide, cut tiles."
                )
            if image.width * image.height > MOST_PIXELS:
                raise ReadError(
                    f"{name} is {image.width:,} x {image.height:,} pixels: a slide? Cut tiles."
                )
            image.load()
            # Another library may have told PIL to fill what a truncated file lacks.
            if ImageFile.LOAD_TRUNCATED_IMAGES and _is_cut(file, kind, image):
                raise ReadError(_truncated(name, size))
            ImageOps.exif_transpose(image, in_place=True)
            return _plain(image, kind, name)
    except (ReadError, MemoryError):
        raise
    except Exception as error:  # PIL's readers raise all kinds on damaged files
        if _says_truncated(error) or _is_cut(file, kind):
            raise ReadError(_truncated(name, size)) from error
        raise ReadError(
            f"{name} ({size:,} bytes) is a {kind} file that cannot be decoded: {error}. "
            "A damaged copy? Copy it again."
        ) from error


def _is_cut(file: BinaryIO, kind: str, image: Any = None) -> bool:
    """Return whether the bytes of a file show that its end is missing."""
    file.seek(0)
    data = file.read()
    if kind == "JPEG":  # an end after the last scan; inside a scan these bytes cannot occur
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if kind == "PNG":
        return data.rfind(b"IEND") <= data.rfind(b"IDAT")
    if kind == "WEBP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    if kind == "TIFF" and image is None:  # the directory of a TIFF may lie at its end
        order: Any = "little" if data.startswith(b"II") else "big"
        at = int.from_bytes(data[4:8], order)
        return len(data) < at + 2 + 12 * int.from_bytes(data[at : at + 2] or b"\1", order)
    if kind == "TIFF":
        starts = image.tag_v2.get(273) or image.tag_v2.get(324) or ()
        lengths = image.tag_v2.get(279) or image.tag_v2.get(325) or ()
        return any(at + held > len(data) for at, held in zip(starts, lengths, strict=False))
    if image is None or kind == "BMP":
        return len(data) < int.from_bytes(data[2:6], "little") if kind == "BMP" else len(data) < 20
    depth = len(image.getbands()) * (2 if image.mode == "I" else 1)
    return len(data) < image.width * image.height * depth


def _plain(image: Image.Image, kind: str, name: str) -> Image.Image:
    """Return a decoded picture in mode "L", "RGB" or "F"."""
    if image.mode == "F":
        return _from_floats(image, name)
    if image.mode.startswith("I"):
        return _from_integers(image, kind, name)
    image.info = {}  # nothing of it is for the pixels, and EXIF texts may name a patient
    wanted = image.mode if image.mode in ("L", "RGB") else COLOUR.get(image.mode, "RGB")
    return image.convert(wanted)  # a copy also where the mode stays: no file behind it


def _from_integers(image: Image.Image, kind: str, name: str) -> Image.Image:
    """Return integers of more than 8 bits as 0 to 255 for the full range of their type.

    A TIFF's MinSampleValue and MaxSampleValue are left alone: the standard calls them statistics,
    and to scale each image by its own would make its brightness depend on its content.
    """
    from deconf.cohort.grayscale import as_picture

    values = np.asarray(image)
    low, high, is_inverted = 0, 65535, False
    if kind == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits, is_signed = tags.get(258, (16,))[0], tags.get(339, (1,))[0] == 2
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
        is_inverted = tags.get(262) == 0  # WhiteIsZero, which PIL minds in 8 bits only
        if bits == 32 and not is_signed:
            values = values.view(np.uint32)
    if values.min() < low or values.max() > high:
        raise ReadError(f"{name} holds values beyond the {low:,} to {high:,} of its type.")
    exact: Any = np.float64 if high > 65535 else np.float32
    levels = (values.astype(exact) - exact(low)) * exact(255 / (high - low))
    return as_picture((exact(255) - levels if is_inverted else levels).astype(np.float32))


def _from_floats(image: Image.Image, name: str) -> Image.Image:
    """Return floating-point values of 0 to 1, or of 0 to 255, as 0 to 255."""
    from deconf.cohort.grayscale import as_picture

    values = np.asarray(image)
    is_inverted = getattr(image, "tag_v2", {}).get(262) == 0  # WhiteIsZero
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ReadError(f"{name} holds pixels that are nan or infinite.")
    if low < 0 or high > 255:
        raise ReadError(
            f"{name} holds floating-point values from {low:g} to {high:g}: expected 0 to 1 or 0 to "
            "255. Scale all images by one and the same window, not each by its own range, which "
            "would make brightness depend on content."
        )
    levels = values * np.float32(255) if high <= 1 else values
    return as_picture(np.float32(255) - levels if is_inverted else levels)


def _says_truncated(error: Exception) -> bool:
    words = str(error).lower()
    return isinstance(error, EOFError) or any(
        hint in words for hint in ("truncated", "not enough", "end of file", "incomplete")
    )


def _truncated(name: str, size: int) -> str:
    return f"{name} ends early (truncated copy?), after {size:,} bytes. Copy it again."


def _unreadable(path: Path, error: OSError) -> str:
    if path.is_dir():
        return f"{str(path)!r} is a folder, not an image."
    if isinstance(error, FileNotFoundError):
        return f"the image {str(path)!r} does not exist."
    return f"{str(path)!r} cannot be read: {error.strerror or error}."


def _unknown(name: str, file_name: str, size: int) -> str:
    """Return why a file without a known signature is not read."""
    suffix = os.path.splitext(file_name)[1]
    for kind, suffixes in SUFFIXES.items():
        if suffix in suffixes:
            return (
                f"{name} ({size:,} bytes) is not the {kind} file its name says: its first bytes "
                "are something else, say a web page saved in place of the image. Copy it again."
            )
    known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    remedy = ELSEWHERE.get(suffix, "Convert it to PNG.")
    return f"{name} is no image that can be read here: expected {known}. {remedy}"
