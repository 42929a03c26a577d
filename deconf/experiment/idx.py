"""IDX, the format of the MNIST files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy import ndarray

from deconf.errors import ReadError


def read_idx(path: Path) -> ndarray:
    """Read a gzipped IDX file of bytes: the format of the MNIST files.

    Raises
    ------
    ReadError
        It is missing, cut short or of another kind.
    """
    try:
        with gzip.open(path, "rb") as file:
            body = file.read()
    except (OSError, EOFError) as error:
        raise ReadError(f"{path.name} cannot be read: {error}. See DECONF_DATA.") from error
    if len(body) < 4 or body[:3] != b"\x00\x00\x08":
        raise ReadError(f"{path.name} is no IDX file of bytes: it starts with {body[:4]!r}.")
    axes = body[3]
    shape = struct.unpack(f">{axes}I", body[4 : 4 + 4 * axes])
    values = np.frombuffer(body, dtype=np.uint8, offset=4 + 4 * axes)
    if len(values) != np.prod(shape):
        raise ReadError(
            f"{path.name} holds {len(values):,} of {np.prod(shape):,} bytes: cut short?"
        )
    return values.reshape(shape)
