"""What readings of several confounders come to: one leaks, none does, or nobody can tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from deconf.probes.leakage import Leakage

ALPHA = 0.05
FAR = 0.05  # AUROC above luck that counts as a leak worth training against
Verdict = Literal["leaks", "clean", "undecided"]


def is_read(one: Leakage, several: Sequence[Leakage]) -> bool:
    """Whether luck does not explain what was read, by Bonferroni over the confounders."""
    return not one.reason and one.p * len(several) < ALPHA


def best_read(found: Sequence[Leakage]) -> int:
    """Return which confounder is read best: of those that luck does not explain, if there are."""

    def rank(i: int) -> tuple[bool, float]:
        one = found[i]
        return is_read(one, found), -1.0 if one.reason else one.estimate.estimate

    return max(range(len(found)), key=rank)


def beyond(one: Leakage) -> float:
    """Return how far above luck a leak could lie unseen: by an attacker's interval or the null."""
    return max(one.upper, one.critical) - one.floor


def verdict(found: Sequence[Leakage]) -> Verdict:
    """Whether a confounder is read, or none is and a leak would have been seen, or neither.

    The last as in an audit: neither an attacker's interval nor the null reaches far above luck.
    """
    if any(is_read(one, found) for one in found):
        return "leaks"
    is_sure = all(not one.reason and beyond(one) < FAR for one in found)
    return "clean" if is_sure else "undecided"
