"""What a fitted map is, and a chain of them."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deconf.errors import SettingsError

KINDS: dict[str, type[EmbeddingMap]] = {}


class EmbeddingMap(nn.Module):
    """A fitted map z -> T(z).  Call it on a tensor (n, d) or, for maps that say so, on (z, c).

    Attributes
    ----------
    remarks : tuple of str
        What the fit has to say for itself, for the reasons of a `DeconfoundedEncoder`: say that
        training was no better than its starting point.  Not saved with the map.
    """

    needs_confounders: ClassVar[bool] = False
    remarks: tuple[str, ...] = ()

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
