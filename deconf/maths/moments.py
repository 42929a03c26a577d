"""Weighted moments of embedding and confounder, cell by cell: streamed, merged, pooled.

One covariance in the house.  Every closed-form method starts from these numbers, so that sites
can share moments instead of images and a pass over shards gives what one batch would.

Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances", 1979 (the merge).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.errors import SettingsError
from deconf.maths.threads import spread

CHUNK = 8192  # rows: large enough for BLAS, small enough that float32 sums keep seven digits
FEW = 48  # columns taken together where each is treated by itself


@dataclass(frozen=True)
class Given:
    """The adjustment set as arrays.

    Parameters
    ----------
    codes : (n,) int
        Strata: the joint levels of the categorical columns, 0..K-1.
    basis : (n, m) float or None
        Smooth functions of the continuous columns (and additive codes of several outcomes),
        removed by regression.
    """

    codes: Int[ndarray, " n"]
    basis: Float[ndarray, "n m"] | None = None

    @classmethod
    def nothing(cls, n: int) -> Given:
        """Return the empty adjustment set: one stratum."""
        return cls(np.zeros(n, dtype=np.int64))

    def rows(self, index: ndarray) -> Given:
        """Return the same for some rows."""
        return Given(self.codes[index], None if self.basis is None else self.basis[index])


@dataclass(frozen=True)
class CellMoments:
    """Moments of x = [embedding, design, basis] in each of K cells, in float64.

    Attributes
    ----------
    width, design : int
        How many leading columns of x are the embedding (d), and how many after it the
        confounder design (k); the rest (m) is the basis of the adjustment set.
    count, units, weight, weight2 : (K,)
        Rows, independent units (patients), sum of weights, sum over the units of their squared
        weight.  A patient whose films are split between shards counts once in each.
    mean : (K, d+k+m)
        Weighted mean of each cell.
    scatter : (K, d+k+m, d+k+m)
        Sum of w (x - mean)(x - mean)^T, no normaliser.
    """

    width: int
    design: int
    count: Float[ndarray, " K"]
    units: Float[ndarray, " K"]
    weight: Float[ndarray, " K"]
    weight2: Float[ndarray, " K"]
    mean: Float[ndarray, "K p"]
    scatter: Float[ndarray, "K p p"]

    def merge(self, other: CellMoments) -> CellMoments:
        """Return the moments of both sets of rows; cells are matched by position."""
        mine, yours = ((m.width, m.design, *m.mean.shape) for m in (self, other))
        if mine != yours:
            raise SettingsError(
                "moments can be merged where (embedding, design, cells, all columns) agree, and "
                f"these have {mine} and {yours}: use one encoding and cells= for every shard."
            )
        cells = np.arange(len(self.weight))
        *small, scatter = ((getattr(self, f), getattr(other, f)) for f in _FIELDS)
        both = [np.concatenate(pair) for pair in small]
        return _pooled(self, [*both, [*scatter[0], *scatter[1]]], np.tile(cells, 2), len(cells))

    def pool(self, groups: Int[ndarray, " K"]) -> CellMoments:
        """Return the moments of unions of cells, exactly: cell i goes to group ``groups[i]``."""
        groups = np.asarray(groups)
        return _pooled(self, [getattr(self, f) for f in _FIELDS], groups, int(groups.max()) + 1)

    def reweighted(self, factor: Float[ndarray, " K"]) -> CellMoments:
        """Return the moments with every row of cell i weighted ``factor[i]`` times more.

        Weights that depend on the cell only need no second pass over the data.
        """
        f = np.asarray(factor, dtype=np.float64)
        return replace(
            self,
            weight=self.weight * f,
            weight2=self.weight2 * f**2,
            scatter=self.scatter * f[:, None, None],
        )

    @property
    def effective_size(self) -> float:
        """Kish's size (sum w)^2 / sum w^2, w the weight of a patient, less one for each cell.

        As if all films of a patient said the same: a few patients with very many films would
        else pass chance off as a trace.
        """
        kish = self.weight.sum() ** 2 / self.weight2.sum()
        return float(max(kish - np.count_nonzero(self.weight), 1.0))

    def within(self) -> list[Stratum]:
        """Return the covariances inside every non-empty cell, the basis regressed out."""
        d, k = self.width, self.design
        total = self.weight.sum()
        strata = []
        for weight, count, scatter in zip(self.weight, self.count, self.scatter, strict=True):
            if weight <= 0:
                continue
            cov = without_basis(scatter / weight, d + k)
            strata.append(
                Stratum(weight / total, int(count), cov[:d, :d], cov[:d, d:], cov[d:, d:])
            )
        return strata

    @property
    def centre(self) -> Float[ndarray, " d"]:
        """Weighted mean of the embedding over all cells."""
        mean: ndarray = self.weight @ self.mean[:, : self.width] / self.weight.sum()
        return mean


@dataclass(frozen=True)
class Stratum:
    """Covariances in one stratum, normalised by the sum of weights: pi_s, zz, zc, cc."""

    share: float
    count: int
    zz: Float[ndarray, "d d"]
    zc: Float[ndarray, "d k"]
    cc: Float[ndarray, "k k"]


_FIELDS = ("count", "units", "weight", "weight2", "mean", "scatter")


def _pooled(like: CellMoments, fields: list[Any], groups: ndarray, size: int) -> CellMoments:
    count, units, weight, weight2, mean, scatter = fields
    add = np.zeros((size, len(groups)))
    add[groups, np.arange(len(groups))] = 1.0
    total = add @ weight
    centre = (add * weight) @ mean / np.where(total > 0, total, 1.0)[:, None]
    out = np.zeros((size, *scatter[0].shape))
    for group in range(size):  # M = sum M_i + w_i (m_i - m)(m_i - m)^T
        members = np.flatnonzero(groups == group)
        delta = mean[members] - centre[group]
        np.matmul(delta.T * weight[members], delta, out=out[group])
        for cell in members:
            out[group] += scatter[cell]
        _flatten(out[group], total[group], centre[group])
    return CellMoments(
        like.width, like.design, add @ count, add @ units, total, add @ weight2, centre, out
    )


def cell_moments(
    z: Float[ndarray, "n d"],
    c: Float[ndarray, "n k"] | None = None,
    *,
    given: Given | None = None,
    weights: Float[ndarray, " n"] | None = None,
    patients: ndarray | None = None,
    cells: int | None = None,
) -> CellMoments:
    """Return the moments of ``[z, c, basis]`` in the strata of ``given``.

    Rows are shifted to near their mean before they are squared, so float32 features far from zero
    lose nothing.  Products of the embedding run in its own precision by chunks and are summed in
    float64; those among design and basis, whose columns may be collinear, are float64 throughout:
    rounding would turn ``a + b = 1`` of a one-hot pair into one more, random, direction to erase.

    Parameters
    ----------
    cells : int, optional
        Number of cells where it is known beforehand: needed to merge shards in which the last
        strata do not occur.

    Raises
    ------
    SettingsError
        A value is not finite, a weight is negative, weights or strata do not fit the rows.
    """
    given = given or Given.nothing(len(z))
    codes = given.codes
    w = checked_weights(weights, len(z))
    blocks = [b for b in (c, given.basis) if b is not None and b.shape[1]]
    small = _Beside(blocks or [np.zeros((len(z), 0))])
    size = cells or (int(codes.max(initial=0)) + 1)
    if len(codes) and not 0 <= codes.min() <= codes.max() < size:
        raise SettingsError(
            f"strata are numbered from 0 to {size - 1} here, and the rows have codes "
            f"{codes.min()} to {codes.max()}: pass cells={codes.max() + 1}."
        )
    d = z.shape[1]
    p = d + small.width
    count, units = np.zeros(size), np.zeros(size)
    weight, weight2 = np.zeros(size), np.zeros(size)
    mean, scatter = np.zeros((size, p)), np.zeros((size, p, p))

    for cell in range(size):
        rows = slice(0, len(z)) if size == 1 else np.flatnonzero(codes == cell)
        n = len(z) if size == 1 else len(rows)  # type: ignore[arg-type]
        if n == 0:
            continue
        count[cell] = n
        here = np.ones(n) if w is None else w[rows]
        who = None if patients is None else np.asarray(patients)[rows]
        units[cell], weight2[cell] = _units(who, here)
        with np.errstate(invalid="ignore", over="ignore"):  # named below
            weight[cell], mean[cell] = _products(z, small, rows, n, w, scatter[cell])
        _flatten(scatter[cell], weight[cell], mean[cell])
    if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
        raise SettingsError(where_not_finite(z, small[:]))
    k = 0 if c is None else c.shape[1]
    return CellMoments(d, k, count, units, weight, weight2, mean, scatter)


def column_moments(
    z: Float[ndarray, "n d"],
    c: Float[ndarray, "n k"] | None = None,
    *,
    given: Given | None = None,
    weights: Float[ndarray, " n"] | None = None,
    patients: ndarray | None = None,
    cells: int | None = None,
) -> Iterator[tuple[slice, CellMoments]]:
    """Yield `cell_moments` of a few columns of the embedding at a time, with their slice.

    For methods that treat every column by itself: the products of all pairs would cost n d^2.
    """
    how = {"given": given, "weights": weights, "patients": patients, "cells": cells}
    for start in range(0, z.shape[1], FEW):
        columns = slice(start, min(start + FEW, z.shape[1]))
        try:
            m = cell_moments(z[:, columns], c, **how)  # type: ignore[arg-type]
        except SettingsError:
            cell_moments(z, c, **how)  # type: ignore[arg-type]  # names the column by its place in all
            raise
        yield columns, m


@dataclass(frozen=True)
class _Beside:
    """The columns beside the embedding, put together and widened to float64 where asked for."""

    blocks: list[ndarray]

    @property
    def width(self) -> int:
        """Columns in all."""
        return sum(block.shape[1] for block in self.blocks)

    def __getitem__(self, rows: slice | ndarray) -> Float[ndarray, "n p"]:
        parts = [np.asarray(block[rows], dtype=np.float64) for block in self.blocks]
        return parts[0] if len(parts) == 1 else np.hstack(parts)


def _units(patients: ndarray | None, weights: ndarray) -> tuple[float, float]:
    """Return the number of patients, and the sum over them of the square of their weight."""
    each = weights
    if patients is not None:
        each = np.bincount(np.unique(patients, return_inverse=True)[1].ravel(), weights)
    return float(len(each)), float(each @ each)


def _products(
    z: ndarray, small: _Beside, rows: slice | ndarray, n: int, w: ndarray | None, scatter: ndarray
) -> tuple[float, ndarray]:
    """Fill ``scatter`` with the centred products of the rows; return total weight and mean."""
    d, kind = z.shape[1], z.dtype if z.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    own = threading.local()  # a buffer for each thread: new memory for every chunk costs as much

    def products_of(start: int) -> tuple[float, ndarray, ndarray, ndarray, ndarray] | None:
        stop = min(start + CHUNK, n)
        take = slice(start, stop) if isinstance(rows, slice) else rows[start:stop]
        if not hasattr(own, "buffer"):
            own.buffer = np.empty((min(CHUNK, n), len(scatter)), dtype=kind)
        part, y, x = z[take], small[take], own.buffer[: stop - start]
        sampled = slice(None, None, max(1, len(part) // 64))  # a shift need only be near the mean
        shift = part[sampled].mean(axis=0, dtype=np.float64).astype(kind)
        low = y[sampled].mean(axis=0)
        y = y - low
        np.subtract(part, shift, out=x[:, :d])
        x[:, d:] = y
        here = np.ones(len(x)) if w is None else w[take]
        weight = float(here.sum())
        if weight == 0:
            return None
        offset = (here.astype(kind) @ x).astype(np.float64) / weight
        offset[d:] = here @ y / weight
        if w is not None:
            half = np.sqrt(here)[:, None]
            x *= half.astype(kind)
            y *= half
        products = x.T @ x  # numpy sees the transpose and calls syrk: half the work of a product
        products[d:, d:] = 0
        mean = np.concatenate([shift.astype(np.float64), low]) + offset
        return weight, offset, mean, products, y.T @ y

    weights, offsets, means = [], [], []
    for found in spread(products_of, range(0, n, CHUNK), n * len(scatter)):
        if found is None:
            continue
        weight, offset, mean, products, among_small = found
        scatter += products
        scatter[d:, d:] += among_small
        weights.append(weight)
        offsets.append(offset)
        means.append(mean)
    if not weights:
        return 0.0, np.zeros(len(scatter))
    # Chan's merge, once: every chunk about its own mean, then the means about the common one.
    each, away = np.array(weights), np.array(means)
    total = float(each.sum())
    mean = means[0] + each @ (away - means[0]) / total
    both = np.vstack([offsets, away - mean])
    scatter += (both.T * np.concatenate([-each, each])) @ both
    return total, mean


def _flatten(scatter: ndarray, weight: float, mean: ndarray) -> None:
    """Set to zero what a constant column has by rounding alone: a few units in its last place."""
    rounding = 8 * np.finfo(np.float64).eps * np.abs(mean)
    flat = np.diag(scatter) <= weight * rounding**2
    scatter[flat] = 0.0
    scatter[:, flat] = 0.0


def checked_weights(weights: ndarray | None, n: int) -> ndarray | None:
    """Return row weights in float64, or None.

    Raises
    ------
    SettingsError
        One for each row is needed, finite, not negative, and not all of them zero.
    """
    if weights is None:
        return None
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (n,):
        raise SettingsError(f"weights has shape {w.shape}; one for each of the {n} rows is needed.")
    bad = np.flatnonzero(~(np.isfinite(w) & (w >= 0)))
    if len(bad):
        raise SettingsError(
            f"weights must be finite and not negative; row {bad[0]} has {w[bad[0]]:g}."
        )
    if n and not w.any():
        raise SettingsError("all weights are zero: no row is left to fit on.")
    return w


def where_not_finite(z: ndarray, small: ndarray) -> str:
    """Return in words where an embedding or a design holds a number that is not finite."""
    for name, x in {"the embedding": z, "the design": small}.items():
        bad = np.argwhere(~np.isfinite(x))
        if len(bad):
            row, column = bad[0]
            return (
                f"{name} holds {x[row, column]} in row {row}, column {column} "
                f"({len(np.unique(bad[:, 0]))} rows in all): leave those rows out."
            )
    return "the embedding is too large for its precision: rescale it, or pass float64."


def without_basis(cov: Float[ndarray, "p p"], keep: int) -> Float[ndarray, "keep keep"]:
    """Return the covariance of the first ``keep`` columns after regression on the others.

    Collinear basis columns count once (directions below 1e-10 of the largest go); a column of
    which less than 1e-10 is left is wholly explained, and has no covariance.
    """
    if cov.shape[0] == keep:
        return cov
    own, cross = cov[:keep, :keep], cov[:keep, keep:]
    inverse = np.linalg.pinv(cov[keep:, keep:], rcond=1e-10, hermitian=True)
    left: ndarray = own - cross @ inverse @ cross.T
    explained = np.diag(left) <= 1e-10 * np.diag(own)
    left[explained] = 0.0
    left[:, explained] = 0.0
    return left
