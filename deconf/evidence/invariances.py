"""Which independences the representations of a comparison are held to.

Every cleaner brings the invariance its graph demands; every representation is audited against
every distinct one.  An audit judges a confounder once, so the distinct statements are dealt into
layers: the first of each confounder, then the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconf.causal.graph import CausalGraph
from deconf.causal.invariance import Invariance
from deconf.causal.plan import make_plan
from deconf.cohort.cohort import Cohort

Layer = Mapping[str, Invariance]


@dataclass(frozen=True)
class HeldTo:
    """Stands for an embedding in an audit, and for what it is held to."""

    z: Any
    plan: Any

    def embed(self, cohort: Cohort) -> Any:
        """Return the embedding, made beforehand."""
        del cohort
        return self.z


@dataclass(frozen=True)
class Demand:
    """The one thing an audit reads of a plan."""

    invariances: Layer


def layers(
    plans: Mapping[str, Any],
    cohort: Cohort,
    confounders: Sequence[str],
    graph: CausalGraph | str | None,
) -> list[Layer]:
    """Return the distinct invariances, dealt into layers.

    Parameters
    ----------
    plans : mapping of cleaner to Plan
    graph : optional
        A graph of the user's own adds what it demands; without one, a confounder that no plan
        speaks of gets the default graph.
    """
    demands = [plan.invariances for plan in plans.values()]
    covered = {c for demand in demands for c in demand}
    rest = confounders if graph is not None else [c for c in confounders if c not in covered]
    if rest:
        own = make_plan(
            cohort.table,
            list(rest),
            outcome=cohort.outcomes,
            graph=graph,
            patient=cohort.roles["patient"],
        )
        demands.append(own.invariances)
    dealt: list[dict[str, Invariance]] = []
    for confounder in confounders:
        distinct = {statement(confounder, d[confounder]): d for d in demands if confounder in d}
        for place, demand in enumerate(distinct.values()):
            if place == len(dealt):
                dealt.append({})
            dealt[place][confounder] = demand[confounder]
    return list(dealt)


def statement(confounder: str, invariance: Invariance) -> str:
    """Return ``z ⊥ portable | pneumonia``: what is tested of one confounder."""
    if not is_needed(invariance):
        return f"nothing to remove for {confounder}"
    if not invariance.is_identified:
        return f"z ⊥ {confounder} | ? (not identified)"
    return f"z ⊥ {confounder}" + (f" | {', '.join(invariance.given)}" if invariance.given else "")


def is_needed(invariance: Invariance) -> bool:
    """Whether there is anything to remove; the plan of a saved map no longer says."""
    return bool(getattr(invariance, "is_needed", True))
