"""The same contrast by every design: crude, weighted, doubly robust, within the patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from deconf.causal.adjustment import Adjustment
from deconf.causal.narrative import in_words
from deconf.causal.overlap import empty_cells, overlap_table
from deconf.causal.weights import Weights, balancing_weights
from deconf.errors import NotIdentified
from deconf.hypotheses.estimation import (
    Means,
    Propensity,
    crude,
    doubly_robust,
    front_door,
    partially_linear,
    propensity,
    weighted,
)
from deconf.hypotheses.nuisances import Covariates
from deconf.hypotheses.reading import FEWEST_AT_LEVEL, PATIENT_COLUMN, Cause, Outcome, Rows
from deconf.maths.intervals import Interval
from deconf.maths.within import WithinPatient, within_patient

CRUDE, IPW, OVERLAP = "crude", "weighted", "overlap-weighted"
ADJUSTED, WITHIN = "adjusted", "within patient"
MOST_TRIMMED = 0.5
"""Share of the rows that may lack overlap before the effect counts as not identified."""
FRONT_TRIMMED = 0.1
"""The same for the front door, where no row can be left out."""
NOTHING = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Contrast:
    """One design's answer for one level of the cause against the reference."""

    design: str
    level: str
    difference: Interval
    ratio: Interval | None
    rows: int
    patients: int
    note: str = ""

    def scaled(self, sd: float) -> Interval:
        """Return the estimate on the scale of the verdict: log ratio, else units of ``spread``."""
        if self.ratio is not None:
            limits = (self.ratio.estimate, self.ratio.low, self.ratio.high)
            return Interval(*(math.log(v) if v > 0 else math.nan for v in limits))
        return self.in_sds(sd)

    def in_sds(self, sd: float) -> Interval:
        """Return the difference in units of ``spread``."""
        d = self.difference
        return Interval(d.estimate / sd, d.low / sd, d.high / sd)

    def row(self, sd: float) -> dict[str, Any]:
        """Return one row of a table."""
        d, r = self.difference, self.ratio or NOTHING
        return {
            "design": self.design,
            "level": self.level,
            "difference": d.estimate,
            "low": d.low,
            "high": d.high,
            "per_sd": d.estimate / sd,
            "ratio": r.estimate,
            "ratio_low": r.low,
            "ratio_high": r.high,
            "rows": self.rows,
            "patients": self.patients,
            "note": self.note,
        }


@dataclass(frozen=True)
class Adjusted:
    """The doubly robust answer for every level, and what it needed."""

    contrasts: tuple[Contrast, ...]
    known: Propensity | None
    covariates: Covariates
    overlap: pd.DataFrame

    @property
    def trimmed(self) -> float:
        """Share of the rows left out for want of overlap."""
        return self.known.trimmed if self.known else 0.0


def spread(y: Outcome, cause: Cause) -> float:
    """Return the unit of an effect: one sd of the outcome, for one of the cause if a number."""
    sd = float(np.nanstd(y.values))
    return sd if cause.numbers is None else sd / float(np.nanstd(cause.numbers))


def se_of(interval: Interval) -> float:
    """Return the standard error an interval of 95 % stands for."""
    return (interval.high - interval.low) / 2 / 1.96


def adjusted(rows: Rows, found: Adjustment, *, trim: float, seed: int) -> Adjusted:
    """Estimate by AIPW, the front door, or a partially linear model for a number.

    Raises
    ------
    NotIdentified
        What is held leaves no overlap: the strata are named.
    """
    table, y, cause = rows.table, rows.outcome.values, rows.cause
    x = Covariates.of(table, found.given)
    own = table.assign(**{PATIENT_COLUMN: rows.patients})
    held = () if found.kind == "front door" else found.given
    overlap = overlap_table(own, [cause.name], list(held), patient=PATIENT_COLUMN)
    if cause.numbers is not None:
        slope = partially_linear(x, y, cause.numbers, rows.patients, cause.name, seed=seed)
        one = Contrast(ADJUSTED, "per unit", slope, None, len(y), _people(rows.patients))
        return Adjusted((one,), None, x, overlap)
    is_front = found.kind == "front door"
    known = propensity(x, cause.codes, rows.patients, trim=trim if found.given else 0.0, seed=seed)
    if is_front:
        _require_front(found, known, trim)
        known = replace(known, kept=np.ones(len(y), dtype=bool))
    _require_overlap(rows, known, overlap, trim)
    means = (front_door if is_front else doubly_robust)(x, y, cause.codes, rows.patients, known)
    note = ""
    if known.trimmed:
        note = f"{100 * known.trimmed:.1f} % of the rows left out for want of overlap"
    contrasts = _by_level(ADJUSTED, rows, means, note, known.kept)
    return Adjusted(contrasts, known, x, overlap)


