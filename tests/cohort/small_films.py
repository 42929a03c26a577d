"""Films of a few pixels, as DICOM files of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from deconf.cohort.dicom import read_dicom

NAME = "Mustermann^Erika"  # must never be seen again


def dataset(values: np.ndarray, **header) -> Dataset:
    """Return a film as a dataset: grey, or colour with three channels."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
    ds.PatientName, ds.PatientBirthDate, ds.StudyDescription = NAME, "19640812", f"of {NAME}"
    ds.Rows, ds.Columns = values.shape[:2]
    ds.SamplesPerPixel = 1 if values.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    if values.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8 * values.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    ds.PixelData = values.tobytes()
    ds["PixelData"].VR = "OW" if values.itemsize > 1 else "OB"
    return ds


def write(path: Path, values: np.ndarray, syntax=ExplicitVRLittleEndian, **header) -> Path:
    """Write a film in a transfer syntax."""
    ds = dataset(values, **header)
    if syntax == ExplicitVRBigEndian:
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = values.astype(values.dtype.newbyteorder(">")).tobytes()
        pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=False)
        return path
    if syntax == ImplicitVRLittleEndian:
        ds.file_meta.TransferSyntaxUID = syntax
    elif syntax != ExplicitVRLittleEndian:
        # The RLE encoder of gdcm aborts on some colour images.
        plugin = "pydicom" if syntax == RLELossless else ""
        ds.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)
    return path


def shown(path: Path, **options) -> np.ndarray:
    return np.asarray(read_dicom(path, **options))


def film(seed: int = 0, bits: int = 12, shape: tuple[int, int] = (33, 41)) -> np.ndarray:
    """Return smooth values with noise, so that compression has something to do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    level = 0.5 + 0.4 * np.sin(y / 9) * np.cos(x / 7) + rng.normal(0, 0.02, size=shape)
    return (level.clip(0, 1) * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)


def lut(entries: np.ndarray, first: int, bits: int, vr: str = "OW") -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    held = entries.astype("<u2").tobytes() if vr == "OW" else entries.tolist()
    item.add_new("LUTData", vr, held)
    return item
