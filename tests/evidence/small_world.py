"""A cheap cleaner for comparisons: LEACE on the stored embedding, and what it has seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from deconf.causal.plan import Plan, make_plan
from deconf.causal.weights import balancing_weights
from deconf.cohort.cohort import Cohort
from deconf.errors import LeakageError, NotIdentified
from deconf.maths.design import design
from deconf.methods.leace import LEACE


@dataclass
class SmallCleaner:
    """What compare asks of an unfitted cleaner, and a book of the patients it met."""

    confounders: tuple[str, ...] = ("portable",)
    graph: str | None = None
    given: tuple[str, ...] | None = None
    weigh: bool = False
    seen: list[frozenset[Any]] = field(default_factory=list)
    judged: list[frozenset[Any]] = field(default_factory=list)

    def plan(self, cohort: Cohort) -> Plan:
        return make_plan(
            cohort.table,
            self.confounders,
            outcome=cohort.outcomes,
            graph=self.graph,
            given=self.given,
            patient=cohort.roles["patient"],
        )

    def fit(self, cohort: Cohort) -> SimpleNamespace:
        plan = self.plan(cohort)
        (invariance,) = plan.distinct()
        if not invariance.is_identified:
            raise NotIdentified(invariance.why)
        arrays = design(cohort.table, invariance.confounders, invariance.given)
        z = np.asarray(cohort.embeddings)[arrays.rows]
        fitted = LEACE(rank="full").fit(z, arrays.c, given=arrays.given)
        patients = frozenset(cohort.patients)
        self.seen.append(patients)

        def embed(other: Cohort) -> np.ndarray:
            return np.asarray(fitted(torch.tensor(np.asarray(other.embeddings))))

        def require_unseen(other: Cohort) -> None:
            self.judged.append(frozenset(other.patients))
            if patients & frozenset(other.patients):
                raise LeakageError("fitted on these patients")

        weights = None
        if self.weigh:
            weights = balancing_weights(cohort.table, self.confounders, invariance.given).values
        return SimpleNamespace(
            embed=embed, require_unseen=require_unseen, map=fitted, weights=weights, plan=plan
        )
