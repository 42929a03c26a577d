"""What training the encoder strives for: the task kept, the confounder unreadable, pairs alike.

Ganin et al., "Domain-adversarial training of neural networks", JMLR 2016,
https://arxiv.org/abs/1505.07818 (the reversed gradient and its warm-up); van den Oord, Li &
Vinyals, "Representation learning with contrastive predictive coding", 2018,
https://arxiv.org/abs/1807.03748 (InfoNCE); Chen et al., "A simple framework for contrastive
learning of visual representations", ICML 2020, https://arxiv.org/abs/2002.05709 (films of both
devices as negatives).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURE = 0.1
PENALTY = 10.0  # of the squared slope of the adversaries: without it they and the encoder circle
HIDDEN = (64, 256)  # of the adversaries: one that learns fast, one that sees more


class Reversed(torch.autograd.Function):
    """The identity, through which the gradient comes back with its sign turned."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, strength: float) -> Tensor:
        """Return z."""
        ctx.strength = strength
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Turn the gradient."""
        return -ctx.strength * gradients[0], None


class Adversary(nn.Module):
    """Networks that read the level of a confounder, each stratum by an output of its own.

    Within a stratum the level is told from the others of that stratum alone, so that disease,
    which is the same there, is no clue: what is taken away is what tells the level *given* the
    stratum (conditional, as CDANN).
    """

    def __init__(self, width: int, levels: int, strata: int) -> None:
        super().__init__()
        self.levels, self.strata = levels, strata
        self.readers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, levels * strata))
            for hidden in HIDDEN
        )

    def forward(
        self, z: Float[Tensor, "n d"], codes: Int[Tensor, " n"], strata: Int[Tensor, " n"]
    ) -> Tensor:
        """Return the mean cross-entropy of rows with a recorded level (codes from 0)."""
        use = codes >= 0
        if not bool(use.any()):
            return 0.0 * z.sum()
        loss = self._read(z[use], codes[use], strata[use])
        if not torch.is_grad_enabled():
            return loss
        still = z[use].detach().requires_grad_()  # the penalty is for the readers alone
        again = self._read(still, codes[use], strata[use]) * len(still)
        (slope,) = torch.autograd.grad(again, still, create_graph=True)
        return loss + PENALTY * slope.square().sum(dim=1).mean()

    def _read(self, z: Tensor, codes: Tensor, strata: Tensor) -> Tensor:
        losses = []
        for reader in self.readers:
            said = reader(z).view(-1, self.strata, self.levels)
            own = said[torch.arange(len(said), device=z.device), strata]
            losses.append(F.cross_entropy(own, codes))
        return torch.stack(losses).mean()


def warm_up(share: float) -> float:
    """Return Ganin's strength of the reversed gradient at a share of the training.

    Examples
    --------
    >>> [round(warm_up(share), 2) for share in (0.0, 0.1, 0.5, 1.0)]
    [0.0, 0.46, 0.99, 1.0]
    """
    return 2 / (1 + math.exp(-10 * share)) - 1


def info_nce(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    patients: Int[Tensor, " n"],
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Return how badly a film finds its partner among the films of others, of *both* devices.

        −log  exp(cos(z_i, z_i')/τ) / Σ_{j ≠ i} exp(cos(z_i, z_j)/τ)      j over all 2n films

    Films of its own device are among the others: to be like them for the device's sake costs, so
    that the trace goes.  Other films of the same patient are no negatives.

    Parameters
    ----------
    a, b : (n, d)
        Embeddings of the films of a pair, on either device.
    patients : (n,)
        Whose pair it is.
    """
    z = F.normalize(torch.cat([a, b]), dim=1)
    who = torch.cat([patients, patients])
    n = len(a)
    alike = (z @ z.T) / temperature
    partner = torch.arange(2 * n, device=z.device).roll(n)
    hidden: Bool[Tensor, "m m"] = who[:, None] == who
    hidden[torch.arange(2 * n, device=z.device), partner] = False
    return F.cross_entropy(alike.masked_fill(hidden, -torch.inf), partner)


def task_loss(said: Float[Tensor, "n q"], asked: Float[Tensor, "n q"]) -> Tensor:
    """Return the mean cross-entropy of recorded outcomes, 0 or 1; nan is not recorded."""
    known = ~asked.isnan()
    if not bool(known.any()):
        return 0.0 * said.sum()
    return F.binary_cross_entropy_with_logits(said[known], asked[known])
