"""Exact nearest neighbours by blocked matrix products: one search for every measure.

Products run in float32, twice as fast as float64; what they can decide they decide, and what lies
within their rounding error is decided by distances summed again in float64.  Nothing is
approximate: the neighbours are those of float64 distances, ties in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deconf.errors import CohortError, SettingsError
from deconf.maths.threads import spread

Metric = Literal["euclidean", "cosine"]

BLOCK = 1 << 22  # float32 numbers in one block of distances: 16 MB for each thread
PAIRS = 1 << 16  # float64 numbers in one batch of differences: 512 kB, the size of a cache
FOLD = 16  # columns whose minimum stands for them when the threshold is looked for
ROUNDING = 2.0**-24  # of one float32 operation, relative


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of every row, nearest first.

    Attributes
    ----------
    index : (n, k) array of int
        Rows of the same embedding; -1 where a row has fewer than k.
    distance : (n, k) array of float
        Infinite where ``index`` is -1.
    has_self : bool
        Whether every row is its own first neighbour.

    Examples
    --------
    >>> nearest(np.array([[0.0], [1.0], [3.0]]), 1)
    Neighbours(index=array([[1],
           [0],
           [1]]), distance=array([[1.],
           [1.],
           [2.]]), has_self=False)
    """

    index: np.ndarray
    distance: np.ndarray
    has_self: bool = False

    @property
    def known(self) -> np.ndarray:
        """(n, k) bool: there is a neighbour here."""
        return self.index >= 0

    def first(self, k: int) -> Neighbours:
        """Return the first k columns."""
        if not 1 <= k <= self.index.shape[1]:
            raise SettingsError(
                f"k = {k}, but {self.index.shape[1]} neighbours of each row were searched for."
            )
        return Neighbours(self.index[:, :k], self.distance[:, :k], self.has_self)


def nearest(
    z: np.ndarray,
    k: int,
    *,
    metric: Metric = "euclidean",
    patients: np.ndarray | None = None,
    with_self: bool = False,
) -> Neighbours:
    """Return the k nearest other rows of every row, exactly; ties in the order of the rows.

    Parameters
    ----------
    z : (n, d) array
        Embeddings.
    k : int
        Columns of the result, the row itself included where ``with_self``.
    metric : "euclidean" or "cosine"
        Cosine is one minus the cosine of the angle at the origin, from 0 to 2.
    patients : (n,) array, optional
        Rows of the same patient are left out: another film of a patient is near because it is the
        same patient, and says nothing about the site.  A row with fewer than k rows of other
        patients has -1 in its last columns.
    with_self : bool
        Put every row before its neighbours, as single-cell packages do.

    Raises
    ------
    CohortError
        Where an embedding is not finite, all rows are equal, a row has no direction (cosine), k
        is larger than the number of other rows, or all rows are of one patient.

    Notes
    -----
    Time is one product of n x d by d x n in float32; memory a block of 16 MB a thread
    beside the embedding and the result.  Many equal rows are slow: every tie is summed again.
    """
    z = checked(z, metric)
    wanted = k - int(with_self)
    if not (1 - int(with_self)) <= wanted <= len(z) - 1:
        raise CohortError(
            f"k = {k} neighbours were asked for, but each row has {len(z) - 1} other rows: "
            f"choose k from 1 to {len(z) - 1 + int(with_self)}."
        )
    if patients is not None:
        patients = np.unique(patients, return_inverse=True)[1]
        if patients.max() == 0:
            raise CohortError(
                "all rows are of one patient, and neighbours of the same patient are left out: "
                "pass patients=None to count them."
            )
    rows = np.arange(len(z))
    index, distance = np.zeros((len(z), 0), np.int64), np.zeros((len(z), 0))
    if wanted:
        index, distance = among(z, rows, rows, wanted, patients=patients)
    if with_self:
        index = np.hstack([rows[:, None], index])
        distance = np.hstack([np.zeros((len(z), 1)), distance])
    return Neighbours(index, in_metric(distance, metric), with_self)


