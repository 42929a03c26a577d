"""The door of a question about effects: a cause, an effect, complete rows, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from deconf.causal.graph import IMAGE, CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.cohort.splits import patient_folds
from deconf.errors import CohortError, GraphError, did_you_mean, listing
from deconf.maths.intervals import factorised
from deconf.maths.kinds import codes, is_categorical, numbers, said

HEAD_SCORE = "head score"
DIRECTION = "direction"
FEWEST = 40
"""Patients in all."""
PATIENT_COLUMN = "patient of the row"
FEWEST_OF_A_TEXT = 5
"""Rows, on average, of a held text."""
FEWEST_AT_LEVEL = 10
"""Patients at each level of the cause, and with the rarer value of a yes-or-no outcome."""


@dataclass(frozen=True)
class Outcome:
    """An effect as a number per row, NaN where missing.

    Attributes
    ----------
    name : str
    values : (n,) float
    is_binary : bool
    reading : str
        How the column was read: "pneumonia = 1", "score, in units of sd 0.12".
    """

    name: str
    values: Float[ndarray, " n"]
    is_binary: bool
    reading: str


@dataclass(frozen=True)
class Cause:
    """A cause as codes of its levels, the reference first, or as a number.

    Attributes
    ----------
    levels : tuple of str
        Empty for a number.
    codes : (n,) int
        -1 where missing.
    numbers : (n,) float or None
    """

    name: str
    levels: tuple[str, ...]
    codes: Int[ndarray, " n"]
    numbers: Float[ndarray, " n"] | None = None


@dataclass(frozen=True)
class Rows:
    """Complete rows: cause, outcome and every held column recorded.

    Attributes
    ----------
    table : DataFrame of m rows
    kept : (n,) bool
        Which rows of the cohort these are.
    """

    table: pd.DataFrame
    cause: Cause
    outcome: Outcome
    patients: Int[ndarray, " m"]
    kept: Bool[ndarray, " n"]

    @property
    def dropped(self) -> int:
        """Rows left out for a missing value."""
        return int((~self.kept).sum())


def read_outcome(cohort: Cohort, effect: Any, *, seed: int = 0) -> Outcome:
    """Read a column, a direction of the embedding, or the score of a cross-fitted head.

    Raises
    ------
    CohortError
        No such column, a constant one, one of several unordered classes, or no embedding.
    """
    if isinstance(effect, str) and effect != HEAD_SCORE:
        return read_column(cohort.table, effect)
    if cohort.embeddings is None:
        raise CohortError(
            "an effect on the embedding needs one: Cohort.read(..., embedding=...), or name a "
            f"column. Columns: {listing(cohort.table.columns)}."
        )
    z = cohort.embeddings.astype(np.float64)
    if isinstance(effect, str):
        values = _head_score(cohort, z, seed)
        return Outcome(HEAD_SCORE, values, False, f"log-odds of {cohort.outcomes[0]}, out of fold")
    direction = np.asarray(effect, dtype=np.float64)
    if direction.shape != (z.shape[1],) or not np.linalg.norm(direction) > 0:
        raise CohortError(
            f"a direction of the embedding has {z.shape[1]} entries and is not nil; this one has "
            f"shape {direction.shape}."
        )
    values = z @ (direction / np.linalg.norm(direction))
    if not np.ptp(values) > 0:
        raise CohortError("the embedding does not vary in this direction: choose another.")
    return Outcome(DIRECTION, values, False, "projection on the direction")


def read_column(table: pd.DataFrame, name: str, role: str = "effect") -> Outcome:
    """Read one column as an outcome."""
    _present(table, name, role)
    series = finite(table[name])
    known, values = codes(series)[1], None
    if len(known) < 2:
        raise CohortError(
            f"the {role} {name!r} is {said(known[0]) if known else 'missing'} in all "
            f"{len(table):,} rows: nothing can have an effect on a constant."
        )
    if len(known) == 2:
        found = codes(series)[0].astype(float)
        found[found < 0] = np.nan
        return Outcome(name, found, True, f"{name} = {said(known[1])}")
    if is_categorical(series) and not pd.api.types.is_numeric_dtype(series.dtype):
        raise CohortError(
            f"the {role} {name!r} has {len(known)} unordered classes ({listing(known, 4)}): make "
            f"one column of 0 and 1 per class and ask about each."
        )
    values = numbers(series)
    return Outcome(name, values, False, f"{name}, a number of sd {np.nanstd(values):.3g}")


def read_cause(table: pd.DataFrame, name: str, reference: Any = None, role: str = "cause") -> Cause:
    """Read a cause: categories with the reference first, or a number.

    The reference is, unless named, the lowest value of numbers and the commonest of texts.
    """
    _present(table, name, role)
    series = finite(table[name])
    found, known = codes(series)
    if len(known) < 2:
        raise CohortError(
            f"the {role} {name!r} has one level only, {said(known[0])!r}, in all "
            f"{int(series.notna().sum()):,} recorded rows: there is nothing to compare it with. "
            "Add rows of another level, or name another cause."
        )
    if not is_categorical(series):
        if reference is not None:
            raise CohortError(
                f"{name!r} is read as a number and has no reference level. Make it text for "
                f"levels: table[{name!r}].astype(str)."
            )
        return Cause(name, (), np.where(series.isna(), -1, 0), numbers(series))
    words = [said(value) for value in known]
    if reference is None:
        is_number = pd.api.types.is_numeric_dtype(series.dtype)
        first = 0 if is_number else int(np.bincount(found[found >= 0]).argmax())
    elif said(reference) in words:
        first = words.index(said(reference))
    else:
        raise CohortError(
            f"{name!r} has no level {reference!r} to compare with."
            f"{did_you_mean(str(reference), words)} Levels: {listing(words)}."
        )
    order = [first, *(i for i in range(len(words)) if i != first)]
    place = np.full(len(words) + 1, -1)
    place[order] = np.arange(len(order))
    return Cause(name, tuple(words[i] for i in order), place[found])  # [-1] stays -1


def complete_rows(cohort: Cohort, cause: Cause, outcome: Outcome, held: Sequence[str]) -> Rows:
    """Keep the rows in which everything is recorded, and check that enough are left.

    Raises
    ------
    CohortError
        Too few patients in all, at a level, or with the rarer outcome.
    """
    table = cohort.table
    if PATIENT_COLUMN in table.columns:
        raise CohortError(
            f"the table has a column {PATIENT_COLUMN!r}, a name that is used inside: rename it."
        )
    for name in held:
        _present(table, name, "given")
        _require_groups(table[name])
    ok = ~np.isnan(outcome.values) & (cause.codes >= 0)
    ok &= finite(table[list(held)]).notna().all(axis=1).to_numpy()
    if cause.numbers is not None:
        ok &= ~np.isnan(cause.numbers)
    patients = factorised(cohort.patients)
    rows = Rows(
        table[ok].reset_index(drop=True),
        replace(
            cause,
            codes=cause.codes[ok],
            numbers=None if cause.numbers is None else cause.numbers[ok],
        ),
        replace(outcome, values=outcome.values[ok]),
        factorised(patients[ok]),
        ok,
    )
    _enough(rows, len(table))
    return rows


def with_node(graph: CausalGraph, outcome: Outcome) -> tuple[CausalGraph, str]:
    """Return the graph with the effect as a node, and the assumption that made it one.

    A score or a direction that is not drawn is read from the image.

    Raises
    ------
    GraphError
        A yes-or-no column that is not drawn, or no image to read a score from.
    """
    if outcome.name in graph.nodes:
        return graph, ""
    if outcome.is_binary:
        raise GraphError(
            f"the graph has no node {outcome.name!r}.{did_you_mean(outcome.name, graph.nodes)} "
            f"Draw what causes it (image -> {outcome.name} if it is read from the image). Nodes: "
            f"{listing(graph.nodes)}."
        )
    if IMAGE not in graph.nodes:
        raise GraphError(
            f"the graph has neither a node {outcome.name!r} nor {IMAGE!r}, from which a score is "
            "read: draw what leaves its trace there, such as portable -> image."
        )
    drawn = replace(graph, edges=(*graph.edges, (IMAGE, outcome.name)))
    return drawn, f"{outcome.name} is read from the image and from nothing else"


def finite(values: Any) -> Any:
    """Return a column or a table with infinite numbers as missing ones."""
    return values.replace([np.inf, -np.inf], np.nan)


def _require_groups(series: pd.Series[Any]) -> None:
    """Refuse to hold a text that names rows: every one of its levels is a stratum."""
    if pd.api.types.is_numeric_dtype(series.dtype) or not is_categorical(series):
        return
    rows, known = int(series.notna().sum()), series.nunique()
    if rows < FEWEST_OF_A_TEXT * known:
        raise CohortError(
            f"{series.name!r} has {known:,} different texts in {rows:,} rows: held, it leaves "
            f"fewer than {FEWEST_OF_A_TEXT} rows a stratum. An identifier is not held; pool rare "
            "texts, or make it a number."
        )


def _enough(rows: Rows, total: int) -> None:
    people = len(np.unique(rows.patients))
    name, y = rows.cause.name, rows.outcome
    if people < FEWEST:
        raise CohortError(
            f"{len(rows.table)} complete rows of {people} patients (of {total:,} rows): an effect "
            f"needs at least {FEWEST} patients. Bring more, or fill in missing values."
        )
    if not np.ptp(y.values) > 0:
        raise CohortError(
            f"the effect {y.name!r} is {said(float(y.values[0]))} in all {len(y.values):,} "
            "complete rows: nothing can have an effect on a constant."
        )
    if rows.cause.levels:
        present = np.bincount(rows.cause.codes, minlength=len(rows.cause.levels))
        counts = [len(np.unique(rows.patients[rows.cause.codes == k])) for k in range(len(present))]
        for level, count in zip(rows.cause.levels, counts, strict=True):
            if count < FEWEST_AT_LEVEL:
                raise CohortError(
                    f"{count} patients with {name}={level} among the complete rows: at least "
                    f"{FEWEST_AT_LEVEL} are needed at each level. Leave that level out "
                    "(cohort.subset(...)), or pool it with another."
                )
    if y.is_binary:
        rarer = y.values == (1.0 if y.values.mean() < 0.5 else 0.0)
        count = len(np.unique(rows.patients[rarer]))
        if count < FEWEST_AT_LEVEL:
            raise CohortError(
                f"{count} patients hold the rarer value of {y.name!r} among the complete rows: at "
                f"least {FEWEST_AT_LEVEL} are needed. Bring more, or a commoner outcome."
            )


def _head_score(cohort: Cohort, z: ndarray, seed: int) -> ndarray:
    """Return log-odds of the first outcome, each row by a head that never saw its patient."""
    from deconf.probes.head import choose_strength, fit_head

    if not cohort.outcomes:
        raise CohortError(
            f"{HEAD_SCORE!r} needs an outcome to learn: Cohort.read(..., outcome='pneumonia')."
        )
    y = read_column(cohort.table, cohort.outcomes[0], "outcome")
    if not y.is_binary:
        raise CohortError(f"{HEAD_SCORE!r} needs a yes-or-no outcome; {y.name!r} is a number.")
    known = ~np.isnan(y.values)
    label = np.where(known, y.values, 2).astype(int)
    strength = choose_strength(
        z[known], y.values[known], patients=cohort.patients[known], seed=seed
    )
    score = np.empty(len(z))
    for train, test in patient_folds(cohort.patients, 5, strata=label, seed=seed):
        learn = train[known[train]]
        score[test] = fit_head(z[learn], y.values[learn], strength=strength).score(z[test])
    return score


def _present(table: pd.DataFrame, name: str, role: str) -> None:
    if name not in table.columns:
        raise CohortError(
            f"the table has no column {name!r} (named as {role})."
            f"{did_you_mean(name, table.columns)} Columns: {listing(table.columns)}."
        )
    if not table[name].notna().any():
        raise CohortError(
            f"the {role} {name!r} has no recorded value in {len(table):,} rows. Fill the column "
            "in, or leave it out: no column means unmeasured."
        )
