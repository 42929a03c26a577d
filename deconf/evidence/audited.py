"""The result of an audit: a verdict on each confounder, and the figures it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from deconf.causal.invariance import Invariance
from deconf.evidence.verdict import Verdict
from deconf.maths.intervals import Interval
from deconf.probes.leakage import Leakage, measure

COLUMNS = (
    "confounder", "kind", "given", "attacker", "measure", "auroc", "low", "high", "floor", "p",
    "p_below", "bits", "bits_low", "bits_high", "n", "verdict",
)  # fmt: skip
NO_BITS = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Audit:
    """The verdict on each confounder, with the leakage it rests on.

    Attributes
    ----------
    verdict : mapping of confounder to Verdict
    invariances : mapping of confounder to Invariance
        What was tested: the null hypothesis.
    leakages : mapping of (confounder, kind) to Leakage
        Kind is "conditional" (as the invariance says), "marginal", or "transfer": as the invariance
        says, by attackers who learned at other sites.
    floors : mapping of (confounder, kind) to float
        What attackers reach by luck; for "marginal" that, or the AUROC of the confounder told from
        the adjustment set alone where it is higher: a clean embedding of a disease that goes with
        the scanner still tells the scanner that well.
    reasons : tuple of str
        What was left out, merged or assumed, with counts; artefacts by name.
    """

    verdict: Mapping[str, Verdict]
    invariances: Mapping[str, Invariance]
    leakages: Mapping[tuple[str, str], Leakage]
    floors: Mapping[tuple[str, str], float]
    reasons: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per confounder, kind and attacker.

        Columns ``confounder``, ``kind``, ``given``, ``attacker``, ``measure`` (AUROC, or its like
        for numbers: concordance), ``auroc`` (that figure), ``low`` and ``high`` (95 %, by
        patient), ``floor``, ``p`` (max-T over attackers, not yet Holm over confounders),
        ``p_below`` (that luck reads as badly), ``bits``, ``bits_low``, ``bits_high`` (saved per
        film by a code that has the embedding; of the kind, not of the attacker), ``n`` (held-out
        patients) and ``verdict`` (of the confounder).
        """
        rows = []
        for (name, kind), leak in self.leakages.items():
            bits = NO_BITS if leak.code is None else leak.code.bits
            rows += [
                {
                    "confounder": name,
                    "kind": kind,
                    "given": "" if kind == "marginal" else ", ".join(self.invariances[name].given),
                    "attacker": attacker,
                    "measure": measure(attacker),
                    "auroc": found.estimate,
                    "low": found.low,
                    "high": found.high,
                    "floor": self.floors[name, kind],
                    "p": leak.p_values[attacker],
                    "p_below": leak.below[attacker],
                    "bits": bits.estimate,
                    "bits_low": bits.low,
                    "bits_high": bits.high,
                    "n": leak.n_test,
                    "verdict": str(self.verdict[name]),
                }
                for attacker, found in leak.intervals.items()
            ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def __str__(self) -> str:
        lines = []
        for name, verdict in self.verdict.items():
            lines.append(f"{name}  ({self.invariances[name]})")
            lines.append(f"  {verdict.sentence}.")
            lines += [f"  {line}" for line in self._beside(name)]
        if self.reasons:
            lines += ["Notes", *(f"  {reason}" for reason in self.reasons)]
        return "\n".join(lines)

    def _beside(self, name: str) -> Iterator[str]:
        """Yield what stands beside a verdict: bits, other sites, nothing held fixed."""
        leak = self.leakages.get((name, "conditional"), Leakage())
        if leak.code is not None:
            bits = leak.code.bits
            yield (
                f"Bits left: {bits.estimate:.3f} [{bits.low:.3f}, {bits.high:.3f}] a film, of "
                f"{leak.code.strata_bits:.2f} ({leak.code.coder} code)."
            )
        far = self.leakages.get((name, "transfer"), Leakage(reason="not asked"))
        if not far.reason:
            yield (
                f"At sites the attackers did not learn at: {measure(far.worst)} {far.estimate} by "
                f"{far.worst}, chance floor {far.floor:.2f} (p = {far.p:.2g})."
            )
        marginal = self.leakages.get((name, "marginal"), Leakage(reason="not asked"))
        if not marginal.reason and self.invariances[name].given:
            yield (
                f"Without holding anything fixed: {measure(marginal.worst)} {marginal.estimate} by "
                f"{marginal.worst}; {self.floors[name, 'marginal']:.2f} is to be expected of a "
                "clean embedding."
            )
