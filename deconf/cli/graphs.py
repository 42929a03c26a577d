"""``deconf graph``: a causal graph asked for, told in sentences, drawn, put to the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deconf.cli.options import Graph, Patient, Seed, read_graph
from deconf.errors import SettingsError


def graph(
    graph: Graph = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table", "-t", metavar="TABLE", help="Columns to check names against, and --falsify."
        ),
    ] = None,
    confounder: Annotated[
        list[str] | None,
        typer.Option("--confounder", "-c", metavar="COLUMN", help="Told and drawn as workflow."),
    ] = None,
    falsify: Annotated[
        bool, typer.Option("--falsify", help="Test what the graph implies on the rows of --table.")
    ] = False,
    rows: Annotated[
        int, typer.Option("--rows", help="Patients the test is run on; its cost grows fast.")
    ] = 300,
    patient: Patient = None,
    draw: Annotated[
        Path | None,
        typer.Option("--draw", metavar="FILE", help="Write a picture: .png, .svg or .pdf."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the graph as text, for --graph."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Ask six questions (or take --graph), say the graph in sentences, draw it, test it.

    Example: deconf graph -t studies.csv -o graph.txt

    Example: deconf graph -g graph.txt -t studies.csv --falsify --patient patient_id
    """
    from deconf.causal.graph import CausalGraph
    from deconf.cli.terminal import say, working
    from deconf.cohort.store import read_table

    if falsify and table is None:
        raise SettingsError("--falsify tests a graph on a table: name it, --table studies.csv.")
    frame = None if table is None else read_table(table)[0]
    if graph is None:
        made = CausalGraph.ask(None if frame is None else list(frame.columns), show=say)
    else:
        made = read_graph(graph)
        say("\n".join([*made.sentences(confounder or ()), "", str(made)]))
    if draw is not None:
        made.draw(deleted=confounder or ()).savefig(draw, dpi=130)
        say(f"Drawn: {draw}")
    if out is not None:
        out.write_text(f"{made}\n", encoding="utf-8")
        say(f"Written: {out}")
    if falsify and frame is not None:
        with working("testing what the graph implies"):
            found = made.falsify(frame, patient=patient, rows=rows, seed=seed)
        say(str(found))
