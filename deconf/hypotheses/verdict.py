"""From the table of evidence to one verdict, by rule.

The first rule that applies decides.  Nothing else does: whoever leaves the negative controls out
gets another verdict, because the rules read the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from deconf.maths.intervals import Interval

FOUND = "identified and found"
FOUND_UNTESTED = "found, if the graph is right"
ABSENT = "identified and absent"
ABSENT_UNTESTED = "absent, if the graph is right"
UNDECIDED = "undecided"
ASSOCIATION = "association only"
GIVEN_LABELS = "association given labels"
REFUTED = "refuted"
NOT_IDENTIFIED = "not identified"


@dataclass(frozen=True)
class Evidence:
    """All that the verdict may look at.

    Attributes
    ----------
    estimate : Interval
        On the scale of the margin: log ratio of a yes-or-no outcome, else units of sd.
    margin : float
        On the same scale: a smaller effect counts as none.
    refutations : DataFrame
        Columns ``refuter``, ``kind`` ("refuter" or "negative control") and ``result`` ("passed",
        "failed", or "shown" and "uninformative", on which nothing depends).
    designs_agree : bool or None
        Adjustment and the within-patient contrast; None where one of them was not run.
    labels_from_image : tuple of str
        Held columns that were read from the image.
    leaves_open : str
        What the graph says is wrong with a set of the user's own.
    has_graph : bool
        Whether a graph was drawn at all.
    is_null : bool
        Whether the graph says that there is no effect.
    """

    estimate: Interval
    margin: float
    refutations: pd.DataFrame
    designs_agree: bool | None = None
    labels_from_image: tuple[str, ...] = ()
    leaves_open: str = ""
    has_graph: bool = True
    is_null: bool = False

    def failed(self, kind: str) -> list[str]:
        """Return the names of what failed."""
        table = self.refutations
        return list(table["refuter"][(table["kind"] == kind) & (table["result"] == "failed")])

    @property
    def is_tested(self) -> bool:
        """Whether a graph was drawn and a negative control, able to contradict it, did not."""
        table = self.refutations
        passed = (table["kind"] == "negative control") & (table["result"] == "passed")
        return self.has_graph and bool(passed.any())

    @property
    def why_untested(self) -> str:
        """What keeps the verdict at "if the graph is right"."""
        if not self.has_graph:
            return "no graph was drawn, so what is held is your word"
        if (self.refutations["kind"] == "negative control").any():
            return "no negative control could have contradicted the graph"
        return "no negative control was run, so nothing tested the graph"

    @property
    def is_small(self) -> bool:
        """Whether the interval lies within the margin."""
        return abs(self.estimate.low) < self.margin and abs(self.estimate.high) < self.margin

    @property
    def holds_nil(self) -> bool:
        """Whether the interval holds no effect, or has no limits."""
        low, high = self.estimate.low, self.estimate.high
        return math.isnan(low) or math.isnan(high) or low <= 0 <= high


Rule = tuple[str, Callable[[Evidence], bool], Callable[[Evidence], str]]

RULES: tuple[Rule, ...] = (
    (
        REFUTED,
        lambda e: bool(e.failed("refuter")),
        lambda e: f"failed: {', '.join(e.failed('refuter'))}",
    ),
    (
        ASSOCIATION,
        lambda e: bool(e.failed("negative control")),
        lambda e: (
            "what the cause cannot touch moves with it too: "
            + ", ".join(e.failed("negative control"))
        ),
    ),
    (
        GIVEN_LABELS,
        lambda e: bool(e.labels_from_image) and e.designs_agree is not True,
        lambda e: (
            f"{', '.join(e.labels_from_image)} was read from the image: holding it may open "
            "a path, and no within-patient contrast agrees"
        ),
    ),
    (
        ASSOCIATION,
        lambda e: e.designs_agree is False,
        lambda _: "adjustment and the same patients under both levels disagree",
    ),
    (
        NOT_IDENTIFIED,
        lambda e: bool(e.leaves_open),
        lambda e: e.leaves_open,
    ),
    (
        ASSOCIATION,
        lambda e: e.is_null and not e.is_small and not e.holds_nil,
        lambda _: (
            "the graph draws no effect, and the data show one: an arrow is missing, or something "
            "that ought to be held"
        ),
    ),
    (
        ABSENT,
        lambda e: e.is_small and e.is_tested,
        lambda _: "the interval lies within the margin and the negative controls are null",
    ),
    (
        ABSENT_UNTESTED,
        lambda e: e.is_small,
        lambda e: f"the interval lies within the margin; {e.why_untested}",
    ),
    (
        UNDECIDED,
        lambda e: e.holds_nil,
        lambda _: "the interval holds both no effect and one beyond the margin",
    ),
    (
        FOUND_UNTESTED,
        lambda e: not e.is_tested,
        lambda e: e.why_untested,
    ),
    (FOUND, lambda _: True, lambda _: "every refuter passed and every negative control is null"),
)


def judge(evidence: Evidence) -> tuple[str, str]:
    """Return the verdict and its reason: the first rule of ``RULES`` that applies."""
    for word, applies, reason in RULES:
        if applies(evidence):
            return word, reason(evidence)
    raise RuntimeError("the last rule always applies")
