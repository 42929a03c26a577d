"""Low-rank corrections of an encoder's layers (LoRA): few weights to train, none left over.

    W' = W + (α/r) B A,    A (r, in) random, B (out, r) zero at the start, α = 2 r

Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022,
https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deconf.errors import SettingsError

SCALE = 2.0  # α / r


class LowRank(nn.Module):
    """A frozen layer and its correction; starts as the layer alone."""

    def __init__(self, base: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        out, into = base.weight.shape[:2]
        rank = min(rank, out, into)
        like = base.weight
        drawn = torch.randn(rank, into) / math.sqrt(into)  # on the CPU: one draw for every device
        self.down = nn.Parameter(drawn.to(like))
        self.up = nn.Parameter(torch.zeros(out, rank).to(like))

    @property
    def weight(self) -> Tensor:
        """The corrected weight, for nets that read it past ``forward``."""
        return self.base.weight + SCALE * (self.up @ self.down).view_as(self.base.weight)

    @property
    def bias(self) -> Tensor | None:
        """The bias, which stays."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer and correction."""
        out: Tensor = self.base(x)
        if isinstance(self.base, nn.Linear):
            return out + SCALE * F.linear(F.linear(x, self.down), self.up)
        inner = F.conv2d(x, self.down[:, :, None, None], stride=self.base.stride)
        return out + SCALE * F.conv2d(inner, self.up[:, :, None, None])


def add_low_rank(whole: nn.Module, rank: int) -> int:
    """Freeze a module and put a correction beside every layer that can bear one; return how many.

    Linear layers, and 1 x 1 convolutions in one group.  Their subclasses are left alone: some, as
    in ``nn.MultiheadAttention``, are read and never called.

    Raises
    ------
    SettingsError
        It has no such layer.
    """
    whole.requires_grad_(False)
    found = [name for name, part in whole.named_modules() if name and _can_bear(part)]
    if not found:
        raise SettingsError(
            "this encoder has neither a linear layer nor a 1 x 1 convolution for tune='lora' to "
            "correct: use tune='full'."
        )
    for name in found:
        whole.set_submodule(name, LowRank(whole.get_submodule(name), rank))  # type: ignore[arg-type]
    return len(found)


def merge_low_rank(whole: nn.Module) -> None:
    """Put the corrected layers in place of the corrections: the net is built as it was."""
    for name, part in list(whole.named_modules()):
        if isinstance(part, LowRank):
            with torch.no_grad():
                part.base.weight.copy_(part.weight)
            whole.set_submodule(name, part.base)


def _can_bear(part: nn.Module) -> bool:
    if type(part) is nn.Linear:
        return True
    return (
        type(part) is nn.Conv2d
        and part.kernel_size == (1, 1)
        and part.groups == 1
        and part.padding in ((0, 0), "valid", "same")
    )
