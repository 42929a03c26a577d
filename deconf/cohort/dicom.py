"""DICOM files as pictures.

Only the elements that say how to show the pixels are read from a header, so no name or date can
reach a message.  Pixel aspect and spacing are ignored: encoders resize to one shape anyway.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from struct import unpack
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from deconf.cohort.grayscale import as_picture, grey_levels, numbers
from deconf.errors import ReadError

if TYPE_CHECKING:
    from PIL import Image

UNDEFINED = 0xFFFFFFFF  # the length of a compressed element: ends at a delimiter
ITEM, END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
PIXEL_DATA = (0x7FE00010, 0x7FE00008, 0x7FE00009)  # of integers, floats and doubles
LONG = (b"OB", b"OW", b"OF", b"OD", b"UN")  # as implicit lengths all odd, which no length is
BEYOND_THE_PIXEL_MODULE = (
    0x00080016,  # SOP Class UID, to say that a file is a report
    0x52009229,  # Shared and Per-Frame Functional Groups: windows of enhanced objects
    0x52009230,
    0x7FE00001,  # Extended Offset Table and its lengths
    0x7FE00002,
)


def read_dicom(path: str | Path, *, frame: int | None = None) -> Image.Image:
    """Return a DICOM image as it would be shown, grey as floats or in colour.

    Parameters
    ----------
    path : path
        With or without preamble, of any transfer syntax pydicom reads.
    frame : int, optional
        Which frame of several, from 0.

    Returns
    -------
    PIL image
        Mode "F", 0 to 255, white is bright whatever the polarity in the file; or "RGB".  Without
        window or VOI LUT 0 to 255 is the full range of the image's own stored values.

    Raises
    ------
    ReadError
        No DICOM, no pixels, several frames and none chosen, damaged, or compressed in a way no
        installed decoder knows.
    """
    try:
        with Path(path).open("rb") as file:
            header = _header(file, os.fstat(file.fileno()).st_size)
            frame = _checked_frame(header, frame)
            return _picture(_decoded(header, frame), header, frame)
    except ReadError as error:
        raise ReadError(f"{str(path)!r} {error}.") from None
    except OSError as error:
        raise ReadError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    except MemoryError:
        raise
    except Exception as error:
        # A damaged header makes pydicom raise all kinds, in words that may quote what it met.
        raise ReadError(
            f"{str(path)!r} has a damaged or contradictory header ({type(error).__name__}), or "
            "ends early (truncated copy?). Copy it again."
        ) from None


@lru_cache(maxsize=1)
def _tags() -> list[Any]:
    """Return the elements that are read: group 0028, Image Pixel, and a few more."""
    from pydicom.datadict import DicomDictionary

    return [tag for tag in DicomDictionary if tag >> 16 == 0x0028] + [*BEYOND_THE_PIXEL_MODULE]


def _header(file: BinaryIO, size: int) -> Any:
    """Return the elements needed of a dataset, with its pixel data as one element."""
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=_tags())
    if header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        # Positions in the file mean nothing: read what was inflated, pixels and all.
        file.seek(0)
        header = pydicom.dcmread(file, force=True, specific_tags=[*_tags(), *PIXEL_DATA])
        if not any(tag in header for tag in PIXEL_DATA):
            raise ReadError(_without_pixels(header, file, size))
        return header
    _fill_transfer_syntax(header)
    if not numbers(header, "NumberOfFrames"):
        header.pop("NumberOfFrames", None)  # optional, and sometimes left empty
    _attach_pixels(header, file, size)
    return header


def _fill_transfer_syntax(header: Any) -> None:
    """Set the transfer syntax pydicom found the header to be in, where the file names none."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" in header.file_meta:
        return
    is_implicit, is_little = header.original_encoding
    explicit = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit


def _attach_pixels(header: Any, file: BinaryIO, size: int) -> None:
    """Read the pixel data element that comes next and put it into the header.

    Raises
    ------
    ReadError
        There is none, or it ends early: said with bytes, which pydicom cannot.
    """
    from pydicom.dataelem import DataElement
    from pydicom.pixels.utils import get_expected_length

    order = "<" if header.original_encoding[1] else ">"
    start = file.read(8)
    if len(start) < 8 or unpack(f"{order}H", start[:2])[0] != 0x7FE0:
        raise ReadError(_without_pixels(header, file, size))
    group, number = unpack(f"{order}HH", start[:4])
    vr, length_bytes = "OW", start[4:]
    if start[4:6] in LONG:  # whatever the header says: some writers change in between
        vr, length_bytes = start[4:6].decode(), file.read(4)
    (length,) = unpack(f"{order}L", length_bytes)
    if length == UNDEFINED:
        data = _fragments(file, size)
    else:
        data = file.read(length)
        if len(data) < length:
            raise ReadError(_ends_early(len(data), length, "pixel data"))
        expected = get_expected_length(header)
        if len(data) < expected:
            raise ReadError(
                f"has {len(data):,} bytes of pixel data where its header asks for {expected:,}: "
                "a damaged copy, or a header that was edited"
            )
        if header.get("PhotometricInterpretation") != "YBR_FULL_422":
            data = data[: expected + expected % 2]  # some archives pad further
    tag = group << 16 | number
    header[tag] = DataElement(tag, vr, data, is_undefined_length=length == UNDEFINED)


