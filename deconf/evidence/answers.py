"""One answer to the three questions, by rule and in plain words.

``yes`` asks for a certain and more than trifling finding, ``no`` for proof that nothing as large as
the margin is there; everything else is ``undecided``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from deconf.errors import listing
from deconf.evidence.disparity import Disparity
from deconf.evidence.narrative import signed
from deconf.evidence.reliance import Reliance
from deconf.evidence.verdict import ALPHA, GAP, SPOKEN, Verdict

Word = Literal["yes", "no", "undecided", "not asked"]

# What does not matter: of an AUROC around one half, of a share of films or pairs.
MARGIN = 0.05
# HSIC (normalised, above its null) of a shift to an AUROC of 0.5 + GAP, and of 0.5 + MARGIN.
HSIC_GAP, HSIC_MARGIN = 0.001, 0.006


@dataclass(frozen=True, eq=False)
class Answer:
    """The three answers for one representation, task and confounder.

    Attributes
    ----------
    given : tuple of str
        The adjustment set of the first two questions; the third holds nothing fixed.
    encoding, dependence, disparity : {"yes", "no", "undecided", "not asked"}
    verdict : Verdict
        Of the audit.
    reliance : Reliance
        Of the head's score, out of fold.
    p, hsic_p : float
        Its two p-values, Holm over both and over the confounders.
    gaps : Disparity
    """

    representation: str
    task: str
    confounder: str
    given: tuple[str, ...]
    encoding: Word
    dependence: Word
    disparity: Word
    verdict: Verdict
    reliance: Reliance
    p: float
    hsic_p: float
    gaps: Disparity

    @property
    def largest(self) -> pd.Series | None:
        """The gap that speaks loudest: the most certain of those found, else the largest."""
        gaps = self.gaps.gaps.dropna(subset=["difference"])
        if gaps.empty:
            return None
        found = gaps[is_found(gaps)]
        if len(found):
            return found.sort_values("p", kind="stable").iloc[0]
        return gaps.iloc[int(gaps["difference"].abs().to_numpy().argmax())]

    @property
    def sentence(self) -> str:
        """The three answers in plain words."""
        where = f"{self.representation} / {self.task} / {self.confounder}"
        return f"{where}: {self._encoded()}; {self._used()}; {self._differs()}."

    def _encoded(self) -> str:
        if self.encoding == "not asked":
            return "whether it can be read was not asked"
        v = self.verdict
        bare = v.worst.removesuffix(", pooled")
        attacker = SPOKEN.get(bare, bare)
        figures = f" (AUROC {v.estimate} by {attacker}, floor {v.floor:.2f})" if v.worst else ""
        return {
            "yes": f"it can be read{figures}",
            "no": f"no attacker reads it by {MARGIN:g} above luck{figures}",
        }.get(self.encoding, f"whether it can be read is undecided{figures}")

    def _used(self) -> str:
        if self.dependence == "not asked":
            return "whether the prediction uses it was not asked"
        r = self.reliance
        if r.reason:
            return f"whether the prediction uses it cannot be told: {r.reason}"
        within = f"within {' and '.join(self.given)} " if self.given else ""
        side = "higher" if r.auroc.estimate > 0.5 else "lower"
        shift = f"{within}the score runs {side} at {r.level}: AUROC {r.auroc}"
        if self.dependence == "yes":
            if self.p < ALPHA and abs(r.auroc.estimate - 0.5) > GAP:
                return f"the prediction uses it ({shift}, {_p(self.p)})"
            return (
                f"the prediction uses it ({within}not by a shift of the score, AUROC {r.auroc} at "
                f"{r.level}, but by its spread or shape: HSIC, {_p(self.hsic_p)})"
            )
        if self.dependence == "no":
            return (
                f"the prediction does not use it ({within}AUROC {r.auroc} of the score for "
                f"{r.level}; {MARGIN:g} is ruled out)"
            )
        return (
            f"whether the prediction uses it is undecided ({within}AUROC {r.auroc} of the "
            f"score for {r.level}, {_p(self.p)})"
        )

    def _differs(self) -> str:
        gap = self.largest
        if gap is None:
            return f"whether performance differs cannot be told: {self.gaps.reason}"
        figures = (
            f"{gap['metric']} at {gap['level']} "
            f"{signed(gap['difference'])} [{signed(gap['low'])}, {signed(gap['high'])}] "
            f"against {gap['against']}"
        )
        without = f"; not compared: {listing(self.gaps.left_out)}" if self.gaps.left_out else ""
        if self.disparity == "yes":
            return f"performance differs ({figures}, {_p(gap['p'])}{without})"
        seen = ""
        if not pd.isna(gap["detectable"]):
            seen = f"; above {gap['detectable']:.2f} it would have been found with 80 % power"
        if self.disparity == "no":
            return f"performance is alike within {MARGIN:g} (at most {figures}{seen}{without})"
        return f"no difference of performance is shown, nor its absence ({figures}{seen}{without})"


def depends(found: Reliance, p: float, hsic_p: float) -> Word:
    """Return whether a score depends on the confounder, from its adjusted p-values.

    ``yes`` for a certain shift above 0.02 of AUROC, or a certain dependence of another shape as
    large as that; ``no`` where a shift of 0.05 is ruled out at every level and HSIC is below what
    such a shift gives.
    """
    is_shifted = p < ALPHA and abs(found.auroc.estimate - 0.5) > GAP
    if is_shifted or (hsic_p < ALPHA and found.correlation > HSIC_GAP):
        return "yes"
    if found.beyond <= ALPHA and found.correlation < HSIC_MARGIN:
        return "no"
    return "undecided"


def differs(found: Disparity) -> Word:
    """Return whether performance differs between levels.

    ``yes`` for any certain difference above 0.02; ``no`` where every one is shown to be smaller
    than 0.05 and no level was left out.
    """
    if found.reason:
        return "undecided"
    if is_found(found.gaps).any():
        return "yes"
    is_alike = bool((found.gaps["p_margin"] <= ALPHA).all()) and not found.left_out
    return "no" if is_alike else "undecided"


def is_found(gaps: pd.DataFrame) -> pd.Series:
    """Return which differences are certain, and large enough to be called one."""
    return (gaps["p"] < ALPHA) & (gaps["difference"].abs() > GAP)


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
