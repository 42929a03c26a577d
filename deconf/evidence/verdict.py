"""From a leakage to a verdict: clean, leaks or undecided, and a sentence for a clinician."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from deconf.errors import SettingsError, listing
from deconf.maths.intervals import Interval
from deconf.probes.held_out import POOLED
from deconf.probes.leakage import Leakage, measure

Word = Literal["clean", "leaks", "undecided"]

# A leak must stand this far above the floor: at n = 50,000 an AUROC of 0.51 is certain, and
# harmless.
GAP = 0.02
ALPHA = 0.05
# More held-out patients than this is no advice.
BEYOND_REACH = 10_000_000

NO_ESTIMATE = Interval(math.nan, math.nan, math.nan)
SPOKEN = {
    "logistic": "a linear probe",
    "quadratic": "a quadratic probe",
    "knn": "nearest neighbours",
    "boosted": "boosted trees",
    "mlp": "a small network",
    "rbf": "a kernel probe",
}


@dataclass(frozen=True)
class Verdict:
    """The answer to "can the confounder still be read?", with the figures it rests on.

    ``str()`` is the one word; ``sentence`` says it in full.

    Attributes
    ----------
    word : {"clean", "leaks", "undecided"}
    sentence : str
        For a report: the figures, the attackers, n, the assumptions, and what to try next.
    worst : str
        The strongest attacker.
    estimate : Interval
        Its AUROC.
    floor, p : float
        What attackers reach by luck, and the p-value after Holm.
    n : int
        Held-out patients.
    needed : int or None
        About how many held-out patients would decide; None when decided, or when no number would.
    """

    word: Word
    sentence: str
    worst: str = ""
    estimate: Interval = NO_ESTIMATE
    floor: float = math.nan
    p: float = math.nan
    n: int = 0
    needed: int | None = None

    def __str__(self) -> str:
        return self.word


def judge(
    leakage: Leakage,
    holm_p: float,
    *,
    margin: float = 0.05,
    assumptions: Sequence[str] = (),
    unsupported: Sequence[str] = (),
    confounder: str = "the confounder",
    given: Sequence[str] = (),
) -> Verdict:
    """Return the verdict on one confounder.

    ``leaks`` when the p-value is below 0.05 and the worst AUROC above floor + 0.02; ``clean`` when
    the upper 95 % limit is below floor + margin, every cell was supported and no attacker reads
    worse than luck (an artefact, see `Leakage.artefacts`); else ``undecided``.
    Where both hold (a certain leak smaller than the margin) it is ``leaks``: a small leak was seen.
    Clean also asks that a leak as large as the margin would have been seen, that is that the 95th
    percentile of the null lies within the margin: a handful of patients may put the estimate so
    far below one half that even its upper limit is low, which is luck and shows nothing.

    Parameters
    ----------
    leakage : Leakage
    holm_p : float
        Its p-value, corrected for the number of confounders.
    margin : float
        The largest AUROC above the floor that may still be called clean.
    assumptions : sequence of str
        What a clean verdict rests on; named in its sentence.
    unsupported : sequence of str
        Cells with nobody, or hardly anybody, in them.  A leak found elsewhere is a leak; without
        one the verdict cannot be clean, since nobody has looked there.
    confounder, given
        Names for the sentence.

    Raises
    ------
    SettingsError
        A margin that is not positive.
    """
    if not margin > 0:
        raise SettingsError(f"margin is {margin!r}: give the AUROC above the floor to tolerate.")
    if leakage.reason:
        return undecided(leakage.reason)
    within = f" within {' and '.join(given)}" if given else ""
    reads = (
        f"{confounder}{within} at {measure(leakage.worst)} {leakage.estimate}, "
        f"chance floor {leakage.floor:.2f}"
    )
    found = Verdict(
        "undecided",
        "",
        worst=leakage.worst,
        estimate=leakage.estimate,
        floor=leakage.floor,
        p=holm_p,
        n=leakage.n_test,
    )
    if holm_p < ALPHA and leakage.estimate.estimate > leakage.floor + GAP:
        sentence = (
            f"leaks: {_spoken(leakage.worst)} still read{_s(leakage.worst)} {reads} (n = "
            f"{leakage.n_test:,} held-out patients, p = {holm_p:.2g}); {_remedy(leakage)}"
        )
        return replace(found, word="leaks", sentence=sentence)
    if max(leakage.upper, leakage.critical) < leakage.floor + margin:
        none = (
            f"no leak above {margin:g} found by {', '.join(leakage.attackers)} "
            f"at n = {leakage.n_test:,} held-out patients"
        )
        if leakage.artefacts:
            sentence = (
                f"undecided: {none}, but {' and '.join(map(_spoken, leakage.artefacts))} "
                f"read{_s(*leakage.artefacts)} {confounder}{within} worse than luck does: an "
                f"artefact, which shows nothing{_assuming(assumptions)}"
            )
            return replace(found, sentence=sentence)
        if not unsupported:
            return replace(found, word="clean", sentence=none + _assuming(assumptions))
        sentence = (
            f"undecided: {none}, but nobody can look everywhere: {listing(unsupported)}"
            f"{_assuming(assumptions)}"
        )
        return replace(found, sentence=sentence)
    needed = patients_needed(leakage, margin)
    advice = (
        f"about n = {needed:,} held-out patients would decide"
        if needed
        else "more patients of this kind would hardly decide"
    )
    if unsupported:
        advice += f", but for {listing(unsupported)}: too few there, however many elsewhere"
    sentence = (
        f"undecided: the strongest attacker ({_spoken(leakage.worst)}) reads {reads}, at n = "
        f"{leakage.n_test:,} held-out patients: neither a leak nor its absence is shown; {advice}"
    )
    return replace(found, sentence=sentence, needed=needed)


def undecided(reason: str) -> Verdict:
    """Return the verdict when there is nothing to judge."""
    return Verdict("undecided", f"undecided: {reason}")


def patients_needed(leakage: Leakage, margin: float) -> int | None:
    """Return about how many held-out patients would decide, if the excess stays what it is.

    Half-widths shrink like 1/√n.  A leak of that size is shown once the 95 % point of the null
    falls below it, its absence once that point and the upper limit fall below the margin; the
    sooner counts.  Two digits, None when neither comes within reach.
    """
    excess = max(0.0, leakage.estimate.estimate - leakage.floor)
    half, spread = leakage.upper - leakage.estimate.estimate, leakage.critical - leakage.floor
    candidates = []
    if excess > GAP:
        candidates.append(spread / excess)
    if excess < margin:
        candidates.append(max(half / (margin - excess), spread / margin))
    times = [ratio**2 for ratio in candidates if math.isfinite(ratio)]
    if not times or leakage.n_test == 0:
        return None
    n = leakage.n_test * max(1.1, min(times))
    if n > BEYOND_REACH:
        return None
    unit = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return math.ceil(n / unit - 1e-9) * unit  # 16.000000001 is 16


def _assuming(assumptions: Sequence[str]) -> str:
    return f", assuming {'; '.join(a.rstrip('.') for a in assumptions)}" if assumptions else ""


def _remedy(leakage: Leakage) -> str:
    """Return what to try next (the remedy of each finding, in a clause)."""
    linear = [name for name in leakage.p_values if name.startswith("logistic")]
    reads_means = any(leakage.p_values[name] < ALPHA for name in linear)
    if linear and not reads_means:
        return "means are matched, higher moments leak: try aligned, then transport"
    if leakage.worst.startswith("logistic"):
        return "a difference of means is left: try leace with rank='full', then aligned"
    return "means and more are left: try leace first, then aligned"


def _spoken(attacker: str) -> str:
    base = attacker.split(",")[0]
    return SPOKEN.get(base, base) + (" fitted across strata" if POOLED in attacker else "")


def _s(*attackers: str) -> str:
    plural = len(attackers) > 1 or attackers[0].split(",")[0] in ("knn", "boosted")
    return "" if plural else "s"
