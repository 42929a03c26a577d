"""A map that is another one in every cell of level and stratum, mixed by what z says of both."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deconf.maths.maps.base import EmbeddingMap
from deconf.maths.maps.level import recorded


class CellMap(EmbeddingMap):
    """T(z) = mu + V sum over l, s of q(l|z) p(s|x, l) T_ls(x);  the child says what T_ls is.

    x = V^T (z - mu) are r coordinates of the embedding; what lies beside them is dropped.  Level
    shares q are a softmax of z (or the recorded level, where the map `reads` it), stratum shares
    p(s|x, l) a softmax of ``x @ told_ls + prior_ls``.

    Attributes
    ----------
    span : (d, r)
        V, orthonormal.
    centre : (d,)
    source : (L, S, r)
    target : (S, r)
    carry : (L, S, r, r)
        The linear part, one for each cell.
    told, prior : (L, S, r), (L, S)
    slope, bias, stretch : (L, d + p), (L,), (p, d)
        q is a softmax of  [z - mu, (stretch (z - mu))^2] slope^T + bias.
    design, reads
        Level by level the design of the confounders, read instead of q where ``reads``.
    """

    span: Tensor
    centre: Tensor
    source: Tensor
    target: Tensor
    carry: Tensor
    told: Tensor
    prior: Tensor
    slope: Tensor
    bias: Tensor
    stretch: Tensor
    design: Tensor
    reads: Tensor

    def __init__(
        self,
        span: Any,
        centre: Any,
        source: Any,
        target: Any,
        carry: Any,
        told: Any,
        prior: Any,
        slope: Any,
        bias: Any,
        stretch: Any,
        design: Any,
        reads: Any = False,
    ) -> None:
        super().__init__()
        for name, value in locals().copy().items():
            if name not in ("self", "__class__"):
                self.register_buffer(name, torch.as_tensor(value))

    @property
    def needs_confounders(self) -> bool:  # type: ignore[override]
        """Whether the map reads the recorded level."""
        return bool(self.reads)

    @property
    def width(self) -> int:
        """Columns of the embedding."""
        return len(self.centre)

    @property
    def rank(self) -> int:
        """Coordinates that are kept."""
        return int(self.span.shape[1])

    def forward(
        self, z: Float[Tensor, "n d"], c: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Map embeddings (n, d); ``c`` is the design of the confounders where it is read."""
        span, centre = self.span.to(z.dtype), self.centre.to(z.dtype)
        away = z - centre
        if self.reads:
            q = recorded(c, self.design).to(z.dtype)
        else:
            squares = (away @ self.stretch.to(z.dtype).T) ** 2
            read = torch.cat([away, squares], dim=1) @ self.slope.to(z.dtype).T
            q = torch.softmax(read + self.bias.to(z.dtype), dim=1)
        x = away @ span
        out = torch.zeros_like(x)
        for level in range(len(self.source)):
            told, prior = self.told[level].to(z.dtype), self.prior[level].to(z.dtype)
            share = q[:, level : level + 1] * torch.softmax(x @ told.T + prior, dim=1)
            for stratum in range(len(self.target)):
                out = out + share[:, stratum : stratum + 1] * self.carried(x, level, stratum)
        out = out + (1 - q.sum(dim=1, keepdim=True)) * x  # a level never met: as it is
        return centre + out @ span.T

    @abstractmethod
    def carried(self, x: Float[Tensor, "n r"], level: int, stratum: int) -> Float[Tensor, "n r"]:
        """Return where a cell is carried: T_ls(x)."""


class MixtureMap(CellMap):
    """The affine one: T_ls(x) = target_s + A_ls (x - source_ls), A_ls the `carry` of the cell."""

    def carried(self, x: Float[Tensor, "n r"], level: int, stratum: int) -> Float[Tensor, "n r"]:
        """Return T_ls(x)."""
        source, carry = (t[level, stratum].to(x.dtype) for t in (self.source, self.carry))
        return self.target[stratum].to(x.dtype) + (x - source) @ carry.T
