"""One question about an effect, asked of rows: every design, every test of it, and the verdict."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deconf.causal.adjustment import Adjustment
from deconf.causal.graph import CausalGraph
from deconf.causal.narrative import in_words
from deconf.causal.overlap import empty_cells
from deconf.cohort.cohort import Cohort
from deconf.errors import NotIdentified
from deconf.hypotheses import contrasts as designs
from deconf.hypotheses.contrasts import Adjusted, Contrast
from deconf.hypotheses.controls import Controls, Reach, run_controls
from deconf.hypotheses.identification import identify, quietly
from deconf.hypotheses.reading import Outcome, Rows, complete_rows, read_cause
from deconf.hypotheses.result import Effect
from deconf.hypotheses.strength import sensitivity, tipping_point
from deconf.hypotheses.verdict import Evidence, judge
from deconf.maths.intervals import Interval

logger = logging.getLogger(__name__)

RATIO_MARGIN, SD_MARGIN = 1.25, 0.1
"""An effect smaller than this counts as none: a risk ratio between 0.8 and 1.25 (the convention of
bioequivalence), a tenth of a standard deviation."""
SIMULATED = (0.01, 0.05, 0.1, 0.2)
"""Partial R² of the simulated confounders."""
OTHER_SETS = 3
"""Other valid sets that are tried."""
NAMED_CELLS, MOST_NAMED = 3, 4
"""Cells without patients that are named; where more columns than that are held, only counted."""


@dataclass(frozen=True)
class Study:
    """What is fixed while the designs are run.

    Attributes
    ----------
    outcome : Outcome
        Of every row of the cohort; ``rows`` are the complete ones.
    refusal : str
        Why no adjustment is identified, where the within-patient contrast stands in; else empty.
    """

    cohort: Cohort
    rows: Rows
    outcome: Outcome
    found: Adjustment
    graph: CausalGraph | None
    refusal: str
    controls: Controls
    reference: Any
    with_patient: bool
    margin: float | None
    trim: float
    simulations: int
    seed: int
    progress: Callable[[str], object]

    @property
    def sd(self) -> float:
        """Standard deviation of the outcome."""
        return float(self.rows.outcome.values.std())

    @property
    def unit(self) -> float:
        """Unit of an effect: one sd of the outcome, for one of the cause where that is a number."""
        return designs.spread(self.rows.outcome, self.rows.cause)

    @property
    def is_within(self) -> bool:
        """Whether the within-patient contrast is the estimate."""
        return bool(self.refusal)

    def effect(self, said: str = "") -> Effect:
        """Run everything; ``said`` is an assumption made on the way here."""
        rows, found = self.rows, self.found
        self.progress("estimating")
        by_graph = designs.adjusted(rows, found, trim=self.trim, seed=self.seed)
        by_patient = designs.within(rows) if self.with_patient else []
        primary = by_patient if self.is_within else list(by_graph.contrasts)
        one = self._chosen(primary)
        if math.isnan(one.difference.estimate):
            raise NotIdentified(
                f"no patient has films at {one.level} and {rows.cause.levels[0]}, and "
                f"{self.refusal}"
            )
        held = () if found.kind == "front door" else found.given
        others = [*designs.beside(rows, held, seed=self.seed), *by_graph.contrasts]
        table = pd.DataFrame([c.row(self.unit) for c in [*others, *by_patient]])
        refutations = self._refutations(one)
        agree = None
        if by_patient and not self.is_within:
            match = next(c for c in by_patient if c.level == one.level)
            agree = designs.agree(one, match, self.unit)
        verdict, reason = judge(
            Evidence(
                one.scaled(self.unit),
                self._margin(),
                refutations,
                agree,
                found.labels_from_image,
                "" if self.is_within else found.leaves_open,
                self.graph is not None,
                found.is_null,
            )
        )
        assumptions = self._assumed(said, by_graph)
        return Effect(
            cause=found.cause,
            effect=found.effect,
            level=one.level,
            reference=rows.cause.levels[0] if rows.cause.levels else "",
            design=one.design,
            estimate=one.difference,
            ratio=one.ratio,
            per_sd=one.in_sds(self.unit),
            contrasts=pd.DataFrame([c.row(self.unit) for c in primary]),
            designs=table,
            adjustment=found,
            formula=_within_formula(found) if self.is_within else found.formula,
            status=self._status(assumptions),
            assumptions=tuple(assumptions),
            warnings=tuple(self._warnings(by_graph)),
            overlap=by_graph.overlap,
            trimmed=by_graph.trimmed,
            refutations=refutations,
            sensitivity=self._sensitivity(one, by_graph),
            verdict=verdict,
            reason=reason,
            rows=len(rows.table),
            patients=int(rows.patients.max()) + 1,
            dropped=rows.dropped,
            sd=self.sd,
            reading=rows.outcome.reading,
        )

    def _chosen(self, contrasts: Sequence[Contrast]) -> Contrast:
        """Return the contrast of the level most often seen beside the reference."""
        if len(contrasts) == 1:
            return contrasts[0]
        counts = pd.Series(self.rows.cause.codes).value_counts()
        names = self.rows.cause.levels
        return max(contrasts, key=lambda c: counts.get(names.index(c.level), 0))

    def _status(self, assumptions: Sequence[str]) -> str:
        if self.found.leaves_open and not self.is_within:
            return "not identified"
        return "identified if" if assumptions else "identified"

    def _margin(self) -> float:
        margin = self.margin
        if self.rows.outcome.is_binary and self.rows.cause.levels:
            return math.log(RATIO_MARGIN if margin is None else margin)
        return SD_MARGIN if margin is None else margin

    def _reach(self, one: Contrast) -> Reach:
        """Return the bias that a negative control must be able to rule out."""
        sds = abs(one.difference.estimate) / self.unit
        ratio = math.nan
        if one.ratio is not None:
            log = abs(one.scaled(self.unit).estimate)
            ratio = max(log, math.log(RATIO_MARGIN)) if not math.isnan(log) else math.nan
        return Reach(ratio, max(sds, SD_MARGIN))

    def _refutations(self, one: Contrast) -> pd.DataFrame:
        with quietly():
            from deconf.hypotheses.refuters import refute

        rows, found = self.rows, self.found
        data = rows.table[list(found.given)].copy()
        is_number = rows.cause.numbers is not None
        data[found.cause] = rows.cause.numbers if is_number else rows.cause.codes
        data[found.effect] = rows.outcome.values
        by_dowhy = identify(None if self.refusal else self.graph, found, data)
        logger.info(by_dowhy.said)
        level = 1 if is_number else rows.cause.levels.index(one.level)
        table = refute(
            by_dowhy, data, rows.patients, level=level, reference=0,
            se=designs.se_of(one.difference), trim=self.trim, simulations=self.simulations,
            seed=self.seed, within=self.is_within, progress=self.progress,
        ).assign(kind="refuter")  # fmt: skip
        controls = run_controls(
            self.controls, self.cohort, found.cause, self.outcome,
            found, self.graph, reference=self.reference, level=one.level, reach=self._reach(one),
            by_patient=self.is_within, trim=self.trim, seed=self.seed, progress=self.progress,
        )  # fmt: skip
        parts = [table, self._other_sets(one), controls]
        return pd.concat([p for p in parts if len(p)], ignore_index=True)

    def _other_sets(self, one: Contrast) -> pd.DataFrame:
        """Estimate by every other valid set: where they disagree, the graph is contradicted."""
        told = []
        for names in self.found.valid_sets[1 : 1 + OTHER_SETS]:
            other = Adjustment(
                self.found.cause, self.found.effect, self.found.kind, names, (names,)
            )
            rows = complete_rows(
                self.cohort,
                read_cause(self.cohort.table, self.found.cause, self.reference),
                self.outcome,
                names,
            )
            again = designs.adjusted(rows, other, trim=self.trim, seed=self.seed).contrasts
            match = next(c for c in again if c.level == one.level)
            reach = 2 * math.hypot(designs.se_of(one.difference), designs.se_of(match.difference))
            gap = abs(match.difference.estimate - one.difference.estimate)
            told.append(
                {
                    "refuter": f"holding {', '.join(names) or 'nothing'} instead",
                    "kind": "refuter",
                    "asks": "every valid set says the same",
                    "catches": "a wrong graph",
                    "original": one.difference.estimate,
                    "refuted": match.difference.estimate,
                    "allowed": reach,
                    "result": "passed" if gap <= reach else "failed",
                }
            )
        return pd.DataFrame(told)

    def _sensitivity(self, one: Contrast, by_graph: Adjusted) -> pd.DataFrame:
        rows, given = self.rows, self.found.given
        if self.is_within or self.found.kind == "front door":
            given = ()
        two = np.ones(len(rows.table), dtype=bool)
        if rows.cause.numbers is not None:
            a = rows.cause.numbers
        else:
            level = rows.cause.levels.index(one.level)
            a, two = (
                (rows.cause.codes == level).astype(float),
                np.isin(rows.cause.codes, (0, level)),
            )
        ratio = one.ratio
        if ratio is None:  # VanderWeele & Ding 2017: RR ≈ exp(0.91 d)
            d = one.in_sds(self.unit)
            ratio = Interval(*(math.exp(0.91 * v) for v in (d.estimate, d.low, d.high)))
        table = sensitivity(rows.table[two], given, rows.outcome.values[two], a[two], ratio)
        if self.is_within:
            return table[table["measure"].str.startswith("E-value")].reset_index(drop=True)
        if by_graph.known is None or self.found.kind == "front door":
            return table
        self.progress("simulated confounders")
        tipped = tipping_point(
            by_graph.covariates, rows.outcome.values, rows.cause.codes, rows.patients,
            contrast=(level, 0), estimate=one.difference.estimate, trim=self.trim,
            strengths=SIMULATED, seed=self.seed,
        )  # fmt: skip
        return pd.concat([table, tipped], ignore_index=True)

    def _varying(self) -> list[str]:
        """Return the common causes on record that a patient does not hold still."""
        by_patient = self.rows.table.groupby(self.rows.patients)
        return [n for n in self.found.given if (by_patient[n].nunique() > 1).any()]

    def _assumed(self, said: str, by_graph: Adjusted) -> list[str]:
        told = [said] if said else []
        if self.is_within:
            told.append(
                f"nothing that changes within a patient from film to film (how ill they are that "
                f"day) goes with both {self.found.cause} and {self.found.effect}"
            )
            told.append("films of a patient do not influence one another")
        else:
            told += self.found.assumptions
        if empty_cells(by_graph.overlap) and not self.is_within:
            told.append("where cells are empty the effect is as elsewhere")
        labels = [n for n in self.cohort.outcomes if n in (self.found.effect, *self.found.given)]
        told += [f"the recorded {n} is taken for the finding itself" for n in labels]
        return told

    def _warnings(self, by_graph: Adjusted) -> list[str]:
        told = []
        if self.refusal:
            told.append(f"By adjustment it is not identified: {self.refusal}")
        if cells := empty_cells(by_graph.overlap):
            few = "; ".join(cells[:NAMED_CELLS])
            if len(self.found.given) > MOST_NAMED:
                few = f"{len(cells):,} of {len(by_graph.overlap):,} cells of {self.found.cause}"
            told.append(f"Too few to compare: {few}.")
        if by_graph.trimmed:
            told.append(
                f"{100 * by_graph.trimmed:.1f} % of the rows lack overlap and are left out."
            )
        if self.is_within and (varying := self._varying()):
            told.append(
                f"{in_words(varying)} differs between films of the same patient and is not held "
                "there."
            )
        if self.rows.dropped:
            told.append(f"{self.rows.dropped:,} rows with a missing value are left out.")
        return told


def _within_formula(found: Adjustment) -> str:
    c, y = found.cause, found.effect
    return f"Σ_p w_p (mean {y} at {c}=1 − mean {y} at {c}=0 in patient p), w_p = n₁ n₀ / n"
