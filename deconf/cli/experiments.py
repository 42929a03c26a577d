"""``deconf run``: the experiments that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deconf.errors import SettingsError


def run(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="An experiment, or a .toml file.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="For the answer; default runs/NAME."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two splits only: to see that it works, not to believe.")
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="List the experiments.")] = False,
) -> None:
    """Run an experiment that comes with deconf, or your own file of settings."""
    from deconf import experiment
    from deconf.cli.terminal import murmur, say, working

    if show:
        for known in experiment.names():
            say(known)
        return
    if name is None:
        raise SettingsError("which experiment? deconf run --list names them.")
    with working(f"Running {name}", spin=False):
        answer = experiment.run(name, out=out, quick=quick, progress=murmur)
    typer.echo(str(answer))
    if answer.folder is not None:
        typer.echo(f"\nSaved: {answer.folder.resolve()}")
