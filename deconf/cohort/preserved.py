"""Preserved-site folds: whole sites together, every fold with its share of every outcome.

A network knows the hospital of a slide or film by its stain, scanner and export path, and what a
hospital has much of it then reads from the hospital.  Ordinary folds, with every hospital on both
sides, pay for that; here nobody is tested at a site that was trained on.

Howard et al., "The impact of site-specific digital histology signatures on deep learning model
accuracy and bias", Nature Communications 2021, https://doi.org/10.1038/s41467-021-24698-1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from deconf.cohort.balance import Balance, balance
from deconf.cohort.roles import require_column, row_name
from deconf.cohort.splits import Rows, strata
from deconf.errors import CohortError, listing
from deconf.maths.intervals import factorised
from deconf.maths.kinds import codes, said
from deconf.maths.partition import even_partition

if TYPE_CHECKING:
    from deconf.cohort.cohort import Cohort


@dataclass(frozen=True, eq=False)
class SiteFolds:
    """Folds of whole sites; iterating yields ``(train, test)`` row numbers.

    Attributes
    ----------
    column : str
        What is kept together.
    fold : (n,) array of int, read-only
        In which fold, 1 to K, each row is tested.
    sites : tuple of K tuples of str
        The sites of each fold.
    joined : tuple of tuples of str
        Sites that share patients, and therefore a fold.
    bridging : int
        Patients seen at more than one site, for whom they are joined.
    is_proved : bool
        No other division of these sites is more even.
    off : float
        The most patients by which a fold misses its share of a class.
    balance : Balance
        Of the folds, for the outcomes.
    """

    column: str
    fold: Int[np.ndarray, " n"]
    sites: tuple[tuple[str, ...], ...]
    joined: tuple[tuple[str, ...], ...]
    bridging: int
    is_proved: bool
    off: float
    balance: Balance

    def __len__(self) -> int:
        """Return the number of folds."""
        return len(self.sites)

    def __iter__(self) -> Iterator[tuple[Rows, Rows]]:
        """Yield the rows to train on and to test on, fold by fold."""
        for k in range(1, len(self) + 1):
            yield np.flatnonzero(self.fold != k), np.flatnonzero(self.fold == k)

    @property
    def parts(self) -> dict[str, Rows]:
        """The rows tested in each fold, by name: what `Cohort.duplicates` takes."""
        return {f"fold {k}": test for k, (_, test) in enumerate(self, start=1)}

    def __str__(self) -> str:
        """Say what was kept together, how even it is, and show the balance."""
        count = sum(map(len, self.sites))
        told = [f"{count:,} levels of {self.column!r} in {len(self)} folds, each wholly in one."]
        if self.joined:
            groups = listing(" + ".join(group) for group in self.joined)
            told.append(
                f"{self.bridging:,} patients were seen at more than one, so these go together: "
                f"{groups}."
            )
        told += [f"fold {k}: {listing(sites)}" for k, sites in enumerate(self.sites, start=1)]
        if self.is_proved:
            told.append("No other division of them is more even (proved).")
        elif self.off < 1:
            told.append("No fold is a whole patient off its share of any class.")
        else:
            told.append("The most even division found; that there is no better one is not proved.")
        told.append(f"The worst is {self.off:.1f} patients off an equal share of a class.")
        return "\n".join([*told, "", str(self.balance)])


def site_folds(cohort: Cohort, folds: int, seed: int, column: str | None) -> SiteFolds:
    """Deal the sites of a cohort; errors as `preserved_folds`, or that it has none."""
    column = column or cohort.roles["site"]
    if column is None:
        raise CohortError(
            "this cohort has no site: Cohort.read(..., site=...), or site_folds(column=...)."
        )
    table, patients = cohort.table, cohort.patients
    return preserved_folds(table, patients, column, cohort.outcomes, folds, seed=seed)


def preserved_folds(
    table: pd.DataFrame,
    patients: Shaped[np.ndarray, " n"],
    column: str,
    outcomes: Sequence[str],
    folds: int,
    *,
    seed: int = 0,
) -> SiteFolds:
    """Deal whole sites into folds, every class of the outcomes as evenly as they allow.

    Minimises Σ (n_kc − N_c/K)² / N_c over folds k and classes c, n_kc patients of class c in fold
    k of N_c in all; the patients without regard to class are one more c.  Without the divisor, as
    in the paper, a class of 600 outvotes one of 12.

    Parameters
    ----------
    table : DataFrame of n rows
    patients : (n,) array
        A patient counts once, in equal shares for each of their rows.  Sites that share a patient
        are joined, and those joined to them in turn: patients never straddle.
    column : str
        The sites, or whatever shall stay together.
    outcomes : sequence of str
        Missing is a class of its own; numbers count by quarters.  None: only patients are spread.
    folds : int
        At least two, at most the number of sites after joining.
    seed : int

    Raises
    ------
    CohortError
        A row without site, or fewer groups of sites than folds.
    """
    require_column(table, column)
    missing = table[column].isna().to_numpy()
    if missing.any():
        raise CohortError(
            f"{row_name(table, int(missing.argmax()))} has no {column!r}; {missing.sum():,} of "
            f"{len(table):,} rows lack it, and nobody can say that they are not of a site in "
            f"another fold. Leave them out: cohort.subset(cohort.table[{column!r}].notna())."
        )
    if folds < 2:
        raise CohortError(f"{folds} folds: at least 2 are needed.")
    site, known = codes(table[column])
    names = [said(level) for level in known]
    who = factorised(patients)
    group, bridging = _joined(site, who)
    groups = int(group.max()) + 1
    members = [tuple(n for n, g in zip(names, group, strict=True) if g == k) for k in range(groups)]
    if groups < folds:
        raise CohortError(_too_few(column, folds, names, members, bridging))
    counts = _counts(table, outcomes, group[site], who)
    unit = 1 / np.sqrt(counts.sum(axis=0))
    found = even_partition(counts * unit, folds, grain=unit, seed=seed)
    carried = np.zeros((folds, counts.shape[1]))
    np.add.at(carried, found.part, counts)
    number = np.random.default_rng(seed).permutation(folds)[found.part]  # of the fold of a group
    fold = number[group[site]] + 1
    fold.flags.writeable = False
    rows = {f"fold {k}": np.flatnonzero(fold == k) for k in range(1, folds + 1)}
    return SiteFolds(
        column=column,
        fold=fold,
        sites=tuple(
            tuple(n for n, g in zip(names, group, strict=True) if number[g] == k)
            for k in range(folds)
        ),
        joined=tuple(group for group in members if len(group) > 1),
        bridging=bridging,
        is_proved=found.is_proved,
        off=float(np.abs(carried - counts.sum(axis=0) / folds).max()),
        balance=balance(table, patients, rows, outcomes, site=column),
    )


def _joined(
    site: Int[np.ndarray, " n"], who: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " sites"], int]:
    """Return the group of each site, and the number of patients seen at more than one.

    Groups are the connected components of the graph whose edges are patients at sites.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sites, people = int(site.max()) + 1, int(who.max()) + 1
    pairs = np.unique(np.stack([site, who]), axis=1)
    edges = coo_array((np.ones(pairs.shape[1]), (pairs[0], sites + pairs[1])))
    edges.resize((sites + people, sites + people))
    group = connected_components(edges, directed=False)[1][:sites]
    return factorised(group), int((np.bincount(pairs[1]) > 1).sum())


