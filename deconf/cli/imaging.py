"""``deconf embed``, ``zoo`` and ``pretrain``: from films to vectors."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from deconf.cli.options import HOW, ImageFolder, Missing, OnMissing, Patient, Seed, Table
from deconf.cli.terminal import say, spoken, working

ENCODER = "What embeds them"


class OnError(StrEnum):
    """What to do with files that cannot be read."""

    error = "raise"
    skip = "skip"


def embed(
    table: Table,
    image: Annotated[
        str,
        typer.Option("--image", metavar="COLUMN", help="Paths of the films, relative to TABLE."),
    ],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            metavar="NAME",
            help="zoo:<name> ('deconf zoo' lists them) or timm:<architecture>.",
            rich_help_panel=ENCODER,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="The store of embeddings.", rich_help_panel=HOW
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Weights of timm:<architecture>, .safetensors, or 'random' for an untrained net; "
            "nothing is downloaded.",
            rich_help_panel=ENCODER,
        ),
    ] = None,
    pad_type: Annotated[
        str | None,
        typer.Option(
            "--pad-type",
            help="'same' for weights that come from TensorFlow.",
            rich_help_panel=ENCODER,
        ),
    ] = None,
    preprocess: Annotated[
        Path | None,
        typer.Option(
            "--preprocess",
            metavar="FILE",
            help="TOML with size, mean, std, resize ... where the weights want another than the "
            "architecture's usual.",
            rich_help_panel=ENCODER,
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", rich_help_panel=ENCODER)] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="float32, bfloat16 (several times as fast on most machines), or auto.",
            rich_help_panel=ENCODER,
        ),
    ] = "auto",
    patient: Patient = None,
    folder: ImageFolder = None,
    on_missing: OnMissing = Missing.error,
    on_error: Annotated[
        OnError,
        typer.Option(
            "--on-error",
            help="Files that cannot be read: an error, or left out and listed in unread.csv.",
            rich_help_panel=HOW,
        ),
    ] = OnError.error,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Films at once.", rich_help_panel=HOW)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Threads that read files.", rich_help_panel=HOW),
    ] = None,
) -> None:
    """Embed films with an encoder into a folder that every other command reads as --embedding.

    Stopped, even by a power cut, the same command goes on where it was, to the same bits.

    Example: deconf embed studies.csv --image path --encoder timm:mobilenetv2_100
    --weights mobilenetv2.safetensors -o store/
    """
    import deconf
    from deconf.encoders.embedding import embed_to_store

    cohort = deconf.Cohort.read(
        table, image=image, patient=patient, folder=folder, on_missing=on_missing.value
    )
    used = deconf.load_encoder(
        encoder,
        weights=weights,
        device=device,
        precision=precision,
        pad_type=pad_type,
        preprocess=_read_preprocess(preprocess),
    )
    say(f"{len(cohort):,} films, {used!r}")
    with _progress(len(cohort)) as advance:
        stored = embed_to_store(
            used, cohort, out, on_error=on_error.value, batch=batch, workers=workers,
            progress=advance,
        )  # fmt: skip
    say(
        f"{stored.embedded_now:,} embedded now, {stored.reused:,} were there, "
        f"{len(stored.unread):,} unread."
    )
    if stored.unread:
        say(f"Unread films and why: {_list_unread(stored, out)}")
        say("What is missing may depend on the scanner or the site: look before you leave it out.")
    say(f"Saved: {out.resolve()}")
    more = f" --image-folder {folder}" if folder else ""
    more += f" --patient {patient}" if patient else ""
    more += " --on-missing drop" if stored.unread else ""
    say(f"Next: deconf plan {table} --image {image}{more} -e {out} -c <confounder> -y <outcome>")


def _read_preprocess(path: Path | None) -> Any:
    if path is None:
        return None
    import tomllib

    from deconf.encoders.preprocess import Preprocess
    from deconf.errors import ReadError

    try:
        return Preprocess.from_spec(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ReadError(f"--preprocess {str(path)!r} cannot be read as TOML: {error}.") from error


def _list_unread(stored: Any, out: Path) -> Path:
    import pandas as pd

    path = out / "unread.csv"
    rows = [{"row": u.row, "image": u.path, "why": u.why} for u in stored.unread]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path.resolve()


class _progress:
    """A progress bar with the time left; silent when not a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        self.bar = Progress(
            "embedding",
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not Console(stderr=True).is_terminal,
        )
        self.task = self.bar.add_task("", total=total)

    def __enter__(self) -> Any:
        self.bar.start()
        return lambda done, total: self.bar.update(self.task, completed=done, total=total)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


def zoo(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One encoder, with its card.")
    ] = None,
) -> None:
    """List the encoders that come with deconf, or show the card of one."""
    from deconf.encoders.zoo import zoo_card, zoo_names

    if name is not None:
        _card(name.removeprefix("zoo:"))
        return
    for known in zoo_names():
        card = zoo_card(known)
        say(f"zoo:{known}  {card.title} ({card.width} numbers a film, {card.licence})")
    say()
    say("Any timm architecture with weights of your own: timm:<architecture> and --weights.")
    say("One in full: deconf zoo <name>.  Use it: deconf embed ... --encoder zoo:<name>")


def _card(name: str) -> None:
    from deconf.encoders.zoo import zoo_card

    say(f"zoo:{name}")
    for title, value in zoo_card(name).model_dump().items():
        if value not in (None, "", [], {}):
            told = (
                ", ".join(f"{k} {v}" for k, v in value.items())
                if isinstance(value, dict)
                else (", ".join(map(str, value)) if isinstance(value, list | tuple) else value)
            )
            say(f"  {title.replace('_', ' '):<13}{told}")


def pretrain(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="World, network, targets: a .toml file.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Weights and card go here.")
    ],
    seed: Seed = 0,
) -> None:
    """Train an encoder on simulated films from a recipe; stopped, it goes on where it was.

    Example: deconf pretrain models/phantom/recipe.toml -o models/phantom
    """
    from deconf.pretrain.recipe import read_recipe
    from deconf.pretrain.shipped import make

    said = read_recipe(recipe)
    say(f"{said.title}: {said.architecture}, {said.epochs} epochs")
    with working("Training", spin=False):
        made = make(said, out, seed=seed, progress=_told)
    say(f"Saved: {made.resolve()}")


def _told(epoch: int, epochs: int, loss: float, seconds: float) -> None:
    left = spoken(seconds / epoch * (epochs - epoch))
    typer.echo(f"  epoch {epoch}/{epochs}  loss {loss:.4f}  {left} to go", err=True)
