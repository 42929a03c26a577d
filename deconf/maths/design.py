"""Table and invariance turned into arrays, once: design of the confounders, strata, basis.

Methods and attackers never see column names.  What is decided here (which column is a category,
what a missing value means, what is left out) is kept in the encoding, so that the confounders of
new images are read in the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from deconf.errors import CohortError, did_you_mean, listing
from deconf.maths import kinds
from deconf.maths.moments import Given

MANY_MISSING = 0.05  # share of missing values from which "unknown" is a level of its own
SMALL_BLOCK = 16  # joint levels up to which two categorical confounders get an interaction
THIN_STRATUM = 20  # mean rows of a stratum below which strata give way to an additive basis
MOST_LEVELS = 24  # distinct rows up to which a design with numbers in it is a set of levels
MOST_READ = 12  # levels that attackers are asked for: the rarest beyond that are one
CLIP = 4.0  # standard deviations at which a continuous confounder is cut off


@dataclass(frozen=True)
class Column:
    """How one confounder is read: as levels, or as a standardised number and its square."""

    name: str
    levels: tuple[Any, ...] | None
    centre: float = 0.0
    scale: float = 1.0
    has_unknown: bool = False

    @classmethod
    def of(cls, series: pd.Series[Any]) -> Column:
        """Decide how to read a column from its training values."""
        unknown = bool(_missing(series).mean() >= MANY_MISSING)
        if kinds.is_categorical(series):
            return cls(str(series.name), tuple(kinds.levels(series)), has_unknown=unknown)
        values = kinds.numbers(series)
        scale = float(np.nanstd(values)) or 1.0
        return cls(str(series.name), None, float(np.nanmean(values)), scale, unknown)

    def encode(self, series: pd.Series[Any]) -> tuple[Float[ndarray, "n j"], Bool[ndarray, " n"]]:
        """Return the columns of the design, and which rows could be read."""
        missing = series.isna().to_numpy() if self.levels is not None else _missing(series)
        if self.levels is not None:
            place = {level: i for i, level in enumerate(self.levels)}
            codes = np.array([place.get(v, -1) for v in series.tolist()])
            if self.has_unknown:
                codes[missing] = len(self.levels)
            hot = np.eye(len(self.levels) + self.has_unknown)[codes] * (codes >= 0)[:, None]
            return hot, codes >= 0
        values = np.clip((kinds.numbers(series) - self.centre) / self.scale, -CLIP, CLIP)
        values = np.where(missing, 0.0, values)
        parts = [values, np.where(missing, 0.0, values**2 - 1)]
        if self.has_unknown:
            parts.append(missing.astype(float))
        return np.stack(parts, axis=1), np.full(len(series), True) if self.has_unknown else ~missing


@dataclass(frozen=True)
class Encoding:
    """How a set of confounders becomes a design of k columns."""

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, table: pd.DataFrame, names: Sequence[str]) -> Encoding:
        """Read the training table."""
        _require(table, names)
        return cls(tuple(Column.of(table[name]) for name in names))

    def encode(self, table: pd.DataFrame) -> tuple[Float[ndarray, "n k"], Bool[ndarray, " n"]]:
        """Return (n, k) and the rows in which every confounder could be read."""
        _require(table, [column.name for column in self.columns])
        blocks, read = [], np.ones(len(table), dtype=bool)
        for column in self.columns:
            block, known = column.encode(table[column.name])
            blocks.append(block)
            read &= known
        for (a, x), (b, y) in itertools.combinations(zip(self.columns, blocks, strict=True), 2):
            both = a.levels is not None and b.levels is not None
            if both and x.shape[1] * y.shape[1] <= SMALL_BLOCK:
                product = x[:, 1:, None] * y[:, None, 1:]
                blocks.append(product.reshape(len(x), -1))
        return np.hstack(blocks), read


@dataclass(frozen=True)
class Design:
    """Arrays of one constraint, in the rows of the table that can be used.

    Attributes
    ----------
    rows : (m,) int
        Which rows of the table are used.
    c, given : (m, k) and Given
        Design of the confounders, and adjustment set.
    labelled : (m,) bool
        Rows whose adjustment set is recorded; the others form a stratum of their own.
    encoding : Encoding
    dropped : int
        Rows left out: a confounder is missing (and rarely so), or the adjustment set is and
        unlabelled rows are not used.
    """

    rows: Int[ndarray, " m"]
    c: Float[ndarray, "m k"]
    given: Given
    labelled: Bool[ndarray, " m"]
    encoding: Encoding
    dropped: int


def design(
    table: pd.DataFrame,
    confounders: Sequence[str],
    given: Sequence[str] = (),
    *,
    outcomes: Sequence[str] = (),
    unlabelled: bool = True,
) -> Design:
    """Return the arrays of ``z ⊥ confounders | given``.

    Parameters
    ----------
    outcomes : sequence of str
        Those of the adjustment set that are outcomes.  Several are held jointly by regression,
        since cells of fourteen findings would be empty.
    unlabelled : bool
        Rows whose adjustment set is not recorded form a stratum of their own, and help to
        estimate the trace.  This assumes that inside that stratum the confounder is unrelated to
        what differs; False leaves them out.
    """
    _require(table, given)
    encoding = Encoding.of(table, confounders)
    c, read = encoding.encode(table)
    labelled = ~np.any([np.zeros(len(c), bool), *(_missing(table[g]) for g in given)], axis=0)
    use = read if unlabelled else read & labelled
    rows = np.flatnonzero(use)
    held = adjustment(table.iloc[rows], given, labelled[rows], outcomes=outcomes)
    return Design(rows, c[rows], held, labelled[rows], encoding, int(len(c) - len(rows)))


def adjustment(
    table: pd.DataFrame,
    given: Sequence[str],
    labelled: Bool[ndarray, " n"],
    *,
    outcomes: Sequence[str] = (),
) -> Given:
    """Return strata of the categorical columns, and a basis of the continuous ones."""
    several = [g for g in given if g in outcomes]
    additive = several if len(several) > 1 else []
    categorical = [g for g in given if kinds.is_categorical(table[g]) and g not in additive]
    smooth = [g for g in given if g not in categorical and g not in additive]
    codes = _joint(table, categorical, labelled)
    if len(codes) / (codes.max(initial=0) + 1) < THIN_STRATUM:
        additive, codes = additive + categorical, _joint(table, [], labelled)
    parts = [_hot(table[g]) for g in additive] + [_spline(table[g]) for g in smooth]
    basis = np.hstack(parts) * labelled[:, None] if parts else None
    return Given(codes, basis)


def levels_of(c: Float[ndarray, "n k"]) -> Int[ndarray, " n"] | None:
    """Return the level of each row of a design, or None where a number is part of it.

    Categories alone are levels, and joint ones, however many there are.
    """
    distinct, codes = np.unique(c, axis=0, return_inverse=True)
    is_hot = len(distinct) > MOST_LEVELS and bool(np.isin(distinct, (0.0, 1.0)).all())
    return codes.ravel() if is_hot or len(distinct) <= MOST_LEVELS else None


def numbers_of(c: Float[ndarray, "n k"]) -> list[int]:
    """Return the columns of a design that hold numbers, without the squares beside them."""
    found: list[int] = []
    for j in np.flatnonzero(~np.isin(c, (0.0, 1.0)).all(axis=0)):
        v = c[:, j - 1]  # where a number is missing, both columns are 0
        is_square = bool(found) and found[-1] == j - 1
        if not (is_square and np.allclose(c[:, j], np.where(v == 0, c[:, j], v**2 - 1))):
            found.append(int(j))
    return found


@dataclass(frozen=True)
class Confounder:
    """What attackers are to read: one number, or categories.

    Attributes
    ----------
    codes : (n,) int
        Levels, or thirds of a number.
    values : (n,) float or None
        The number.
    """

    codes: Int[ndarray, " n"]
    values: Float[ndarray, " n"] | None = None

    def rows(self, index: ndarray) -> Confounder:
        """Return the same for some rows."""
        return Confounder(self.codes[index], None if self.values is None else self.values[index])


def confounders_in(c: Float[ndarray, "n k"]) -> tuple[Confounder, ...]:
    """Return the confounders of a design, in an order and with codes that names do not decide.

    Categories are one confounder, their joint levels, up to ``MOST_LEVELS`` of these; beyond, each
    is one: a thousand joint levels of a film or two could not be read.  Every number is one.

    Examples
    --------
    >>> coin, dose = np.array([0.0, 1, 1, 0] * 20), np.linspace(-1, 1, 80)
    >>> found = confounders_in(np.stack([coin, 1 - coin, dose, dose**2 - 1], axis=1))
    >>> [(len(np.unique(one.codes)), one.values is not None) for one in found]
    [(2, False), (3, True)]
    """
    levels = levels_of(c)
    if levels is not None and (len(np.unique(levels)) <= MOST_LEVELS or _is_one(c)):
        return (Confounder(levels if _is_one(c) else _in_turn(levels)),)
    hot = c[:, np.isin(c, (0.0, 1.0)).all(axis=0)]
    joint = _row_codes(hot)
    parts = [joint] if joint.max(initial=0) < MOST_LEVELS else _categories(hot)
    told = [_in_turn(part) for part in parts if part.max(initial=0) > 0]
    found = [Confounder(codes) for codes in sorted(told, key=tuple)]
    numbers = [c[:, j] for j in numbers_of(c) if np.ptp(c[:, j]) > 0]
    return (*found, *(Confounder(_thirds(v), v) for v in sorted(numbers, key=tuple)))


def _is_one(c: Float[ndarray, "n k"]) -> bool:
    """Whether a design is one column of the table, one-hot."""
    return bool(np.isin(c, (0.0, 1.0)).all() and (c.sum(axis=1) == 1).all())


def _categories(hot: Float[ndarray, "n k"]) -> list[Int[ndarray, " n"]]:
    """Return the levels of each category of a one-hot design.

    Whether a number is missing is a category too; products of two categories say nothing new.
    """
    whole: list[ndarray] = []
    rest: list[ndarray] = []
    for block in _blocks(hot):
        (whole if (block.sum(axis=1) == 1).all() else rest).append(_row_codes(block))
    pairs = [np.stack(pair, axis=1) for pair in itertools.combinations(whole, 2)] if rest else []
    joint = [_row_codes(pair) for pair in pairs]
    return whole + [one for one in rest if not any(_follows(one, both) for both in joint)]


def _follows(codes: Int[ndarray, " n"], other: Int[ndarray, " n"]) -> bool:
    """Whether the other levels decide these."""
    return len(np.unique(np.stack([codes, other], axis=1), axis=0)) == len(np.unique(other))


def _blocks(hot: Float[ndarray, "n k"]) -> list[Float[ndarray, "n j"]]:
    """Return runs of columns of which no two are 1 in one row, each as long as can be."""
    blocks, first, total = [], 0, np.zeros(len(hot))
    for j in range(hot.shape[1]):
        if (total + hot[:, j] > 1).any():
            blocks.append(hot[:, first:j])
            first, total = j, np.zeros(len(hot))
        total = total + hot[:, j]
    return [*blocks, hot[:, first:]]


def _row_codes(x: ndarray) -> Int[ndarray, " n"]:
    if not x.shape[1]:
        return np.zeros(len(x), dtype=np.int64)
    return np.unique(x, axis=0, return_inverse=True)[1].ravel()


def _in_turn(codes: Int[ndarray, " n"]) -> Int[ndarray, " n"]:
    """Return codes counted in the order of the rows, whatever the order of columns was."""
    _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    out: ndarray = np.argsort(np.argsort(first))[place.ravel()]
    return out


def _thirds(values: Float[ndarray, " n"]) -> Int[ndarray, " n"]:
    """Return the third of each value; where most are the largest one, whether it is that."""
    codes = np.searchsorted(np.unique(np.quantile(values, [1 / 3, 2 / 3])), values)
    return codes if codes.any() else (values == values.max()).astype(np.int64)


def pooled(codes: Int[ndarray, " n"], most: int = MOST_READ) -> Int[ndarray, " n"]:
    """Return levels with the rarest ones beyond ``most`` made one."""
    known, place, count = np.unique(codes, return_inverse=True, return_counts=True)
    if len(known) <= most:
        return codes
    rank = np.argsort(np.argsort(-count, kind="stable"), kind="stable")
    out: ndarray = np.minimum(rank, most - 1)[place.ravel()]
    return out


def _require(table: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in table:
            raise CohortError(
                f"the table has no column {name!r}.{did_you_mean(name, table.columns)} "
                f"Columns: {listing(table.columns)}."
            )


def _missing(series: pd.Series[Any]) -> Bool[ndarray, " n"]:
    """Return where no value can be read: not recorded, or an infinite measurement."""
    if kinds.is_categorical(series):
        return series.isna().to_numpy()
    gone: ndarray = np.isnan(kinds.numbers(series))
    return gone


def _joint(table: pd.DataFrame, names: Sequence[str], labelled: ndarray) -> Int[ndarray, " n"]:
    joint = np.zeros(len(table), dtype=np.int64)
    for name in names:
        codes, levels = kinds.codes(table[name])
        joint = joint * (len(levels) + 1) + codes
    joint[~labelled] = joint.max(initial=0) + 1
    return np.unique(joint, return_inverse=True)[1].ravel()


def _hot(series: pd.Series[Any]) -> Float[ndarray, "n j"]:
    codes, levels = kinds.codes(series)
    hot: ndarray = (np.eye(len(levels))[codes] * (codes >= 0)[:, None])[:, 1:]
    return hot


def _spline(series: pd.Series[Any]) -> Float[ndarray, "n 5"]:
    from sklearn.preprocessing import SplineTransformer

    values = kinds.numbers(series)
    filled = np.where(np.isnan(values), np.nanmedian(values), values)[:, None]
    spline = SplineTransformer(n_knots=4, knots="quantile", extrapolation="linear")
    basis: ndarray = spline.fit_transform(filled)[:, 1:]
    return basis
