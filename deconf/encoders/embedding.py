"""Image files to embeddings: in memory, through a cache, or into a store that can be resumed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from deconf.cohort.cache import Cache
from deconf.cohort.cohort import Cohort
from deconf.cohort.lock import only_writer
from deconf.cohort.shards import Manifest, is_store, list_digest, write_manifest
from deconf.cohort.wholefile import remove_partial
from deconf.encoders.readahead import encoded
from deconf.encoders.resuming import begun, disk, distinct, require_own, reusable, written
from deconf.errors import CohortError, ReadError, SettingsError

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Unread:
    """A file that could not be read: its row, its path, and why."""

    row: int
    path: Path
    why: str


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings of files.

    Attributes
    ----------
    vectors : (n, d) float32
        In the order of the files; rows of unread files are nan.
    unread : tuple of Unread
    """

    vectors: Float32[np.ndarray, "n d"]
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class Stored:
    """What a run did to a store.

    Attributes
    ----------
    folder : Path
    rows : int
        Embeddings in it.
    embedded_now, reused : int
        How many of them are of this run, and of earlier ones.
    unread : tuple of Unread
        Images without one; ``row`` counts distinct images in the order of the table.
    """

    folder: Path
    rows: int
    embedded_now: int
    reused: int
    unread: tuple[Unread, ...]


