"""Wasserstein critics of an adapter: how far the levels lie apart within strata, made small.

    W = mean over levels l and strata of  E f(t | l) - E f(t | any level),   |slope of f| ~ 1

A cross-entropy is flat where its adversary is right or lost; a critic has a slope everywhere.

Shen et al., "Wasserstein distance guided representation learning for domain adaptation", AAAI
2018, https://arxiv.org/abs/1707.01217; Gulrajani et al., "Improved training of Wasserstein GANs",
NeurIPS 2017, https://arxiv.org/abs/1704.00028 (the penalty on the slope).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deconf.methods.adversarial import Adversarial, looked_at
from deconf.methods.base import MethodCard, methods
from deconf.methods.films import Films
from deconf.methods.game import Penalty
from deconf.methods.views import View
from deconf.probes.critics import Adversary, reversal, steepness

SLOPE = 10.0  # weight of the penalty on the slope, as in both papers


class Critics(Penalty):
    """An ensemble of critics: minus the distance that each finds, and its slope."""

    turns: ClassVar[int] = 5

    def __init__(self, films: Films, view: View, widths: tuple[int, ...], strength: float) -> None:
        super().__init__()
        self.view, self.strength = view, strength
        columns = films.x.shape[1] + view.directions.shape[1] + films.basis.shape[1]
        self.critics = nn.ModuleList(
            Adversary(columns, width, films.levels, films.strata, is_smooth=False)
            for width in widths
        )

    def forward(self, t: Float[Tensor, "n d"], films: Films) -> Float[Tensor, ""]:
        """Return the mean loss of the critics; what made t is paid to raise it."""
        seen = looked_at(reversal(t, self.strength), films, self.view)
        losses = []
        for critic in self.critics:
            slope = steepness(critic, seen.detach(), films.level, films.stratum)
            losses.append(SLOPE * slope - distance(critic(seen, films.stratum), films))
        return torch.stack(losses).mean()

    def read(self, t: Float[Tensor, "n d"], films: Films) -> Float[Tensor, "n L"]:
        """Return the mean answer of the critics."""
        seen = looked_at(t, films, self.view)
        return torch.stack([f(seen, films.stratum) for f in self.critics]).mean(dim=0)


def distance(said: Float[Tensor, "n L"], films: Films) -> Float[Tensor, ""]:
    """Return the mean over levels of E f_l(level l) - E f_l(all levels), within strata.

    Under balanced weights the shares of levels are the same in all strata, so sums over all films
    are sums over strata.
    """
    weight = films.balanced
    here = F.one_hot(films.level, films.levels).to(said.dtype)
    met = F.one_hot(films.cell, films.levels * films.strata).sum(dim=0) > 0
    count = met.view(films.levels, films.strata).sum(dim=0)[films.stratum]
    own = (weight * count) @ (here * said)
    out: Tensor = (own - weight @ said).mean()
    return out


@methods.register(
    "critic",
    MethodCard(
        guarantee="none; kept only if fresh attackers on held-out training patients read less",
        needs=("levels",),
        dear=True,
        cost="rounds x steps x batch x d x hidden, twice for the slope",
        source="Shen et al. 2018",
    ),
)
@dataclass(frozen=True)
class Critic(Adversarial):
    """Train an adapter against Wasserstein critics, one function for each level and stratum.

    Settings are those of `Adversarial`.
    """

    strength: float = 1.0
    widths: tuple[int, ...] = (64, 256)

    def penalty(self, films: Films, view: View) -> Penalty:
        """Return fresh critics."""
        return Critics(films, view, self.widths, self.strength)
