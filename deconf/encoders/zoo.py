"""Small encoders that come with deconf, each with a card: ``load_encoder("zoo:<name>")``."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from deconf.encoders.hub import TimmFeatures, timm_model
from deconf.encoders.preprocess import Preprocess
from deconf.errors import ReadError, SettingsError, did_you_mean, listing
from deconf.resources import packaged

CARD, WEIGHTS = "card.toml", "weights.safetensors"


class ZooCard(BaseModel):
    """What a model is, where it comes from, and what it is not for: ``models/<name>/card.toml``.

    Attributes
    ----------
    architecture, options : str, dict
        ``"timm:<architecture>"`` and keywords of its constructor.
    sha256 : str
        Of ``weights.safetensors``.
    trained_on : tuple of str
        Sites or worlds.
    width : int
        Columns of the embedding.
    preprocess : dict
        As `Preprocess.spec` returns it.
    recipe : str
        How it was trained: the command, or a file beside the card.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    architecture: str
    sha256: str
    licence: str
    source: str
    trained_on: tuple[str, ...]
    width: int
    preprocess: dict[str, Any]
    options: dict[str, Any] = {}
    recipe: str = ""
    notes: str = ""
    not_for: str = ""

    def __str__(self) -> str:
        """Return the card as a few lines."""
        lines = [
            self.title,
            f"{self.architecture}, {self.width} columns, trained on {', '.join(self.trained_on)}",
            f"from {self.source}, licence {self.licence}",
        ]
        lines += [self.notes] * bool(self.notes)
        lines += [f"not for {self.not_for}"] * bool(self.not_for)
        return "\n".join(lines)


def zoo_names() -> list[str]:
    """Return the names of the models that come with deconf, without ``zoo:``."""
    return sorted(card.parent.name for card in packaged("models").glob(f"*/{CARD}"))


def zoo_card(name: str) -> ZooCard:
    """Return the card of a model, by its name with or without ``zoo:``.

    Raises
    ------
    SettingsError
        No such model.
    ReadError
        The card is no TOML, or a key is missing, unknown or of another kind.
    """
    path = _folder(name) / CARD
    try:
        return ZooCard(**tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ReadError(f"{path} cannot be read as TOML: {error}.") from error
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(str(p) for p in found["loc"])
        known = list(ZooCard.model_fields)
        is_typo = found["type"] == "extra_forbidden"
        hint = did_you_mean(place, known) if is_typo else ""
        said = "an unknown key" if is_typo else found["msg"]
        raise ReadError(f"{path}: {place}: {said}.{hint} Keys: {listing(known, 20)}.") from error


def zoo_model(name: str, *, preprocess: Any = None) -> tuple[TimmFeatures, Any]:
    """Return a model of the zoo in evaluation mode, and its preprocess.

    Raises
    ------
    ReadError
        The weights are not those of the card.
    """
    card = zoo_card(name)
    family, _, architecture = card.architecture.partition(":")
    if family != "timm":
        raise ReadError(f"the card of {name!r} names {card.architecture!r}: expected 'timm:...'.")
    weights = _folder(name) / WEIGHTS
    _require_sha256(weights, card.sha256)
    own = Preprocess.from_spec(card.preprocess)
    module, preprocess = timm_model(
        architecture, weights=weights, options=card.options, preprocess=preprocess or own
    )
    if module.num_features != card.width:
        raise ReadError(
            f"the card of {name!r} says {card.width} columns, and the model returns "
            f"{module.num_features}. Correct the card."
        )
    return module, preprocess


def _folder(name: str) -> Path:
    name = name.removeprefix("zoo:")
    known = zoo_names()
    if name not in known:
        have = f"It holds {listing(known)}." if known else "It is empty in this version."
        raise SettingsError(f"the zoo has no model {name!r}.{did_you_mean(name, known)} {have}")
    return packaged("models") / name


def _require_sha256(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ReadError(f"{path} is missing. Install deconf again.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ReadError(
            f"{path} was altered: its sha256 is {found[:12]}..., the card says "
            f"{expected[:12]}.... Install deconf again, or correct the card."
        )