def embed_files(
    encoder: Any,
    paths: Sequence[str | Path],
    *,
    on_error: str = "raise",
    batch: int | None = None,
    workers: int | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Embedded:
    """Embed image files, in their order.

    Threads read and preprocess ahead, a few batches and no more; the encoder runs in the calling
    thread.  Batches have one size, so that an embedding does not depend on the files beside it.

    Parameters
    ----------
    encoder : Encoder
        With ``preprocess``, ``encode``, ``recipe`` and ``batch``.
    paths : sequence of n paths
    on_error : "raise" or "skip"
        What to do about a file that cannot be read.
    batch, workers : int, optional
        Default: the encoder's batch; a reading thread per core, at least 4 and at most 16.
    cache : folder, optional
        Embeddings found there by recipe, batch size and sha256 of the file are not computed again;
        new ones are added.
    progress : callable, optional
        Called with rows done and rows in all.

    Raises
    ------
    ReadError
        A file cannot be read, or with "skip" none can.
    CohortError
        No files, or the encoder returns nan or infinity.
    SettingsError
        The encoder cannot read images, or a setting is out of range.
    """
    files = [Path(path) for path in paths]
    batch, workers = _checked(encoder, on_error, batch, workers)
    if not files:
        raise CohortError("there are no files to embed: the list of paths is empty.")
    kept = None if cache is None else Cache(cache, {**encoder.recipe, "batch": batch})
    everything = [range(len(files))]
    groups = encoded(
        encoder,
        files,
        everything,
        batch=batch,
        workers=workers,
        on_error=on_error,
        cache=kept,
        progress=progress,
    )
    try:
        with closing(groups):
            group = next(groups)
    finally:
        if kept is not None:
            kept.flush()  # also what an interrupt or a bad file leaves behind
    unread = tuple(Unread(one.row, files[one.row], one.why) for one in group.unread)
    if group.vectors is None:
        raise ReadError(f"none of {len(files):,} files can be read. The first: {unread[0].why}")
    return Embedded(group.vectors, unread)


def embed_to_store(
    encoder: Any,
    cohort: Cohort,
    folder: str | Path,
    *,
    on_error: str = "raise",
    rows_per_shard: int = 4096,
    batch: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Stored:
    """Embed the images of a cohort into a folder, or finish what an earlier run began there.

    Killed at any moment and called again with the same arguments, it leaves the very files of a
    run that was not.  What an earlier run embedded is used again if the bytes of its images are
    the same.  ``Cohort.read(table, image=..., embedding=folder)`` reads the result.

    Parameters
    ----------
    encoder : Encoder
    cohort : Cohort with an image column
        An image named in several rows is embedded once.
    folder : path
        Made if it is not there.
    on_error : "raise" or "skip"
        Skipped files are listed in the store; each later run tries them again if they changed.
    rows_per_shard : int
        Images to a file; what a killed run may have to do again.
    batch, workers, progress
        As in `embed_files`.  A store that was begun keeps its batch size.

    Raises
    ------
    SettingsError
        The store was begun with another recipe or list of images, another process writes to it,
        or the folder is no store.
    ReadError
        An image cannot be read, or a file of the store was altered.
    DeconfError
        The disk is full; what is written is kept.
    """
    folder = Path(folder)
    size, workers = _checked(encoder, on_error, batch, workers)
    rows_per_shard = _require_count("rows_per_shard", rows_per_shard)
    images, paths = distinct(cohort)
    wanted = Manifest(
        recipe=json.loads(json.dumps(encoder.recipe)),  # as it will be read back
        batch=size,
        rows_per_shard=rows_per_shard,
        inputs=list_digest(images),
        total=len(images),
    )
    require_own(folder)
    with disk(folder, 0, len(images)):
        folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder):
        remove_partial(folder)
        manifest = begun(wanted, folder, images, batch)
        stand = reusable(manifest, folder, images, paths, on_error, workers)
        starts = range(0, len(images), rows_per_shard)
        spans = [range(start, min(start + rows_per_shard, len(images))) for start in starts]
        todo = [span for span in spans if span.start not in stand]
        kept = len(images) - sum(map(len, todo))
        # Forgotten before they are made again: killed half-way, no shard would be other than said.
        if not is_store(folder) or len(stand) < len(manifest.shards):
            manifest = manifest.with_only(stand)
            with disk(folder, kept, len(images)):
                write_manifest(folder, manifest)
        if kept:
            logger.info("%s: %d of %d images are embedded already.", folder, kept, len(images))
        groups = encoded(
            encoder,
            paths,
            todo,
            batch=manifest.batch,
            workers=workers,
            on_error=on_error,
            hashed=True,
            progress=progress,
            done=kept,
        )
        now = 0
        with closing(groups):
            for group in groups:
                with disk(folder, kept, len(images)):
                    manifest = written(manifest, folder, group, images)
                kept += len(group.rows)
                now += len(group.rows) - len(group.unread)
    rows = sum(shard.rows for shard in manifest.shards)
    unread = tuple(Unread(one.row, paths[one.row], one.why) for one in manifest.unread)
    if rows == 0:
        raise ReadError(f"none of {len(images):,} images can be read. The first: {unread[0].why}")
    return Stored(folder, rows, now, rows - now, unread)


def _checked(
    encoder: Any, on_error: str, batch: int | None, workers: int | None
) -> tuple[int, int]:
    """Return batch size and number of threads; raise where the settings cannot be meant."""
    if on_error not in ("raise", "skip"):
        raise SettingsError(f"on_error is {on_error!r}: expected 'raise' or 'skip'.")
    if getattr(encoder, "preprocess", None) is None:
        raise SettingsError(
            "this encoder has no preprocess, so it cannot read image files. Say how a file becomes "
            "a tensor: load_encoder(..., preprocess=...)."
        )
    batch = encoder.batch if batch is None else _require_count("batch", batch)
    if workers is None:
        # not fewer than four: threads that wait for a disk cost nothing
        return int(batch), min(16, max(4, len(_cores())))
    return int(batch), _require_count("workers", workers)


def _require_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise SettingsError(f"{name} is {value!r}: expected a whole number from 1 on.")
    return int(value)


def _cores() -> Sequence[int]:
    """Return the cores this process may use, which in a container are fewer than there are."""
    known = getattr(os, "sched_getaffinity", None)
    return list(known(0)) if known is not None else range(os.cpu_count() or 1)
