"""A store that is being written: what of it stands, what is made again, what is added."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from deconf.cohort.cohort import Cohort
from deconf.cohort.lock import LOCK
from deconf.cohort.shards import (
    Held,
    Manifest,
    Skipped,
    is_store,
    read_manifest,
    read_shard,
    require_same,
    write_manifest,
    write_shard,
)
from deconf.cohort.vectors import as_text
from deconf.cohort.wholefile import PARTIAL, content_digest
from deconf.encoders.readahead import Group, in_threads
from deconf.errors import DeconfError, ReadError, SettingsError, listing


def distinct(cohort: Cohort) -> tuple[list[str], list[Path]]:
    """Return the images of a cohort, each once, by name and by path."""
    paths = cohort.image_paths  # raises where no column names the images
    names = as_text(cohort.table[cohort.roles["image"]])
    first: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        first.setdefault(name, path)
    return list(first), list(first.values())


def require_own(folder: Path) -> None:
    """Raise where a folder holds something else than a store."""
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{str(folder)!r} is a file: a store is a folder. Name another.")
    if not folder.is_dir() or is_store(folder):
        return
    ours = (LOCK, PARTIAL)  # a run killed before its first manifest leaves these
    others = sorted(p.name for p in folder.iterdir() if not p.name.endswith(ours))
    if others:
        raise SettingsError(
            f"the folder {str(folder)!r} holds {listing(others, 3)} and is no store of embeddings: "
            "nothing is written among other files. Name an empty or a new folder."
        )


def begun(wanted: Manifest, folder: Path, images: list[str], batch: int | None) -> Manifest:
    """Return the manifest to go on from: the one at hand if it is of the same job."""
    if not is_store(folder):
        return wanted
    found = read_manifest(folder)
    require_same(found, replace(wanted, batch=batch or found.batch), folder, images)
    return found


def reusable(
    manifest: Manifest,
    folder: Path,
    images: list[str],
    paths: list[Path],
    on_error: str,
    workers: int,
) -> set[int]:
    """Return the first rows of the shards that stand: there, unaltered, of the same files.

    Raises
    ------
    ReadError
        A shard is altered, an image is gone, or one could not be read and ``on_error`` is "raise".

    Warns
    -----
    UserWarning
        An image is not the one that was embedded.
    """
    then: dict[int, str] = {one.row: one.content for one in manifest.unread}
    row_of = {image: row for row, image in enumerate(images)}
    there = [shard for shard in manifest.shards if (folder / shard.file).is_file()]
    for shard in there:
        held = read_shard(folder, shard)
        then |= {row_of[i]: c for i, c in zip(held.images, held.contents, strict=True)}
    rows = list(then)
    now = dict(zip(rows, in_threads(lambda row: _digest(paths[row]), rows, workers), strict=True))
    for row in rows:
        if then[row] and not now[row]:
            raise ReadError(
                f"{str(paths[row])!r} was there for an earlier run and cannot be opened now. Is "
                "its disk mounted? Nothing in the store was changed."
            )
    same = [one for one in manifest.unread if then[one.row] == now[one.row]]
    if same and on_error == "raise":
        raise ReadError(
            f"{same[0].why} {len(same):,} of {len(images):,} images could not be read by an "
            "earlier run and are what they were. Mend them, or pass "
            'on_error="skip" to leave them out.'
        )
    changed = [row for row in rows if then[row] != now[row]]
    if changed:
        warnings.warn(
            f"{listing([repr(images[row]) for row in changed], 3)}: not the file that was embedded "
            f"before. Its shard of {manifest.rows_per_shard:,} images is embedded again.",
            stacklevel=3,
        )
    stale = {row // manifest.rows_per_shard * manifest.rows_per_shard for row in changed}
    return {shard.first for shard in there} - stale


def _digest(path: Path) -> str:
    try:
        return content_digest(path)
    except OSError:
        return ""


def written(manifest: Manifest, folder: Path, group: Group, images: list[str]) -> Manifest:
    """Write one shard, then the manifest that counts it."""
    start = group.rows.start
    lost = {one.row for one in group.unread}
    rows = [row for row in group.rows if row not in lost]
    width = None if group.vectors is None else group.vectors.shape[1]
    vectors = np.empty((0, 1), np.float32) if group.vectors is None else group.vectors
    held = Held(
        images=[images[row] for row in rows],
        contents=[group.contents[row - start] for row in rows],
        vectors=vectors[[row - start for row in rows]],
    )
    shard = write_shard(folder, start, start // manifest.rows_per_shard, held)
    unread = [Skipped(one.row, images[one.row], one.content, one.why) for one in group.unread]
    manifest = manifest.with_shard(shard, width, unread)
    write_manifest(folder, manifest)
    return manifest


@contextmanager
def disk(folder: Path, kept: int, total: int) -> Iterator[None]:
    """Say of a disk that is full or gone what is kept, and how to go on."""
    try:
        yield
    except OSError as error:
        raise DeconfError(
            f"the store {str(folder)!r} cannot be written ({error.strerror or error}): {kept:,} of "
            f"{total:,} images are written and kept. Make room, then give the same command again: "
            "it goes on from there."
        ) from error
