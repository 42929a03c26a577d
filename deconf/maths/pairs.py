"""All pairs of rows that point almost the same or the opposite way, by blocked products.

Exact, and quadratic in n where a matrix product is quadratic: 50,000 rows of 512 numbers take half
a minute on an idle core, and no more memory than a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from deconf.errors import CohortError

BLOCK = 2048  # rows of a block on either side: 16 MB of float32
MOST_PAIRS = 1_000_000


@dataclass(frozen=True, eq=False)
class Pairs:
    """Close pairs of rows.

    Attributes
    ----------
    first, second : (m,) int
        Rows, ``first < second``, in order.
    distance : (m,) float
        1 − cosine, or 1 − abs(cosine).
    opposite : (m,) bool
        The cosine is negative.
    nearest_beyond : float
        The distance of the closest pair that is not among them; infinite without one.
    """

    first: Int[np.ndarray, " m"]
    second: Int[np.ndarray, " m"]
    distance: Float[np.ndarray, " m"]
    opposite: Bool[np.ndarray, " m"]
    nearest_beyond: float


def close_pairs(
    z: Real[np.ndarray, "n d"],
    limit: float,
    *,
    opposite: bool = False,
) -> Pairs:
    """Find the pairs of rows whose cosine distance is at most a limit.

    Parameters
    ----------
    z : (n, d) array
        Rows of zeros are near nothing.
    limit : float
        Of 1 − cosine, in float32: to within 1e-6.
    opposite : bool
        Rows that point opposite ways are near too: the sign of the cosine does not count.

    Raises
    ------
    CohortError
        More than a million pairs: the limit tells nothing apart.

    Examples
    --------
    >>> found = close_pairs(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.1]]), limit=0.1)
    >>> found.first, found.second, found.distance.round(4), round(found.nearest_beyond, 2)
    (array([0]), array([2]), array([0.0012]), 0.95)
    """
    unit = np.array(z, dtype=np.float32)
    length = np.linalg.norm(unit, axis=1, keepdims=True)
    np.divide(unit, length, out=unit, where=length > 0)
    n, found, total, beyond = len(unit), [], 0, -np.inf
    for start in range(0, n, BLOCK):
        rows = unit[start : start + BLOCK]
        for other in range(start, n, BLOCK):
            cosine = rows @ unit[other : other + BLOCK].T
            if opposite:
                negative = cosine < 0
                np.abs(cosine, out=cosine)
            if other == start:
                cosine[np.tril_indices(len(rows))] = -np.inf  # each pair once, no row with itself
            first, second = np.nonzero(cosine >= 1 - limit)
            sign = negative[first, second] if opposite else np.zeros(len(first), dtype=bool)
            found.append((first + start, second + other, 1 - cosine[first, second], sign))
            cosine[first, second] = -np.inf
            beyond = max(beyond, float(cosine.max()))
            total += len(first)
            if total > MOST_PAIRS:
                often = np.bincount(np.concatenate([np.r_[pair[:2]] for pair in found]))
                raise CohortError(
                    f"more than {MOST_PAIRS:,} pairs lie within {limit:g} of each other, row "
                    f"{often.argmax()} (counting from 0) alone in {often.max():,} of them. Lower "
                    "limit=, or leave blank images out."
                )
    first, second, distance, sign = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.lexsort((second, first))
    return Pairs(
        first=first[order],
        second=second[order],
        distance=distance[order].astype(float).clip(0),
        opposite=sign[order],
        nearest_beyond=1 - float(beyond),
    )
