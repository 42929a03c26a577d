"""A recipe for an encoder: which world, which network, which targets, how long."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from deconf.errors import ReadError, SettingsError


class Recipe(BaseModel):
    """What ``recipe.toml`` may say; unknown keys are refused.

    Parameters
    ----------
    title : str
    world : str
        A name from ``deconf.worlds.names()`` whose films are images.
    settings : mapping
        Arguments of that world.
    architecture, options : str, mapping
        A timm architecture and its keyword arguments.
    targets : list of str
        Columns the encoder learns to tell: 0/1 columns by cross-entropy, others, standardised, by
        squared error, both with equal weight.
    epochs, batch, learning_rate : as in `deconf.training.Schedule`.
    shift : int
        Films are moved by up to so many pixels in either direction, anew in every step.
    gain : float
        And their grey values stretched by up to this share.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    world: str
    settings: dict[str, Any] = {}
    architecture: str
    options: dict[str, Any] = {}
    targets: list[str]
    epochs: int
    batch: int = 128
    learning_rate: float = 1e-3
    shift: int = 6
    gain: float = 0.1
    seed: int = 0


def read_recipe(path: Path) -> Recipe:
    """Read and check a TOML file.

    Raises
    ------
    ReadError
        The file is missing or no TOML.
    SettingsError
        A key is unknown or a value is of the wrong kind.
    """
    try:
        return Recipe(**tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ReadError(f"{path.name} cannot be read as TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])
        raise SettingsError(f"{path.name}: {place!r}: {first['msg']}.") from error
