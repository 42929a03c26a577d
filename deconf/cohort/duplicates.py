"""Copies of one picture under different names, patients or parts of a split.

Public archives overlap: the same film comes by two routes, with another name, size or compression,
and as another patient.  On both sides of a split it is an examination question that was seen in
training.  Nothing is ever removed here; what is found is counted and listed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped

from deconf.cohort.images import read_image
from deconf.cohort.parts import rows_of_parts
from deconf.cohort.perceptual import signs
from deconf.errors import CohortError, ReadError, SettingsError, listing
from deconf.maths.intervals import factorised
from deconf.maths.pairs import MOST_PAIRS, close_pairs

if TYPE_CHECKING:
    from deconf.cohort.cohort import Cohort

By = Literal["image", "embedding"]
Progress = Callable[[int, int], object]
LIMITS = {"image": 0.125, "embedding": 0.1}


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Pairs of films that show one picture; `str` counts them, `to_frame` lists them.

    Attributes
    ----------
    by : "image" or "embedding"
    limit : float
        Up to which distance a pair is taken for copies.
    compared : int
        Films compared.
    parts : tuple of str
        The parts of the split; empty where none were named.
    nearest_beyond : float
        Distance of the closest pair that is not taken for copies.  A limit is sane where a gap
        lies around it.
    unread : tuple of (int, str)
        Rows whose file could not be read, and why (``on_error="skip"``): not compared.
    groups : (n,) array of int, read-only
        One code for all rows that share a picture or a patient, directly or through others.
    """

    by: By
    limit: float
    compared: int
    parts: tuple[str, ...]
    nearest_beyond: float
    unread: tuple[tuple[int, str], ...]
    groups: Int[np.ndarray, " n"]
    _pairs: pd.DataFrame

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._pairs)

    @property
    def identical(self) -> int:
        """Pairs alike pixel for pixel, or number for number."""
        return int((self._pairs["kind"] == "identical").sum())

    @property
    def patients_differ(self) -> int:
        """Pairs whose films have different patients."""
        return int(self._pairs["patients_differ"].sum())

    @property
    def straddling(self) -> int:
        """Pairs with films in two different parts."""
        return int(self._pairs["straddles"].sum())

    def to_frame(self) -> pd.DataFrame:
        """Return a row for every pair, those that matter first, then the closest.

        Columns ``row`` and ``other`` (row numbers in the cohort), ``kind`` ("identical", "near",
        or "negative": black for white), ``distance``, ``patients_differ``, ``part`` and
        ``other_part`` (None where a row is in none), ``straddles``.
        """
        return self._pairs.copy()

    def __str__(self) -> str:
        """Return the counts, the first pairs that matter, and what can be done."""
        told = [
            f"{self.compared:,} films compared by their {self.by}s: {_count(len(self))} of copies "
            f"({self.identical:,} identical, the others within {self.limit:g}).",
        ]
        if len(self):
            told.append(f"{_count(self.patients_differ)} with different patients.")
        if self.parts:
            told.append(f"{_count(self.straddling)} straddling {listing(self.parts)}.")
        matter = self._pairs[self._pairs["patients_differ"] | self._pairs["straddles"]]
        if len(matter):
            rows = zip(matter["row"], matter["other"], strict=True)
            told += [
                f"Rows (counting from 0): {listing(f'{a} and {b}' for a, b in rows)}.",
                "Nothing was removed. Look at some; then keep copies on one side, by reading the "
                'cohort with patient="group", table.assign(group=found.groups), or leave one of '
                "each pair out.",
            ]
        if np.isfinite(self.nearest_beyond):
            told.append(f"The closest pair beyond the limit: {self.nearest_beyond:.3f}.")
        if self.unread:
            told.append(f"{len(self.unread):,} films could not be read and were not compared.")
        return "\n".join(told)


