"""Images to vectors: encoders, and the de-confounded encoder.  ``encoders.names()``."""

from __future__ import annotations

from typing import Any

from deconf.encoders.base import Encoder, encoders, load_encoder
from deconf.encoders.preprocess import Preprocess
from deconf.encoders.tune import Tune
from deconf.encoders.zoo import ZooCard, zoo_card, zoo_names
from deconf.errors import SettingsError, did_you_mean, listing

__all__ = [
    "Encoder", "Preprocess", "Tune", "ZooCard", "card", "load_encoder", "names", "zoo_card",
    "zoo_names",
]  # fmt: skip

TIMM = "any architecture of timm, as 'timm:resnet50', with weights= a local .safetensors file"


def names() -> list[str]:
    """Return what `load_encoder` takes by name; ``timm:`` stands for each of its architectures."""
    return [*encoders.names(), "timm:", *(f"zoo:{name}" for name in zoo_names())]


def card(name: str) -> Any:
    """Return what an encoder is: a sentence, or the `ZooCard` of a model that comes with deconf."""
    if name.startswith("timm:"):
        return TIMM
    if name.startswith("zoo:"):
        return zoo_card(name)
    if name not in encoders:
        raise SettingsError(
            f"no encoder is called {name!r}.{did_you_mean(name, names())} "
            f"Known: {listing(names(), 40)}."
        )
    return encoders.card(name)
