"""Tables and embeddings from files: CSV, TSV, Parquet, .npy and .npz."""

from __future__ import annotations

import difflib
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deconf.cohort.shards import MANIFEST, is_store, read_store
from deconf.cohort.vectors import Vectors
from deconf.errors import CohortError, ReadError, listing

# Read the very number that was written, or digests differ: pandas does so since 3.1, where asking
# for it is deprecated.
PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])
EXACT: dict[str, Any] = {} if PANDAS >= (3, 1) else {"float_precision": "round_trip"}

Stream = Any  # of bytes, from a file or out of a zip: no one type fits both

# What a file calls its embeddings when it holds several arrays or columns.
EMBEDDING_NAMES = ("emb", "embeddings", "embedding", "z")


def read_table(source: Any) -> tuple[pd.DataFrame, Path | None]:
    """Return a table as a fresh DataFrame with rows 0 to n - 1, and the folder it lies in.

    Parameters
    ----------
    source : path, DataFrame, or anything with ``to_pandas()``
        A .csv, .csv.gz, .tsv, .tsv.gz or .parquet file; a polars frame, a pyarrow table.

    Raises
    ------
    ReadError
        The file is missing, of another kind, or damaged.
    """
    if isinstance(source, pd.DataFrame):
        return source.copy(), None
    if hasattr(source, "to_pandas"):
        return source.to_pandas().copy(), None
    if not isinstance(source, str | Path):
        raise CohortError(
            f"a table is a path, a DataFrame or has .to_pandas(); this is {type(source).__name__}."
        )
    path = existing(source)
    reader = _by_suffix(
        path,
        {
            ".csv": lambda p: _read_text(p, ","),
            ".csv.gz": lambda p: _read_text(p, ","),
            ".tsv": lambda p: _read_text(p, "\t"),
            ".tsv.gz": lambda p: _read_text(p, "\t"),
            ".parquet": pd.read_parquet,
        },
        "table",
    )
    with _said_of(path):
        return reader(path), path.parent


def read_vectors(path: Path, columns: pd.Index) -> Vectors:
    """Return the embeddings in a file, with those of its columns that the table has too.

    Parameters
    ----------
    path : existing .npy, .npz or .parquet file, or folder with a store
    columns : Index
        The columns of the table, on which rows may be joined.

    Raises
    ------
    ReadError
        The file is of another kind or damaged, holds pickled objects, or it is not clear which
        of its arrays are the embeddings.
    """
    if is_store(path):
        with _said_of(path):
            return read_store(path)
    read = _by_suffix(
        path, {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}, "embedding"
    )
    with _said_of(path):
        return read(path, columns)


