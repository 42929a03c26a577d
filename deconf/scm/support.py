"""Where a table supports a contrast: patients at both values of the cause in every stratum held.

A contrast averaged over the cohort says of every patient what either value of the cause would have
done.  Where nobody like them had one of the values, the form of the model answers and the table
does not.  Held columns are strata in three ways: levels jointly; each number by its thirds, or
fifths where there are patients enough; and, of several columns, the balancing score, what they
say together of the cause (Rosenbaum & Rubin, "The central role of the propensity score in
observational studies for causal effects", 1983, theorem 2), without which two numbers that
decide the cause only between them would pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from deconf.causal.overlap import CONFOUNDER_CELLS, GIVEN_CELLS, cells, overlap_table
from deconf.causal.overlap import rows as cells_of
from deconf.errors import CohortError, NotIdentified, listing
from deconf.maths import kinds
from deconf.maths.intervals import factorised
from deconf.scm.design import Causes

WIDE = 100  # patients of a cell of a number: ten of them have a value with a chance of one in ten
MOST_LEFT_OUT = 0.5
"""Share of the patients that may lack support before the contrast counts as not identified."""

MOST_NAMED = 4  # strata in a message
WHO = "patient of the row"


def supported(
    table: pd.DataFrame,
    cause: str,
    values: tuple[Any, Any],
    given: Sequence[str],
    patients: ndarray,
) -> tuple[Bool[ndarray, " n"], str]:
    """Return the rows that a contrast can speak of, and what to say of the others.

    Raises
    ------
    CohortError
        Fewer than ten patients have one of the two levels.
    NotIdentified
        A number beyond what was seen, or more than half of the patients in strata where fewer
        than ten, or 1 %, have one of the values.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sick = rng.integers(3, size=600)
    >>> portable = np.where(sick == 2, 1, rng.integers(2, size=600))  # the sickest: always
    >>> table = pd.DataFrame({"sick": sick, "portable": portable})
    >>> rows, told = supported(table, "portable", (0, 1), ["sick"], np.arange(600))
    >>> bool((rows == (sick < 2)).all())
    True
    >>> print(told)
    223 of 600 patients (37 %) left out, whom no other patient answers for: portable=0 with sick=2:
    0 patients. The contrast is that of the others
    """
    alone = Causes.of(table, [cause], patients)
    for value in values:
        told = alone.unsupported(table.assign(**{cause: value}).iloc[:1], [cause])[0]
        if told and kinds.is_categorical(table[cause]):
            raise CohortError(
                f"{told} of {len(np.unique(patients))} have that level: too few to learn from. "
                "Would help: more patients there, or other values=(a, b)."
            )
        if told:
            raise NotIdentified(
                f"{cause}={kinds.said(value)}: {told}, the range that was seen. Nothing in the "
                "table tells what happens there: name values=(a, b) inside it."
            )
    why = [""] * len(table)
    for stratum in _strata(table, cause, given, patients):
        held = str(stratum.name)
        own = pd.DataFrame({cause: table[cause].to_numpy(), held: stratum.to_numpy()})
        find = _empty if kinds.is_categorical(table[cause]) else _beyond
        why = [
            before or now
            for before, now in zip(why, find(own, cause, held, values, patients), strict=True)
        ]
    rows = np.array([not told for told in why], dtype=bool)
    if rows.all():
        return rows, ""
    who = factorised(patients)
    lost, count = len(np.unique(who[~rows])), int(who.max()) + 1
    seen = pd.Series([told for told in why if told]).value_counts()
    where = "; ".join([*seen.index[:MOST_NAMED], *["..."] * (len(seen) > MOST_NAMED)])
    share = f"{lost:,} of {count:,} patients ({100 * lost / count:.0f} %)"
    if lost > MOST_LEFT_OUT * count or not rows.any():
        raise NotIdentified(
            f"no support for {cause}={kinds.said(values[0])} against {kinds.said(values[1])} given "
            f"{listing(given)}: {share} are in strata where nearly nobody had one of the two "
            f"({where}). A model would answer there, and the table would not. Would help: patients "
            f"of those strata at the other value, a cohort without those strata, cohort.subset(...)"
            ", or values=(a, b) that lie closer together."
        )
    return rows, (
        f"{share} left out, whom no other patient answers for: {where}. The contrast is that of "
        "the others"
    )


def _empty(
    own: pd.DataFrame, cause: str, held: str, values: tuple[Any, Any], patients: ndarray
) -> list[str]:
    """Return for each row which level of the cause its stratum lacks, or hardly has."""
    counted = overlap_table(own.assign(**{WHO: patients}), [cause], [held], patient=WHO)
    asked = {f"{cause}={kinds.said(value)}" for value in values}
    lacking = {
        cell.stratum: f"{cell}: {cell.patients:,} patients"
        for cell in cells_of(counted)
        if cell.status == "unsupported" and cell.level in asked
    }
    return [lacking.get(f"{held}={label}", "") for label in own[held]]


def _beyond(
    own: pd.DataFrame, cause: str, held: str, values: tuple[Any, Any], patients: ndarray
) -> list[str]:
    """Return for each row which value lies beyond what its stratum had of a number."""
    causes = Causes.of(own, [cause, held], patients)
    each = [causes.unsupported(own.assign(**{cause: v}), [cause, held]) for v in values]
    return [low or high for low, high in zip(*each, strict=True)]


def _strata(
    table: pd.DataFrame, cause: str, given: Sequence[str], patients: ndarray
) -> list[pd.Series[Any]]:
    """Return columns of levels, each of which must know both values of the cause."""
    parts = int(np.clip(len(np.unique(patients)) // WIDE, CONFOUNDER_CELLS, GIVEN_CELLS))
    levels = [name for name in given if kinds.is_categorical(table[name])]
    out = [_cut(table, [name], parts) for name in given if name not in levels]
    if levels:
        out.append(_cut(table, levels, parts))
    if len(given) > 1 and len(levels) < len(given):  # joint levels are finer than their score
        together = f"{cause} as told by ({listing(given)})"
        for score in _scores(table, cause, given, patients).T:
            out.append(_cut(pd.DataFrame({together: score}), [together], parts))
    return out


def _cut(table: pd.DataFrame, names: Sequence[str], parts: int) -> pd.Series[Any]:
    """Return joint cells as text that reads on from the first name: ``sick`` = "0.2 to 1.1"."""
    found = cells(table, names, parts)
    labels = [label.removeprefix(f"{names[0]}=") for label in found.labels]
    return pd.Series([labels[code] for code in found.codes], name=names[0])


def _scores(
    table: pd.DataFrame, cause: str, given: Sequence[str], patients: ndarray
) -> Float[ndarray, "n k"]:
    """Return the regression of the cause (each level but the first) on what is held, in sd."""
    d = np.column_stack([np.ones(len(table)), Causes.of(table, given, patients).encode(table)])
    if kinds.is_categorical(table[cause]):
        codes, known = kinds.codes(table[cause])
        y = np.eye(len(known))[codes][:, 1:]
    else:
        y = kinds.numbers(table[cause])[:, None]
    fitted = d @ np.linalg.lstsq(d, y, rcond=None)[0]
    return np.asarray(np.round(fitted / y.std(axis=0), 6))  # in sd; equal rows must stay equal