def _fragments(file: BinaryIO, size: int) -> bytes:
    """Return the items of encapsulated pixel data (PS3.5, A.4), after seeing them all there."""
    start = at = file.tell()
    while True:
        file.seek(at)
        item = file.read(8)
        if len(item) < 8:
            raise ReadError(_ends_early(size - start, at + 8 - start))
        group, number, length = unpack("<HHL", item)
        if (group, number) == END:
            break
        if (group, number) != ITEM or length == UNDEFINED:
            raise ReadError(f"has compressed pixel data damaged {at - start:,} bytes in")
        at += 8 + length
    file.seek(start)
    return file.read(at - start)


def _ends_early(have: int, need: int, what: str = "compressed pixel data at least") -> str:
    return f"ends after {have:,} of {need:,} bytes of {what} (truncated copy?). Copy it again"


def _without_pixels(header: Any, file: BinaryIO, size: int) -> str:
    """Return why a file has no pixel data, as a message."""
    uid = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    if not len(header) and not uid:
        return f"is no DICOM image, or ends early (truncated copy?): it has {size:,} bytes"
    known = uid.name if uid and uid.name != str(uid) else ""  # a name of the standard
    if "Rows" in header or file.tell() > size or "Image Storage" in known:
        return f"ends after {size:,} bytes, before its pixel data (truncated copy?). Copy it again"
    kind = known or "a report, a plan or a directory?"
    return f"has no pixel data ({kind}). Leave it out of the table"


def _checked_frame(header: Any, frame: int | None) -> int:
    """Return which frame is meant."""
    said = numbers(header, "NumberOfFrames")
    count = int(said[0]) if said else 1
    if frame is None and count > 1:
        raise ReadError(
            f"holds {count:,} frames, and one picture a row is read. Write the one you mean to a "
            f"file of its own: read_dicom(path, frame={count // 2}).save('frame.tif')"
        )
    frame = frame or 0
    if not 0 <= frame < count:
        raise ReadError(f"has no frame {frame}: it holds {count:,}, counted from 0")
    return frame


def _decoded(header: Any, frame: int) -> np.ndarray:
    """Return the stored values of a frame, in RGB where colour was stored as luma and chroma."""
    from pydicom.pixels import get_decoder, pixel_array

    syntax = header.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ReadError(
            "holds a video, or is compressed in a way pydicom does not know. Convert it, say with "
            "gdcmconv --raw"
        ) from None
    if not decoder.is_available:
        raise ReadError(
            f"is compressed ({syntax.name}), and no decoder for that is installed: "
            "pip install 'deconf[dicom]'"
        )
    failed: Exception | None = None
    for plugin in _trusted(decoder.available_plugins) if syntax.is_compressed else ("",):
        try:
            return pixel_array(header, index=frame, view_only=True, decoding_plugin=plugin)
        except MemoryError:
            raise
        except Exception as error:  # of as many kinds as there are decoders
            failed = error
    known = f"{type(failed).__name__}, {syntax.name}"
    raise ReadError(
        f"has pixels that cannot be decoded ({known}): damaged, or a variant the installed "
        "decoders do not know, such as lossy JPEG of 12 bits. Copy it again, or convert it, say "
        "with gdcmconv --raw"
    )


def _trusted(plugins: tuple[str, ...]) -> tuple[str, ...]:
    """Return the decoders to try, gdcm only where there is no other.

    On a damaged stream gdcm may end the process, and with it a day's embedding; it also holds
    the lock that keeps threads waiting.
    """
    safe = ("pydicom", "pyjpegls", "pillow")
    others: tuple[str, ...] = tuple(name for name in safe if name in plugins)
    others += tuple(name for name in plugins if name not in (*others, "gdcm"))
    return others or plugins


def _picture(pixels: np.ndarray, header: Any, frame: int) -> Image.Image:
    """Return stored values as a picture, grey or in colour."""
    from PIL import Image

    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        pixels = apply_color_lut(pixels, header)[..., :3]
        bits = 8 * pixels.dtype.itemsize
    else:
        bits = int(header.get("BitsStored") or 8 * pixels.dtype.itemsize)
    if pixels.ndim == 2:
        return as_picture(grey_levels(pixels, header, frame))
    if pixels.dtype.kind != "u" or pixels.shape[-1] != 3:
        raise ReadError(f"holds {pixels.shape[-1]} channels of {pixels.dtype}, not grey or RGB")
    if pixels.dtype.itemsize > 1:
        pixels = np.clip(np.rint(pixels * (255 / (2**bits - 1))), 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels))
