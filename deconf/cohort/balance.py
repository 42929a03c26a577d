"""How alike the parts of a cohort are: films, patients, sites, and the share of every level.

The standardised difference is that of `deconf.causal.weights`: (largest − smallest share or mean
of the parts) / standard deviation over all of them.  It does not grow with n, as a p-value does,
and below 0.1 counts as balanced (Austin 2009, "Balance diagnostics for comparing the distribution
of baseline covariates", https://doi.org/10.1002/sim.3697).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped

from deconf.causal.weights import standardised_differences
from deconf.cohort.parts import rows_of_parts
from deconf.cohort.roles import require_column
from deconf.cohort.splits import Rows
from deconf.errors import CohortError, listing
from deconf.maths.intervals import factorised
from deconf.maths.kinds import codes, is_categorical, numbers, said

if TYPE_CHECKING:
    from deconf.cohort.cohort import Cohort

BALANCED = 0.1
SHOWN = 12  # levels of a column in the printed table, those that differ most
MEAN, DAYS, MISSING = "mean", "mean day since 1970", "missing"
MOST_LEVELS = 500  # more is a column of names


@dataclass(frozen=True)
class Line:
    """One level of a column in every part.

    ``level`` is "mean" for a column of numbers ("mean day since 1970" for dates), "missing" for the
    share of films without a value.  ``values`` are
    shares of patients (or the mean over patients), ``films`` and ``patients`` counts, each with
    one number a part.
    """

    column: str
    level: str
    values: tuple[float, ...]
    films: tuple[int, ...]
    patients: tuple[int, ...]
    difference: float

    def __str__(self) -> str:
        """Name the line: ``site=A``, ``age (mean)``."""
        if self.is_number or self.level == MISSING:
            return f"{self.column} ({self.level})"
        return f"{self.column}={self.level}"

    @property
    def is_number(self) -> bool:
        """Whether the values are means, not shares."""
        return self.level in (MEAN, DAYS)


@dataclass(frozen=True)
class Balance:
    """What each part of a cohort holds; `str` is a table.

    Attributes
    ----------
    parts : tuple of str
    films, patients, sites : tuples of int
        One number a part; ``sites`` is empty where no column has that role.
    lines : tuple of Line
    straddling : int
        Patients with films in more than one part.
    left_out : int
        Films in no part.
    """

    parts: tuple[str, ...]
    films: tuple[int, ...]
    patients: tuple[int, ...]
    sites: tuple[int, ...]
    lines: tuple[Line, ...]
    straddling: int
    left_out: int

    @property
    def largest(self) -> float:
        """The largest standardised difference of all lines; 0 without lines."""
        return max((line.difference for line in self.lines), default=0.0)

    @property
    def one_sided(self) -> tuple[str, ...]:
        """Parts where a column has one recorded level only, as ``"disease in fold 1"``."""
        found = []
        for column in dict.fromkeys(line.column for line in self.lines):
            shares = [
                line.values
                for line in self.lines
                if line.column == column and not line.is_number and line.level != MISSING
            ]
            if len(shares) > 1:
                highest = np.max(shares, axis=0)
                alone = np.flatnonzero(highest > 1 - 1e-9)
                found += [f"{column} in {self.parts[k]}" for k in alone]
        return tuple(found)

    @property
    def by_chance(self) -> float:
        """Standard error, √(1/n + 1/m), of a line's difference between the two smallest parts.

        For patients dealt out blindly; where parts are many, the largest of their differences is
        larger.
        """
        least, second = sorted(self.patients)[:2]
        return float(np.sqrt(1 / least + 1 / second))

    def to_frame(self) -> pd.DataFrame:
        """Return a row for every line and part.

        Columns ``column``, ``level``, ``part``, ``films``, ``patients``, ``value`` (share or mean),
        ``difference``; first a line "(all)" of every part.
        """
        every = [
            ("(all)", "", part, films, patients, np.nan, np.nan)
            for part, films, patients in zip(self.parts, self.films, self.patients, strict=True)
        ]
        for line in self.lines:
            each = zip(self.parts, line.films, line.patients, line.values, strict=True)
            every += [(line.column, line.level, *told, line.difference) for told in each]
        names = ["column", "level", "part", "films", "patients", "value", "difference"]
        return pd.DataFrame(every, columns=names)

    def __str__(self) -> str:
        """Return the table and what to mind about it."""
        rows = [["", *self.parts, "difference"]]
        for name in ("films", "patients", "sites"):
            if counts := getattr(self, name):
                rows.append([name, *(f"{count:,}" for count in counts), ""])
        for line in self._shown():
            shown = [f"{v:,.6g}" if line.is_number else f"{100 * v:.1f} %" for v in line.values]
            rows.append([str(line), *shown, f"{line.difference:.2f}"])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        text = []
        for first, *others in rows:
            cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
            text.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
        return "\n".join([*text, *self._said()])

    def _shown(self) -> Iterator[Line]:
        for column in dict.fromkeys(line.column for line in self.lines):
            of_column = [line for line in self.lines if line.column == column]
            least = sorted((line.difference for line in of_column), reverse=True)[:SHOWN][-1]
            yield from [line for line in of_column if line.difference >= least][:SHOWN]

    def _said(self) -> list[str]:
        told = []
        if hidden := len(self.lines) - len(list(self._shown())):
            told.append(f"{hidden:,} more levels, which differ less: to_frame().")
        if self.lines:
            # Rounded, so that of equals the first is named.
            worst = max(self.lines, key=lambda line: round(line.difference, 6))
            told += [
                f"Largest standardised difference: {worst.difference:.2f} ({worst}); below "
                f"{BALANCED} counts as balanced.",
                f"Dealt out blindly, the two smallest parts would differ by about "
                f"{self.by_chance:.2f} in any line.",
                "Shares and means are of patients: each counts once in a part, however many films.",
            ]
        if self.one_sided:
            told.append(
                f"One level only: {listing(self.one_sided)}. Nothing can be told apart there."
            )
        if self.straddling:
            told.append(f"STRADDLING: {self.straddling:,} patients have films in several parts.")
        if self.left_out:
            told.append(f"{self.left_out:,} films are in no part.")
        return told


def balance_of(
    cohort: Cohort, parts: str | Mapping[str, Any], columns: Sequence[str] | None = None
) -> Balance:
    """Compare parts of a cohort, by default in its site and outcomes; see `rows_of_parts`."""
    rows, site = rows_of_parts(cohort, parts), cohort.roles["site"]
    if columns is None:
        columns = [c for c in (site, *cohort.outcomes) if c is not None and c != parts]
    return balance(cohort.table, cohort.patients, rows, columns, site=site)


def balance(
    table: pd.DataFrame,
    patients: Shaped[np.ndarray, " n"],
    parts: Mapping[str, Rows],
    columns: Sequence[str],
    *,
    site: str | None = None,
) -> Balance:
    """Compare parts of a table.

    Parameters
    ----------
    table : DataFrame of n rows
    patients : (n,) array
        The patient of each row.  A patient counts once in every part, in equal shares for each of
        their rows where the column is recorded.
    parts : mapping of names to row numbers
        They share no row.
    columns : sequence of str
        Categories are compared level by level, with a line of their own for missing values;
        numbers by their mean.
    site : str, optional
        The column of which distinct values are counted.

    Raises
    ------
    CohortError
        An unknown column, or one of names, with more than 500 levels.

    Examples
    --------
    >>> films = pd.DataFrame({"site": list("AABB"), "ill": [1, 0, 1, 1]})
    >>> parts = {"train": np.array([0, 1, 2]), "test": np.array([3])}
    >>> print(balance(films, np.arange(4), parts, ["ill"], site="site"))
               train     test  difference
    films          3        1
    patients       3        1
    sites          2        1
    ill=0     33.3 %    0.0 %        0.77
    ill=1     66.7 %  100.0 %        0.77
    Largest standardised difference: 0.77 (ill=0); below 0.1 counts as balanced.
    Dealt out blindly, the two smallest parts would differ by about 1.15 in any line.
    Shares and means are of patients: each counts once in a part, however many films.
    One level only: ill in test. Nothing can be told apart there.
    """
    rows = np.concatenate(list(parts.values()))
    part = np.repeat(np.arange(len(parts)), [len(r) for r in parts.values()])
    who = factorised(patients)[rows]
    person = factorised(part * (who.max() + 1) + who)  # a patient, once for each part they are in
    in_part = _Counted(part, person, len(parts))
    everyone = np.ones(len(rows), dtype=bool)
    lines: list[Line] = []
    for name in columns:
        require_column(table, name)
        lines += in_part.lines(table[name].iloc[rows], name)
    sites: tuple[int, ...] = ()
    if site is not None:
        sites = tuple(int(table[site].iloc[r].nunique()) for r in parts.values())
    pairs = np.unique(np.stack([who, part]), axis=1)
    return Balance(
        parts=tuple(parts),
        films=in_part.films(everyone),
        patients=in_part.patients(everyone),
        sites=sites,
        lines=tuple(lines),
        straddling=int((np.bincount(pairs[0]) > 1).sum()),
        left_out=len(table) - len(rows),
    )


@dataclass(frozen=True)
class _Counted:
    """Rows with their part and their person, ready to be counted."""

    part: Int[np.ndarray, " n"]
    person: Int[np.ndarray, " n"]
    parts: int

    def films(self, chosen: Bool[np.ndarray, " n"]) -> tuple[int, ...]:
        return tuple(np.bincount(self.part[chosen], minlength=self.parts).tolist())

    def patients(self, chosen: Bool[np.ndarray, " n"]) -> tuple[int, ...]:
        first = np.unique(self.person[chosen], return_index=True)[1]
        return tuple(np.bincount(self.part[chosen][first], minlength=self.parts).tolist())

    def lines(self, column: pd.Series, name: str) -> Iterator[Line]:
        if is_categorical(column):
            code, known = codes(column)
            recorded = code >= 0
            if len(known) > MOST_LEVELS:
                raise CohortError(
                    f"the column {name!r} has {len(known):,} levels: a column of names? Parts are "
                    f"compared in columns of at most {MOST_LEVELS}."
                )
            for number, level in enumerate(known):
                yield self.line(name, said(level), (code == number).astype(float), recorded)
        else:
            values = numbers(column)
            recorded = ~np.isnan(values)
            if recorded.any():
                is_date = pd.api.types.is_datetime64_any_dtype(column.dtype)
                yield self.line(name, DAYS if is_date else MEAN, values, recorded)
        if not recorded.all():
            everyone = np.ones(len(recorded), dtype=bool)
            yield self.line(name, MISSING, (~recorded).astype(float), everyone)

    def line(
        self, name: str, level: str, values: np.ndarray, recorded: Bool[np.ndarray, " n"]
    ) -> Line:
        part, person, x = self.part[recorded], self.person[recorded], values[recorded]
        weight = 1 / np.bincount(person)[person]
        total = np.bincount(part, weight, minlength=self.parts)
        summed = np.bincount(part, weight * x, minlength=self.parts)
        shares = np.divide(summed, total, out=np.full(self.parts, np.nan), where=total > 0)
        counted = recorded if level in (MEAN, DAYS) else recorded & (values > 0)
        difference = standardised_differences(x[:, None], part, weight, weight)
        return Line(
            column=name,
            level=level,
            values=tuple(shares.tolist()),
            films=self.films(counted),
            patients=self.patients(counted),
            difference=float(difference[0]),
        )
