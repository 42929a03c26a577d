"""Files written whole: Parquet with the same bytes every time, and no half of one after a crash."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

import numpy as np
from jaxtyping import Float32

PARTIAL = ".partial"
ROW_GROUP = 8192


def content_digest(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parquet_bytes(names: dict[str, list[str]], vectors: Float32[np.ndarray, "n d"]) -> bytes:
    """Return columns of text and one of vectors as a Parquet file, the same bytes every time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Without a row nobody may know the width yet, and the bytes must not depend on who does.
    width = 4 * vectors.shape[1] if len(vectors) else 4
    cells = pa.py_buffer(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
    kind = pa.binary(width)
    columns = [pa.array(column, pa.string()) for column in names.values()]
    columns.append(pa.Array.from_buffers(kind, len(vectors), [None, cells]))
    schema = [pa.field(name, pa.string()) for name in names]
    schema.append(pa.field("embedding", kind, metadata={"dtype": "float32"}))
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns, schema=pa.schema(schema)),
        sink,
        row_group_size=ROW_GROUP,
        compression="none",  # embeddings do not compress
        use_dictionary=False,
        write_statistics=False,
    )
    return sink.getvalue().to_pybytes()


def from_parquet(data: bytes) -> tuple[dict[str, list[str]], Float32[np.ndarray, "n d"]]:
    """Return the columns of text and the vectors that `parquet_bytes` wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(data)).combine_chunks()
    names = {c: table.column(c).to_pylist() for c in table.column_names if c != "embedding"}
    width = table.schema.field("embedding").type.byte_width // 4
    vectors = np.empty((len(table), width), dtype=np.float32)
    start = 0
    for chunk in table.column("embedding").chunks:
        # straight from the buffer: row by row through Python objects is ten times as slow
        cells = np.frombuffer(chunk.buffers()[1], dtype="<f4")
        rows = cells[chunk.offset * width : (chunk.offset + len(chunk)) * width]
        vectors[start : start + len(chunk)] = rows.reshape(len(chunk), width)
        start += len(chunk)
    return names, vectors


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part.

    Raises
    ------
    OSError
        The disk is full or gone; what was half written is removed.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_partial(folder: Path) -> None:
    """Remove what a killed run left half written; the caller holds the lock."""
    for path in folder.glob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; Windows knows no such call on folders."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
