"""What the embedding would have been at a reference level of the recorded confounder."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deconf.maths.maps.base import EmbeddingMap
from deconf.maths.maps.level import recorded


class CounterfactualMap(EmbeddingMap):
    """T(z) = z + sum over s of p(s|z, l) shift_ls - L_l R_l (z - sum of p(s|z, l) source_ls).

    l is the recorded level; a level never seen in training leaves z unchanged, and so does the
    reference, whose shift and factors are zero.  Stratum shares p(s|z, l) are a softmax of
    ``z @ told_ls + prior_ls``.

    Attributes
    ----------
    source, shift, told : (L, S, d)
    prior : (L, S)
    left, right : (L, d, r), (L, r, d)
    design : (L, k)
        Level by level the design of the confounders.
    """

    needs_confounders = True
    source: Tensor
    shift: Tensor
    told: Tensor
    prior: Tensor
    left: Tensor
    right: Tensor
    design: Tensor

    def __init__(
        self,
        source: Any,
        shift: Any,
        told: Any,
        prior: Any,
        left: Any,
        right: Any,
        design: Any,
    ) -> None:
        super().__init__()
        tensors = {
            "source": source,
            "shift": shift,
            "told": told,
            "prior": prior,
            "left": left,
            "right": right,
            "design": design,
        }
        for name, value in tensors.items():
            self.register_buffer(name, torch.as_tensor(value))

    @property
    def width(self) -> int:
        """Columns of the embedding."""
        return int(self.source.shape[2])

    @property
    def is_identity(self) -> bool:
        """Whether no level is moved."""
        return self.left.shape[2] == 0 and not bool(self.shift.any())

    def forward(
        self, z: Float[Tensor, "n d"], c: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Map embeddings (n, d); ``c`` is the design of the confounders."""
        at = recorded(c, self.design).to(z.dtype)
        if self.is_identity:
            return z
        out = z
        for level in range(len(self.source)):
            source, shift, told, prior, left, right = (
                t[level].to(z.dtype)
                for t in (self.source, self.shift, self.told, self.prior, self.left, self.right)
            )
            # About the first stratum, so that features far from zero lose no digits in a softmax.
            share = torch.softmax((z - source[0]) @ told.T + prior, dim=1)
            moved = share @ shift - ((z - share @ source) @ right.T) @ left.T
            out = out + at[:, level : level + 1] * moved
        return out
