"""The images of a cohort, by row, as the encoder takes them; read ahead while it computes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder
from deconf.encoders.inputs import Files, Pixels, inputs_of


class Images:
    """Batches of images by row number: ``images[rows]``; ``images.soon(rows)`` reads ahead.

    As `Encoder.embed` reads them: files of any kind, pixels, or tensors.  Use it in ``with``, which
    ends its threads.

    Raises
    ------
    CohortError, SettingsError
        There is nothing in the cohort that this encoder reads, or only embeddings.
    """

    def __init__(self, encoder: Encoder, cohort: Cohort) -> None:
        self.encoder = encoder
        self.inputs = inputs_of(encoder, cohort)
        self._pool = ThreadPoolExecutor(min(16, max(4, os.cpu_count() or 1)), "deconf-images")
        self._waiting: dict[int, Future[Tensor]] = {}

    def __enter__(self) -> Images:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        """Return the images of rows as one batch, where the encoder is and in its precision."""
        if isinstance(self.inputs, Tensor):
            return self.encoder._placed(self.inputs[torch.as_tensor(np.asarray(rows))])
        self.soon(rows)
        read = [self._waiting.pop(int(row)) for row in dict.fromkeys(map(int, rows))]
        known = dict(zip(dict.fromkeys(map(int, rows)), (f.result() for f in read), strict=True))
        return self.encoder._placed(torch.stack([known[int(row)] for row in rows]))

    def soon(self, rows: Sequence[int] | np.ndarray) -> None:
        """Begin to read rows."""
        if isinstance(self.inputs, Tensor):
            return
        for row in map(int, rows):
            if row not in self._waiting:
                self._waiting[row] = self._pool.submit(self._read, row)

    def _read(self, row: int) -> Tensor:
        from deconf.cohort.images import read_image

        make: Any = self.encoder.preprocess
        if isinstance(self.inputs, Files):
            image: Tensor = make(read_image(self.inputs.paths[row]))
        elif isinstance(self.inputs, Pixels):
            image = make(self.inputs.images[row])
        return image
