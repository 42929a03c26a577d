"""What the terminal says: errors and warnings in a line, progress, long sentences wrapped."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from deconf.errors import DeconfError, OverlapWarning

WIDEST = 100  # columns; longer lines are hard to read
COLOURS = {"leaks": "red", "clean": "green", "undecided": "yellow"}


class Commands(TyperGroup):
    """The commands; whatever a user can cause ends in one line and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command: exit 2 on a user's error, 130 on Ctrl-C."""
        try:
            with plain_warnings():
                return super().invoke(ctx)
        except DeconfError as error:
            complain("Error", str(error), "red")
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


def complain(kind: str, message: str, colour: str) -> None:
    """Print ``Error: message`` or ``Warning: message`` to stderr."""
    text = Text.assemble((f"{kind}:", f"bold {colour}"), " ", message)
    _stderr().print(text, soft_wrap=True)


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
    """Print a text to stdout with the first verdict word of each line in its colour."""
    shown = Text(wrapped(text))
    for word, colour in COLOURS.items():
        shown.highlight_regex(rf"(?m)^[^\n:]*(?::\s|\s\s){word}\b(?=:)", f"bold {colour}")
    Console(width=width(), highlight=False).print(shown, soft_wrap=True)


@contextmanager
def working(what: str, *, seconds: float = 0.0) -> Iterator[Any]:
    """Say how long work will take, then show that it goes on; silent when not a terminal.

    Yields a function that takes what is being done at the moment.  Fits are counted from the log.

    Parameters
    ----------
    what : str
        "Comparing".
    seconds : float
        The estimate; 0 for none.
    """
    console = _stderr()
    if not console.is_terminal:
        yield lambda _: None
        return
    began, state = time.monotonic(), {"now": "", "fits": 0}
    about = f", {spoken(seconds)}" if seconds else ""
    console.print(f"{what}{about}. Ctrl-C stops it.", style="dim", highlight=False)
    logger, count = logging.getLogger("deconf.front"), _Fits(state)
    level = logger.level
    logger.addHandler(count)
    logger.setLevel(logging.INFO)
    try:
        with console.status(_Line(state, began), spinner="dots"):
            yield lambda now: state.update(now=str(now))
    finally:
        logger.removeHandler(count)
        logger.setLevel(level)
    console.print(f"Took {time.monotonic() - began:.0f} s.", style="dim", highlight=False)


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


class _Line:
    """What stands beside the spinner, drawn anew each time."""

    def __init__(self, state: dict[str, Any], began: float) -> None:
        self.state, self.began = state, began

    def __rich__(self) -> Text:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        fits = self.state["fits"]
        fitted = f"fitted {fits} time{'s' if fits > 1 else ''}" if fits else ""
        parts = [f"{minutes}:{seconds:02d}", fitted, self.state["now"]]
        return Text("  ".join(p for p in parts if p), no_wrap=True, overflow="ellipsis")


class _Fits(logging.Handler):
    """Counts the fits that the front door logs."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        self.state = state

    def emit(self, record: logging.LogRecord) -> None:
        self.state["fits"] += "fitted" in record.getMessage()


def _stderr() -> Console:
    # Made when needed: a console keeps the stream of the moment, and tests change it.
    return Console(file=sys.stderr, highlight=False)
