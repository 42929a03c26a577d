"""Causally adaptive constraint minimisation (CACM): one penalty an attribute, each as drawn.

The paper asks how every attribute (site, scanner, ...) is related to the label, by hand: causal,
confounded, selected, independent.  From that follows the independence it must satisfy.  Here the
graph has said it already: the adjustment set is what the constraint holds.

Kaur, Kiciman & Sharma, "Modeling the data-generating process is necessary for out-of-distribution
generalization", ICLR 2023, https://arxiv.org/abs/2206.07837 (algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deconf.methods.adapted import Adapted
from deconf.methods.base import MethodCard, methods
from deconf.methods.films import Films
from deconf.methods.game import Penalty
from deconf.methods.views import View
from deconf.probes.penalties import blockwise, mmd, without


class Constraints(Penalty):
    """MMD^2 of the view for every column of the design, averaged, times the strength."""

    def __init__(self, view: View, strength: float) -> None:
        super().__init__()
        self.view, self.strength = view, strength

    def forward(self, t: Float[Tensor, "n d"], films: Films) -> Float[Tensor, ""]:
        """Return it for a batch."""
        weight = films.balanced
        kernel = blockwise(without(self.view(t), films.basis, weight))
        attributes = (films.design > 0).long().T  # of a standardised column of 0 and 1
        found = [mmd(kernel, weight, a, films.stratum) for a in attributes if a.min() < a.max()]
        return self.strength * torch.stack(found).mean() if found else kernel.new_zeros(())


@methods.register(
    "cacm",
    MethodCard(
        guarantee="none; kept only if fresh attackers on held-out training patients read less",
        needs=("levels",),
        dear=True,
        cost="rounds x steps x batch^2 x attributes",
        source="Kaur et al. 2023",
    ),
)
@dataclass(frozen=True)
class CACM(Adapted):
    """Train an adapter so that the outcome stays and every attribute satisfies its constraint.

    As in the paper the outcome is what is to be kept: the embedding may move further than with
    `MMD`, whose penalty compares joint levels of several confounders; here each column of the
    design is an attribute of its own, so that many confounders do not make thin cells.

    Parameters
    ----------
    start, strength, reconstruction, budget, rounds
        See `Adapted`.

    Warnings
    --------
    Attributes one by one: a trace that only site and scanner together leave is not penalised
    unless their product is a column of the design (as it is for small blocks).
    """

    strength: float = 100.0
    reconstruction: float = 0.1

    def penalty(self, films: Films, view: View) -> Penalty:
        """Return the penalty."""
        del films
        return Constraints(view, self.strength)