def find_duplicates(
    cohort: Cohort,
    parts: str | Mapping[str, Any] | None = None,
    *,
    by: By | None = None,
    limit: float | None = None,
    on_error: str = "raise",
    progress: Progress | None = None,
) -> Duplicates:
    """Find films that show one picture.

    Pictures are compared by 512 signs (`deconf.cohort.perceptual`) and 1 − abs(cosine), so that a
    negative counts as a copy; embeddings, their mean taken off, by 1 − cosine.  Every pair of
    films is compared: after the reading, half a minute for 50,000.

    **Why 0.125.**  Of 1,163 chest films (675,703 pairs), no two of different patients came nearer
    than 0.21, no two films of one patient nearer than 0.18; the nearest were looked at, and are
    different films.  Of copies made of them, recompressed, resized, squashed, windowed, with other
    gamma, noise, a burnt-in mark or as a negative, all were found; equalised 99 %, with a border
    of 1 % cut off 97 %.  **Not safely found**: 2 % cut off or a shift of 3 % (one in two), a
    rotation by 2° (two in three), 5 % cut off, a border added, mirrored copies (none).  The table:
    ``python -m benchmarks.duplicates FOLDER``.

    **Why 0.1** for embeddings: by an ImageNet MobileNetV2 the same films of different patients came
    no nearer than 0.28, of one patient 0.21.  Of the copies of 60 of them, 95 % of those with up to
    2 % of the border cut off, rotated by 2°, shifted or marked stayed within 0.12, while most of
    the recompressed, equalised or noisy ones did not.  So the two see different things, and another
    encoder has another scale: read ``nearest_beyond``.

    Parameters
    ----------
    cohort : Cohort of n rows
    parts : column name or mapping, optional
        As `Cohort.balance` takes: pairs between different parts are marked.
    by : "image" or "embedding", optional
        Default: the images where the cohort says where they are, else the embeddings.
    limit : float, optional
        The distance up to which two films are copies; default 0.125 of images, 0.1 of embeddings.
    on_error : "raise" or "skip"
        What to do about a file that cannot be read.
    progress : callable, optional
        Called with films read and films in all.

    Raises
    ------
    CohortError
        Neither images nor embeddings, parts that are none, more than a million pairs.
    ReadError
        A file cannot be read.
    SettingsError
        An unknown ``by`` or ``on_error``, a limit below 0 or not below 1.
    """
    named = {} if parts is None else rows_of_parts(cohort, parts)
    by = by or ("image" if cohort.roles["image"] is not None else "embedding")
    if by not in LIMITS or on_error not in ("raise", "skip"):
        wrong = f"by is {by!r}" if by not in LIMITS else f"on_error is {on_error!r}"
        raise SettingsError(f"{wrong}: by is 'image' or 'embedding', on_error 'raise' or 'skip'.")
    limit = LIMITS[by] if limit is None else limit
    if not 0 <= limit < 1:
        raise SettingsError(f"limit is {limit!r}: a distance of 0 or more, and less than 1.")
    unread: tuple[tuple[int, str], ...] = ()
    if by == "image":
        vectors, contents, unread = _looks(cohort.image_paths, on_error, progress)
    elif cohort.embeddings is None:
        raise CohortError(
            "this cohort has neither images nor embeddings to compare: Cohort.read(..., image=...)."
        )
    else:
        flat = np.asarray(cohort.embeddings).reshape(len(cohort), -1)
        contents = [hashlib.sha256(row.tobytes()).hexdigest() for row in flat]
        vectors = flat - flat.mean(axis=0, dtype=np.float64).astype(np.float32)
    read = np.setdiff1d(np.arange(len(cohort)), [row for row, _ in unread])
    close = close_pairs(vectors[read], limit, opposite=by == "image")
    kinds = np.where(close.opposite, "negative", "near")
    found = dict.fromkeys(_identical(contents), ("identical", 0.0))
    for one, other, *how in zip(
        read[close.first].tolist(),
        read[close.second].tolist(),
        kinds.tolist(),
        close.distance.tolist(),
        strict=True,
    ):
        found.setdefault((one, other), tuple(how))
    pairs = _described(found, cohort.patients, named)
    return Duplicates(
        by=by,
        limit=limit,
        compared=len(read),
        parts=tuple(named),
        nearest_beyond=close.nearest_beyond,
        unread=unread,
        groups=_groups(pairs, cohort.patients),
        _pairs=pairs,
    )


