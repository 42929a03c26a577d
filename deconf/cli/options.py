"""Options that several commands share, and how they become a cohort, a graph and a cleaner."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconf.errors import SettingsError, did_you_mean, listing

if TYPE_CHECKING:
    from deconf.cohort.cohort import Cohort

COLUMNS, REMOVAL, HOW = "Columns of the table", "What to remove", "How"


class Missing(StrEnum):
    """What to do with rows that have no embedding."""

    error = "raise"
    drop = "drop"


class Effort(StrEnum):
    """How hard attackers try."""

    quick = "quick"
    full = "full"


class Alarm(StrEnum):
    """A verdict on which to exit with status 1."""

    leaks = "leaks"
    undecided = "undecided"


def _option(*names: str, text: str, panel: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, metavar=metavar)


Table = Annotated[
    Path, typer.Argument(metavar="TABLE", help="One row per image: .csv, .tsv or .parquet.")
]
Embedding = Annotated[
    str,
    _option(
        "--embedding",
        "-e",
        metavar="FILE|FOLDER",
        text="Embeddings of the rows: a folder made by 'deconf embed', .npy, .npz or .parquet, or "
        "a column of TABLE.",
        panel=COLUMNS,
    ),
]
MaybeEmbedding = Annotated[str | None, Embedding.__metadata__[0]]
Image = Annotated[
    str | None,
    _option(
        "--image",
        metavar="COLUMN",
        text="Names of the films: embeddings are joined by them, and the report shows some.",
        panel=COLUMNS,
    ),
]
ImageFolder = Annotated[
    Path | None,
    _option(
        "--image-folder",
        metavar="FOLDER",
        text="Where the paths of the films start; default the folder of TABLE.",
        panel=COLUMNS,
    ),
]
Patient = Annotated[
    str | None,
    _option(
        "--patient",
        metavar="COLUMN",
        text="Films of a patient stay on one side of every split.",
        panel=COLUMNS,
    ),
]
Site = Annotated[
    str | None, _option("--site", metavar="COLUMN", text="Hospital or laboratory.", panel=COLUMNS)
]
Outcome = Annotated[
    list[str] | None,
    _option(
        "--outcome",
        "-y",
        metavar="COLUMN",
        text="Disease to keep; may be given several times, values may be missing.",
        panel=COLUMNS,
    ),
]
OnMissing = Annotated[
    Missing,
    _option(
        "--on-missing", text="Rows without an embedding: an error, or left out.", panel=COLUMNS
    ),
]
Confounders = Annotated[
    list[str],
    _option(
        "--confounder",
        "-c",
        metavar="COLUMN",
        text="Workflow signal that must go: site, scanner, portable; may be given several times.",
        panel=REMOVAL,
    ),
]
MaybeConfounders = Annotated[list[str] | None, Confounders.__metadata__[0]]
Graph = Annotated[
    str | None,
    _option(
        "--graph",
        "-g",
        metavar="TEXT|FILE",
        text='Causes, as "site -> pneumonia; site -> image": text, a file that holds it, or the '
        "name of a preset, such as multi_site.",
        panel=REMOVAL,
    ),
]
Given = Annotated[
    list[str] | None,
    _option(
        "--given",
        metavar="COLUMN",
        text="Your own adjustment set instead of the graph's; may be given several times; "
        '--given "" is the empty set.',
        panel=REMOVAL,
    ),
]
MethodName = Annotated[
    str, _option("--method", "-m", text="A name from 'deconf methods'.", panel=HOW)
]
MethodSettings = Annotated[
    list[str] | None,
    _option(
        "--set",
        metavar="NAME=VALUE",
        text="A setting of the method, say --set penalty=10 or --set selection=held_out_site; may "
        "be given several times.  'deconf methods NAME' lists them.",
        panel=HOW,
    ),
]
AtInference = Annotated[
    bool,
    _option(
        "--at-inference",
        text="Allow methods that read the confounder of every new image.",
        panel=HOW,
    ),
]
Seed = Annotated[int, _option("--seed", text="Same seed, same numbers.", panel=HOW)]
HoldOut = Annotated[
    str | None,
    _option(
        "--hold-out",
        metavar="COLUMN",
        text="Leave out each level of this column in turn, say site.",
        panel=HOW,
    ),
]
Folds = Annotated[
    int, _option("--folds", text="Patient-grouped folds, without --hold-out.", panel=HOW)
]
HowHard = Annotated[
    Effort,
    _option(
        "--effort",
        text="How hard the attackers try.  Full: a kernel probe, sizes chosen by folds, other "
        "sites; ten times as long and more.",
        panel=HOW,
    ),
]


def read_cohort(
    table: Path,
    *,
    embedding: str | None,
    image: str | None,
    folder: Path | None,
    patient: str | None,
    site: str | None,
    outcome: Sequence[str] | None,
    on_missing: str = "raise",
) -> Cohort:
    """Read the cohort, and say what a missing --patient means."""
    from deconf.cli.terminal import complain
    from deconf.cohort.cohort import Cohort

    cohort = Cohort.read(
        table,
        embedding=embedding,
        image=image,
        folder=folder,
        patient=patient,
        site=site,
        outcome=list(outcome) if outcome else None,
        on_missing=on_missing,
    )
    if patient is None:
        complain(
            "Warning",
            "no --patient: every row counts as a patient of its own. Where a patient has several "
            "films, they sit on both sides of a split and every figure is too good.",
            "yellow",
        )
    if cohort.dropped:
        complain("Warning", f"{cohort.dropped:,} rows without an embedding left out.", "yellow")
    return cohort


def read_graph(said: str | None) -> Any:
    """Return a graph from text with arrows, from a file, or by the name of a preset.

    Raises
    ------
    SettingsError
        None of the three.
    """
    if said is None:
        return None
    from deconf.causal.graph import CausalGraph
    from deconf.causal.presets import PRESETS

    if any(mark in said for mark in ("->", "<-")):
        return CausalGraph.parse(said)
    if Path(said).is_file():
        return CausalGraph.parse(Path(said).read_text(encoding="utf-8"))
    if said in PRESETS:
        return CausalGraph.preset(said)
    raise SettingsError(
        f"--graph {said!r} is neither a file that is there, nor a graph such as "
        f'"severity -> pneumonia; portable -> image", nor a preset.{did_you_mean(said, PRESETS)} '
        f"Presets: {listing(PRESETS)}."
    )


def read_given(said: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the adjustment set: None where nothing was said, () for ``--given ""``."""
    return tuple(name for name in said if name) if said else None


def cleaner_from(
    confounders: Sequence[str],
    *,
    graph: str | None,
    given: Sequence[str] | None,
    method: str,
    settings: Sequence[str] | None = None,
    at_inference: bool,
    seed: int,
) -> Any:
    """Return the unfitted cleaner of stored embeddings that the options describe."""
    import deconf
    from deconf.cli.settings import method_from

    return deconf.deconfound(
        "stored",
        list(confounders),
        graph=read_graph(graph),
        given=read_given(given),
        method=method_from(method, settings or ()),
        at_inference=at_inference,
        seed=seed,
    )
