"""What an experiment's TOML file may say: frozen settings, unknown keys refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from deconf.errors import ReadError, SettingsError, did_you_mean


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Images(_Frozen):
    """Where the films lie, and what embeds them; see `deconf.load_encoder`."""

    folder: str
    column: str
    encoder: str
    weights: str | None = None
    pad_type: str | None = None
    preprocess: dict[str, Any] | None = None


class Data(_Frozen):
    """Which table, which films or embeddings, which rows.  Paths are relative to ``DECONF_DATA``.

    With both, the films are embedded and the result is compared with what was stored.
    """

    table: str
    patient: str
    embedding: str | None = None
    images: Images | None = None
    outcome: str
    site: str | None = None
    only: dict[str, list[str]] = {}
    recode: dict[str, dict[str, str]] = {}


class Setting(_Frozen):
    """How many training films of each kind: majority agree with the shortcut."""

    name: str
    majority: int
    minority: int


class Shortcut(_Frozen):
    """Train where the confounder predicts the disease, score films that contradict it."""

    confounder: str
    with_disease: str
    settings: list[Setting]
    target_per_cell: int = 50
    splits: int = 20
    test_size: float = 0.2


class Sites(_Frozen):
    """Leave sites out in turn; say what is refused, then study the sites that hold both classes."""

    confounder: str
    methods: list[str] = ["leace", "auto"]
    folds: int = 5


class Phantom(_Frozen):
    """Simulated radiographs: one world for each seed, embedded by an encoder by name."""

    encoder: str
    seeds: list[int]
    films: int = 4000
    new_films: int = 2000
    size: int = 128
    sites: int = 1
    method: str = "auto"


class Morpho(_Frozen):
    """Digits of known thickness and intensity: the first rows train, the last ones are scored."""

    folder: str
    train: int = 5000
    test: int = 3000
    rank: int = 32


class Structural(_Frozen):
    """Simulated radiographs: counterfactuals of a structural model beside cleaned embeddings."""

    encoder: str
    seeds: list[int]
    columns: list[str]
    methods: list[str] = ["leace", "auto"]
    films: int = 4000
    new_films: int = 1000
    size: int = 128


class Config(_Frozen):
    """One experiment."""

    title: str
    kind: Literal["shortcut", "sites", "phantom", "morpho", "structural"]
    encoder: str
    data: Data | None = None
    shortcut: Shortcut | None = None
    sites: Sites | None = None
    phantom: Phantom | None = None
    morpho: Morpho | None = None
    structural: Structural | None = None
    seed: int = 0


def read_config(path: Path) -> Config:
    """Read and check a TOML file.

    Raises
    ------
    ReadError
        The file is missing or no TOML.
    SettingsError
        A key is unknown (the nearest known one is named) or a value is of the wrong kind.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ReadError(f"{path.name} cannot be read as TOML: {error}.") from error
    try:
        config = Config(**raw)
    except ValidationError as error:
        raise SettingsError(f"{path.name}: {_first(error)}") from error
    if getattr(config, config.kind) is None:
        raise SettingsError(f"{path.name}: kind = {config.kind!r} needs a table [{config.kind}].")
    if config.kind in ("shortcut", "sites") and (
        config.data is None or (config.data.embedding or config.data.images) is None
    ):
        raise SettingsError(
            f"{path.name}: kind = {config.kind!r} needs [data] with embedding = or [data.images]."
        )
    return config


def _first(error: ValidationError) -> str:
    found = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # typos first
    place = ".".join(str(p) for p in found["loc"])
    if found["type"] != "extra_forbidden":
        return f"{place}: {found['msg']}, got {found['input']!r}."
    models: list[Any] = [
        Config,
        Data,
        Images,
        Shortcut,
        Sites,
        Setting,
        Phantom,
        Morpho,
        Structural,
    ]
    known = [name for model in models for name in model.model_fields]
    return f"unknown key {place!r}.{did_you_mean(str(found['loc'][-1]), known)}"
