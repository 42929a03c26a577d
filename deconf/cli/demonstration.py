"""``deconf demo``: the whole way once, on a simulated world whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from deconf.evidence.report import Report

WORST = "worst environment"
FIGURES = {
    WORST: "worst\nenvironment",
    "pooled": "as in\ntraining",
    "portable: within levels": "within\nportable",
}


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the report is written.")
    ] = Path("deconf-demo"),
    films: Annotated[int, typer.Option("--films", min=400, help="Size of the world.")] = 8000,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same numbers.")] = 0,
) -> None:
    """Simulate hospitals with a portable scanner, plan, clean, compare and judge.

    Works offline, in about two minutes; ends with the path of a report to open in a browser.
    """
    from rich.console import Console

    import deconf
    from deconf.cli.estimate import compare_seconds
    from deconf.cli.terminal import say, say_verdicts, width, working
    from deconf.errors import SettingsError

    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {str(out)!r} is a file: name a folder.")
    world = deconf.worlds.linear(trace="shift", sites=4, n=films, d=32, seed=seed)
    cohort = world.train().cohort
    say(
        f"The world: {films:,} simulated films from 4 hospitals, each an embedding of {world.d} "
        "numbers.\n"
        "Sicker patients get the portable scanner; it shifts the embedding, and so does each "
        "hospital.\n"
        "A model of pneumonia can therefore lean on the scanner. This takes scanner and site out."
    )
    cleaner = deconf.deconfound("stored", world.confounders, graph=world.graph, seed=seed)
    _title("THE PLAN")
    say(str(cleaner.plan(cohort)))
    say()
    with working("Comparing", seconds=compare_seconds(films, world.d, "auto", 4), spin=False):
        report = deconf.compare(
            {"raw": "stored", "clean": cleaner}, cohort, hold_out="site", seed=seed
        )
    _title("THE TABLE")
    Console(width=width(), highlight=False).print(_table(report))
    say()
    say("AUROC of pneumonia, each hospital judged by models that never met it [95 % by patient].")
    say("Leak: AUROC of the strongest attacker among films alike in pneumonia; 0.5 is blind.")
    _title("THE VERDICTS")
    for sentence in report.sentences():
        say_verdicts(f"  {sentence}")
    say()
    say(f"In short: {_in_short(report)}")
    out.mkdir(parents=True, exist_ok=True)
    page = report.save(out / "report.html")
    say()
    say("The full report, for a browser:")
    typer.echo(str(page.resolve()))


def _title(text: str) -> None:
    typer.echo(f"\n{typer.style(text, bold=True)}\n")


def _table(report: Report) -> Table:
    """Return one row per representation: three figures of the task, and what leaks."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    for head in (*FIGURES.values(), *(f"leak of\n{c}" for c in report.confounders)):
        table.add_column(head, justify="right", no_wrap=True)
    cells = _cells(report)
    for name in report.names:
        figures = [_figure(cells[name, environment]) for environment in FIGURES]
        verdicts = [report.verdict.get((name, c)) for c in report.confounders]
        leaks = ["" if v is None else f"{v.estimate.estimate:.2f}" for v in verdicts]
        table.add_row(name, *figures, *leaks)
    return table


def _cells(report: Report) -> dict[tuple[str, str], Any]:
    """Return the AUROC rows by representation and environment."""
    frame = report.to_frame()
    rows: Any = frame[frame["metric"] == "AUROC"].itertuples()
    return {(row.representation, row.environment): row for row in rows}


def _in_short(report: Report) -> str:
    """Return before and after in a sentence."""
    cells = _cells(report)
    raw, clean = (cells[name, WORST].estimate for name in ("raw", "clean"))
    said = []
    for confounder in report.confounders:
        before, after = (report.verdict[name, confounder] for name in ("raw", "clean"))
        said.append(
            f"{confounder} at {before.estimate.estimate:.2f} before and "
            f"{after.estimate.estimate:.2f} after (luck: {after.floor:.2f})"
        )
    return (
        f"attackers read {', '.join(said)}; in the worst environment the AUROC of "
        f"{report.tasks[0]} goes from {raw:.2f} to {clean:.2f}."
    )


def _figure(row: Any) -> str:
    if row.status != "ok":
        return str(row.status)
    return f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}]"
