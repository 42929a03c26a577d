"""What an audit must say of its own figures: artefacts, and numbers that cells did not hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from deconf.errors import listing
from deconf.probes.leakage import Leakage, measure

ALPHA = 0.05


def remarks(
    name: str, given: Sequence[str], leakages: Mapping[tuple[str, str], Leakage]
) -> list[str]:
    """Return remarks on the leakages of one confounder."""
    told: list[str] = []
    for kind in ("conditional", "marginal", "transfer"):
        leak = leakages.get((name, kind))
        if leak is None or (kind == "marginal" and leak is leakages.get((name, "conditional"))):
            continue
        within = f" within {listing(given)}" if given and kind != "marginal" else ""
        told += _below(f"{name}{within}", kind, leak)
    found = leakages.get((name, "conditional"))
    if found is not None and found.gcm == found.gcm:
        told.append(_inside_cells(name, given, found))
    return told


def _below(name: str, kind: str, leak: Leakage) -> Iterator[str]:
    for attacker in leak.artefacts:
        figure = f"{measure(attacker)} {leak.intervals[attacker]}, p = {leak.below[attacker]:.2g}"
        if kind == "transfer":
            yield (
                f"{name}: at other sites {attacker} reads it the wrong way round ({figure}): there "
                "is a trace, and it turns round between sites"
            )
        else:
            yield (
                f"{name}: {attacker} reads it worse than luck does ({figure}): an artefact, no "
                "sign of a clean embedding. Usually what made the embedding has seen these very "
                "patients, and what it took from one half it gave to the other: fit it on others"
            )


def _inside_cells(name: str, given: Sequence[str], leak: Leakage) -> str:
    seen = leak.gcm < ALPHA
    return (
        f"{name}: with the numbers in {listing(given)} out of both sides, what attackers say and "
        f"{name} {'still' if seen else 'no longer'} go together inside the cells (generalised "
        f"covariance measure, p = {leak.gcm:.2g})"
        + ("" if seen or leak.p >= ALPHA else ": what is read may be those numbers")
    )
