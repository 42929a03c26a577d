"""What the invariant-risk methods share: environments in arrays, one network, one training step.

An environment is a level of what was passed as the confounder: site, scanner, calendar year.  The
network is a residual adapter that starts at the identity and a linear head that starts at zero;
all environments go through it in one batch, and a method says what loss it makes of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional as F

from deconf.encoders.placement import chosen_device
from deconf.errors import SettingsError, listing
from deconf.maths.design import levels_of
from deconf.maths.maps import Adapter, Residual
from deconf.maths.moments import cell_moments
from deconf.methods.base import tensor
from deconf.training import Schedule, train


@dataclass(frozen=True)
class Environments:
    """Training rows as these methods see them; rows without an outcome have left.

    Attributes
    ----------
    x : (n, d) float32
        Standardised embeddings.
    y, weight : (n,) float32
        Outcome 0 or 1, row weights.
    codes : (n,) int
        Environment of each row.
    patients : (n,)
    centre, scale : (d,) float64
    unlabelled : int
        Rows left out.
    """

    x: Float[Tensor, "n d"]
    y: Float[Tensor, " n"]
    weight: Float[Tensor, " n"]
    codes: Int[Tensor, " n"]
    patients: ndarray
    centre: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]
    unlabelled: int = 0

    @classmethod
    def of(
        cls,
        z: Float[ndarray, "n d"],
        c: Float[ndarray, "n k"],
        outcome: Any,
        weights: Any,
        patients: Any,
        name: str,
    ) -> Environments:
        """Check what a method was handed, by the name of the method.

        Raises
        ------
        SettingsError
            A continuous confounder; no outcome, or one that is not 0, 1 or missing.
        """
        levels = levels_of(c)
        if levels is None:
            raise SettingsError(
                f"{name} needs confounders with levels, and this one is continuous: "
                "bin it, or use 'leace'."
            )
        y = _outcome(outcome, len(z), name)
        m = cell_moments(z, weights=weights, patients=patients)  # names what is not finite
        deviation = np.sqrt(np.maximum(np.diag(m.within()[0].zz), 0))
        usual = np.sqrt(np.mean(deviation**2))
        # Loud columns are brought down; quiet ones are not blown up: on sparse features (pixels at
        # the rim, units that rarely fire) that would make a few rows the loudest of all.
        scale = np.maximum(deviation, usual) if usual > 0 else np.ones_like(deviation)
        rows = np.flatnonzero(~np.isnan(y))
        x = ((z[rows] - m.centre) / scale).astype(np.float32)
        w = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
        who = np.arange(len(z)) if patients is None else np.asarray(patients)
        device = chosen_device("auto")
        return cls(
            tensor(x).to(device),
            tensor(y[rows].astype(np.float32)).to(device),
            tensor((w[rows] / w[rows].mean()).astype(np.float32)).to(device),
            tensor(np.unique(levels[rows], return_inverse=True)[1].ravel()).to(device),
            who[rows],
            tensor(m.centre),
            tensor(scale),
            len(z) - len(rows),
        )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def count(self) -> int:
        """Number of environments."""
        return int(self.codes.max()) + 1 if len(self) else 0

    def rows(self, index: Int[ndarray, " m"]) -> Environments:
        """Return some of the rows, their environments numbered anew."""
        at = torch.from_numpy(index).to(self.x.device)
        return replace(
            self,
            x=self.x[at],
            y=self.y[at],
            weight=self.weight[at],
            codes=torch.unique(self.codes[at], return_inverse=True)[1],
            patients=self.patients[index],
        )

    def raw(self) -> Float[ndarray, "n d"]:
        """Return the embeddings as they came."""
        z: ndarray = (self.x.cpu().double() * self.scale + self.centre).numpy()
        return z


@dataclass(frozen=True)
class Batch:
    """What a loss is made of: all environments of one step, after one forward pass.

    Attributes
    ----------
    features, logits : (b, d), (b,)
        Mapped, standardised embeddings; log-odds of the outcome.
    y, weight : (b,)
    codes : (b,) int
    count : int
        Environments in the training rows; not every one need occur in a batch.
    settled : bool
        Whether the warm-up of the penalty is over.
    """

    features: Float[Tensor, "b d"]
    logits: Float[Tensor, " b"]
    y: Float[Tensor, " b"]
    weight: Float[Tensor, " b"]
    codes: Int[Tensor, " b"]
    count: int
    settled: bool = True

    def losses(self) -> Float[Tensor, " b"]:
        """Return the cross-entropy of each row."""
        return F.binary_cross_entropy_with_logits(self.logits, self.y, reduction="none")

    def residuals(self) -> Float[Tensor, " b"]:
        """Return σ(f) - y: the derivative of the cross-entropy by the log-odds."""
        return torch.sigmoid(self.logits) - self.y

    def means(
        self, values: Tensor, codes: Tensor | None = None, count: int | None = None
    ) -> tuple[Tensor, Float[Tensor, " E"]]:
        """Return weighted means (E, ...) by environment, or by other codes, and who is present.

        An environment without weight in this batch has mean zero and is not present.
        """
        codes, count = self.codes if codes is None else codes, count or self.count
        shape = (-1,) + (1,) * (values.ndim - 1)
        total = values.new_zeros(count, *values.shape[1:])
        total = total.index_add(0, codes, values * self.weight.reshape(shape))
        weight = values.new_zeros(count).index_add(0, codes, self.weight)
        present = (weight > 0).to(values.dtype)
        return total / torch.where(weight > 0, weight, 1.0).reshape(shape), present

    def average(self) -> Float[Tensor, ""]:
        """Return the mean over environments of their risks."""
        risks, present = self.means(self.losses())
        return risks.sum() / present.sum()


def spread(values: Tensor, present: Float[Tensor, " E"]) -> Float[Tensor, ""]:
    """Return the variance over the environments present, summed over the columns of (E, ...)."""
    flat, there = values.reshape(len(values), -1), present[:, None]
    centre = (flat * there).sum(0) / present.sum()
    return (((flat - centre) ** 2) * there).sum() / present.sum()


class Predictor(nn.Module):
    """The network while it is trained: an adapter at the identity, and a head at zero."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.adapter = Residual(width, hidden)
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
        """Return mapped embeddings and log-odds (n,)."""
        features = self.adapter(x)
        return features, self.head(features)[:, 0]

    def frozen(self, data: Environments) -> Adapter:
        """Return it as a map of raw embeddings."""
        return Adapter.of(
            self.adapter, data.centre.to(data.x.device), data.scale.to(data.x.device), self.head
        )


