"""Embeddings on disk: a folder of Parquet shards, and a manifest that vouches for each of them.

A shard is written whole or not at all, and the manifest after it, so that a run killed at any
moment has lost one shard at most.  Bytes depend on the images and the recipe alone: what was
interrupted and resumed equals what was not, file by file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from deconf.cohort.vectors import Vectors
from deconf.cohort.wholefile import from_parquet, parquet_bytes, write_whole
from deconf.errors import ReadError, SettingsError, listing

FORMAT = 1
MANIFEST = "manifest.json"
SHARD_NAME = re.compile(r"shard-\d{5,}\.parquet")


@dataclass(frozen=True)
class Shard:
    """One file of a store.

    Parameters
    ----------
    first : int
        The row of the list of images at which it begins.
    rows : int
        Embeddings in it; images that could not be read are not among them.
    file, sha256 : str
    """

    first: int
    rows: int
    file: str
    sha256: str


@dataclass(frozen=True)
class Skipped:
    """An image of the list without an embedding: its row, name, sha256 ("" if none), and why."""

    row: int
    image: str
    content: str
    why: str


@dataclass(frozen=True)
class Manifest:
    """What a store holds, and everything that decides its numbers.

    Parameters
    ----------
    recipe : dict
        The encoder: weights, preprocessing, precision.
    batch, rows_per_shard : int
        Both decide bits: kernels are chosen by the shape of a batch.
    inputs : str
        Sha256 of the list of images.
    total : int
        Length of that list.
    width : int or None
        Columns of the embedding; None before the first shard.
    dtype : str
    is_complete : bool
    shards : tuple of Shard, by row
    unread : tuple of Skipped, by row
    format : int
    """

    recipe: dict[str, Any]
    batch: int
    rows_per_shard: int
    inputs: str
    total: int
    width: int | None = None
    dtype: str = "float32"
    is_complete: bool = False
    shards: tuple[Shard, ...] = ()
    unread: tuple[Skipped, ...] = ()
    format: int = FORMAT

    def with_shard(self, shard: Shard, width: int | None, unread: Sequence[Skipped]) -> Manifest:
        """Return the manifest after one more shard."""
        shards = sorted([*self.shards, shard], key=lambda s: s.first)
        return replace(
            self,
            width=width or self.width,
            shards=tuple(shards),
            unread=tuple(sorted([*self.unread, *unread], key=lambda u: u.row)),
            is_complete=len(shards) == len(range(0, self.total, self.rows_per_shard)),
        )

    def with_only(self, firsts: Collection[int]) -> Manifest:
        """Return the manifest with the shards that begin at these rows, the others forgotten."""
        size = self.rows_per_shard
        shards = tuple(shard for shard in self.shards if shard.first in firsts)
        unread = tuple(one for one in self.unread if one.row // size * size in firsts)
        return replace(self, shards=shards, unread=unread, is_complete=False)


@dataclass(frozen=True, eq=False)
class Held:
    """What one shard holds, row by row: image names, sha256 of their files, embeddings."""

    images: list[str]
    contents: list[str]
    vectors: Float32[np.ndarray, "n d"]


def read_store(folder: str | Path) -> Vectors:
    """Return the embeddings of a store, every byte checked against its manifest.

    Images that could not be read have no embedding here; ``on_missing`` of `Cohort.read` decides
    about their rows.

    Raises
    ------
    ReadError
        No store, an unfinished one, or a shard that is missing or altered.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if not manifest.is_complete:
        done = sum(shard.rows for shard in manifest.shards) + len(manifest.unread)
        raise ReadError(
            f"the store {folder.name!r} is unfinished: {done:,} of {manifest.total:,} images. Give "
            "the command that writes it again: it goes on where it stopped."
        )
    rows = sum(shard.rows for shard in manifest.shards)
    values = np.empty((rows, manifest.width or 0), dtype=np.float32)
    images: list[str] = []
    for shard in manifest.shards:
        held = read_shard(folder, shard)
        if shard.rows:  # an empty shard does not know its width
            values[len(images) : len(images) + shard.rows] = held.vectors
        images += held.images
    keys = pd.DataFrame({"image": np.array(images, dtype=object)})
    return Vectors(values, f"the store {folder.name!r}", keys, are_images=True)


