"""An affine map for every level of the confounder, mixed by what the image says of its level."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deconf.errors import SettingsError
from deconf.maths.maps.base import EmbeddingMap


class LevelMap(EmbeddingMap):
    """T(z) = z + sum over levels of q_l (shift_l - L_l R_l (z - mu_l)).

    The membership q is read from the image, by a softmax of ``[z, ((z - middle) @ stretch.T)^2] @
    slope.T + bias`` with stretch (p, d) and slope (L, d + p), or is the recorded level (`reads`);
    a level never seen in training then leaves z unchanged.
    """

    left: Tensor
    right: Tensor
    centre: Tensor
    shift: Tensor
    slope: Tensor
    bias: Tensor
    stretch: Tensor
    middle: Tensor
    design: Tensor
    reads: Tensor

    def __init__(
        self,
        left: Any,
        right: Any,
        centre: Any,
        shift: Any,
        slope: Any,
        bias: Any,
        stretch: Any,
        middle: Any,
        design: Any,
        reads: Any = False,
    ) -> None:
        super().__init__()
        tensors = {
            "left": left,
            "right": right,
            "centre": centre,
            "shift": shift,
            "slope": slope,
            "bias": bias,
            "stretch": stretch,
            "middle": middle,
            "design": design,
            "reads": reads,
        }
        for name, value in tensors.items():
            self.register_buffer(name, torch.as_tensor(value))

    @property
    def needs_confounders(self) -> bool:  # type: ignore[override]
        """Whether the map reads the recorded level."""
        return bool(self.reads)

    @property
    def width(self) -> int:
        """Columns of the embedding."""
        return int(self.centre.shape[1])

    @property
    def is_identity(self) -> bool:
        """Whether no level is moved."""
        return self.left.shape[2] == 0 and not bool(self.shift.any())

    def forward(
        self, z: Float[Tensor, "n d"], c: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Map embeddings (n, d); ``c`` is the design of the confounders where it is read."""
        q = self.membership(z, c)
        out = z + q @ self.shift.to(z.dtype)
        if self.left.shape[2]:
            for level in range(len(self.left)):
                left, right, mu = (
                    t[level].to(z.dtype) for t in (self.left, self.right, self.centre)
                )
                out = out - q[:, level : level + 1] * (((z - mu) @ right.T) @ left.T)
        return out

    def membership(self, z: Tensor, c: Tensor | None) -> Float[Tensor, "n L"]:
        """Return the share of each level in each image."""
        if not self.needs_confounders:
            squares = ((z - self.middle.to(z.dtype)) @ self.stretch.to(z.dtype).T) ** 2
            read = torch.cat([z, squares], dim=1)
            return torch.softmax(read @ self.slope.to(z.dtype).T + self.bias.to(z.dtype), dim=1)
        return recorded(c, self.design).to(z.dtype)


def recorded(c: Tensor | None, design: Float[Tensor, "L k"]) -> Tensor:
    """Return (n, L): 1 at the recorded level of each image; a row of zeros for a level unseen.

    Raises
    ------
    SettingsError
        Nothing was recorded.
    """
    if c is None:
        raise SettingsError(
            "this map reads the confounder of each image: pass a cohort with its columns, or "
            "fit with at_inference=False."
        )
    return torch.cdist(c.to(design.dtype), design) < 1e-6