def checked(z: np.ndarray, metric: Metric) -> np.ndarray:
    """Return float64 rows whose squared Euclidean distances order neighbours under the metric."""
    if metric not in ("euclidean", "cosine"):
        raise SettingsError(f"metric = {metric!r}: choose 'euclidean' or 'cosine'.")
    z = np.asarray(z)
    if z.ndim != 2 or len(z) < 2:
        raise CohortError(f"neighbours need (n, d) embeddings, n at least 2; got {z.shape}.")
    z = z.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(z).all(axis=1))
    if len(bad):
        raise CohortError(
            f"the embedding of row {bad[0]} is not finite ({len(bad)} such rows): leave them out."
        )
    if metric == "cosine":
        length = np.linalg.norm(z, axis=1)
        if not length.all():
            row = int(np.flatnonzero(length == 0)[0])
            raise CohortError(
                f"the embedding of row {row} is all zeros and has no direction: leave the row "
                "out, or use metric='euclidean'."
            )
        z /= length[:, None]
    if np.ptp(z, axis=0).max(initial=0.0) == 0:
        raise CohortError(
            f"all {len(z)} embeddings point to the same place: no row is nearer than another."
        )
    return z


def in_metric(squared: np.ndarray, metric: Metric) -> np.ndarray:
    """Turn squared distances of `checked` rows into the metric: |u − v|² / 2 = 1 − cos(u, v)."""
    return np.sqrt(squared) if metric == "euclidean" else squared / 2


