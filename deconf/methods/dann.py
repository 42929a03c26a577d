"""Domain-adversarial training of an adapter (DANN), marginal as published.

Adversaries of several widths learn to read the confounder from the mapped embedding; through a
gradient turned round the adapter learns to mislead them.

Ganin et al., "Domain-adversarial training of neural networks", JMLR 2016,
https://arxiv.org/abs/1505.07818.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deconf.methods.adversarial import Adversarial, Readers
from deconf.methods.base import MethodCard, methods
from deconf.methods.films import Films
from deconf.methods.game import Penalty
from deconf.methods.views import View


@methods.register(
    "dann",
    MethodCard(
        guarantee="none; kept only if fresh attackers on held-out training patients read less",
        dear=True,
        cost="rounds x steps x batch x d x hidden",
        source="Ganin et al. 2016",
    ),
)
@dataclass(frozen=True)
class DANN(Adversarial):
    """Train an adapter against adversaries that know nothing of the adjustment set.

    Settings are those of `Adversarial`.

    Warnings
    --------
    Marginal: where the graph holds the outcome, part of what the adversaries read is the disease.
    Rounds that lose it are turned down; `CDANN` does not ask for it in the first place.
    """

    reads_numbers: ClassVar[bool] = True
    is_marginal: ClassVar[bool] = True

    def penalty(self, films: Films, view: View) -> Penalty:
        """Return fresh adversaries."""
        return Readers(films, view, self.widths, self.strength)
