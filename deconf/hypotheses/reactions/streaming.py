"""Every image read once, edited in every way, and all versions encoded in batches of one size."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from deconf.encoders.base import Encoder
from deconf.encoders.inputs import Files, Pixels
from deconf.encoders.preprocess import as_picture
from deconf.errors import CohortError, DeconfError, SettingsError
from deconf.hypotheses.interventions import Intervention
from deconf.maths.threads import ahead

if TYPE_CHECKING:
    from PIL.Image import Image

HELD = 1 << 28  # numbers of edited embeddings kept in memory, 1 GiB; more go to a temporary file
AHEAD = 3  # images in the making beside the one that is encoded


@dataclass(frozen=True)
class Edit:
    """One intervention at one dose; ``stream`` is the number of its random stream."""

    name: str
    dose: float
    intervention: Intervention
    stream: int


@dataclass(frozen=True, eq=False)
class Edited:
    """Embeddings of images as they are and after each edit.

    Attributes
    ----------
    before : (n, d) float32
    after : (edits, n, d) float32
    changed : (edits, n) bool
        Whether the edit changed a pixel.
    """

    before: Float32[np.ndarray, "n d"]
    after: Float32[np.ndarray, "edits n d"]
    changed: Bool[np.ndarray, "edits n"]


@dataclass(frozen=True, eq=False)
class _Versions:
    """An image and its edits as the encoder takes them; None where no pixel changed."""

    original: Tensor
    edits: list[Tensor | None]


def edited_embeddings(
    encoder: Encoder,
    images: Files | Pixels,
    edits: Sequence[Edit],
    *,
    seed: int,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Edited:
    """Return the embedding of every image before and after every edit.

    Threads read and edit ahead; the encoder runs in the calling thread.  An image of 8 bits is
    edited in floating point and rounded to 8 bits again, a deeper one stays deeper: what is
    compared then differs by the edit alone.  All batches have one size, the last one filled up,
    so that an edit that changes nothing changes no bit of the embedding.  Beyond `HELD` numbers
    the edited embeddings lie in a temporary file.

    Raises
    ------
    CohortError
        An edit does not suit an image, or the encoder returns nan or infinity.
    ReadError
        A file cannot be read.
    """
    sources: Any = images.paths if isinstance(images, Files) else images.images
    total = len(sources)
    if workers is None:
        workers = max(1, min(4, os.cpu_count() or 1))

    def load(row: int) -> _Versions:
        return _versions(encoder, sources[row], row, edits, seed)

    room = _Room(total, len(edits))
    changed = np.zeros((len(edits), total), dtype=bool)

    def inputs() -> Iterator[tuple[int, int, Tensor]]:
        for row, versions in enumerate(ahead(load, range(total), AHEAD + 1, workers)):
            yield row, -1, versions.original
            for k, version in enumerate(versions.edits):
                if version is not None:
                    changed[k, row] = True
                    yield row, k, version
            if progress is not None:
                progress(row + 1, total)

    pending: list[tuple[int, int, Tensor]] = []
    for one in inputs():
        pending.append(one)
        if len(pending) == encoder.batch:
            room.put(pending, _encoded(encoder, pending, sources))
            pending = []
    if pending:
        room.put(pending, _encoded(encoder, pending, sources))
    before, after = room.arrays()
    for k in range(len(edits)):
        after[k, ~changed[k]] = before[~changed[k]]
    return Edited(before, after, changed)


class _Room:
    """Where embeddings go as they come; the width is known with the first batch."""

    def __init__(self, rows: int, edits: int) -> None:
        self.rows, self.edits = rows, edits
        self._before: np.ndarray | None = None
        self._after: np.ndarray | None = None

    def put(self, places: Sequence[tuple[int, int, Tensor]], vectors: np.ndarray) -> None:
        before, after = self.arrays(vectors.shape[1])
        for (row, edit, _), vector in zip(places, vectors, strict=True):
            if edit < 0:
                before[row] = vector
            else:
                after[edit, row] = vector

    def arrays(self, width: int = 0) -> tuple[np.ndarray, np.ndarray]:
        if self._before is None or self._after is None:
            shape = (self.edits, self.rows, width)
            self._before = np.empty((self.rows, width), dtype=np.float32)
            if np.prod(shape, dtype=float) > HELD:
                with tempfile.TemporaryFile() as file:  # the map keeps it until it is let go
                    self._after = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
            else:
                self._after = np.empty(shape, dtype=np.float32)
        return self._before, self._after


def _versions(
    encoder: Encoder, source: Any, row: int, edits: Sequence[Edit], seed: int
) -> _Versions:
    """Read one image and make all its versions, in a thread."""
    from PIL import Image as pillow

    from deconf.cohort.images import read_image

    is_file = isinstance(source, str | os.PathLike)
    picture: Image = read_image(source) if is_file else as_picture(source)  # type: ignore[arg-type]
    pixels = np.asarray(picture, dtype=np.float32)
    preprocess: Any = encoder.preprocess
    made: list[Tensor | None] = []
    for edit in edits:
        rng = np.random.default_rng([seed, row, edit.stream])
        try:
            new = edit.intervention(pixels, rng)
        except DeconfError as error:
            where = repr(str(source)) if is_file else f"the image in row {row} (counting from 0)"
            raise type(error)(f"{edit.name!r} on {where}: {error}") from error
        if picture.mode != "F":
            new = np.rint(new)
        if np.array_equal(new, pixels):
            made.append(None)
            continue
        depth: Any = np.float32 if picture.mode == "F" else np.uint8
        made.append(preprocess(pillow.fromarray(new.astype(depth))))
    return _Versions(preprocess(picture), made)


def _encoded(
    encoder: Encoder, taken: Sequence[tuple[int, int, Tensor]], sources: Sequence[Any]
) -> np.ndarray:
    """Return the embeddings of a batch, filled up to full size for the encoder."""
    tensors = [tensor for _, _, tensor in taken]
    odd = next((t for t in tensors if t.shape != tensors[0].shape), None)
    if odd is not None:
        raise SettingsError(
            f"the preprocessing gives {tuple(odd.shape)} for one image and "
            f"{tuple(tensors[0].shape)} for another: it must bring every image to one size."
        )
    tensors += tensors[-1:] * (encoder.batch - len(tensors))
    vectors = encoder.encode(torch.stack(tensors))[: len(taken)]
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        row = taken[int(bad.argmax())][0]
        where = repr(str(sources[row])) if isinstance(sources[row], os.PathLike) else f"row {row}"
        raise CohortError(
            f"the encoder returns nan or infinity for {where} or an edit of it. Look at that "
            "image, or run the encoder in float32."
        )
    return vectors