def is_store(path: Path) -> bool:
    """Return whether a folder is a store of embeddings."""
    return (path / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a store.

    Raises
    ------
    ReadError
        There is none, it is damaged, or a later version wrote it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ReadError(f"the folder {folder.name!r} is no store of embeddings: no {MANIFEST}.")
    text = path.read_bytes()
    try:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise ReadError(
                f"the store {folder.name!r} has format {record['format']!r}; this version reads "
                f"{FORMAT}. Read it with the version of deconf that wrote it, or embed again."
            )
        record["shards"] = tuple(Shard(**shard) for shard in record["shards"])
        record["unread"] = tuple(Skipped(**image) for image in record["unread"])
        manifest = Manifest(**record)
        if not all(SHARD_NAME.fullmatch(shard.file) for shard in manifest.shards):
            raise ValueError("a shard by another name")
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"{MANIFEST!r} of the store {folder.name!r} ({len(text):,} bytes) cannot be read: "
            f"{error}. A truncated copy? Copy it again, or embed into another folder."
        ) from error
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put a manifest in place of the last one."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True, ensure_ascii=False)
    write_whole(folder / MANIFEST, f"{text}\n".encode())


def write_shard(folder: Path, first: int, number: int, held: Held) -> Shard:
    """Write one shard whole; return what the manifest says of it."""
    data = parquet_bytes({"image": held.images, "content": held.contents}, held.vectors)
    shard = Shard(
        first=first,
        rows=len(held.images),
        file=f"shard-{number:05d}.parquet",
        sha256=hashlib.sha256(data).hexdigest(),
    )
    write_whole(folder / shard.file, data)
    return shard


def read_shard(folder: Path, shard: Shard) -> Held:
    """Return what a shard holds.

    Raises
    ------
    ReadError
        The file is missing or not the one that was written.
    """
    path = folder / shard.file
    again = "Give the command that writes the store again: it makes only that shard."
    if not path.is_file():
        raise ReadError(f"{shard.file!r} of the store {folder.name!r} is missing. {again}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise ReadError(
            f"{shard.file!r} of the store {folder.name!r} ({len(data):,} bytes) is not the file "
            f"that was written: its sha256 differs from the manifest. Delete that file. {again}"
        )
    names, vectors = from_parquet(data)
    return Held(names["image"], names["content"], vectors)


def require_same(found: Manifest, wanted: Manifest, folder: Path, images: Sequence[str]) -> None:
    """Raise `SettingsError` unless a store holds what is now asked for.

    Parameters
    ----------
    found, wanted : Manifest
    folder : Path
    images : sequence of str
        The list of images as it is now.
    """
    differ = _differences("recipe", found.recipe, wanted.recipe)
    for name in ("batch", "rows_per_shard"):
        differ += _differences(name, getattr(found, name), getattr(wanted, name))
    if found.inputs != wanted.inputs:
        differ.append(f"the list of images ({_first_other(found, folder, images)})")
    if differ:
        raise SettingsError(
            f"the store {folder.name!r} was begun otherwise: {listing(differ)}. One store has one "
            "recipe and one list of images: embed into another folder, or ask for what it was "
            "begun with."
        )


def _differences(name: str, there: Any, now: Any) -> list[str]:
    """Return the settings that differ, each with both values."""
    if isinstance(there, dict) and isinstance(now, dict):
        keys = [*there, *(key for key in now if key not in there)]
        inner = [_differences(f"{name}.{k}", there.get(k), now.get(k)) for k in keys]
        return [line for lines in inner for line in lines]
    return [] if there == now else [f"{name} is {there!r} there and {now!r} now"]


def _first_other(found: Manifest, folder: Path, images: Sequence[str]) -> str:
    """Return where two lists of images part, as far as the shards at hand can tell."""
    if found.total != len(images):
        return f"{found.total:,} there, {len(images):,} now"
    skipped = {image.row: image.image for image in found.unread}
    for shard in found.shards:
        if not (folder / shard.file).is_file():
            continue
        held = iter(read_shard(folder, shard).images)
        for row in range(shard.first, min(shard.first + found.rows_per_shard, found.total)):
            name = skipped[row] if row in skipped else next(held, "")
            if name != images[row]:
                return f"row {row} is {name!r} there and {images[row]!r} now"
    return "in rows not embedded yet"


def list_digest(images: Sequence[str]) -> str:
    """Return the sha256 of a list of names."""
    return hashlib.sha256(json.dumps(list(images)).encode()).hexdigest()