def existing(source: str | Path, folder: Path | None = None) -> Path:
    """Return a file or store, tried as it is and beside the table; `ReadError` if neither."""
    path = Path(source).expanduser()
    for tried in [path, *([folder / path] if folder is not None else [])]:
        if tried.is_file() or is_store(tried):
            return tried
    homes = {path.parent, folder / path.parent if folder is not None else path.parent}
    names = [p.name for home in homes if home.is_dir() for p in home.iterdir() if p.is_file()]
    near = difflib.get_close_matches(path.name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if path.is_dir():
        raise ReadError(
            f"the file {str(source)!r} is a folder, and no store of embeddings: it has no "
            f"{MANIFEST}.{hint}"
        )
    raise ReadError(f"the file {str(source)!r} does not exist.{hint}")


def looks_like_path(text: str) -> bool:
    """Return whether a name is meant as a file of embeddings."""
    return text.lower().endswith((".npy", ".npz", ".parquet", "/", os.sep)) or Path(text).exists()


def _by_suffix(path: Path, readers: dict[str, Callable[..., Any]], kind: str) -> Callable[..., Any]:
    for suffix, reader in readers.items():
        if path.name.lower().endswith(suffix):
            return reader
    raise ReadError(
        f"{path.name!r} is no {kind} file that can be read here: expected {', '.join(readers)}."
    )


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    """Name the file in whatever a reader raises on damaged input."""
    import pyarrow as pa

    damaged = (OSError, EOFError, ValueError, KeyError, pa.ArrowException)
    try:
        yield
    except (*damaged, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        size = path.stat().st_size
        raise ReadError(
            f"{path.name!r} ({size:,} bytes) cannot be read: {error}. "
            "A truncated copy, or another kind of file than its name says?"
        ) from error


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    # pandas renames a second column 'a' to 'a.1' without a word, so the header is read raw first.
    header = pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str).iloc[0].dropna()
    if header.duplicated().any():
        twice = header[header.duplicated()].unique()
        raise CohortError(f"{path.name!r} has two columns named {listing(map(repr, twice))}.")
    if len(header) == 1 and ";" in header.iloc[0]:
        raise ReadError(
            f"{path.name!r} seems to be separated by ';': read it with pandas.read_csv(..., "
            "sep=';') and pass the DataFrame."
        )
    return pd.read_csv(path, sep=separator, low_memory=False, **EXACT)


def _read_npy(path: Path, _: pd.Index) -> Vectors:
    with path.open("rb") as file:
        return Vectors(_plain_array(file, path.name), f"the file {path.name!r}")


def _read_npz(path: Path, columns: pd.Index) -> Vectors:
    with zipfile.ZipFile(path) as archive:
        names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
        shapes = {}
        for name in names:
            with archive.open(f"{name}.npy") as file:
                shapes[name] = _header(file)[0]
        chosen = _only(path, [n for n, shape in shapes.items() if len(shape) >= 2], names)
        with archive.open(f"{chosen}.npy") as file:
            values = _plain_array(file, f"{path.name}: {chosen}")
        keys = {}
        for name in names:
            if name != chosen and name in columns and shapes[name] == values.shape[:1]:
                with archive.open(f"{name}.npy") as file:
                    if _header(file)[1].hasobject:
                        _say_unread(path, name)
                        continue
                    file.seek(0)
                    keys[name] = np.lib.format.read_array(file, allow_pickle=False)
    return Vectors(values, f"the file {path.name!r}", pd.DataFrame(keys))


def _only(path: Path, candidates: list[str], present: list[str]) -> str:
    """Return the array or column that holds the embeddings."""
    named = [name for name in EMBEDDING_NAMES if name in present]
    if named:
        return named[0]
    if len(candidates) != 1:
        raise ReadError(
            f"{path.name!r} holds {listing(present) or 'nothing'}: which are the embeddings? "
            f"Name one of them {EMBEDDING_NAMES[0]!r}."
        )
    return candidates[0]


def _header(file: Stream) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and dtype of a .npy stream, leaving it at the data."""
    version = np.lib.format.read_magic(file)
    newer = version >= (2, 0)
    read = np.lib.format.read_array_header_2_0 if newer else np.lib.format.read_array_header_1_0
    shape, _, dtype = read(file)
    return shape, dtype


def _plain_array(file: Stream, name: str) -> np.ndarray:
    """Return an array of numbers or fixed-width text; pickled objects could run code: refused."""
    if _header(file)[1].hasobject:
        raise ReadError(
            f"{name!r} holds pickled objects, which could run any code when read, and is refused "
            "(allow_pickle=False). Save numbers: np.savez(path, emb=z.astype('float32'))."
        )
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _say_unread(path: Path, name: str) -> None:
    """Warn that names which could have been joined on are pickled, so that order must do."""
    warnings.warn(
        f"the array {name!r} of {path.name!r} is pickled text and is not read: embeddings are "
        "taken in the order of the table. To have them joined by name, save the names as text: "
        f"np.savez(path, emb=z, {name}=np.array(names, dtype=str)).",
        stacklevel=6,
    )


def _read_parquet(path: Path, columns: pd.Index) -> Vectors:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    held = [f.name for f in table.schema if _holds_vectors(f.type)]
    if held:
        chosen = _only(path, held, held)
        field = table.schema.field(chosen)
        column = table.column(chosen).combine_chunks()
        present = column.is_valid().to_numpy(zero_copy_only=False)
        column = column.drop_null()
        if pa.types.is_fixed_size_binary(field.type):
            values = _from_bytes(column, field, path.name)
        else:
            values = _from_lists(column, f"{path.name}: {chosen}")
    else:
        numbers = [
            f.name
            for f in table.schema
            if (pa.types.is_floating(f.type) or pa.types.is_integer(f.type))
            and f.name not in columns
        ]
        if not numbers:
            raise ReadError(
                f"{path.name!r} holds {listing(table.column_names)}: no column of vectors, and no "
                "numeric columns beside those of the table."
            )
        values = table.select(numbers).to_pandas().to_numpy()
        present = np.ones(len(values), dtype=bool)
    shared = [c for c in table.column_names if c in columns and c not in held]
    keys = table.select(shared).to_pandas()[present].reset_index(drop=True)
    return Vectors(values, f"the file {path.name!r}", keys)


def _holds_vectors(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return types.is_fixed_size_binary(kind) or (
        (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
        and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type))
    )


def _from_bytes(column: Any, field: Any, name: str) -> np.ndarray:
    """Return fixed-size binary as numbers: float32 unless ``metadata={"dtype": "float16"}``."""
    said = (field.metadata or {}).get(b"dtype", b"").decode()
    dtype = np.dtype(said or ("float32" if field.type.byte_width % 4 == 0 else "float16"))
    cells = b"".join(column.to_pylist())
    values = np.frombuffer(cells, dtype=dtype).reshape(len(column), -1)
    if not said and dtype == np.float32:
        # The low half of a float32 is nearly random bits, one in 32 of which reads as an infinite
        # float16.  Thousands without one are float16 numbers misread in pairs.
        halves = np.frombuffer(cells, dtype=np.float16)
        if len(halves) > 2048 and np.isfinite(halves).all() and halves[::2].any():
            raise ReadError(
                f"{name!r}: {field.name!r} seems to hold float16, not float32. Say which in the "
                "field: pa.field(name, pa.binary(2 * d), metadata={'dtype': 'float16'})."
            )
    return values


def _from_lists(column: Any, name: str) -> np.ndarray:
    """Return an Arrow column of lists as a matrix."""
    import pyarrow.compute as pc

    widths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    if len(widths) and (widths != widths[0]).any():
        odd = int((widths != widths[0]).argmax())
        raise ReadError(
            f"{name!r} holds vectors of different lengths: {widths[0]} numbers at first, "
            f"{widths[odd]} in vector {odd}."
        )
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(widths), -1)
