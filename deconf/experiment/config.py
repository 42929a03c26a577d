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


class Labels(_Frozen):
    """Findings from another table: one text column, such as ``Edema|Effusion``, becomes columns.

    A film is met by its file name: ``pattern`` is looked for in it, ``name`` is what it is called
    there.
    """

    table: str
    image: str
    pattern: str
    name: str
    column: str
    findings: list[str]


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
    labels: Labels | None = None


class Setting(_Frozen):
    """How many training films of each kind: majority agree with the shortcut."""

    name: str
    majority: int
    minority: int


class Shortcut(_Frozen):
    """Train where the confounder predicts the disease, score films that contradict it.

    ``shelf`` names methods that join the usual contenders, each under a balanced head; those that
    train a head of their own are scored by it.
    """

    confounder: str
    with_disease: str
    settings: list[Setting]
    shelf: list[str] = []
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


class Outcomes(_Frozen):
    """Erase a confounder given all findings jointly, given one alone, and given nothing."""

    confounder: str
    alone: str
    method: str = "leace"
    folds: int = 5
    repeats: int = 3
    fewest_patients: int = 20


class Network(_Frozen):
    """The network that every contender of Colored MNIST trains; see `InvariantRisk`."""

    hidden: int
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float


class Contender(_Frozen):
    """A registered method, what it is told to be invariant to, and who chooses its settings."""

    name: str
    against: Literal["environment", "colour"]
    selection: Literal["training", "held_out_site", "oracle"] | None = None
    settings: dict[str, Any] = {}


class ColoredMNIST(_Frozen):
    """Digits whose colour misleads.  Shares say how often colour contradicts the label."""

    images: str
    labels: str
    train: int = 8000
    splits: int = 10
    environments: list[float] = [0.2, 0.1]
    test: float = 0.9
    label_noise: float = 0.25
    network: Network
    contenders: list[Contender] = []


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


class Asked(_Frozen):
    """One question: the effect of a cause on a column; see `deconf.total_effect`."""

    name: str
    cause: str
    effect: str
    reference: str | None = None
    given: list[str] | None = None
    within: bool = False
    negative_outcomes: dict[str, str] = {}
    only: dict[str, list[str]] = {}


class Effects(_Frozen):
    """Questions put to one table, and columns made for them.

    ``contains``: a 0/1 column that says whether a text column mentions a word.  ``log_odds``: a
    probability becomes a column with `` (log-odds)`` after its name.  ``between``: rows kept.
    ``by``: each level of this column answers for itself, and nothing is pooled.
    """

    graph: str
    questions: list[Asked]
    contains: dict[str, list[str]] = {}
    log_odds: list[str] = []
    between: dict[str, list[float]] = {}
    by: str | None = None
    simulations: int = 3


class EditSetting(_Frozen):
    """One edit of `deconf.interventions`: its name in the tables, its class and its settings."""

    name: str
    kind: str
    settings: dict[str, Any] = {}


class Interventions(_Frozen):
    """Edit films of patients set aside; raw embedding beside one cleaned of the confounder."""

    confounder: str
    edits: list[EditSetting]
    doses: list[float] = [0.5, 1.0]
    films: int = 200
    method: str = "auto"
    margin: float = 0.1


class Config(_Frozen):
    """One experiment."""

    title: str
    kind: Literal[
        "shortcut",
        "sites",
        "phantom",
        "outcomes",
        "colored_mnist",
        "morpho",
        "structural",
        "effects",
        "interventions",
    ]
    encoder: str
    data: Data | None = None
    shortcut: Shortcut | None = None
    sites: Sites | None = None
    phantom: Phantom | None = None
    outcomes: Outcomes | None = None
    colored_mnist: ColoredMNIST | None = None
    morpho: Morpho | None = None
    structural: Structural | None = None
    effects: Effects | None = None
    interventions: Interventions | None = None
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
    if config.kind == "interventions" and not (
        config.data and config.data.embedding and config.data.images
    ):
        raise SettingsError(
            f"{path.name}: kind = 'interventions' needs [data] with embedding =, to train on, and "
            "[data.images], to edit."
        )
    return config


def _first(error: ValidationError) -> str:
    found = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # typos first
    place = ".".join(str(p) for p in found["loc"])
    if found["type"] != "extra_forbidden":
        return f"{place}: {found['msg']}, got {found['input']!r}."
    known = [name for model in _Frozen.__subclasses__() for name in model.model_fields]
    known = [name for model in _Frozen.__subclasses__() for name in model.model_fields]
    known = [name for model in _Frozen.__subclasses__() for name in model.model_fields]
    known = [name for model in _Frozen.__subclasses__() for name in model.model_fields]
    return f"unknown key {place!r}.{did_you_mean(str(found['loc'][-1]), known)}"
