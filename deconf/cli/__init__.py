"""The command line: ``deconf demo | embed | graph | plan | fit | compare | audit | verify | ...``.

Nothing heavy is imported before a command runs, so that ``deconf --help`` answers at once.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from deconf.cli.cards import methods
from deconf.cli.certificates import verify
from deconf.cli.demonstration import demo
from deconf.cli.effects import effect
from deconf.cli.experiments import run
from deconf.cli.graphs import graph
from deconf.cli.imaging import embed, pretrain, zoo
from deconf.cli.installation import doctor
from deconf.cli.terminal import Commands
from deconf.cli.verbs import audit, compare, fit, plan

__all__ = ["app", "main"]

app = typer.Typer(
    name="deconf",
    cls=Commands,
    help="Causal de-confounding of image representations.  Start with [bold]deconf demo[/bold].",
    epilog="Every command answers --help.  Exit status: 0 fine, 1 a verdict of --fail-if or "
    "not verified, "
    "2 your input (the message says what to change), 130 interrupted.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its frames would show local variables: patients
)

LOOK, WORK, ABOUT = "See it work", "Your own data", "This installation"
app.command(rich_help_panel=LOOK)(demo)
app.command(rich_help_panel=LOOK)(run)
app.command(rich_help_panel=WORK)(embed)
app.command(rich_help_panel=WORK)(graph)
app.command(rich_help_panel=WORK)(plan)
app.command(rich_help_panel=WORK)(fit)
app.command(rich_help_panel=WORK)(compare)
app.command(rich_help_panel=WORK)(audit)
app.command(rich_help_panel=WORK)(effect)
app.command(rich_help_panel=WORK)(verify)
app.command(rich_help_panel=WORK)(pretrain)
app.command(rich_help_panel=ABOUT)(methods)
app.command(rich_help_panel=ABOUT)(zoo)
app.command(rich_help_panel=ABOUT)(doctor)


def _version(asked: bool) -> None:
    if asked:
        import deconf

        typer.echo(f"deconf {deconf.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command that was typed; the entry point of the script ``deconf``."""
    # The matrices are small: threads that wait for one another cost more than they bring (the demo
    # took five times as long on two busy cores).  Read by BLAS, OpenMP and torch when they load.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    app()
