"""Reweighting alone: the embedding stays as it is, the head is trained on weighted films.

With  w = P(c) / P(c | s)  the confounder is independent of the adjustment set among the weighted
films, so that a head has no reason to use it.  A strong baseline for the task, and no cleaning:
everything the embedding knew of the confounder is still in it.

Sagawa et al., "Distributionally robust neural networks", ICLR 2020, for what it can and cannot do;
Li & Li, "Propensity score weighting for causal inference with multiple treatments", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deconf.maths.maps import AffineMap
from deconf.maths.moments import Given
from deconf.methods.base import Method, MethodCard, as_arrays, methods


@methods.register(
    "reweight",
    MethodCard(
        guarantee="a weighted head has no reason to use c; c stays readable in the embedding",
        laws=("idempotent", "null"),
        head_weights=True,
        cost="n",
        source="Li & Li 2019",
    ),
)
@dataclass(frozen=True)
class Reweight(Method):
    """Return the identity; the weights of the head are the method."""

    def fit(
        self,
        z: Any,
        c: Any,
        *,
        given: Given | None = None,
        outcome: Any = None,
        weights: Any = None,
        patients: Any = None,
        seed: int = 0,
    ) -> AffineMap:
        """Return the identity; see `Method.fit`."""
        del outcome, weights, patients, seed
        z, c, given = as_arrays(z, c, given)
        return AffineMap.identity(z.shape[1])
