"""The answer to a question about an effect: numbers first, then a paragraph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from deconf.causal.adjustment import Adjustment
from deconf.causal.narrative import in_words
from deconf.hypotheses import verdict as words
from deconf.maths.intervals import Interval

SAID_OF = {
    "passed": "null",
    "failed": "not null",
    "uninformative": "too imprecise, or too constant, to contradict anything",
}


@dataclass(frozen=True, eq=False)
class Effect:
    """An effect, what it assumes, what tried to refute it, and a verdict by rule.

    Attributes
    ----------
    cause, effect : str
    level, reference : str
        The contrast: ``level`` against ``reference``; "per unit" for a number.
    design : {"adjusted", "within patient"}
    estimate : Interval
        Difference of the mean outcome: a risk difference, or units of the outcome.
    ratio : Interval or None
        Risk ratio of a yes-or-no outcome.
    per_sd : Interval
        The difference in standard deviations of the outcome; of a number, for one standard
        deviation of the cause.
    contrasts : DataFrame
        Every level against the reference, by the design of the estimate.
    designs : DataFrame
        The same contrast crude, weighted, doubly robust and, where asked for, within the patient.
    formula : str
        The estimand.
    status : {"identified", "identified if", "not identified"}
        The last where a set of your own leaves a path of your graph open.
    assumptions, warnings : tuple of str
    overlap : DataFrame
        Of the cause within what is held, see `deconf.causal.overlap.overlap_table`.
    trimmed : float
        Share of the rows left out for want of overlap.
    refutations : DataFrame
        One row per refuter and negative control: what it asks, what it catches, whether it passed.
    sensitivity : DataFrame
        Robustness values, benchmarks, simulated confounders and E-values.
    verdict, reason : str
        By the rules of `deconf.hypotheses.verdict`.
    rows, patients, dropped : int
        Complete rows, their patients, and rows left out for a missing value.
    """

    cause: str
    effect: str
    level: str
    reference: str
    design: str
    estimate: Interval
    ratio: Interval | None
    per_sd: Interval
    contrasts: pd.DataFrame
    designs: pd.DataFrame
    adjustment: Adjustment
    formula: str
    status: str
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    overlap: pd.DataFrame
    trimmed: float
    refutations: pd.DataFrame
    sensitivity: pd.DataFrame
    verdict: str
    reason: str
    rows: int
    patients: int
    dropped: int
    sd: float
    reading: str

    def to_frame(self) -> pd.DataFrame:
        """Return every contrast and every design as rows, the estimate first."""
        head = self.contrasts.assign(is_estimate=self.contrasts["level"] == self.level)
        rest = self.designs[self.designs["design"] != self.design].assign(is_estimate=False)
        frame = pd.concat([head, rest], ignore_index=True)
        frame.insert(0, "cause", self.cause)
        frame.insert(1, "effect", self.effect)
        frame.insert(3, "reference", self.reference)
        frame["verdict"] = ""
        frame.loc[frame["is_estimate"], "verdict"] = self.verdict
        return frame.sort_values("is_estimate", ascending=False, kind="stable", ignore_index=True)

    def __str__(self) -> str:
        """Say it in one paragraph."""
        return " ".join(
            part
            for part in (
                self._headline(),
                self._numbers(),
                self._beside(),
                self._basis(),
                self._tests(),
                self._strength(),
                *self.warnings,
            )
            if part
        )

    def _headline(self) -> str:
        return f"{self.verdict.upper()}: {self.reason}."

    def _contrast(self) -> str:
        if self.level == "per unit":
            return f"one unit of {self.cause}"
        return f"{self.cause}={self.level} rather than {self.reference}"

    def _numbers(self) -> str:
        e = self.estimate
        how = (
            f"In the same {self._patients_of_design():,} patients under both levels"
            if self.design == "within patient"
            else f"Holding {in_words(self.adjustment.given)}"
            if self.adjustment.given
            else "Holding nothing"
        )
        if self.adjustment.kind == "front door" and self.design != "within patient":
            how = f"By way of {in_words(self.adjustment.given)}"
        start = f"{how}, {self._contrast()} "
        if self.ratio is not None:
            r = self.ratio
            return (
                start + f"multiplies the chance of {self.reading} by {r.estimate:.2f} (95 % "
                f"{r.low:.2f} to {r.high:.2f}), {_points(e.estimate)} points "
                f"({_points(e.low)} to {_points(e.high)})."
            )
        d = self.per_sd
        return (
            start
            + f"moves {self.effect} by {e.estimate:.3g} (95 % {e.low:.3g} to {e.high:.3g}), "
            + (f"one sd of {self.cause} by " if self.level == "per unit" else "")
            + f"{d.estimate:.2f} sd ({d.low:.2f} to {d.high:.2f})."
        )

    def _patients_of_design(self) -> int:
        return int(self.contrasts["patients"].iloc[0])

    def _beside(self) -> str:
        told = []
        others = self.designs[self.designs["level"] == self.level]
        for row in others[others["design"] != self.design].to_dict("records"):
            if not row["patients"]:
                told.append(f"{row['design']} nothing, for no patient was seen at both levels")
            elif self.ratio is None:
                told.append(f"{row['design']} {row['difference']:.3g}")
            elif not math.isnan(row["ratio"]):
                limits = f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"
                told.append(f"{row['design']} {row['ratio']:.2f} ({limits})")
        return f"Beside it: {'; '.join(told)}." if told else ""

    def _basis(self) -> str:
        if self.status == "not identified":
            return f"By the graph it is not identified: {'; '.join(self.assumptions)}."
        text = f"This is {self.status}"
        text += f": {'; '.join(self.assumptions)}." if self.assumptions else " by the graph drawn."
        return text

    def _tests(self) -> str:
        judged = self.refutations[self.refutations["result"] != "shown"]
        refuters = judged[judged["kind"] == "refuter"]
        controls = judged[judged["kind"] == "negative control"]
        passed = int((refuters["result"] == "passed").sum())
        text = f"{passed} of {len(refuters)} refuters passed"
        if not len(controls):
            return text + "; no negative control was run."
        said = [
            f"{c['refuter']} ({c['catches']}) is " + SAID_OF[c["result"]]
            for c in controls.to_dict("records")
        ]
        return f"{text}; {'; '.join(said)}."

    def _strength(self) -> str:
        if self.verdict not in (words.FOUND, words.FOUND_UNTESTED, words.GIVEN_LABELS):
            return ""
        rows = self.sensitivity.to_dict("records")
        told = [
            f"To bring it to nothing a hidden cause must raise both by {row['value']:.2f}."
            for row in rows
            if row["measure"] == "E-value of the limit"
        ]
        marks = [r for r in rows if r["measure"].startswith("1 x ") and not math.isnan(r["value"])]
        if marks:  # the strongest of what is held
            strongest = min(marks, key=lambda row: abs(row["value"]))["says"]
            told.append(f"By linear regression {strongest}.")
        return " ".join(told)


def _points(share: float) -> str:
    return f"{100 * share:.2f}"
