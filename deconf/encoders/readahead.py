"""Images read ahead of the encoder by threads, and encoded in batches of one size.

Threads, not processes: Pillow, pydicom and torch let go of the interpreter while they work, and
threads need no copy of the encoder, no pickling and no ``__main__`` guard in notebooks and on
Windows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from deconf.cohort.wholefile import content_digest
from deconf.errors import CohortError, ReadError, SettingsError, listing
from deconf.maths.threads import ahead

AHEAD = 3  # batches in memory: one with the encoder, one being put together, one being read


@dataclass(frozen=True, eq=False)
class Loaded:
    """One file as a thread hands it over: an image, or its embedding as known, or why neither."""

    row: int
    content: str  # sha256 of the file, "" where nobody asked or nobody could tell
    image: Tensor | None = None
    known: Float32[np.ndarray, " d"] | None = None
    why: str = ""


@dataclass(eq=False)
class Group:
    """Rows that are encoded together: one shard of a store, or all there is."""

    rows: range
    contents: list[str]
    vectors: Float32[np.ndarray, "n d"] | None  # None until the first; rows of unread files nan
    unread: list[Loaded]

    def put(self, rows: Sequence[int], vectors: Float32[np.ndarray, "m d"]) -> None:
        """Enter embeddings in their rows."""
        if self.vectors is None:
            self.vectors = np.full((len(self.rows), vectors.shape[1]), np.nan, dtype=np.float32)
        self.vectors[np.asarray(rows) - self.rows.start] = vectors


def encoded(
    encoder: Any,
    paths: Sequence[Path],
    groups: Sequence[range],
    *,
    batch: int,
    workers: int,
    on_error: str,
    hashed: bool = False,
    cache: Any = None,
    progress: Callable[[int, int], None] | None = None,
    done: int = 0,
) -> Generator[Group]:
    """Yield groups of rows with their embeddings, in order; files are read across their borders.

    Every batch has the same size, the last one filled up with copies: the kernels of a batch are
    chosen by its shape, and one image more or less beside an image changes its last bits.  So an
    embedding depends on image, recipe and batch size, not on its company.  No batch holds images
    of two groups.

    Parameters
    ----------
    groups : sequence of range
        Rows of ``paths``.
    hashed : bool
        Whether to return the sha256 of every file.
    cache : Cache, optional
    done : int
        Rows finished before, for ``progress``.

    Raises
    ------
    ReadError
        A file cannot be read and ``on_error`` is "raise".
    CohortError
        The encoder returns nan or infinity.
    """
    from deconf.cohort.images import read_image

    total = done + sum(map(len, groups))

    def read(path: Path) -> Tensor:
        image: Tensor = encoder.preprocess(read_image(path))
        return image

    def load(row: int) -> Loaded:
        return _load(read, row, paths[row], hashed or cache is not None, cache)

    def settle(group: Group, taken: Sequence[Loaded], stacked: Future[Tensor]) -> None:
        vectors = _encoded_batch(encoder, stacked.result(), [paths[t.row] for t in taken])
        group.put([t.row for t in taken], vectors)
        if cache is not None:
            for one, vector in zip(taken, vectors, strict=True):
                cache.add(one.content, vector)
        finished(len(taken))

    def finished(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None and rows:
            progress(done, total)

    rows = (row for group in groups for row in group)
    with (
        ThreadPoolExecutor(1, "deconf-stack") as stacker,
        closing(ahead(load, rows, AHEAD * batch, workers)) as files,
    ):
        for span in groups:
            group = Group(span, [""] * len(span), None, [])
            pending: list[Loaded] = []
            waiting: tuple[list[Loaded], Future[Tensor]] | None = None
            at_hand = 0  # rows that need no encoder, said with the next batch
            for _ in span:
                one = next(files)
                group.contents[one.row - span.start] = one.content
                if one.why:
                    if on_error == "raise":
                        raise ReadError(_stopped(one.why, done, total))
                    group.unread.append(one)
                elif one.known is not None:
                    group.put([one.row], one.known[None])
                if one.image is None:
                    at_hand += 1
                    continue
                pending.append(one)
                if len(pending) == batch:
                    ready, pending = _stacked(stacker, pending, batch, paths), []
                    if waiting is not None:
                        settle(group, *waiting)
                    waiting = ready
                    finished(at_hand)
                    at_hand = 0
            if waiting is not None:
                settle(group, *waiting)
            if pending:
                settle(group, *_stacked(stacker, pending, batch, paths))
            finished(at_hand)
            yield group


def in_threads(function: Callable[[Any], Any], items: Sequence[Any], workers: int) -> list[Any]:
    """Return the function of every item, in order; no thread outlives an interrupt."""
    return list(ahead(function, iter(items), 64 * workers, workers))


def _load(read: Any, row: int, path: Path, hashed: bool, cache: Any) -> Loaded:
    """Read one file, in a thread; what its reader says of it is returned, not raised."""
    content = ""
    if hashed:
        with suppress(OSError):  # the reader below says it better
            content = content_digest(path)
    known = cache.get(content) if cache is not None and content else None
    if known is not None:
        return Loaded(row, content, known=known)
    try:
        return Loaded(row, content, image=read(path))
    except ReadError as error:
        return Loaded(row, content, why=str(error))


def _stacked(
    stacker: ThreadPoolExecutor, taken: list[Loaded], batch: int, paths: Sequence[Path]
) -> tuple[list[Loaded], Future[Tensor]]:
    """Have a batch put together beside the encoder; the images themselves are let go."""
    images = [one.image for one in taken if one.image is not None]
    odd = next((i for i, image in enumerate(images) if image.shape != images[0].shape), None)
    if odd is not None:
        raise SettingsError(
            f"the preprocessing gives {tuple(images[odd].shape)} for "
            f"{str(paths[taken[odd].row])!r} and {tuple(images[0].shape)} for "
            f"{str(paths[taken[0].row])!r}: it must bring every image to one size."
        )
    images += images[-1:] * (batch - len(images))
    rest = [Loaded(one.row, one.content) for one in taken]
    return rest, stacker.submit(torch.stack, images)


def _encoded_batch(
    encoder: Any, images: Tensor, paths: Sequence[Path]
) -> Float32[np.ndarray, "n d"]:
    """Return the embeddings of a batch without its filling."""
    vectors = np.asarray(encoder.encode(images), dtype=np.float32)[: len(paths)]
    bad = np.asarray(~np.isfinite(vectors).all(axis=1))
    if bad.any():
        named = listing([repr(str(p)) for p, is_bad in zip(paths, bad, strict=True) if is_bad], 3)
        raise CohortError(
            f"the encoder returns nan or infinity for {named}: {bad.sum():,} of a batch of "
            f"{len(paths):,}. Look at that image, or run the encoder in float32."
        )
    return vectors


def _stopped(why: str, done: int, total: int) -> str:
    return (
        f'{why} {done:,} of {total:,} images were embedded until then. Pass on_error="skip" to go '
        "on without such files; they are listed and counted."
    )
