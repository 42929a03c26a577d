"""What adversarial adapters share: ensembles of several widths, and what they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deconf.encoders.tune import Tune
from deconf.errors import SettingsError
from deconf.methods.adapted import Adapted
from deconf.methods.films import Films
from deconf.methods.game import Penalty
from deconf.methods.views import View, standard
from deconf.probes.critics import Adversary, reversal

FAR = 5.0  # deviations at which a coordinate is cut off before it is squared


class Readers(Penalty):
    """An ensemble of adversaries, and the mean of their losses on what they are to misread.

    They read the embedding, the squares of the view (a difference of variances is then a
    difference of means), and the continuous columns of the adjustment set.

    Parameters
    ----------
    films : Films
        Like those they will read: one head for each stratum.
    view : View
    widths : tuple of int
        Hidden units of each adversary.
    strength : float
        Of the reversal.
    """

    turns: ClassVar[int] = 4

    def __init__(self, films: Films, view: View, widths: tuple[int, ...], strength: float) -> None:
        super().__init__()
        self.view, self.strength = view, strength
        outputs = films.design.shape[1] if films.is_number else films.levels
        columns = films.x.shape[1] + view.directions.shape[1] + films.basis.shape[1]
        self.readers = nn.ModuleList(
            Adversary(columns, width, outputs, films.strata) for width in widths
        )

    def forward(self, t: Float[Tensor, "n d"], films: Films) -> Float[Tensor, ""]:
        """Return the mean loss of the adversaries; what made t is paid to raise it."""
        seen = looked_at(reversal(t, self.strength), films, self.view)
        weight = films.balanced
        losses = [reading_loss(r(seen, films.stratum), films, weight) for r in self.readers]
        return torch.stack(losses).mean()

    def read(self, t: Float[Tensor, "n d"], films: Films) -> Float[Tensor, "n L"]:
        """Return the mean answer of the adversaries."""
        seen = looked_at(t, films, self.view)
        return torch.stack([r(seen, films.stratum) for r in self.readers]).mean(dim=0)


def looked_at(t: Float[Tensor, "n d"], films: Films, view: View) -> Float[Tensor, "n p"]:
    """Return what an adversary is shown: in units of the batch, so that smallness hides nothing."""
    squares = view(t).clamp(-FAR, FAR).square() - 1
    return torch.cat([standard(t), squares, films.basis], dim=1)


def reading_loss(
    said: Float[Tensor, "n q"], films: Films, weight: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Return the weighted cross-entropy of levels, or squared error of a number."""
    if films.is_number:
        return weight @ (said - films.design).square().mean(dim=1)
    return weight @ F.cross_entropy(said, films.level, reduction="none")


@dataclass(frozen=True)
class Adversarial(Adapted):
    """Settings that adversarial adapters share; children say who the adversaries are.

    Parameters
    ----------
    start, strength, reconstruction, budget, rounds
        See `Adapted`; strength is that of the reversal.
    widths : tuple of int
        Hidden units of each adversary of the ensemble.
    tune : "none", "lora", "full" or Tune
        Whether `deconf.deconfound` first trains the encoder itself on images, against adversaries
        of its own within the strata of the graph; see `deconf.encoders.tune.Tune`.
    """

    strength: float = 2.0
    widths: tuple[int, ...] = (32, 128, 512)
    tune: Literal["none", "lora", "full"] | Tune = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        Tune.of(self.tune)
        if not self.widths or min(self.widths) < 1:
            raise SettingsError(
                f"widths is {self.widths!r}: one adversary at least, of one unit or more."
            )
