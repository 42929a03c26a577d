"""What the terminal says: errors and warnings in a line, progress, long sentences wrapped."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from deconf.errors import DeconfError, OverlapWarning

ARGUMENTS = {"at_inference=True": "--at-inference", "given=[...]": "--given NAME"}
WIDEST = 100  # columns; longer lines are hard to read
COLOURS = {"leaks:": "red", "no leak above": "green", "undecided:": "yellow"}  # how verdicts begin
VERDICT = re.compile(rf"^(?:[^\n:]*:|) +({'|'.join(COLOURS)})", re.MULTILINE)


class Commands(TyperGroup):
    """The commands; whatever a user can cause ends in one line and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command: exit 2 on a user's error, 130 on Ctrl-C."""
        try:
            with plain_warnings():
                return super().invoke(ctx)
        except DeconfError as error:
            complain("Error", as_options(str(error)), "red")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as interrupt:
            complain("Interrupted", "nothing more was written.", "yellow")
            raise typer.Exit(130) from interrupt


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print each warning once, as a line; Python's format names files that no user wrote."""
    told: set[str] = set()

    def show(message: Any, *_: Any, **__: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            complain("Warning", str(message), "yellow")

    with warnings.catch_warnings():
        warnings.simplefilter("always", OverlapWarning)
        warnings.showwarning = show
        yield


def as_options(message: str) -> str:
    """Return a message with the arguments of Python as the options of the command line.

    >>> as_options("combat reads the confounder: pass at_inference=True, or given=[...].")
    'combat reads the confounder: pass --at-inference, or --given NAME.'
    """
    for argument, option in ARGUMENTS.items():
        message = message.replace(argument, option)
    return message


def complain(kind: str, message: str, colour: str) -> None:
    """Print ``Error: message`` or ``Warning: message`` to stderr."""
    text = Text.assemble((f"{kind}:", f"bold {colour}"), " ", message)
    console = _stderr()
    console.print(text, soft_wrap=not console.is_terminal)  # in a log, one message is one line


def width() -> int:
    """Return how many columns a line may have."""
    return min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)


def wrapped(text: str) -> str:
    """Return text with its long lines broken; what follows a break hangs under its line.

    Examples
    --------
    >>> print(wrapped("  - " + "word " * 30).replace("word", "w")[:4])
      -
    """
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line,
            width(),
            subsequent_indent=indent + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines)


def say(text: str = "") -> None:
    """Print a text to stdout, its long lines broken."""
    typer.echo(wrapped(text))


def say_verdicts(text: str) -> None:
    """Print a text to stdout; a verdict at the head of a line is in its colour."""
    shown = Text(wrapped(text))
    for found in VERDICT.finditer(shown.plain):
        shown.stylize(f"bold {COLOURS[found[1]]}", *found.span(1))
    Console(width=width(), highlight=False).print(shown, soft_wrap=True)


@contextmanager
def working(what: str, *, seconds: float = 0.0, spin: bool = True) -> Iterator[None]:
    """Say how long work will take, then show that it goes on; silent when not a terminal.

    Parameters
    ----------
    what : str
        "Comparing".
    seconds : float
        The estimate; 0 for none.
    spin : bool
        False where the work draws its own progress bar: two at once overwrite one another.
    """
    console = _stderr()
    if not console.is_terminal:
        yield
        return
    began = time.monotonic()
    about = f", {spoken(seconds)}" if seconds else ""
    console.print(f"{what}{about}. Ctrl-C stops it.", style="dim")
    with console.status(_Clock(began)) if spin else nullcontext():
        yield
    console.print(f"Took {spoken_exactly(time.monotonic() - began)}.", style="dim")


def murmur(line: object) -> None:
    """Print what is being done to stderr; nothing when not a terminal."""
    if (console := _stderr()).is_terminal:
        console.print(f"  {line}", style="dim")


def spoken(seconds: float) -> str:
    """Return a duration as a person would guess it.

    Examples
    --------
    >>> spoken(4), spoken(38), spoken(100), spoken(9000)
    ('a few seconds', 'under a minute', 'about 2 minutes', 'about 2.5 hours')
    """
    if seconds < 15:
        return "a few seconds"
    if seconds < 50:
        return "under a minute"
    if seconds < 5000:
        minutes = max(1, round(seconds / 60))
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {seconds / 3600:.1f} hours"


def spoken_exactly(seconds: float) -> str:
    """Return a duration that is over.

    Examples
    --------
    >>> spoken_exactly(7.4), spoken_exactly(74)
    ('7 s', '1:14 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


class _Clock:
    """The time since the work began, drawn anew with each turn of the spinner."""

    def __init__(self, began: float) -> None:
        self.began = began

    def __rich__(self) -> Text:
        return Text(spoken_exactly(time.monotonic() - self.began))


def _stderr() -> Console:
    # Made when needed: a console keeps the stream of the moment, and tests change it.
    return Console(file=sys.stderr, highlight=False)
