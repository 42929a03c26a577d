"""Kernels: how alike each pair of films is, in an embedding or in a confounder.

A kernel over n films is n² numbers, but that of a simple variable has a narrow factor: a
categorical one a column per level, a single number some twenty columns.  What is computed from
the factor is linear in n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Real, Shaped
from scipy.spatial.distance import pdist

from deconf.errors import CohortError, SettingsError
from deconf.maths.intervals import factorised

# A factor leaves out at most this much of the kernel per film (the diagonal of a kernel is 1),
# which changes HSIC by no more than that.
LEFT_OUT = 1e-11

# Beyond so many columns, looking up n² numbers is faster than multiplying (measured at n = 1,000).
WIDEST = 64

# The median distance is taken over this many films, evenly spaced in the table: 8 M distances.
MOST_FILMS = 4000


@dataclass(frozen=True)
class Kernel:
    """How alike each pair of films is, 1 on the diagonal.

    Attributes
    ----------
    factor : (n, r) array or None
        ``kernel = factor @ factor.T``, where r is small.
    full : (n, n) array or None
        The kernel itself, where it has no narrow factor.
    """

    factor: Float[np.ndarray, "n r"] | None
    full: Float[np.ndarray, "n n"] | None

    def __len__(self) -> int:
        """Return the number of films."""
        return len(self.full if self.factor is None else self.factor)  # type: ignore[arg-type]

    @property
    def matrix(self) -> Float[np.ndarray, "n n"]:
        """The (n, n) kernel."""
        if self.factor is None:
            return self.full  # type: ignore[return-value]
        product: np.ndarray = self.factor @ self.factor.T
        return product

    def among(self, rows: Int[np.ndarray, " m"]) -> Kernel:
        """Return the kernel among some of the films."""
        if self.factor is not None:
            return Kernel(self.factor[rows], None)
        return Kernel(None, self.full[np.ix_(rows, rows)])  # type: ignore[index]


def gaussian(values: Real[np.ndarray, "n ..."], *, width: float | None = None) -> Kernel:
    """Return the Gaussian kernel ``exp(-|x - x'|² / (2 width²))``.

    Parameters
    ----------
    values : (n,) or (n, d) array
        An embedding, or a continuous confounder.  Scale columns beforehand where their units
        differ: the distance is the plain one.
    width : float, optional
        Default: the median of the distances that are not zero (Gretton et al. 2005), over all
        pairs up to 4,000 films and over 4,000 films evenly spaced in the table beyond.

    Raises
    ------
    CohortError
        Where a value is nan or infinite, or all rows are the same.
    SettingsError
        Where the width is not positive.
    """
    x = np.ascontiguousarray(values.reshape(len(values), -1), dtype=float)
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise CohortError(
            f"row {bad[0]} holds a value that is nan or infinite ({len(bad):,} such rows of "
            f"{len(x):,}): leave these films out of both variables."
        )
    width = median_distance(x) if width is None else width
    if not 0 < width < np.inf:
        raise SettingsError(f"width={width:g} is not a positive number.")
    x = (x - x.mean(axis=0)) / width
    factor = _cholesky(x)
    if factor is not None:
        return Kernel(factor, None)
    length = (x**2).sum(axis=1)
    full = np.maximum(length[:, None] + length - 2 * (x @ x.T), 0.0)
    np.exp(full * -0.5, out=full)
    np.fill_diagonal(full, 1.0)
    return Kernel(None, full)


def categories(values: Shaped[np.ndarray, " n"]) -> Kernel:
    """Return the kernel that is 1 where two films have the same level and 0 elsewhere.

    Missing is a level of its own.

    Examples
    --------
    >>> categories(np.array(["A", "B", "A"])).matrix.astype(int).tolist()
    [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """
    codes = factorised(values)
    return Kernel(np.eye(int(codes.max(initial=0)) + 1)[codes], None)


def median_distance(values: Real[np.ndarray, "n d"]) -> float:
    """Return the median of the distances between films that are not zero.

    Raises
    ------
    CohortError
        Where all rows are the same.

    Examples
    --------
    >>> median_distance(np.array([[0.0], [1.0], [3.0], [3.0]]))
    2.0
    """
    spread = np.linspace(0, len(values) - 1, min(len(values), MOST_FILMS)).astype(int)
    distances = pdist(values[spread])
    distances = distances[distances > 0]
    if len(distances) == 0:
        raise CohortError(
            f"all {len(values):,} rows are the same: nothing can depend on a constant, and a "
            "Gaussian kernel has no median width. Leave this variable out."
        )
    return float(np.median(distances))


def _cholesky(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n r"] | None:
    """Return a narrow factor of the Gaussian kernel of width 1, or None where there is none.

    Cholesky with pivots, a column at a time, never building the kernel (Fine & Scheinberg,
    "Efficient SVM training using low-rank kernel representations", JMLR 2001).
    """
    n = len(x)
    factor = np.zeros((n, min(n, WIDEST)))
    left = np.ones(n)
    for r in range(factor.shape[1]):
        if left.sum() <= LEFT_OUT * n:
            return factor[:, :r]
        pivot = int(left.argmax())
        column = np.exp(-0.5 * ((x - x[pivot]) ** 2).sum(axis=1))
        column -= factor[:, :r] @ factor[pivot, :r]
        factor[:, r] = column / np.sqrt(left[pivot])
        left = np.maximum(left - factor[:, r] ** 2, 0.0)
        left[pivot] = 0.0
    return factor if left.sum() <= LEFT_OUT * n else None
