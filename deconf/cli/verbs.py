"""``deconf plan``, ``fit``, ``compare`` and ``audit``: the verbs of the library on files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from deconf.cli.cards import guarantees
from deconf.cli.estimate import audit_seconds, compare_seconds, fit_seconds
from deconf.cli.options import (
    HOW,
    REMOVAL,
    Alarm,
    AtInference,
    Confounders,
    Effort,
    Embedding,
    Folds,
    Given,
    Graph,
    HoldOut,
    HowHard,
    Image,
    ImageFolder,
    MaybeConfounders,
    MaybeEmbedding,
    MethodName,
    MethodSettings,
    Missing,
    OnMissing,
    Outcome,
    Patient,
    Seed,
    Site,
    Table,
    cleaner_from,
    read_cohort,
    read_given,
    read_graph,
)
from deconf.cli.terminal import say, say_verdicts, working
from deconf.errors import SettingsError, did_you_mean


def plan(
    table: Table,
    confounder: Confounders,
    embedding: MaybeEmbedding = None,
    image: Image = None,
    image_folder: ImageFolder = None,
    patient: Patient = None,
    site: Site = None,
    outcome: Outcome = None,
    on_missing: OnMissing = Missing.error,
    graph: Graph = None,
    given: Given = None,
    method: MethodName = "auto",
    settings: MethodSettings = None,
) -> None:
    """Say what the graph demands, whether the table allows it, and what would be done.

    Fits nothing.

    Example: deconf plan studies.csv -c portable -y pneumonia --patient patient_id
    """
    cohort = read_cohort(
        table,
        embedding=embedding,
        image=image,
        folder=image_folder,
        patient=patient,
        site=site,
        outcome=outcome,
        on_missing=on_missing.value,
    )
    cleaner = cleaner_from(
        confounder,
        graph=graph,
        given=given,
        method=method,
        settings=settings,
        at_inference=False,
        seed=0,
    )
    say(str(cleaner.plan(cohort)))


def fit(
    table: Table,
    embedding: Embedding,
    confounder: Confounders,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Where the map is written.",
            rich_help_panel=HOW,
        ),
    ],
    image: Image = None,
    image_folder: ImageFolder = None,
    patient: Patient = None,
    site: Site = None,
    outcome: Outcome = None,
    on_missing: OnMissing = Missing.error,
    graph: Graph = None,
    given: Given = None,
    method: MethodName = "auto",
    settings: MethodSettings = None,
    at_inference: AtInference = False,
    seed: Seed = 0,
    certify: Annotated[
        bool,
        typer.Option(
            "--certify",
            help="Also audit the procedure, fitted anew on half of the patients, and write "
            "certificate.json.",
            rich_help_panel=HOW,
        ),
    ] = False,
) -> None:
    """Fit a map that takes the confounders out of embeddings, and save it.

    Example: deconf fit studies.csv -e z.npz -c site -y pneumonia --patient patient_id -o clean/
    """
    _require_folder(out)
    cohort = read_cohort(
        table,
        embedding=embedding,
        image=image,
        folder=image_folder,
        patient=patient,
        site=site,
        outcome=outcome,
        on_missing=on_missing.value,
    )
    cleaner = cleaner_from(
        confounder,
        graph=graph,
        given=given,
        method=method,
        settings=settings,
        at_inference=at_inference,
        seed=seed,
    )
    with working("Fitting", seconds=fit_seconds(*_size(cohort), method)):
        clean = cleaner.fit(cohort)
    clean.save(out)
    say(f"Fitted on {len(cohort):,} rows: {clean.method}")
    say(clean.plan.headline)
    say()
    say("Asked for (an audit says what holds)")
    for invariance in clean.plan.distinct():
        say(f"  {invariance}")
    for promised in guarantees(clean.method):
        say(f"  {promised}")
    if clean.reasons:
        say("Why")
    for reason in clean.reasons:
        say(f"  - {reason}")
    if certify:
        rows, width = _size(cohort)
        seconds = fit_seconds(rows // 2, width, method)
        seconds += audit_seconds(rows // 2, width, len(confounder), "quick")
        with working("Certifying", seconds=seconds):
            certificate = clean.certificate
        clean.save(out)
        say()
        say_verdicts(str(certificate))
    say()
    say(f"Saved: {out.resolve()}")
    say(f'In Python: deconf.load("{out}").embed(cohort)')
    if certify:
        words = ["deconf", "verify", str(out), str(table), "-e", embedding]
        words += ["--on-missing", "drop"] if on_missing is Missing.drop else []
        typer.echo(f"Anybody with the table: {shlex.join(words)}")  # unbroken, to be copied


def compare(
    table: Table,
    embedding: Embedding,
    confounder: Confounders,
    outcome: Outcome,
    image: Image = None,
    image_folder: ImageFolder = None,
    patient: Patient = None,
    site: Site = None,
    on_missing: OnMissing = Missing.error,
    graph: Graph = None,
    given: Given = None,
    method: MethodName = "auto",
    settings: MethodSettings = None,
    at_inference: AtInference = False,
    hold_out: HoldOut = None,
    folds: Folds = 5,
    effort: HowHard = Effort.quick,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Report as .html, .json, .csv or .parquet.",
            rich_help_panel=HOW,
        ),
    ] = None,
) -> None:
    """Compare raw and clean embeddings on patients that neither has seen.

    What still leaks, what the task costs, what else was lost; the map is fitted anew in every
    fold.

    Example: deconf compare studies.csv -e z.npz -c site -y pneumonia --patient patient_id
    --hold-out site -o report.html
    """
    if out is not None:
        _require_report(out)
    cohort = read_cohort(
        table,
        embedding=embedding,
        image=image,
        folder=image_folder,
        patient=patient,
        site=site,
        outcome=outcome,
        on_missing=on_missing.value,
    )
    cleaner = cleaner_from(
        confounder,
        graph=graph,
        given=given,
        method=method,
        settings=settings,
        at_inference=at_inference,
        seed=seed,
    )
    import deconf

    parts = cohort.table[hold_out].nunique() if hold_out in cohort.table else folds
    seconds = compare_seconds(*_size(cohort), method, parts, effort.value)
    with working(f"Comparing, {effort.value} effort", seconds=seconds, spin=False):
        report = deconf.compare(
            {"raw": "stored", "clean": cleaner},
            cohort,
            hold_out=hold_out,
            folds=folds,
            effort=effort.value,
            seed=seed,
        )
    typer.echo(str(report))
    if out is not None:
        report.save(out)
        typer.echo(f"\nSaved: {out.resolve()}")


def audit(
    table: Table,
    embedding: Embedding,
    confounder: MaybeConfounders = None,
    image: Image = None,
    image_folder: ImageFolder = None,
    patient: Patient = None,
    site: Site = None,
    outcome: Outcome = None,
    on_missing: OnMissing = Missing.error,
    graph: Graph = None,
    given: Given = None,
    cleaner: Annotated[
        Path | None,
        typer.Option(
            "--cleaner",
            metavar="FOLDER",
            help="Clean the embeddings first with what 'deconf fit' saved.  Its own training "
            "patients are refused.  Default confounders: those it was fitted for.",
            rich_help_panel=REMOVAL,
        ),
    ] = None,
    effort: HowHard = Effort.quick,
    seed: Seed = 0,
    fail_if: Annotated[
        list[Alarm] | None,
        typer.Option(
            "--fail-if",
            metavar="leaks|undecided",
            help="Exit with status 1 on this verdict; may be given several times.",
            rich_help_panel=HOW,
        ),
    ] = None,
) -> None:
    """Let fresh attackers try to read the confounders: clean, leaks or undecided.

    Example: deconf audit new.csv -e z.npz -c site -y pneumonia --patient patient_id
    --fail-if leaks
    """
    import deconf
    from deconf.maths.kinds import is_categorical

    deconf.methods  # noqa: B018  # the kinds of map that a folder may hold are registered there
    representation = deconf.load(cleaner) if cleaner is not None else "stored"
    names = confounder or list(getattr(getattr(representation, "plan", None), "invariances", ()))
    if not names:
        raise SettingsError("name what to look for: --confounder site, or --cleaner FOLDER.")
    cohort = read_cohort(
        table,
        embedding=embedding,
        image=image,
        folder=image_folder,
        patient=patient,
        site=site,
        outcome=outcome,
        on_missing=on_missing.value,
    )
    numbers = sum(c in cohort.table and not is_categorical(cohort.table[c]) for c in names)
    seconds = audit_seconds(*_size(cohort), len(names), effort.value, numbers=numbers)
    with working(f"Auditing, {effort.value} effort", seconds=seconds):
        found = deconf.audit(
            representation,
            cohort,
            names,
            given=read_given(given),
            graph=read_graph(graph),
            effort=effort.value,
            seed=seed,
        )
    say_verdicts(str(found))
    failed = [name for name, verdict in found.verdict.items() if str(verdict) in (fail_if or ())]
    if failed:
        say()
        say_verdicts(f"Failed: {', '.join(f'{name} {found.verdict[name]}' for name in failed)}")
        raise typer.Exit(1)


def _size(cohort: Any) -> tuple[int, int]:
    return len(cohort), int(cohort.embeddings.shape[-1])


def _require_folder(out: Path) -> None:
    """Raise before any work where a map cannot be saved, or would fall among other files."""
    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {str(out)!r} is a file: name a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / "deconf.json").is_file():
        raise SettingsError(
            f"--out {str(out)!r} holds other files and no saved map: name a new folder."
        )


def _require_report(out: Path) -> None:
    """Raise before any work where a report could not be written after it."""
    from deconf.evidence.report import SUFFIXES

    if out.suffix.lower() not in SUFFIXES:
        raise SettingsError(
            f"--out {str(out)!r}: a report is saved as {', '.join(SUFFIXES)}."
            f"{did_you_mean(out.suffix.lower(), SUFFIXES)}"
        )
    if not out.resolve().parent.is_dir():
        raise SettingsError(f"there is no folder {str(out.parent)!r} for --out: make it first.")