def _looks(
    paths: Sequence[Path], on_error: str, progress: Progress | None
) -> tuple[np.ndarray, list[str], tuple[tuple[int, str], ...]]:
    """Return the signs and the sha256 of the pixels of files, and which could not be read."""
    threads = min(max(os.cpu_count() or 1, 4), 16)  # Pillow and pydicom let go of the interpreter
    vectors, contents, unread = [], [], []
    with ThreadPoolExecutor(threads) as pool:
        try:
            for row, (look, content) in enumerate(pool.map(_look, paths)):
                if isinstance(look, ReadError):
                    if on_error == "raise":
                        raise look
                    unread.append((row, str(look)))
                    look = np.zeros(512, dtype=np.int8)
                vectors.append(look)
                contents.append(content)
                if progress is not None:
                    progress(row + 1, len(paths))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if len(unread) == len(paths):
        raise ReadError(f"none of {len(paths):,} files can be read. The first: {unread[0][1]}")
    return np.stack(vectors), contents, tuple(unread)


def _look(path: Path) -> tuple[np.ndarray | ReadError, str]:
    try:
        image = read_image(path)
    except ReadError as error:
        return error, ""
    content = hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes())
    return signs(image), content.hexdigest()


def _identical(contents: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows with one content, the empty one excepted."""
    frame = pd.Series(contents)
    rows = frame[(frame != "") & frame.duplicated(keep=False)]
    alike = [group.to_list() for group in rows.groupby(rows).groups.values()]
    count = sum(len(group) * (len(group) - 1) // 2 for group in alike)
    if count > MOST_PAIRS:
        most = max(alike, key=len)
        raise CohortError(
            f"{count:,} identical pairs: row {most[0]} (counting from 0) alone has "
            f"{len(most) - 1:,} copies. A blank image? Leave them out, cohort.subset(...)."
        )
    for group in alike:
        yield from combinations(group, 2)


def _described(
    found: Mapping[tuple[int, int], tuple[str, float]],
    patients: Shaped[np.ndarray, " n"],
    parts: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    first, second = np.array(list(found), dtype=int).reshape(-1, 2).T
    who, part = factorised(patients), np.full(len(patients), -1)
    for number, rows in enumerate(parts.values()):
        part[rows] = number
    names = np.array([*parts, None], dtype=object)  # -1, in no part, finds None
    frame = pd.DataFrame(
        {
            "row": first,
            "other": second,
            "kind": [kind for kind, _ in found.values()],
            "distance": np.array([apart for _, apart in found.values()], dtype=float),
            "patients_differ": who[first] != who[second],
            "part": pd.Series(names[part[first]], dtype=object),
            "other_part": pd.Series(names[part[second]], dtype=object),
            "straddles": (part[first] != part[second]) & (part[first] >= 0) & (part[second] >= 0),
        }
    )
    order = ["straddles", "patients_differ", "distance", "row", "other"]
    return frame.sort_values(order, ascending=[False, False, True, True, True], ignore_index=True)


def _groups(pairs: pd.DataFrame, patients: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return a code for the rows connected by copies and patients."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, who = len(patients), factorised(patients)
    nodes = n + int(who.max()) + 1  # rows, then patients
    start = np.r_[pairs["row"], np.arange(n)].astype(int)
    end = np.r_[pairs["other"], n + who].astype(int)
    graph = coo_array((np.ones(len(start)), (start, end)), shape=(nodes, nodes))
    groups = factorised(connected_components(graph, directed=False)[1][:n])
    groups.flags.writeable = False
    return groups


def _count(pairs: int) -> str:
    return f"{pairs:,} pair{'s' * (pairs != 1)}"
