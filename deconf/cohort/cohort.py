"""The cohort: a table that knows its roles, and the embeddings of its rows.

Everything is checked here once, at the door; whoever receives a `Cohort` may trust it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from deconf.cohort.balance import Balance, balance_of
from deconf.cohort.description import described
from deconf.cohort.duplicates import By, Duplicates, Progress, find_duplicates
from deconf.cohort.fingerprint import digest, patient_digests
from deconf.cohort.paths import image_paths, starting_folder
from deconf.cohort.preserved import SiteFolds, site_folds
from deconf.cohort.reading import read_rows
from deconf.cohort.roles import checked_roles
from deconf.cohort.selection import row_numbers, rows_with
from deconf.cohort.splits import Rows, patient_folds, patient_split, strata, without_patients
from deconf.cohort.store import read_table
from deconf.cohort.temporal import TemporalSplit, temporal_split
from deconf.cohort.vectors import Embeddings, checked
from deconf.errors import CohortError, listing


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """Studies, their patients, sites and outcomes, with or without embeddings.

    Made by `Cohort.read` or `Cohort.from_arrays`, which check everything; the constructor
    itself checks nothing.  Frozen: what is handed out is a copy or read-only, so that the
    digest keeps its word.

    Attributes
    ----------
    table : DataFrame of n rows
        A copy, rows 0 to n - 1: changing it changes nothing here.
    roles : mapping
        ``image``, ``patient``, ``site`` and ``outcome`` to a column name or None; several
        outcomes are a tuple.
    embeddings : (n, d) array of float32, read-only, or None
        ``(n, ...)`` when the cohort holds a stack of images.
    dropped : int
        Rows left out on reading because they had no embedding, or no image file.
    """

    _table: pd.DataFrame
    _roles: dict[str, Any]
    _embeddings: np.ndarray | None
    _number: np.ndarray  # of each row in the table as read; survives subsets
    dropped: int = 0
    _folder: Path | None = None  # where relative image paths start; None is the working directory
    _left_out: str = ""  # which rows were dropped for want of an image, for `describe`

    @classmethod
    def read(
        cls,
        table: Any,
        *,
        image: str | None = None,
        embedding: Any = None,
        patient: str | None = None,
        site: str | None = None,
        outcome: str | Sequence[str] | None = None,
        on_missing: str = "raise",
        folder: str | Path | None = None,
    ) -> Cohort:
        """Read a table, say what its columns are, and find the embedding or image of every row.

        Parameters
        ----------
        table : path, DataFrame, or anything with ``to_pandas()``
            .csv, .csv.gz, .tsv, .tsv.gz or .parquet.
        image, patient, site : column names, optional
            ``image`` holds paths; without ``embedding`` every file must be there.  Without
            ``patient`` each row is its own patient.
        embedding : path, column name or (n, d) array, optional
            .npy in the order of the table; .npz (``emb``, or its only matrix), joined on an array
            named like a column if there is one; .parquet with a column of lists, of fixed-size
            binary (float32, or as the field's metadata ``dtype`` says) or one numeric column per
            dimension, joined likewise.  A relative path may also be relative to the table.
        outcome : column name or several, optional
            Values may be missing.
        on_missing : "raise" or "drop"
            What to do with rows that have no embedding, or without ``embedding`` no image file.
        folder : path, optional
            Where relative image paths start: by default the table's own folder, for a DataFrame
            the working directory.

        Raises
        ------
        CohortError
            The table, a role, the embeddings or the images are not what they were said to be.
        ReadError
            A file is missing, damaged or of another kind.

        Examples
        --------
        >>> films = pd.DataFrame({"who": ["ann", "ann", "bo"], "ill": [1, 1, 0]})
        >>> Cohort.read(films, patient="who", outcome="ill")
        Cohort(3 rows, 2 patients, patient='who', outcome='ill')
        """
        return cls(
            *read_rows(
                table,
                image=image,
                embedding=embedding,
                patient=patient,
                site=site,
                outcome=outcome,
                on_missing=on_missing,
                folder=folder,
            )
        )

    @classmethod
    def from_arrays(
        cls,
        embeddings: Any,
        table: Any,
        *,
        image: str | None = None,
        patient: str | None = None,
        site: str | None = None,
        outcome: str | Sequence[str] | None = None,
    ) -> Cohort:
        """Pair embeddings with the rows of a table, in the same order.

        Parameters
        ----------
        embeddings : (n, d) array, torch tensor on any device, or lists
            ``(n, ...)`` with more axes is taken for a stack of images.
        table : path, DataFrame, or anything with ``to_pandas()``; n rows
        image, patient, site, outcome
            As in `Cohort.read`.

        Raises
        ------
        CohortError

        Examples
        --------
        >>> Cohort.from_arrays(np.zeros((2, 8)), pd.DataFrame({"site": ["A", "B"]}), site="site")
        Cohort(2 rows, 2 patients, site='site', embeddings 2 x 8)
        """
        frame, home = read_table(table)
        roles = checked_roles(frame, image=image, patient=patient, site=site, outcome=outcome)
        vectors = checked(embeddings, frame, image, patient)
        start = starting_folder(None, home)
        return cls(frame, roles, vectors, np.arange(len(frame)), 0, start)

    def with_embeddings(self, embeddings: Any) -> Cohort:
        """Return the same cohort with other embeddings, one for each row.

        Raises
        ------
        CohortError
        """
        image, patient = self._roles["image"], self._roles["patient"]
        return replace(self, _embeddings=checked(embeddings, self._table, image, patient))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._table)

    def __repr__(self) -> str:
        """Return one line: rows, patients, roles, shape of the embeddings."""
        roles = [f"{role}={column!r}" for role, column in self._roles.items() if column is not None]
        if self._embeddings is not None:
            roles.append(f"embeddings {' x '.join(map(str, self._embeddings.shape))}")
        patients = len(pd.unique(self.patients))
        return f"Cohort({', '.join([f'{len(self):,} rows', f'{patients:,} patients', *roles])})"

    @property
    def table(self) -> pd.DataFrame:
        """A copy of the table."""
        return self._table.copy()

    @property
    def roles(self) -> Mapping[str, Any]:
        """Which column has which role."""
        return MappingProxyType(self._roles)

    @property
    def embeddings(self) -> Embeddings | None:
        """The embeddings, read-only."""
        if self._embeddings is None:
            return None
        view = self._embeddings.view()
        view.flags.writeable = False
        return view

    @property
    def patients(self) -> Shaped[np.ndarray, " n"]:
        """The patient of each row: their id, or without that role the row's number as read."""
        column = self._roles["patient"]
        return self._number.copy() if column is None else self._table[column].to_numpy(copy=True)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcome columns, possibly none."""
        outcome = self._roles["outcome"]
        return () if outcome is None else (outcome,) if isinstance(outcome, str) else outcome

    @property
    def image_paths(self) -> list[Path]:
        """The path of each row's image file, absolute.

        Raises
        ------
        CohortError
            No column has the role, or a row names no file.
        """
        image = self._roles["image"]
        if image is None:
            raise CohortError(
                "this cohort does not say where its images are: name the column of paths, "
                f"Cohort.read(..., image=...). Columns: {listing(self._table.columns, 24)}."
            )
        return image_paths(self._table, image, self._folder or Path.cwd())

    def subset(self, rows: Any) -> Cohort:
        """Return some of the rows.

        Parameters
        ----------
        rows : (n,) mask, or row numbers

        Raises
        ------
        CohortError
            A mask of another length or with missing values, numbers out of range, no row left.

        Examples
        --------
        >>> cohort = Cohort.read(pd.DataFrame({"site": ["A", "B", "A"]}), site="site")
        >>> len(cohort.subset(cohort.table["site"] == "A"))
        2
        """
        index = row_numbers(rows, len(self))
        return replace(
            self,
            _table=self._table.iloc[index].reset_index(drop=True),
            _embeddings=None if self._embeddings is None else self._embeddings[index],
            _number=self._number[index],
        )

    def split(self, test_size: float = 0.2, seed: int = 0) -> tuple[Cohort, Cohort]:
        """Set a share of the patients aside; return ``(train, test)``.

        Patients never straddle.  Both sides hold their share of every site and outcome as far as
        whole patients allow.

        Raises
        ------
        CohortError
            One patient only, or ``test_size`` is no share.
        """
        train, test = patient_split(self.patients, test_size, strata=self._strata(), seed=seed)
        return self.subset(train), self.subset(test)

    def folds(self, folds: int = 5, seed: int = 0) -> Iterator[tuple[Rows, Rows]]:
        """Yield ``(train, test)`` row numbers; every row is tested once, patients never straddle.

        Raises
        ------
        CohortError
            Fewer patients than folds.
        """
        yield from patient_folds(self.patients, folds, strata=self._strata(), seed=seed)

    def hold_out(self, column: str, values: Any) -> tuple[Cohort, Cohort]:
        """Hold out the rows with some values of a column; return ``(train, test)``.

        The held-out patients' other rows leave training too, and so do rows where the column is
        missing: nobody can say that they are not of the held-out kind.

        Parameters
        ----------
        column : str
        values : one value or several

        Raises
        ------
        CohortError
            Unknown column or value, or nobody left to train on.
        """
        is_held_out = rows_with(self._table, column, values)
        known = self._table[column].notna().to_numpy()
        train, test = without_patients(is_held_out, self.patients, known=known)
        if len(train) == 0:
            raise CohortError(
                f"nobody is left to train on when {column} = {values!r} is held out: every other "
                "patient has rows there too, or no recorded value."
            )
        return self.subset(train), self.subset(test)

    def site_folds(self, folds: int = 3, seed: int = 0, *, column: str | None = None) -> SiteFolds:
        """Deal whole sites into folds, outcomes as evenly as they allow; print it to see how even.

        Iterating yields ``(train, test)`` row numbers.  Sites that share a patient are joined, so
        that patients never straddle either.  ``column=`` keeps something else together.

        Raises
        ------
        CohortError
            No site, a row without one, or fewer sites (after joining) than folds.
        """
        return site_folds(self, folds, seed, column)

    def split_at(
        self, column: str, cut: Any = None, *, test_size: float | None = None
    ) -> TemporalSplit:
        """Train before a date, test from it on: ``train, test = cohort.split_at(...)``.

        Whoever has a film on or after the cut is tested, on those films only; their earlier films
        are in neither part, and are counted.  So are rows without a date.

        Parameters
        ----------
        column : str
            Dates (ISO 8601 or as in DICOM) or numbers.
        cut : date or number
            Or ``test_size``, the share of the patients to test on.

        Raises
        ------
        CohortError
            A value that is no date, or nobody on one side.
        """
        return temporal_split(self, column, cut, test_size=test_size)

    def balance(
        self, parts: str | Mapping[str, Any], columns: Sequence[str] | None = None
    ) -> Balance:
        """Compare parts: films, patients, sites, shares of levels, standardised differences.

        Parts are a column, or a mapping, ``{"train": train, "test": test}``, of names to subsets,
        masks or row numbers; the columns compared are by default site and outcomes.

        Raises
        ------
        CohortError
            Fewer than two parts, one that is no subset of this cohort, or an unknown column.
        """
        return balance_of(self, parts, columns)

    def duplicates(
        self,
        parts: str | Mapping[str, Any] | None = None,
        *,
        by: By | None = None,
        limit: float | None = None,
        on_error: str = "raise",
        progress: Progress | None = None,
    ) -> Duplicates:
        """Find films that show one picture: by different patients, in different parts.

        Parts are as in `balance`; what is found, what is not, and why at these limits is said at
        `deconf.cohort.duplicates.find_duplicates`.

        Raises
        ------
        CohortError
            Neither images nor embeddings, or more than a million pairs.
        ReadError
            An image cannot be read; ``on_error="skip"`` leaves it out and lists it.
        """
        return find_duplicates(
            self, parts, by=by, limit=limit, on_error=on_error, progress=progress
        )

    def _strata(self) -> np.ndarray:
        """Return a code for each row's site and outcomes."""
        site = self._roles["site"]
        return strata(self._table, [*([] if site is None else [site]), *self.outcomes])

    def describe(self) -> pd.DataFrame:
        """Return one row per column, those with a role first, and one for the embeddings.

        Columns ``role``, ``kind``, ``levels`` (distinct values), ``missing``, ``n`` (recorded) and
        ``note`` (what to mind: an outcome with one value only, rows dropped).  ``.attrs`` holds
        the numbers of ``rows``, ``patients`` and ``dropped``.
        """
        patients = len(pd.unique(self.patients))
        return described(
            self._table, self._roles, self._embeddings, patients, self.dropped, self._left_out
        )

    @cached_property
    def digest(self) -> str:
        """The sha256 of the table and the embeddings, in hexadecimal."""
        return digest(self._table, self._embeddings)

    def patient_digests(self, salt: str) -> frozenset[str]:
        """Return a salted sha256 for each patient, so that a saved model carries no identifiers.

        Two cohorts that share a patient share a digest under the same salt.  Without a patient
        role the image name stands in, else the embedding itself, else the row.
        """
        column = self._roles["patient"] or self._roles["image"]
        return patient_digests(salt, self._table, column, self._embeddings, self._number)
