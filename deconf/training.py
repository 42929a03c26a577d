"""The one training loop: seeded, with warm-up and cosine decay, resumable to the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deconf.errors import SettingsError

Loss = Callable[[np.ndarray, np.random.Generator], Float[Tensor, ""]]
Progress = Callable[[int, int, float], object]  # epoch, epochs, loss
Order = Callable[[np.random.Generator], np.ndarray]

LOOKS = {"cpu": 1}  # losses between two looks at them by device: every look waits for a GPU
ELSEWHERE = 32


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
    accumulate : int
        Parts a batch is computed in, one after the other, where it does not fit into memory: the
        gradient is the mean of theirs.
    """

    epochs: int = 10
    batch: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    clip: float = 1.0
    seed: int = 0
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "learning_rate", "clip", "accumulate"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: it must be above zero.")
        if not 0 <= self.warmup < 1:
            raise SettingsError(f"warmup is {self.warmup!r}: a share of the steps, 0 to below 1.")
        if self.batch % self.accumulate:
            raise SettingsError(
                f"a batch of {self.batch} cannot be computed in {self.accumulate} equal parts: "
                "choose an accumulate that divides batch."
            )

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


@dataclass
class _Course:
    """How far a run has come."""

    history: list[float]
    step: int = 0  # of the epoch under way
    total: float = 0.0  # its loss so far
    unseen: list[Tensor] = field(default_factory=list)  # losses not yet looked at

    def look(self) -> None:
        """Add the losses of the latest steps up; raise where one is not finite."""
        for value in torch.stack(self.unseen).tolist() if self.unseen else []:
            if not math.isfinite(value):
                raise SettingsError(
                    f"the loss is {value} in step {self.step} of epoch {len(self.history) + 1}: "
                    "lower learning_rate, or look at the inputs."
                )
            self.total += value
        self.unseen.clear()


def train(
    module: nn.Module,
    loss: Loss,
    rows: int,
    schedule: Schedule,
    *,
    order: Order | None = None,
    checkpoint: Path | None = None,
    every: int | None = None,
    progress: Progress | None = None,
    enough: Callable[[], bool] | None = None,
    soon: Callable[[np.ndarray], object] | None = None,
    rates: Mapping[str, float] | None = None,
) -> list[float]:
    """Train a module in place; return the mean loss of every epoch.

    Parameters
    ----------
    loss : function of row numbers and a generator
        Returns the loss of a batch of rows, or of a part of it; whatever it draws comes from the
        generator, which belongs to the step, so that a resumed run draws the same.  A parameter
        that a loss does not touch stays as it is in that step: an adversary and what it fights
        take turns so.
    order : function of a generator, optional
        Returns the row numbers of an epoch, a batch after the other.  Default: every row once, in
        a random order.
    checkpoint : path, optional
        Written after every epoch.  A run that was stopped goes on from there, to the same bits.
        Frozen parameters are not in it: the caller brings them again.
    every : int, optional
        Steps after which the checkpoint is also written inside an epoch.
    progress : function of (epoch, epochs, loss), optional
        Told before the checkpoint is written: what it keeps of an epoch is never behind.
    enough : function, optional
        Asked before every epoch; True ends the training.
    soon : function of row numbers, optional
        Told the rows of the next step while this one is computed.
    rates : mapping of prefix to float, optional
        Multiplies the learning rate of the parameters whose names begin so.

    Raises
    ------
    SettingsError
        Fewer rows than a batch; a loss that is not finite.
    """
    if rows < schedule.batch:
        raise SettingsError(f"{rows} rows do not fill a batch of {schedule.batch}: lower batch.")
    groups = _groups(module, schedule.weight_decay, rates or {})
    optimiser = torch.optim.AdamW(groups, lr=schedule.learning_rate)
    course = _Course([])
    if checkpoint is not None and checkpoint.is_file():
        course = _resume(checkpoint, module, optimiser)

    def save() -> None:
        if checkpoint is not None:
            course.look()
            _save(checkpoint, module, optimiser, course)

    with torch.random.fork_rng():  # the caller's draws go on as if nothing had happened
        for epoch in range(len(course.history), schedule.epochs):
            if enough is not None and enough():
                break
            module.train()
            steps = _batches(rows, schedule, epoch, order)
            for step in range(course.step, len(steps)):
                if soon is not None and step + 1 < len(steps):
                    soon(steps[step + 1])
                _step(module, loss, steps[step], schedule, optimiser, course, epoch, len(steps))
                course.step = step + 1
                if every is not None and course.step < len(steps) and course.step % every == 0:
                    save()
            course.look()
            course.history.append(course.total / len(steps))
            course.step, course.total = 0, 0.0
            if progress is not None:
                progress(epoch + 1, schedule.epochs, course.history[-1])
            save()
    module.eval()
    return course.history


