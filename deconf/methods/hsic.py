"""The Hilbert-Schmidt independence criterion between embedding and confounder, within strata.

Gretton et al., "Measuring statistical dependence with Hilbert-Schmidt norms", ALT 2005; Quinzan et
al., "Learning counterfactually invariant predictors", 2022, https://arxiv.org/abs/2207.09768.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deconf.methods.adapted import Adapted
from deconf.methods.base import MethodCard, methods
from deconf.methods.films import Films
from deconf.methods.game import Penalty
from deconf.methods.views import View
from deconf.probes.penalties import blockwise, hsic, mixture, without


class Dependence(Penalty):
    """Unbiased HSIC between the view and the confounder, times the strength.

    The kernel of levels is 1 where they are the same; of a number, Gaussian.
    """

    def __init__(self, view: View, strength: float) -> None:
        super().__init__()
        self.view, self.strength = view, strength

    def forward(self, t: Float[Tensor, "n d"], films: Films) -> Float[Tensor, ""]:
        """Return it for a batch."""
        weight = films.balanced
        kernel = blockwise(without(self.view(t), films.basis, weight))
        if films.is_number:
            alike = mixture(without(films.design, films.basis, weight))
        else:
            alike = (films.level[:, None] == films.level).to(kernel.dtype)
        return self.strength * hsic(kernel, alike, weight, films.stratum)


@methods.register(
    "hsic",
    MethodCard(
        guarantee="none; kept only if fresh attackers on held-out training patients read less",
        dear=True,
        cost="rounds x steps x batch^2",
        source="Gretton et al. 2005, Quinzan et al. 2022",
    ),
)
@dataclass(frozen=True)
class HSIC(Adapted):
    """Train an adapter until no pair of kernels sees embedding and confounder go together.

    Parameters
    ----------
    start, strength, reconstruction, budget, rounds
        See `Adapted`; with two levels as frequent an HSIC is an eighth of the MMD^2.
    """

    reads_numbers: ClassVar[bool] = True

    strength: float = 800.0

    def penalty(self, films: Films, view: View) -> Penalty:
        """Return the penalty."""
        del films
        return Dependence(view, self.strength)
