"""Conditional adversarial training of an adapter (CDANN): adversaries with a head per stratum.

Where the graph asks for  z ⊥ c | s  an adversary that does not know s is paid to find the disease.
Here every stratum has a head of its own, and levels count the same inside it.

Li et al., "Deep domain generalization via conditional invariant adversarial networks", ECCV 2018,
https://doi.org/10.1007/978-3-030-01267-0_38.
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
    "cdann",
    MethodCard(
        guarantee="none; kept only if fresh attackers on held-out training patients read less",
        dear=True,
        cost="rounds x steps x batch x d x hidden",
        source="Li et al. 2018",
    ),
)
@dataclass(frozen=True)
class CDANN(Adversarial):
    """Train an adapter against adversaries that know the adjustment set.

    Settings are those of `Adversarial`.

    Warnings
    --------
    Its own adversaries at chance are no evidence.  What was kept was kept on the word of fresh
    attackers, and ``remarks`` has it.
    """

    reads_numbers: ClassVar[bool] = True

    def penalty(self, films: Films, view: View) -> Penalty:
        """Return fresh adversaries."""
        return Readers(films, view, self.widths, self.strength)