def beside(rows: Rows, given: Sequence[str], *, seed: int) -> list[Contrast]:
    """Return the crude contrast and, where something is held, two weighted ones."""
    cause, y = rows.cause, rows.outcome.values
    if cause.numbers is not None:
        x = Covariates.of(rows.table, ())
        slope = partially_linear(x, y, cause.numbers, rows.patients, cause.name, seed=seed)
        return [Contrast(CRUDE, "per unit", slope, None, len(y), _people(rows.patients))]
    found = list(_by_level(CRUDE, rows, crude(y, cause.codes, rows.patients)))
    if given:
        table = rows.table.assign(**{PATIENT_COLUMN: rows.patients})
        for name, kind in ((IPW, "ipw"), (OVERLAP, "overlap")):
            w: Weights = balancing_weights(
                table, [cause.name], list(given), kind, patient=PATIENT_COLUMN, seed=seed  # type: ignore[arg-type]
            )  # fmt: skip
            means = weighted(y, cause.codes, w.values, rows.patients)
            note = f"effective rows {w.ess:,.0f}; largest imbalance left {w.smd:.2f} sd"
            if w.trimmed:
                note += f"; {100 * w.trimmed:.1f} % of the weights cut"
            found += _by_level(name, rows, means, note)
    return found


def within(rows: Rows) -> list[Contrast]:
    """Return the within-patient contrast of every level with the reference."""
    found = []
    for k in range(1, len(rows.cause.levels)):
        part = np.isin(rows.cause.codes, (0, k))
        w: WithinPatient = within_patient(
            rows.outcome.values[part], rows.cause.codes[part] == k, rows.patients[part]
        )
        note = f"{w.discordant:,} patients whose films differ in the outcome" if w.ratio else ""
        found.append(
            Contrast(WITHIN, rows.cause.levels[k], w.difference, w.ratio, w.films, w.patients, note)
        )
    return found


def agree(adjusted_one: Contrast, within_one: Contrast, sd: float) -> bool | None:
    """Whether two designs tell the same story.

    True: not further apart than chance, and the within-patient interval excludes no effect on the
    same side.  False: further apart than chance.  None: too imprecise to say.
    """
    a, w = adjusted_one.scaled(sd), within_one.scaled(sd)
    if any(math.isnan(v) for v in (a.low, a.high, w.low, w.high)):
        return None
    gap = math.hypot(se_of(a), se_of(w))
    if abs(a.estimate - w.estimate) > 1.96 * gap:
        return False
    same_side = (w.low > 0 and a.estimate > 0) or (w.high < 0 and a.estimate < 0)
    return True if same_side else None


def _by_level(
    design: str, rows: Rows, means: Means, note: str = "", kept: ndarray | None = None
) -> tuple[Contrast, ...]:
    who = rows.patients if kept is None else rows.patients[kept]
    return tuple(
        Contrast(
            design,
            rows.cause.levels[k],
            means.difference(k, 0),
            means.ratio(k, 0) if rows.outcome.is_binary else None,
            len(who),
            _people(who),
            note,
        )
        for k in range(1, len(rows.cause.levels))
    )


def _require_overlap(rows: Rows, known: Propensity, overlap: pd.DataFrame, trim: float) -> None:
    kept, codes = known.kept, rows.cause.codes
    fewest = min(_people(rows.patients[kept & (codes == k)]) for k in range(codes.max() + 1))
    if known.trimmed <= MOST_TRIMMED and fewest >= FEWEST_AT_LEVEL:
        return
    cells = empty_cells(overlap)
    where = f": {'; '.join(cells[:4])}" if cells else ""
    raise NotIdentified(
        f"no overlap: what is held nearly decides {rows.cause.name!r} in "
        f"{100 * known.trimmed:.0f} % of the rows (a level has probability below {trim:g}){where}. "
        "Nothing there can be compared. Hold less, pool strata, or collect the missing films."
    )


def _require_front(found: Adjustment, known: Propensity, trim: float) -> None:
    """Refuse a front door whose mediators give the cause away: no row could have had another."""
    if known.trimmed > FRONT_TRIMMED:
        raise NotIdentified(
            f"front door: {in_words(found.given)} nearly decides {found.cause!r} in "
            f"{100 * known.trimmed:.0f} % of the rows (a level has probability below {trim:g}), so "
            "that no film shows what the mediator does at another level. Collect films in which "
            f"they differ, or record what closes the back doors of {found.cause!r}."
        )


def _people(patients: ndarray) -> int:
    return len(np.unique(patients))
