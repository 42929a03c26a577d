"""A map that carries every image onto the surface where kernel readers are undecided."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deconf.maths.maps.base import EmbeddingMap

CHUNK = 2048  # rows carried at a time
DAMPING = 1e-3  # of the mean squared slope: where a reader is flat nothing is carried far
FURTHEST = 2.0  # standard deviations that one step may go


class KernelMap(EmbeddingMap):
    """x <- x - J^T (J J^T + e I)^-1 (f(x) - f0) for one reader after the other.

    x = (z - mu) R are r whitened coordinates of the embedding, f(x) = sum_j a_j k(x, l_j) what a
    Gaussian kernel reads of the confounder and J its slope there.  With a linear f this is the
    projection that erases it.  What lies beside the coordinates is left as it is.

    Attributes
    ----------
    centre : (d,)
    into, out : (d, r), (r, d)
        R, and back.
    landmarks : (t, p, r)
        Of t readers.
    coefficients : (t, p, q)
    level : (t, q)
        f0, what a reader says on average.
    widths : (t,)
    slopes : (t,)
        Mean squared slope of each reader.
    """

    centre: Tensor
    into: Tensor
    out: Tensor
    landmarks: Tensor
    coefficients: Tensor
    level: Tensor
    widths: Tensor
    slopes: Tensor

    def __init__(
        self,
        centre: Any,
        into: Any,
        out: Any,
        landmarks: Any,
        coefficients: Any,
        level: Any,
        widths: Any,
        slopes: Any,
    ) -> None:
        super().__init__()
        for name, value in locals().copy().items():
            if name not in ("self", "__class__"):
                self.register_buffer(name, torch.as_tensor(value))

    @property
    def width(self) -> int:
        """Columns of the embedding."""
        return len(self.centre)

    @property
    def is_identity(self) -> bool:
        """Whether there is no reader."""
        return len(self.landmarks) == 0

    def forward(self, z: Float[Tensor, "n d"], c: Tensor | None = None) -> Float[Tensor, "n d"]:
        """Map embeddings (n, d); ``c`` is not read."""
        del c
        if self.is_identity:
            return z
        parts = []
        for part in z.split(CHUNK):
            x = start = (part.double() - self.centre) @ self.into
            for t in range(len(self.landmarks)):
                x = self.carried(x, t)
            parts.append(part + ((x - start) @ self.out).to(z.dtype))
        return torch.cat(parts)

    def carried(self, x: Float[Tensor, "n r"], t: int) -> Float[Tensor, "n r"]:
        """Take the step of reader t."""
        f, slope = read(x, self.landmarks[t], self.coefficients[t], self.widths[t])
        eye = torch.eye(f.shape[1], dtype=x.dtype)
        gram = slope @ slope.mT + DAMPING * self.slopes[t] * eye
        away = torch.linalg.solve(gram, (f - self.level[t])[:, :, None])
        step = (slope.mT @ away)[:, :, 0]
        length = step.norm(dim=1, keepdim=True)
        out: Tensor = x - step * (FURTHEST / length.clamp(min=FURTHEST))
        return out


def read(
    x: Float[Tensor, "n r"],
    landmarks: Float[Tensor, "p r"],
    coefficients: Float[Tensor, "p q"],
    width: Float[Tensor, ""],
) -> tuple[Float[Tensor, "n q"], Float[Tensor, "n q r"]]:
    """Return what a reader says, and its slope."""
    near = torch.exp(-0.5 * torch.cdist(x, landmarks) ** 2 / width**2)
    f = near @ coefficients
    # d/dx sum_j a_j k_j = sum_j a_j k_j (l_j - x) / h^2
    slopes = [((near * a) @ landmarks - (near @ a)[:, None] * x) / width**2 for a in coefficients.T]
    return f, torch.stack(slopes, dim=1)
