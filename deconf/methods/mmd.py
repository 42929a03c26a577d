"""Maximum mean discrepancy between levels, inside strata or under weights, made small.

Veitch et al., "Counterfactual invariance to spurious correlations", NeurIPS 2021,
https://arxiv.org/abs/2106.00545 (inside strata); Makar et al., "Causally motivated shortcut removal
using auxiliary labels", AISTATS 2022, https://arxiv.org/abs/2105.06422 (under weights that make
the confounder independent of the stratum).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from deconf.methods.adapted import Adapted
from deconf.methods.base import MethodCard, methods
from deconf.methods.films import Films
from deconf.methods.game import Penalty
from deconf.methods.views import View
from deconf.probes.penalties import blockwise, mmd, without


class Discrepancy(Penalty):
    """MMD^2 of the view between levels, times the strength."""

    def __init__(self, view: View, strength: float, *, in_strata: bool) -> None:
        super().__init__()
        self.view, self.strength, self.in_strata = view, strength, in_strata

    def forward(self, t: Float[Tensor, "n d"], films: Films) -> Float[Tensor, ""]:
        """Return it for a batch."""
        weight = films.balanced
        kernel = blockwise(without(self.view(t), films.basis, weight))
        stratum = films.stratum if self.in_strata else torch.zeros_like(films.stratum)
        return self.strength * mmd(kernel, weight, films.level, stratum)


@methods.register(
    "mmd",
    MethodCard(
        guarantee="none; kept only if fresh attackers on held-out training patients read less",
        needs=("levels",),
        dear=True,
        cost="rounds x steps x batch^2",
        source="Veitch et al. 2021, Makar et al. 2022",
    ),
)
@dataclass(frozen=True)
class MMD(Adapted):
    """Train an adapter until levels look alike to a mixture of Gaussian kernels.

    Parameters
    ----------
    start, strength, reconstruction, budget, rounds
        See `Adapted`; an MMD^2 between whitened coordinates is of the order of 0.001.
    hold : "strata" or "weights"
        Compare levels inside each stratum, or all together under weights that make level and
        stratum independent: more pairs of films, and blind to a trace that has opposite signs in
        two strata.
    """

    strength: float = 100.0
    hold: Literal["strata", "weights"] = "strata"

    def penalty(self, films: Films, view: View) -> Penalty:
        """Return the penalty."""
        del films
        return Discrepancy(view, self.strength, in_strata=self.hold == "strata")
