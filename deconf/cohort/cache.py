"""Embeddings known by the content of their image: what was encoded once is not encoded again."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from deconf.cohort.wholefile import from_parquet, parquet_bytes, write_whole

FLUSH = 4096  # embeddings kept in memory before a file is written


class Cache:
    """Embeddings by the sha256 of the image file, for one recipe and batch size.

    Files are named by the sha256 of their bytes and written once, so that several processes may
    share a folder; another recipe has another subfolder.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    recipe : dict
        What decides the numbers, as JSON takes it.

    Warns
    -----
    UserWarning
        A file is altered or truncated: it is named and not used.
    """

    def __init__(self, folder: str | Path, recipe: dict[str, Any]) -> None:
        text = json.dumps(recipe, sort_keys=True, indent=1)
        self.folder = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:32]
        self._known: dict[str, Float32[np.ndarray, " d"]] = {}
        self._new: dict[str, Float32[np.ndarray, " d"]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "recipe.json").exists():
            write_whole(self.folder / "recipe.json", f"{text}\n".encode())
        for path in sorted(self.folder.glob("*.parquet")):
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != path.stem:
                warnings.warn(
                    f"{str(path)!r} is damaged and not used: its images are encoded again. Delete "
                    "it to have this said no more.",
                    stacklevel=3,
                )
                continue
            names, vectors = from_parquet(data)
            self._known.update(zip(names["content"], vectors, strict=True))

    def get(self, content: str) -> Float32[np.ndarray, " d"] | None:
        """Return the embedding of an image, or None."""
        return self._known.get(content)

    def add(self, content: str, vector: Float32[np.ndarray, " d"]) -> None:
        """Remember an embedding; written with others, at the latest by `flush`."""
        if content not in self._known:
            self._known[content] = self._new[content] = vector.copy()
        if len(self._new) >= FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what is new.

        Warns
        -----
        UserWarning
            It cannot be written: the embeddings are right, but will be computed again.
        """
        if not self._new:
            return
        data = parquet_bytes({"content": list(self._new)}, np.stack(list(self._new.values())))
        try:
            write_whole(self.folder / f"{hashlib.sha256(data).hexdigest()}.parquet", data)
        except OSError as error:
            warnings.warn(
                f"the cache {str(self.folder)!r} cannot be written ({error.strerror}): "
                f"{len(self._new):,} embeddings are used but not kept.",
                stacklevel=3,
            )
        self._new = {}
