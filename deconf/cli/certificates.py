"""``deconf verify``: a saved cleaner, its certificate made once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deconf.cli.estimate import audit_seconds, fit_seconds
from deconf.cli.options import (
    HOW,
    ImageFolder,
    MaybeEmbedding,
    Missing,
    OnMissing,
    Table,
    read_cohort,
)
from deconf.cli.terminal import say, working
from deconf.errors import SettingsError


def verify(
    cleaner: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="What 'deconf fit --certify' saved."),
    ],
    table: Table,
    embedding: MaybeEmbedding = None,
    image_folder: ImageFolder = None,
    on_missing: OnMissing = Missing.error,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            min=0,
            help="How far an AUROC may be off on another machine, 0.02 unless said; 0 asks for the "
            "same bits.",
            rich_help_panel=HOW,
        ),
    ] = None,
) -> None:
    """Make the certificate of a cleaner again, and say line by line what agrees.

    TABLE and embeddings are those of the certificate, which knows the columns.  Exits 1 where
    anything differs.

    Example: deconf verify clean/ studies.csv -e z.npz
    """
    import deconf
    from deconf.verification import TOLERANCE

    deconf.methods  # noqa: B018  # the kinds of map that a folder may hold are registered there
    clean = deconf.load(cleaner)
    certificate = clean.certificate
    if clean.encoder.is_stored and embedding is None:
        raise SettingsError("the certificate is on stored embeddings: name them, --embedding FILE.")
    roles = certificate.sample.roles
    outcome = roles["outcome"]
    cohort = read_cohort(
        table,
        embedding=embedding,
        image=roles["image"],
        folder=image_folder,
        patient=roles["patient"],
        site=roles["site"],
        outcome=[outcome] if isinstance(outcome, str) else outcome,
        on_missing=on_missing.value,
    )
    rows, width = len(cohort), clean.width
    method = certificate.settings["method"]["name"]
    fits = fit_seconds(rows, width, method) + fit_seconds(rows // 2, width, method)
    seconds = fits * (certificate.certifies == "procedure")
    seconds += audit_seconds(rows // 2, width, len(certificate.findings), certificate.effort)
    with working("Verifying", seconds=seconds):
        found = deconf.verify(
            clean, cohort, tolerance=TOLERANCE if tolerance is None else tolerance
        )
    say(str(found))
    if not found.passed:
        raise typer.Exit(1)