Objective = Callable[[Batch], Float[Tensor, ""]]
Watch = Callable[[Predictor, int], object]  # told the network after each epoch that may be chosen


@dataclass(frozen=True)
class Fitting:
    """How a network is trained; see the settings of the same names in `InvariantRisk`."""

    hidden: int
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if 0 <= self.warmup < 1 and 0 < self.epochs <= self.warm:
            raise SettingsError(
                f"warmup is {self.warmup!r} of {self.epochs} epochs, after which no epoch is left "
                "to choose: raise epochs or lower warmup."
            )

    @property
    def warm(self) -> int:
        """Epochs of the warm-up."""
        return math.ceil(self.warmup * self.epochs)


def trained(
    data: Environments, how: Fitting, objective: Objective, *, seed: int, watch: Watch
) -> Predictor:
    """Train a network on a loss; no epoch before the end of the warm-up is shown to ``watch``."""
    batch = min(how.batch, len(data))
    warm = how.warm
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Predictor(data.x.shape[1], how.hidden).to(data.x.device)
    done = 0  # epochs

    def loss(rows: ndarray, draws: np.random.Generator) -> Tensor:
        del draws
        at = torch.from_numpy(rows).to(data.x.device)
        features, logits = net(data.x[at])
        return objective(
            Batch(
                features,
                logits,
                data.y[at],
                data.weight[at],
                data.codes[at],
                data.count,
                done >= warm,
            )
        )

    def after(epoch: int, epochs: int, value: float) -> None:
        nonlocal done
        del epochs, value
        done = epoch
        if epoch > warm:
            watch(net, epoch)

    schedule = Schedule(
        epochs=how.epochs,
        batch=batch,
        learning_rate=how.learning_rate,
        weight_decay=how.weight_decay,
        seed=seed,
    )
    train(net, loss, len(data), schedule, progress=after)
    return net


def calmed(loss: Tensor, strength: float) -> Tensor:
    """Return a loss divided by the strength of its penalty, where that is above one.

    Else the gradient would grow 10,000 times in the step that brings a strength of 10,000 into
    force (so in the code of Arjovsky et al.).
    """
    return loss / max(strength, 1.0)


def _outcome(outcome: Any, n: int, name: str) -> Float[ndarray, " n"]:
    """Return the outcome that the head is trained for: of several the first."""
    if outcome is None:
        raise SettingsError(
            f"{name} trains a head and needs an outcome of two levels, and none was given (one "
            "that is a number, or of more classes, is none): name it with deconfound(..., "
            "outcome='disease') or Cohort.read(..., outcome='disease'), or cut it in two."
        )
    column = np.asarray(outcome).reshape(n, -1)
    try:
        y = column[:, 0].astype(np.float64)
    except ValueError:
        y = np.full(n, np.inf)
    other = ~(np.isin(y, (0, 1)) | np.isnan(y))
    if other.any():
        raise SettingsError(
            f"{name} needs an outcome of 0, 1 or missing (NaN), and this one holds "
            f"{listing(np.unique(column[other]), 3)}: recode it."
        )
    if len(np.unique(y[~np.isnan(y)])) < 2:
        raise SettingsError(f"{name} needs an outcome of two levels, and this one holds one.")
    return y