def _counts(
    table: pd.DataFrame,
    outcomes: Sequence[str],
    group: Int[np.ndarray, " n"],
    who: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "groups classes"]:
    """Return the patients of each group: all of them, then by the classes of every outcome."""
    share = (1 / np.bincount(who))[who]  # of their patient that a row stands for
    blocks = []
    for classes in (strata(table, []), *(strata(table, [outcome]) for outcome in outcomes)):
        block = np.zeros((group.max() + 1, classes.max() + 1))
        np.add.at(block, (group, classes), share)
        blocks.append(block)
    return np.hstack(blocks)


def _too_few(
    column: str,
    folds: int,
    names: Sequence[str],
    members: Sequence[tuple[str, ...]],
    bridging: int,
) -> str:
    many, groups = f"{len(names)} level{'s' * (len(names) != 1)}", len(members)
    if bridging == 0 or groups == len(names):
        why = f"{column!r} has {many} ({listing(names)})"
    else:
        why = (
            f"the {many} of {column!r} form {groups} group{'s' * (groups != 1)}, because "
            f"{bridging:,} patients were seen at more than one and patients never straddle"
        )
    remedy = f"Ask for at most {groups} folds" if groups > 1 else "Whole sites cannot be dealt"
    return (
        f"{folds} folds of whole sites need {folds} that share no patient: {why}. {remedy}, or "
        "deal patients, cohort.folds(...)."
    )