def among(
    z: np.ndarray,
    queries: np.ndarray,
    base: np.ndarray,
    k: int,
    *,
    patients: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k rows of ``base`` nearest to each query: (q, k) rows and squared distances.

    A query is not its own neighbour, nor is a row of its patient.  Missing: -1 and infinity.

    Parameters
    ----------
    z : (n, d) array of float64, as `checked` returns it
    queries, base : (q,) and (m,) arrays of row numbers, ``base`` in ascending order
    k : int
    patients : (n,) array of int, optional

    Notes
    -----
    Let a be a distance from the product and e its rounding error.  If a₍ₖ₎ is the k-th smallest a
    of a query, its k-th smallest true distance is at most a₍ₖ₎ + e; so every true neighbour has
    a ≤ a₍ₖ₎ + 2e, and only such rows are summed again.
    """
    index = np.full((len(queries), k), -1, dtype=np.int64)
    squared = np.full((len(queries), k), np.inf)
    if not len(base):
        return index, squared
    centre = z[base].mean(axis=0)  # far from the origin the product would lose digits
    left, right, length, longest = _factors(z, queries, base, centre)
    # Higham, "Accuracy and Stability" (2002), 3.5: a sum of d + 1 products, in any order, is off by
    # at most γ Σ|a_i b_i|; rounding the entries to float32 themselves costs two operations more.
    gamma = (z.shape[1] + 4) * ROUNDING
    error = gamma * (2 * length * longest + longest**2)
    step = max(1, BLOCK // len(base))

    def block_of(start: int) -> tuple[np.ndarray, np.ndarray]:
        here = slice(start, min(start + step, len(queries)))
        block = left[here] @ right
        _leave_out(block, queries[here], base, patients)
        column, count = _close(block, k, 2 * error[here])
        return _settled(z, queries[here], base, column, count, k)

    starts = range(0, len(queries), step)
    for start, (found, exact) in zip(
        starts, spread(block_of, starts, len(base) * len(queries)), strict=True
    ):
        index[start : start + len(found)], squared[start : start + len(found)] = found, exact
    return index, squared


def _factors(
    z: np.ndarray, queries: np.ndarray, base: np.ndarray, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return factors whose product is |y|² − 2 x·y, which orders y as |x − y|² does."""
    d = z.shape[1]
    left = np.ones((len(queries), d + 1), dtype=np.float32)
    right = np.empty((d + 1, len(base)), dtype=np.float32)
    length, longest = np.empty(len(queries)), 0.0
    for part in _parts(len(queries), d):
        x = z[queries[part]] - centre
        left[part, :d], length[part] = -2 * x, np.linalg.norm(x, axis=1)
    for part in _parts(len(base), d):
        y = z[base[part]] - centre
        norms = (y**2).sum(axis=1)
        right[:d, part], right[d, part] = y.T, norms
        longest = max(longest, float(np.sqrt(norms.max())))
    return left, right, length, longest


def _parts(rows: int, width: int) -> Iterator[slice]:
    step = max(1, PAIRS // max(width, 1))
    return (slice(start, start + step) for start in range(0, rows, step))


def _leave_out(
    block: np.ndarray, queries: np.ndarray, base: np.ndarray, patients: np.ndarray | None
) -> None:
    """Set the query itself and the rows of its patient to infinity, in place."""
    if patients is None:
        place = np.searchsorted(base, queries)
        place[place == len(base)] = 0
        mine = np.flatnonzero(base[place] == queries)
        block[mine, place[mine]] = np.inf
        return
    order = np.argsort(patients[base], kind="stable")
    ranked = patients[base][order]
    begin = np.searchsorted(ranked, patients[queries], side="left")
    end = np.searchsorted(ranked, patients[queries], side="right")
    row = np.repeat(np.arange(len(queries)), end - begin)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(end - begin) - (end - begin), end - begin)
    block[row, order[begin[row] + offset]] = np.inf


def _close(block: np.ndarray, k: int, slack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns that can be among the k smallest of their row, row by row, and how many.

    The k-th smallest minimum over groups of columns is no smaller than the k-th smallest entry, and
    far cheaper than a selection over all columns.
    """
    rows, columns = block.shape
    groups = columns // FOLD
    if groups > 2 * k:
        folded = block[:, : FOLD * groups].reshape(rows, FOLD, groups).min(axis=1)
        bound = np.partition(folded, k - 1, axis=1)[:, k - 1]
    elif k < columns:
        bound = np.partition(block, k - 1, axis=1)[:, k - 1]
    else:
        bound = np.full(rows, np.inf)
    # One float32 step up, so that rounding of the threshold itself loses nobody.
    limit = np.nextafter((bound + slack).astype(np.float32), np.float32(np.inf))
    limit = np.minimum(limit, np.finfo(np.float32).max)  # rows left out are infinitely far
    row, column = np.divmod(np.flatnonzero(block <= limit[:, None]), columns)
    count = np.bincount(row, minlength=rows)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    values = np.full((rows, max(k, count.max())), np.inf)
    values[row, place] = block[row, column]
    # The bound came from groups; with the k-th entry itself fewer rows remain to be summed again.
    kept = values[row, place] <= (np.partition(values, k - 1, axis=1)[:, k - 1] + slack)[row]
    return column[kept], np.bincount(row[kept], minlength=rows)


def _settled(
    z: np.ndarray,
    queries: np.ndarray,
    base: np.ndarray,
    column: np.ndarray,
    count: np.ndarray,
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the distances of close columns again and return the k nearest rows of each query."""
    row = np.repeat(np.arange(len(queries)), count)
    exact = _squared(z, queries[row], base[column])
    order = np.lexsort((column, exact, row))  # ties by row number, since the base ascends
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    kept = order[place < k]
    row, place = row[place < k], place[place < k]
    index = np.full((len(queries), k), -1, dtype=np.int64)
    squared = np.full((len(queries), k), np.inf)
    index[row, place], squared[row, place] = base[column[kept]], exact[kept]
    return index, squared


def _squared(z: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return |z_query − z_row|² of pairs, differences first, so that copies are 0 apart."""
    out = np.empty(len(rows))
    for part in _parts(len(rows), z.shape[1]):
        difference = z.take(rows[part], axis=0)
        difference -= z.take(queries[part], axis=0)
        out[part] = np.vecdot(difference, difference)
    return out
