"""A learnt map: the embedding plus what a small network makes of it.

Houlsby et al., "Parameter-efficient transfer learning for NLP", ICML 2019,
https://arxiv.org/abs/1902.00751, for the adapter that starts at the identity.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deconf.errors import SettingsError
from deconf.maths.maps.base import EmbeddingMap


class Residual(nn.Module):
    """The network while it is trained: ``x + up(relu(down(x)))`` on standardised embeddings.

    Parameters
    ----------
    width, hidden : int
        Columns of the embedding, and of the layer between.  The last layer starts at zero, so
        that training starts from the identity.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Map standardised embeddings."""
        out: Tensor = x + self.up(torch.relu(self.down(x)))
        return out


class Adapter(EmbeddingMap):
    """T(z) = z + scale * (up relu(down (z - centre) / scale + in_bias) + out_bias).

    Attributes
    ----------
    down, up : (h, d), (d, h)
    in_bias, out_bias : (h,), (d,)
    centre, scale : (d,)
        What standardises an embedding.
    coefficients, intercept : (q, d), (q,)
        The head that was trained with it: log-odds are ``T(z) @ coefficients.T + intercept``
        (softmax logits where q > 1).  No rows where there was none.
    """

    down: Tensor
    up: Tensor
    in_bias: Tensor
    out_bias: Tensor
    centre: Tensor
    scale: Tensor
    coefficients: Tensor
    intercept: Tensor

    def __init__(
        self,
        down: Any,
        up: Any,
        in_bias: Any,
        out_bias: Any,
        centre: Any,
        scale: Any,
        coefficients: Any = None,
        intercept: Any = None,
    ) -> None:
        super().__init__()
        if coefficients is None or intercept is None:
            coefficients, intercept = torch.zeros(0, len(centre)), torch.zeros(0)
        for name, value in locals().copy().items():
            if name not in ("self", "__class__"):
                self.register_buffer(name, torch.as_tensor(value))

    @classmethod
    def of(
        cls,
        trained: Residual,
        centre: Float[Tensor, " d"],
        scale: Float[Tensor, " d"],
        head: nn.Linear | None = None,
    ) -> Adapter:
        """Freeze a trained network; ``head`` reads *standardised* mapped embeddings."""
        parts = {
            "down": trained.down.weight,
            "up": trained.up.weight,
            "in_bias": trained.down.bias,
            "out_bias": trained.up.bias,
            "centre": centre,
            "scale": scale,
        }
        if head is not None:
            parts["coefficients"] = head.weight / scale
            parts["intercept"] = head.bias - parts["coefficients"] @ centre
        return cls(**{name: part.detach().cpu().double() for name, part in parts.items()})

    @property
    def width(self) -> int:
        """Columns of the embedding."""
        return len(self.centre)

    @property
    def is_identity(self) -> bool:
        """Whether the network never left its start."""
        return not bool(self.up.any()) and not bool(self.out_bias.any())

    def forward(self, z: Float[Tensor, "n d"], c: Tensor | None = None) -> Float[Tensor, "n d"]:
        """Map embeddings (n, d); ``c`` is not read."""
        del c
        if self.is_identity:
            return z
        x = (z - self.centre.to(z.dtype)) / self.scale.to(z.dtype)
        between = torch.relu(F.linear(x, self.down.to(z.dtype), self.in_bias.to(z.dtype)))
        moved = F.linear(between, self.up.to(z.dtype), self.out_bias.to(z.dtype))
        return z + self.scale.to(z.dtype) * moved

    def score(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n q"]:
        """Return what the head that was trained with this map says of raw embeddings.

        Raises
        ------
        SettingsError
            No head was trained with it.
        """
        if not len(self.coefficients):
            raise SettingsError("this map was trained without a head: fit one to what it returns.")
        return F.linear(self(z), self.coefficients.to(z.dtype), self.intercept.to(z.dtype))
