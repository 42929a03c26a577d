"""``deconf methods``: the registry of methods as a table, or one card."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any

import typer

NEEDS = {
    "levels": "confounders with levels, not numbers",
    "outcome": "an outcome",
    "pairs": "films of the same patients at different levels",
}


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One method, with its settings.")
    ] = None,
) -> None:
    """List the methods, or tell all about one."""
    import deconf

    if name is None:
        _table()
    else:
        _card(name, deconf.methods.card(name))


def guarantees(fitted: str) -> list[str]:
    """Return what the methods of a fitted cleaner promise, by their cards.

    Parameters
    ----------
    fitted : str
        As ``clean.method`` has it: "irm", "auto: leace (pooled)", "leace then leace".

    Examples
    --------
    >>> guarantees("auto: reweight")
    ['reweight promises: a weighted head has no reason to use c; c stays readable in the embedding']
    """
    import deconf

    known = set(deconf.methods.names())
    words = [re.split(r"[ ,(]", one.split(": ")[-1])[0] for one in fitted.split(" then ")]
    names = dict.fromkeys(word for word in words if word in known)
    return [f"{name} promises: {deconf.methods.card(name).guarantee}" for name in names]


def _table() -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    import deconf
    from deconf.cli.terminal import say, width

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("method", style="bold", no_wrap=True)
    table.add_column("what holds after fitting", ratio=1)
    table.add_column("reads the record", no_wrap=True)
    for name in deconf.methods.names():
        card = deconf.methods.card(name)
        reads = "of new images" if card.needs_confounders else ""
        table.add_row(name, card.guarantee, reads)
    Console(width=width(), highlight=False).print(table)
    say()
    say("One in full: deconf methods leace.  Use it: deconf fit ... --method leace")


def _card(name: str, card: Any) -> None:
    from deconf.cli.terminal import say
    from deconf.methods.base import methods as registry
    from deconf.methods.described import offered

    rows = {
        "holds": card.guarantee,
        "needs": ", ".join(NEEDS.get(need, need) for need in card.needs),
        "reads": "the image and its recorded confounder: --at-inference"
        if card.needs_confounders
        else "the image alone",
        "streams": "fits from moments, in one pass" if card.streams else "",
        "head": "its answer lies in the weights of the head" if card.head_weights else "",
        "cost": card.cost,
        "source": card.source,
    }
    say(name)
    for title, value in rows.items():
        if value:
            say(f"  {title:<9}{value}")
    if settings := offered(name):
        say()
        say("  settings, as --set NAME=VALUE")
    for setting, may_be, default in settings:
        usual = f"default {default}" if default else "has to be said"
        say(f"    {setting:<16}{may_be}; {usual}")
    say()
    typer.echo(f"deconf.methods.{registry[name].__name__}: {inspect.getdoc(registry[name])}")
