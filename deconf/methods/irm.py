"""Invariant risk minimisation (IRMv1).

A head that is optimal in every environment at once: the gradient of each environment's risk by a
scale in front of the log-odds, at scale one, is to vanish.

Arjovsky, Bottou, Gulrajani & Lopez-Paz, "Invariant risk minimization", 2019,
https://arxiv.org/abs/1907.02893 (eq. IRMv1; the estimate from two halves is that of appendix D).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deconf.methods.base import MethodCard, methods
from deconf.methods.environments import Batch
from deconf.methods.invariant import Penalised


@methods.register(
    "irm",
    MethodCard(
        guarantee="none for new environments; the head is near a stationary point in each of these",
        needs=("outcome", "levels"),
        dear=True,
        cost="epochs x n d h",
        source="Arjovsky et al. 2019",
    ),
)
@dataclass(frozen=True)
class IRM(Penalised):
    """Penalise the gradient of each environment's risk by a scale of the log-odds.

    Parameters
    ----------
    penalty, warmup, selection, oracle, hidden, epochs, batch, learning_rate, weight_decay
        See `Penalised` and `InvariantRisk`.

    Warnings
    --------
    Needs more environments than the directions in which they differ, and overlap of supports; a
    penalty this strong makes training depend on the epoch, so the selection rule decides more than
    the penalty.  Nothing is taken out of the embedding.
    """

    def penalty_of(self, batch: Batch, strength: float) -> Float[Tensor, ""]:
        """Return  λ Σ_e g_e g'_e / E, see `irm_penalty`."""
        return strength * irm_penalty(batch)


def irm_penalty(batch: Batch) -> Float[Tensor, ""]:
    """Return the mean over environments of the squared gradient by the scale of the log-odds.

    d/dw E[l(w f, y)] at w = 1 is E[(σ(f) - y) f] for the cross-entropy: no second backward pass.
    The square is estimated without bias as the product of two halves of the batch, every other
    row: the square of a batch mean would also penalise its variance, that is large log-odds.
    """
    slope = batch.residuals() * batch.logits
    half = torch.arange(len(slope), device=slope.device) % 2
    g, _ = batch.means(slope, 2 * batch.codes + half, 2 * batch.count)
    _, present = batch.means(slope)
    return (g[0::2] * g[1::2]).sum() / present.sum()
