"""One affine map for every image."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deconf.maths.maps.base import EmbeddingMap

CHUNK = 8192  # rows mapped at a time, so that memory stays near the output alone


class AffineMap(EmbeddingMap):
    """T(z) = z - L R (z - mu), with L (d, r) and R (r, d) thin.

    The factors stay thin because r is at most the number of levels while d is a thousand: applying
    costs O(d r) and nothing of size (d, d) is built.
    """

    left: Tensor
    right: Tensor
    centre: Tensor

    def __init__(self, left: Any, right: Any, centre: Any) -> None:
        super().__init__()
        for name, value in {"left": left, "right": right, "centre": centre}.items():
            self.register_buffer(name, torch.as_tensor(value))

    @classmethod
    def identity(cls, width: int) -> AffineMap:
        """Return the map that changes nothing."""
        zero = torch.zeros(width, 0, dtype=torch.float64)
        return cls(zero, zero.T, torch.zeros(width, dtype=torch.float64))

    @property
    def width(self) -> int:
        """Columns of the embedding."""
        return len(self.centre)

    @property
    def rank(self) -> int:
        """Number of directions removed or changed."""
        return int(self.left.shape[1])

    @property
    def is_identity(self) -> bool:
        """Whether no direction is touched."""
        return self.rank == 0

    def forward(self, z: Float[Tensor, "n d"], c: Tensor | None = None) -> Float[Tensor, "n d"]:
        """Map embeddings (n, d); ``c`` is not read."""
        del c
        if self.is_identity:
            return z
        left, right, centre = (t.to(z.dtype) for t in (self.left, self.right, self.centre))
        if z.requires_grad or len(z) <= CHUNK:
            return z - ((z - centre) @ right.T) @ left.T
        out = torch.empty_like(z)
        for start in range(0, len(z), CHUNK):
            part = z[start : start + CHUNK]
            torch.addmm(
                part, (part - centre) @ right.T, left.T, alpha=-1, out=out[start : start + CHUNK]
            )
        return out

    def linear(self) -> nn.Linear:
        """Return the same map as one linear layer, in float32."""
        matrix = torch.eye(len(self.centre), dtype=self.left.dtype) - self.left @ self.right
        layer = nn.Linear(len(self.centre), len(self.centre))
        with torch.no_grad():
            layer.weight.copy_(matrix)
            layer.bias.copy_(self.left @ (self.right @ self.centre))
        return layer.requires_grad_(False)
