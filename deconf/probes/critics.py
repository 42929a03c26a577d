"""Adversaries in training: networks that read a confounder from embeddings while those change.

They drive the training of a method and are no evidence of anything: whether an embedding is clean
is for fresh attackers to say (`deconf.probes.leakage`).

Ganin et al., "Domain-adversarial training of neural networks", JMLR 2016,
https://arxiv.org/abs/1505.07818 (gradient reversal); Miyato et al., "Spectral normalization for
generative adversarial networks", ICLR 2018, https://arxiv.org/abs/1802.05957; Gulrajani et al.,
"Improved training of Wasserstein GANs", NeurIPS 2017, https://arxiv.org/abs/1704.00028.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Adversary(nn.Module):
    """One hidden layer, and a head of its own for every stratum.

    Parameters
    ----------
    width, hidden : int
        Columns it reads, and of the layer between.
    outputs, strata : int
        Numbers it returns, and heads it has.  A head for each stratum is a linear layer of the
        hidden units, the stratum and their products.
    is_smooth : bool
        Holds the hidden layer to spectral norm 1: an adversary whose slope cannot explode has a
        gradient worth following.
    """

    def __init__(
        self, width: int, hidden: int, outputs: int, strata: int = 1, *, is_smooth: bool = True
    ) -> None:
        super().__init__()
        layer = nn.Linear(width, hidden)
        self.body = nn.Sequential(spectral_norm(layer) if is_smooth else layer, nn.ReLU())
        self.head = nn.Linear(hidden, outputs * strata)
        self.strata = strata

    def forward(
        self, t: Float[Tensor, "n d"], stratum: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n q"]:
        """Return what is read of each row, by the head of its stratum."""
        said: Tensor = self.head(self.body(t))
        if self.strata == 1 or stratum is None:
            return said
        heads = said.view(len(t), self.strata, -1)
        chosen: Tensor = heads[torch.arange(len(t), device=t.device), stratum]
        return chosen


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return t.view_as(t)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reversal(t: Float[Tensor, "n d"], strength: float) -> Float[Tensor, "n d"]:
    """Return t; its gradient is turned round and multiplied by the strength.

    Whoever reads the result learns to read better, and whoever made t to be read worse.

    >>> t = torch.ones(1, 1, requires_grad=True)
    >>> (3 * reversal(t, 0.5)).sum().backward()
    >>> t.grad.item()
    -1.5
    """
    out: Tensor = _Reversal.apply(t, strength)  # type: ignore[no-untyped-call]
    return out


def steepness(
    critic: nn.Module,
    t: Float[Tensor, "n d"],
    level: Int[Tensor, " n"],
    stratum: Int[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Return the gradient penalty: (|slope| - 1)^2 between films of two levels of one stratum.

    Every film is paired with one drawn from its stratum, and pairs of one level are left out; a
    batch without pairs has no penalty.
    """
    order = torch.randperm(len(t), device=t.device)
    first = order[torch.argsort(stratum[order], stable=True)]
    second = order[torch.randperm(len(t), device=t.device)]
    second = second[torch.argsort(stratum[second], stable=True)]
    apart = level[first] != level[second]
    first, second = first[apart], second[apart]
    if not len(first):
        return t.new_zeros(())
    share = torch.rand(len(first), 1, device=t.device, dtype=t.dtype)
    between = (share * t[first] + (1 - share) * t[second]).detach().requires_grad_()
    said = critic(between, stratum[first]).gather(1, level[first][:, None])
    (slope,) = torch.autograd.grad(said.sum(), between, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()