def _batches(rows: int, schedule: Schedule, epoch: int, order: Order | None) -> list[np.ndarray]:
    """Return the rows of every step of an epoch."""
    shuffle = np.random.default_rng([schedule.seed, epoch])
    dealt = shuffle.permutation(rows) if order is None else order(shuffle)
    size = schedule.batch
    return [np.sort(dealt[i * size : (i + 1) * size]) for i in range(rows // size)]


def _step(
    module: nn.Module,
    loss: Loss,
    batch: np.ndarray,
    schedule: Schedule,
    optimiser: torch.optim.Optimizer,
    course: _Course,
    epoch: int,
    per_epoch: int,
) -> None:
    """Take one step down the mean gradient of the parts of a batch."""
    step = course.step
    for group in optimiser.param_groups:
        rate = schedule.rate(epoch * per_epoch + step, schedule.epochs * per_epoch)
        group["lr"] = rate * group["multiple"]
    draws = np.random.default_rng([schedule.seed, epoch, step])
    torch.manual_seed(int(draws.integers(2**31)))  # dropout
    optimiser.zero_grad(set_to_none=True)
    for part in range(schedule.accumulate):
        value = loss(batch[part :: schedule.accumulate], draws) / schedule.accumulate
        course.unseen.append(value.detach())
        if len(course.unseen) >= LOOKS.get(value.device.type, ELSEWHERE):
            course.look()
        value.backward()
    nn.utils.clip_grad_norm_(module.parameters(), schedule.clip)
    optimiser.step()


def _groups(module: nn.Module, decay: float, rates: Mapping[str, float]) -> list[dict[str, object]]:
    """Return the parameters by whether they decay, and by the multiple of their rate."""
    found: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            own = next((m for prefix, m in rates.items() if name.startswith(prefix)), 1.0)
            found.setdefault(own, []).append(parameter)
    groups: list[dict[str, object]] = []
    for multiple, parameters in found.items():
        flat = [p for p in parameters if p.ndim <= 1]
        for some, own in (([p for p in parameters if p.ndim > 1], decay), (flat, 0.0)):
            groups.append({"params": some, "weight_decay": own, "multiple": multiple})
    return groups


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """Return what training changes: parameters that are not frozen, and buffers."""
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {name: v for name, v in module.state_dict().items() if name not in frozen}


def write_whole(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write safetensors under another name first: a kill leaves the last version whole."""
    from safetensors.torch import save_file

    part = path.with_name(path.name + ".part")
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, part)
    part.replace(path)


def _save(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, course: _Course) -> None:
    tensors = {f"module.{k}": v for k, v in trained_state(module).items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors["history"] = torch.tensor(course.history, dtype=torch.float64)
    tensors["step"] = torch.tensor(course.step)
    tensors["total"] = torch.tensor(course.total, dtype=torch.float64)
    write_whole(path, tensors)


def _resume(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> _Course:
    from safetensors.torch import load_file

    tensors = load_file(path)
    own = {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
    if set(own) != set(trained_state(module)):
        raise SettingsError(f"{path.name} is the checkpoint of another module: name another file.")
    module.load_state_dict(own, strict=False)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    history: list[float] = tensors["history"].tolist()
    if "step" not in tensors:  # written before there were checkpoints inside an epoch
        return _Course(history)
    return _Course(history, int(tensors["step"]), float(tensors["total"]))
