"""``deconf effect``: whether a cause itself changes a finding or a score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deconf.cli.options import (
    COLUMNS,
    HOW,
    Given,
    Graph,
    MaybeEmbedding,
    Missing,
    OnMissing,
    Outcome,
    Patient,
    Seed,
    Table,
    read_cohort,
    read_given,
    read_graph,
)
from deconf.cli.terminal import murmur, say, working
from deconf.errors import SettingsError

QUESTION, TESTS = "The question", "What tests the answer"


def effect(
    table: Table,
    cause: Annotated[
        str,
        typer.Option(metavar="COLUMN", help="What may do something.", rich_help_panel=QUESTION),
    ],
    effect: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help='What it may change: a column, or "head score", the log-odds of --outcome from '
            "the embedding.",
            rich_help_panel=QUESTION,
        ),
    ],
    graph: Graph = None,
    given: Given = None,
    not_through: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Leave out what passes through this mediator: a direct effect; may be given "
            "several times.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL", help="Level of --cause to compare with.", rich_help_panel=QUESTION
        ),
    ] = None,
    within: Annotated[
        bool,
        typer.Option(
            "--within-patient",
            help="Also compare films of the same patient; where no adjustment is identified, that "
            "is the answer.",
            rich_help_panel=QUESTION,
        ),
    ] = False,
    negative_outcome: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN[=detection]",
            help="An outcome that --cause cannot touch; catches confounding, or with =detection "
            "what is seen or reported; may be given several times.",
            rich_help_panel=TESTS,
        ),
    ] = None,
    negative_exposure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN[=detection]",
            help="A cause that cannot touch --effect.",
            rich_help_panel=TESTS,
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="A smaller effect counts as none: a ratio (default 1.25), for numbers standard "
            "deviations (0.1).",
            rich_help_panel=HOW,
        ),
    ] = None,
    patient: Patient = None,
    outcome: Outcome = None,
    embedding: MaybeEmbedding = None,
    on_missing: OnMissing = Missing.error,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The designs as .csv.", rich_help_panel=COLUMNS
        ),
    ] = None,
) -> None:
    """Estimate an effect, try to refute it, and say what the answer is worth.

    Example: deconf effect studies.csv --cause portable --effect score --patient patient_id
    --graph "severity -> portable -> image; severity -> image"
    """
    if out is not None and out.suffix.lower() != ".csv":
        raise SettingsError(f"--out {str(out)!r}: the table is saved as .csv.")
    if out is not None and not out.parent.is_dir():
        raise SettingsError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}.")
    if within and not_through:
        raise SettingsError("--within-patient holds no mediator: leave --not-through out.")
    if within and patient is None:
        raise SettingsError("--within-patient needs --patient: name the column of patients.")
    import deconf

    cohort = read_cohort(
        table,
        embedding=embedding,
        image=None,
        folder=None,
        patient=patient,
        site=None,
        outcome=outcome,
        on_missing=on_missing.value,
    )
    settings = {
        "graph": read_graph(graph),
        "given": read_given(given),
        "reference": reference,
        "negative_outcomes": _controls(negative_outcome),
        "negative_exposures": _controls(negative_exposure),
        "margin": margin,
        "seed": seed,
        "progress": murmur,
    }
    with working("Estimating and refuting", spin=False):
        if not_through:
            found = deconf.direct_effect(cause, effect, cohort, not_through=not_through, **settings)  # type: ignore[arg-type]
        else:
            found = deconf.total_effect(
                cause, effect, cohort, within="patient" if within else None, **settings  # type: ignore[arg-type]
            )  # fmt: skip
    say(str(found))
    say()
    say(f"Estimand: {found.formula}")
    say()
    tests = found.refutations.reindex(columns=["refuter", "catches", "refuted", "result"])
    typer.echo(tests.to_string(index=False, float_format="%.4g"))
    typer.echo()
    for row in found.sensitivity.itertuples():
        say(f"{row.measure}: {row.says}.")
    if out is not None:
        found.to_frame().to_csv(out, index=False, float_format="%.6g")
        typer.echo(f"\nSaved: {out.resolve()}")


def _controls(said: list[str] | None) -> dict[str, str]:
    """Read ``hernia`` or ``hernia=detection``."""
    pairs = [one.rpartition("=") if "=" in one else (one, "", "") for one in said or ()]
    return {name: catches or "confounding" for name, _, catches in pairs}
