"""Fishr: equal variances of the gradients in all environments.

Rame, Dancette & Cord, "Fishr: invariant gradient variances for out-of-distribution generalization",
ICML 2022, https://arxiv.org/abs/2109.02934 (eq. 4, gradients of the head).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deconf.methods.base import MethodCard, methods
from deconf.methods.environments import Batch, spread
from deconf.methods.invariant import Penalised


@methods.register(
    "fishr",
    MethodCard(
        guarantee="none for new environments; variances of gradients are near each other in these",
        needs=("outcome", "levels"),
        dear=True,
        cost="epochs x n d h",
        source="Rame et al. 2022",
    ),
)
@dataclass(frozen=True)
class Fishr(Penalised):
    """Penalise differences, over environments, of the variance of row-wise gradients of the head.

    Parameters
    ----------
    penalty, warmup, selection, oracle, hidden, epochs, batch, learning_rate, weight_decay
        See `Penalised` and `InvariantRisk`.

    Warnings
    --------
    The variances are those of one batch, without the moving average of the authors' code: with
    small environments raise ``batch``.
    """

    def penalty_of(self, batch: Batch, strength: float) -> Float[Tensor, ""]:
        """Return  λ Σ_e |v_e - v|^2 / E,  v_e the variance of each coordinate of the gradient."""
        one = torch.ones_like(batch.logits)[:, None]
        gradient = batch.residuals()[:, None] * torch.cat([batch.features, one], dim=1)
        mean, present = batch.means(gradient)
        square, _ = batch.means(gradient**2)
        return strength * spread(square - mean**2, present)
