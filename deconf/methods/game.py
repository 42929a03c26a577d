"""A round of training: adapter against penalty, on batches that hold every cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional as F

from deconf.errors import SettingsError
from deconf.maths.maps import Residual
from deconf.methods.films import Films
from deconf.methods.settings import check
from deconf.methods.views import telling
from deconf.training import Order, Schedule, train

DECAY = 0.01  # of weights, per unit of learning rate
LEAD = 0.1  # share of a round's steps in which fresh adversaries learn alone
CONSTANT = 1e-6  # deviation of a column, relative to its mean, below which it is constant


@dataclass(frozen=True)
class Rounds:
    """How long and how fast.

    Parameters
    ----------
    count, steps, batch : int
        Rounds, batches of a round, films of a batch (more where there are many cells).
    hidden : int
        Width of the adapter's hidden layer.
    learning_rate : float
    device : str
        "auto" is a GPU where there is one.
    """

    count: int = 6
    steps: int = 200
    batch: int = 256
    hidden: int = 128
    learning_rate: float = 5e-3
    device: str = "auto"

    def __post_init__(self) -> None:
        check(self)
        for name in ("count", "steps", "batch", "hidden", "learning_rate"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: it must be above zero.")


@dataclass(frozen=True)
class Standard:
    """Columns at mean 0 and deviation 1; a constant one keeps its unit."""

    centre: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]

    @classmethod
    def of(cls, x: Float[ndarray, "n d"], weights: Float[ndarray, " n"] | None) -> Standard:
        """Measure them on training rows."""
        centre = np.average(x, axis=0, weights=weights).astype(np.float64)
        spread = np.sqrt(np.average((x - centre) ** 2, axis=0, weights=weights))
        is_constant = spread <= CONSTANT * np.maximum(np.abs(centre), spread.max(initial=0.0))
        return cls(torch.tensor(centre), torch.tensor(np.where(is_constant, 1.0, spread)))

    def __call__(self, x: Float[ndarray, "n d"]) -> Float[ndarray, "n d"]:
        """Return standardised rows in float32."""
        return ((x - self.centre.numpy()) / self.scale.numpy()).astype(np.float32)


class Penalty(nn.Module, ABC):
    """What an adapter is trained against: a number that grows with what can be read.

    Attributes
    ----------
    turns : int
        Of so many steps the last is the adapter's (and the penalty's); in the others networks of
        the penalty learn alone.  1 where it has none.
    """

    turns: ClassVar[int] = 1

    @abstractmethod
    def forward(self, t: Float[Tensor, "n d"], films: Films) -> Float[Tensor, ""]:
        """Return the loss that the penalty adds for the mapped embeddings of these films."""

    def read(self, t: Float[Tensor, "n d"], films: Films) -> Float[Tensor, "n L"] | None:
        """Return what networks of its own, where it has any, say of each level."""
        del t, films
        return None


class Game(nn.Module):
    """Adapter, outcome head and penalty, and the loss of a step.

    Parameters
    ----------
    head : nn.Linear or None
        Stays as it is; the adapter is to leave its answer as it was.
    """

    def __init__(
        self, adapter: Residual, head: nn.Linear | None, penalty: Penalty, reconstruction: float
    ) -> None:
        super().__init__()
        self.adapter, self.head, self.penalty = adapter, head, penalty
        self.reconstruction = reconstruction

    def loss(self, films: Films, *, is_own: bool) -> Float[Tensor, ""]:
        """Return the loss of a step: of the penalty's networks alone, or of everything."""
        if is_own:
            with torch.no_grad():
                t = self.adapter(films.x)
            out: Tensor = self.penalty(t, films)
            return out
        t, weight = self.adapter(films.x), films.balanced
        moved = weight @ (t - films.x).square().mean(dim=1)
        loss: Tensor = self.reconstruction * moved + self.penalty(t, films)
        if self.head is not None:
            loss = loss + weight @ changed(self.head(films.x), self.head(t))
        return loss


def changed(before: Float[Tensor, "n q"], after: Float[Tensor, "n q"]) -> Float[Tensor, " n"]:
    """Return how far a head's answer has moved: KL of the probabilities, mean over outcomes.

    It is zero where nothing moved, and pays for no answer that was not there before.
    """
    p = torch.sigmoid(before)
    cross = F.binary_cross_entropy_with_logits(after, p, reduction="none")
    return (cross - F.binary_cross_entropy_with_logits(before, p, reduction="none")).mean(dim=1)


def pointed(films: Films, hidden: int, seed: int) -> Residual:
    """Return an adapter at the identity whose hidden units look where levels differ.

    The last layer is zero, so the first may start anywhere: up to half of it on both sides of the
    directions of `telling`, at their middle and one deviation out.  From random units the same
    steps took away half as much.
    """
    view = telling(films, films.x)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapter = Residual(films.x.shape[1], hidden).to(films.x.device)
    v = view.directions[:, : hidden // 8].T
    rows = torch.cat([v, -v, v, -v])
    away = torch.repeat_interleave(torch.tensor([0.0, -1.0], device=v.device), 2 * len(v))
    with torch.no_grad():
        adapter.down.weight[: len(rows)] = rows
        adapter.down.bias[: len(rows)] = away - rows @ films.x.mean(dim=0)
    return adapter


def play(game: Game, films: Films, order: Order, size: int, rounds: Rounds, seed: int) -> None:
    """Train a game in place for one round."""
    steps, turns = count(), game.penalty.turns
    alone = int(LEAD * rounds.steps) if turns > 1 else 0

    def loss(rows: ndarray, draws: np.random.Generator) -> Tensor:
        del draws
        step = next(steps)
        is_own = step < alone or (turns > 1 and (step + 1) % turns != 0)
        return game.loss(films.take(rows), is_own=is_own)

    schedule = Schedule(
        epochs=1, batch=size, learning_rate=rounds.learning_rate, weight_decay=DECAY, seed=seed
    )
    train(game, loss, rounds.steps * size, schedule, order=order)
