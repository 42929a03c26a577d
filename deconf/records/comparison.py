"""Two records held side by side: what agrees, what differs, and by how much."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from deconf.errors import listing
from deconf.records.certificate import Figure, Finding

NUMBERS = ("auroc", "low", "high", "floor")  # in AUROC, all of them

Pairs = dict[str, tuple[Figure | Finding, Figure | Finding]]


@dataclass(frozen=True)
class Check:
    """One thing that was compared.

    Attributes
    ----------
    what : str
    agrees : bool
    said : str
        How well it agrees, or what differs.
    """

    what: str
    agrees: bool
    said: str

    def __str__(self) -> str:
        return f"{'agrees' if self.agrees else 'DIFFERS'}  {self.what}: {self.said}"


@dataclass(frozen=True)
class Verification:
    """What agrees with a certificate and what does not, line by line.

    Attributes
    ----------
    checks : tuple of Check
    identical : bool
        Whether every figure came out bit for bit, as on the machine that made it.
    notes : tuple of str
        What could not be checked, and which versions are others than those of the certificate.
    """

    checks: tuple[Check, ...]
    identical: bool
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything agrees."""
        return all(check.agrees for check in self.checks)

    def __str__(self) -> str:
        lines = [*map(str, self.checks), *(f"note    {note}" for note in self.notes)]
        failed = [check.what for check in self.checks if not check.agrees]
        if failed:
            return "\n".join([*lines, f"Not verified: {listing(failed)}."])
        how = "bit for bit" if self.identical else "within tolerance"
        return "\n".join([*lines, f"Verified: every figure comes out {how}."])


def compared(what: str, certified: Any, here: Any) -> Check:
    """Compare two texts, digests, tuples or mappings; the line names only what differs.

    Examples
    --------
    >>> print(compared("seed", {"seed": 0, "given": None}, {"seed": 1, "given": None}))
    DIFFERS  seed: certified {'seed': 0}, here {'seed': 1}
    """
    if certified == here:
        is_many = isinstance(certified, tuple | Mapping)
        return Check(what, True, f"{len(certified)} alike" if is_many else _short(certified))
    if isinstance(certified, Mapping) and isinstance(here, Mapping):
        keys = [k for k in {**certified, **here} if certified.get(k) != here.get(k)]
        certified, here = ({k: of.get(k) for k in keys} for of in (certified, here))
    elif isinstance(certified, tuple) and isinstance(here, tuple):
        certified, here = (
            [x for x in certified if x not in here],
            [x for x in here if x not in certified],
        )
    return Check(what, False, f"certified {_short(certified)}, here {_short(here)}")


def same_figures(
    certified: tuple[Sequence[Finding], Sequence[Figure]],
    here: tuple[Sequence[Finding], Sequence[Figure]],
    tolerance: float,
) -> Iterator[Check]:
    """Compare verdict and figures of each confounder.

    Words, attackers and numbers of patients must be the same, and every AUROC, limit and floor
    within the tolerance.  p-values must be the same where no AUROC has moved; else only the verdict
    holds them, since a p-value near one half moves by tenths with the last bits of a boosted tree.

    Parameters
    ----------
    certified, here : (findings, figures)
    tolerance : float
        In AUROC.
    """
    (findings, figures), (others, again) = certified, here
    ours, theirs = (
        (*(f.confounder for f in found), *(_label(f) for f in rows))
        for found, rows in (certified, here)
    )
    if ours != theirs:
        yield compared("what was attacked", ours, theirs)
        return
    for finding, other in zip(findings, others, strict=True):
        pairs: Pairs = {"the verdict": (finding, other)}
        pairs |= {
            f"{f.kind}, {f.attacker}": (f, g)
            for f, g in zip(figures, again, strict=True)
            if f.confounder == finding.confounder
        }
        yield _same(finding, other, pairs, tolerance)


def _label(figure: Figure) -> str:
    return f"{figure.confounder}, {figure.kind}, {figure.attacker}"


def _same(finding: Finding, other: Finding, pairs: Pairs, tolerance: float) -> Check:
    """Compare the verdict and the figures of one confounder."""
    what, count = finding.confounder, len(pairs) - 1
    for name in ("word", "invariance"):
        if getattr(finding, name) != getattr(other, name):
            return compared(what, getattr(finding, name), getattr(other, name))
    if all(repr(mine) == repr(yours) for mine, yours in pairs.values()):
        return Check(what, True, f"{finding}; all {count} figures bit for bit")
    apart = {key: _apart(*pair) for key, pair in pairs.items()}
    furthest = max(apart, key=lambda key: apart[key])
    # The strongest of two attackers may change with the last digit, and the sentence with it.
    is_reworded = finding.worst == other.worst and _wording(finding) != _wording(other)
    if is_reworded or apart[furthest] == 0:  # no AUROC has moved, and yet something else has
        return _overwritten(what, pairs)
    said = (
        f"{finding}; of {count} figures the furthest off is {furthest}, by {apart[furthest]:.3g}, "
        f"tolerance {tolerance:g}. Here: {other.sentence}"
    )
    return Check(what, apart[furthest] <= tolerance, said)


def _overwritten(what: str, pairs: Pairs) -> Check:
    """Name the first field, words before numbers, that differs where it should not."""
    differ = [
        (
            field.type == "float",
            f"{key}, {field.name}",
            getattr(a, field.name),
            getattr(b, field.name),
        )
        for key, (a, b) in pairs.items()
        for field in fields(a)
        if repr(getattr(a, field.name)) != repr(getattr(b, field.name))
    ]
    _, where, certified, here = min(differ, key=lambda one: one[0])
    return Check(what, False, f"{where}: certified {certified!r}, here {here!r}")


def _wording(finding: Finding) -> str:
    """Return the sentence without its numbers."""
    return re.sub(r"\d[\d.,]*(e-\d+)?", "#", finding.sentence)


def _apart(ours: Figure | Finding, theirs: Figure | Finding) -> float:
    """Return how far two figures are apart in AUROC; infinity where other patients were judged."""
    if ours.n != theirs.n:
        return math.inf
    return max(_gap(getattr(ours, name), getattr(theirs, name)) for name in NUMBERS)


def _gap(x: float, y: float) -> float:
    if math.isnan(x) or math.isnan(y):
        return 0.0 if math.isnan(x) and math.isnan(y) else math.inf
    return abs(x - y)


def _short(value: Any) -> str:
    text = str(value)
    return text[:16] if len(text) == 64 and text.isalnum() else text
