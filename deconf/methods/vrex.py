"""Variance risk extrapolation (V-REx): equal risks in all environments.

Krueger et al., "Out-of-distribution generalization via risk extrapolation", ICML 2021,
https://arxiv.org/abs/2003.00688 (eq. 8).
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from deconf.methods.base import MethodCard, methods
from deconf.methods.environments import Batch, spread
from deconf.methods.invariant import Penalised


@methods.register(
    "vrex",
    MethodCard(
        guarantee="none for new environments; risks are near each other in these",
        needs=("outcome", "levels"),
        dear=True,
        cost="epochs x n d h",
        source="Krueger et al. 2021",
    ),
)
@dataclass(frozen=True)
class VREx(Penalised):
    """Penalise the variance, over environments, of the mean cross-entropy.

    Parameters
    ----------
    penalty, warmup, selection, oracle, hidden, epochs, batch, learning_rate, weight_decay
        See `Penalised` and `InvariantRisk`.

    Warnings
    --------
    An environment with more label noise has a higher risk under every honest predictor: equal
    risks are then bought by doing worse elsewhere.
    """

    def penalty_of(self, batch: Batch, strength: float) -> Float[Tensor, ""]:
        """Return  β Var_e(R_e)."""
        return strength * spread(*batch.means(batch.losses()))
