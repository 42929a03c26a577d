"""Fitted maps from embedding to embedding: immutable, differentiable, saved without pickle."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deconf.errors import SettingsError

CHUNK = 8192  # rows mapped at a time, so that memory stays near the output alone
KINDS: dict[str, type[EmbeddingMap]] = {}


class EmbeddingMap(nn.Module):
    """A fitted map z -> T(z).  Call it on a tensor (n, d) or, for maps that say so, on (z, c)."""

    needs_confounders: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        KINDS[cls.__name__] = cls

    @abstractmethod
    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Map embeddings (n, d) to embeddings (n, d)."""

    def spec(self) -> dict[str, Any]:
        """Return what `from_spec` needs beside the tensors, as JSON types."""
        return {"kind": type(self).__name__}

    @property
    def digest(self) -> str:
        """The sha256 of the kind, its settings and every bit of its tensors, in hexadecimal."""
        sha = hashlib.sha256(json.dumps(self.spec(), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return sha.hexdigest()

    @property
    def is_identity(self) -> bool:
        """Whether the map returns what it is given."""
        return False

    @property
    @abstractmethod
    def width(self) -> int:
        """Columns of the embedding."""

    def links(self) -> list[EmbeddingMap]:
        """Return the maps this one applies in turn: itself, unless it is a chain."""
        return [self]


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


class Chain(EmbeddingMap):
    """Maps applied one after the other."""

    def __init__(self, *maps: EmbeddingMap) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)

    @property
    def needs_confounders(self) -> bool:  # type: ignore[override]
        """Whether any link reads the confounder of a new image."""
        return any(m.needs_confounders for m in self.maps)

    @property
    def is_identity(self) -> bool:
        """Whether every link is the identity."""
        return all(m.is_identity for m in self.maps)

    def forward(self, z: Float[Tensor, "n d"], c: Tensor | None = None) -> Float[Tensor, "n d"]:
        """Map embeddings (n, d) through every link."""
        for link in self.maps:
            z = link(z, c) if link.needs_confounders else link(z)
        return z

    @property
    def width(self) -> int:
        """Columns of the embedding."""
        return self.links()[0].width

    def links(self) -> list[EmbeddingMap]:
        """Return the links."""
        return [link for m in self.maps if isinstance(m, EmbeddingMap) for link in m.links()]

    def spec(self) -> dict[str, Any]:
        """Return the specs of the links."""
        return {
            "kind": "Chain",
            "maps": [m.spec() for m in self.maps if isinstance(m, EmbeddingMap)],
        }


def from_spec(spec: dict[str, Any], tensors: dict[str, Tensor]) -> EmbeddingMap:
    """Rebuild a map from its spec and its state dict."""
    if spec["kind"] == "Chain":
        links = []
        for i, part in enumerate(spec["maps"]):
            head = f"maps.{i}."
            own = {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
            links.append(from_spec(part, own))
        return Chain(*links)
    if spec["kind"] not in KINDS:
        raise SettingsError(
            f"this folder holds a map of kind {spec['kind']!r}, which this version of deconf "
            f"does not know (known: {sorted(KINDS)}). Load it with the version that saved it."
        )
    return KINDS[spec["kind"]](**tensors)
