"""The one training loop: seeded, with warm-up and cosine decay, resumable to the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deconf.errors import SettingsError

Loss = Callable[[np.ndarray, np.random.Generator], Float[Tensor, ""]]
Progress = Callable[[int, int, float], object]  # epoch, epochs, loss
Order = Callable[[np.random.Generator], np.ndarray]

LOOK = 32  # steps between two looks at the loss on a GPU, where every look waits for the device


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, in which order.

    Parameters
    ----------
    epochs, batch : int
        Passes over the rows, and rows of a step; the rest of an epoch that fills no batch waits
        for the next one's shuffle.
    learning_rate : float
        Its highest value, after a linear warm-up over the first ``warmup`` of all steps; then a
        cosine down to zero (Loshchilov & Hutter 2017).
    weight_decay : float
        Decoupled (AdamW); biases and norms are spared.
    clip : float
        Largest norm of the gradient.
    """

    epochs: int = 10
    batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: it must be above zero.")
        if not 0 <= self.warmup < 1:
            raise SettingsError(f"warmup is {self.warmup!r}: a share of the steps, 0 to below 1.")

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        Examples
        --------
        >>> [round(Schedule(warmup=0.5).rate(step, 4), 6) for step in range(4)]
        [0.0005, 0.001, 0.001, 0.0005]
        """
        warm = math.ceil(self.warmup * steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def train(
    module: nn.Module,
    loss: Loss,
    rows: int,
    schedule: Schedule,
    *,
    order: Order | None = None,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train a module in place; return the mean loss of every epoch.

    Parameters
    ----------
    loss : function of row numbers and a generator
        Returns the loss of a batch of rows; whatever it draws comes from the generator, which
        belongs to the step, so that a resumed run draws the same.  A parameter that a loss does
        not touch stays as it is in that step: an adversary and what it fights take turns so.
    order : function of a generator, optional
        Returns the row numbers of an epoch, a batch after the other.  Default: every row once, in
        a random order.
    checkpoint : path, optional
        Written after every epoch.  A run that was stopped goes on from there, to the same bits.
    progress : function of (epoch, epochs, loss), optional

    Raises
    ------
    SettingsError
        Fewer rows than a batch; a loss that is not finite.
    """
    if rows < schedule.batch:
        raise SettingsError(f"{rows} rows do not fill a batch of {schedule.batch}: lower batch.")
    optimiser = torch.optim.AdamW(_groups(module, schedule.weight_decay), lr=schedule.learning_rate)
    history: list[float] = []
    if checkpoint is not None and checkpoint.is_file():
        history = _resume(checkpoint, module, optimiser)
    with torch.random.fork_rng():  # the caller's draws go on as if nothing had happened
        _epochs(module, loss, rows, schedule, optimiser, history, order, checkpoint, progress)
    module.eval()
    return history


def _epochs(
    module: nn.Module,
    loss: Loss,
    rows: int,
    schedule: Schedule,
    optimiser: torch.optim.Optimizer,
    history: list[float],
    order: Order | None,
    checkpoint: Path | None,
    progress: Progress | None,
) -> None:
    """Run the epochs that are left, adding the mean loss of each to the history."""
    per_epoch = rows // schedule.batch
    for epoch in range(len(history), schedule.epochs):
        module.train()
        shuffle = np.random.default_rng([schedule.seed, epoch])
        dealt = shuffle.permutation(rows) if order is None else order(shuffle)
        values: list[float] = []
        waiting: list[Tensor] = []
        for step in range(per_epoch):
            number = epoch * per_epoch + step
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate(number, schedule.epochs * per_epoch)
            batch = np.sort(dealt[step * schedule.batch : (step + 1) * schedule.batch])
            draws = np.random.default_rng([schedule.seed, epoch, step])
            torch.manual_seed(int(draws.integers(2**31)))  # dropout
            value = loss(batch, draws)
            waiting.append(value.detach())
            if value.device.type == "cpu" or len(waiting) == LOOK or step == per_epoch - 1:
                values += _finite(waiting, step - len(waiting) + 1, epoch)
                waiting = []
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), schedule.clip)
            optimiser.step()
        history.append(sum(values) / per_epoch)
        if checkpoint is not None:
            _save(checkpoint, module, optimiser, history)
        if progress is not None:
            progress(epoch + 1, schedule.epochs, history[-1])


def _finite(losses: list[Tensor], first: int, epoch: int) -> list[float]:
    """Return the losses of consecutive steps as numbers."""
    values: list[float] = torch.stack(losses).tolist()
    for step, value in enumerate(values, first):
        if not math.isfinite(value):
            raise SettingsError(
                f"the loss is {value} in step {step} of epoch {epoch + 1}: lower "
                "learning_rate, or look at the inputs."
            )
    return values


def _groups(module: nn.Module, decay: float) -> list[dict[str, object]]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _save(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, history: list[float]
) -> None:
    """Write safetensors under another name first: a kill leaves the last epoch whole."""
    from safetensors.torch import save_file

    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors["history"] = torch.tensor(history, dtype=torch.float64)
    part = path.with_name(path.name + ".part")
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, part)
    part.replace(path)


def _resume(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> list[float]:
    from safetensors.torch import load_file

    tensors = load_file(path)
    own = {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    if set(own) != set(module.state_dict()):
        raise SettingsError(f"{path.name} is the checkpoint of another module: name another file.")
    module.load_state_dict(own)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    history: list[float] = tensors["history"].tolist()
    return history
