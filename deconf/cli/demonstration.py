"""``deconf demo``: the whole way once, from films to a report, in a world whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from deconf.evidence.report import Report

ENCODER = "zoo:phantom"
WORST = "worst environment"
FIGURES = {
    WORST: "worst\nenvironment",
    "pooled": "as in\ntraining",
    "portable: within levels": "within\nportable",
}


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Films and report go here.")
    ] = Path("deconf-demo"),
    films: Annotated[
        int, typer.Option("--films", min=600, help="How many radiographs are simulated.")
    ] = 3000,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same numbers.")] = 0,
) -> None:
    """Simulate chest radiographs of four hospitals, embed, plan, clean, compare and judge.

    Works offline, in about three minutes; ends with the path of a report to open in a browser.
    """
    from rich.console import Console

    import deconf
    from deconf.cli.estimate import compare_seconds
    from deconf.cli.terminal import say, say_verdicts, width, working
    from deconf.errors import SettingsError

    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {str(out)!r} is a file: name a folder.")
    out.mkdir(parents=True, exist_ok=True)
    world = deconf.worlds.radiograph(n=films, sites=4, seed=seed)
    say(
        f"The world: {films:,} simulated chest radiographs from 4 hospitals.\n"
        "Sicker patients get the portable scanner. It burns a marker into the film, and its films "
        "are softer and noisier, the heart larger; every hospital has scanners of its own.\n"
        "A model of pneumonia can therefore lean on the scanner. This takes scanner and site out."
    )
    with _step("Developing the films"):
        cohort = _developed(world, out / "films")
    say(f"Look at some: {(out / 'films').resolve()}")
    encoder = deconf.load_encoder(ENCODER)
    with _step("Embedding them"):
        z = encoder.embed(cohort)
    cohort = cohort.with_embeddings(z)
    say(f"Embedded by {encoder!r}")
    cleaner = deconf.deconfound(encoder, world.confounders, graph=world.graph, seed=seed)
    _title("THE PLAN")
    say(str(cleaner.plan(cohort)))
    say()
    seconds = compare_seconds(films, z.shape[1], "auto", 4)
    with working("Comparing", seconds=seconds, spin=False):
        report = deconf.compare(
            {"raw": encoder, "clean": cleaner}, cohort, hold_out="site", seed=seed
        )
    _title("THE TABLE")
    Console(width=width(), highlight=False).print(_table(report))
    say()
    say("AUROC of pneumonia, each hospital judged by models that never met it [95 % by patient].")
    say("Leak: AUROC of the strongest attacker among films alike in pneumonia; 0.5 is blind.")
    _title("THE VERDICTS")
    for sentence in report.sentences():
        say_verdicts(f"  {sentence}")
    _title("THE SAME PATIENT ON BOTH SCANNERS")
    with _step("Fitting on all films"):
        told = _counterfactual(world, encoder, cleaner, cohort, seed)
    say(told)
    say()
    say(f"In short: {_in_short(report)}")
    page = report.save(out / "report.html")
    say()
    say("The full report, for a browser:")
    typer.echo(str(page.resolve()))


def _developed(world: Any, folder: Path) -> Any:
    """Write the films of the world, or read back those of an earlier run that are the same."""
    import pandas as pd

    from deconf.cohort.cohort import Cohort
    from deconf.errors import SettingsError

    draw = world.train()
    listed = folder / "studies.csv"  # written last: where it stands, every film is there
    if not listed.is_file():
        return draw.save(folder)
    found = pd.read_csv(listed)
    if (
        list(found.get("image", ())) != list(draw.table["image"])
        or not (found["severity"].to_numpy() == draw.table["severity"].to_numpy()).all()
    ):
        raise SettingsError(
            f"{str(folder)!r} holds the films of another demo (other --films or --seed): name "
            "another folder with --out, or delete that one."
        )
    return Cohort.read(listed, image="image", patient="patient", outcome="pneumonia", site="site")


@contextmanager
def _step(what: str) -> Iterator[None]:
    from deconf.cli.terminal import working

    with working(what):
        yield


def _counterfactual(world: Any, encoder: Any, cleaner: Any, cohort: Any, seed: int) -> str:
    """Say how far the score moves with the device alone, before and after."""
    import dataclasses

    import deconf
    from deconf.experiment.phantom import counterfactual, with_heads

    stored = dataclasses.replace(cleaner, encoder=deconf.load_encoder("stored"))
    trained = with_heads(stored.fit(cohort), cohort, seed=seed)
    raw, clean, cut = counterfactual(world, encoder, trained, 300, seed=seed)
    return (
        "300 new patients, each filmed twice, anatomy and noise the same. Portable or not moves "
        f"the score of pneumonia by {raw['estimate']:.2f} standard deviations raw and by "
        f"{clean['estimate']:.2f} clean: {cut['estimate']:.1f} times less "
        f"[{cut['low']:.1f}, {cut['high']:.1f}]."
    )


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
