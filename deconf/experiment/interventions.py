"""Edits of real films: which step of the workflow a disease score reacts to, raw and cleaned."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import deconf
from deconf.cohort.cohort import Cohort
from deconf.cohort.splits import patient_split, strata
from deconf.errors import OverlapWarning, SettingsError, did_you_mean, listing
from deconf.experiment.answer import Found, Job
from deconf.experiment.config import Config, EditSetting
from deconf.experiment.data import encoder_of
from deconf.hypotheses import interventions as known
from deconf.hypotheses.interventions import Intervention
from deconf.hypotheses.reactions.result import Reactions
from deconf.probes.head import choose_strength, fit_head

QUICK = 16  # films of a quick run


def run_interventions(
    cohort: Cohort,
    config: Config,
    encoder: Any,
    *,
    quick: bool,
    progress: Callable[[str], object],
) -> tuple[pd.DataFrame, str, Reactions]:
    """Fit cleaner and heads on some patients, edit the films of the others.

    Both heads and the cleaner are fitted on the stored embeddings of the training patients; the
    ridge is chosen on the raw ones.  Returns the tidy table, the text, and the result.
    """
    asked = config.interventions
    if asked is None:
        raise ValueError("run_interventions needs a config of kind 'interventions'")
    outcome, films = cohort.outcomes[0], QUICK if quick else asked.films
    kinds = strata(cohort.table, [asked.confounder, outcome])
    train, test = patient_split(
        cohort.patients, films / len(cohort), strata=kinds, seed=config.seed
    )
    learnt, edited = cohort.subset(train), cohort.subset(test)
    cleaner = deconf.deconfound("stored", [asked.confounder], method=asked.method, seed=config.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OverlapWarning)
        clean = cleaner.fit(learnt)
    y = learnt.table[outcome].to_numpy(dtype=float)
    has = np.flatnonzero(~np.isnan(y))
    raw = learnt.embeddings[has]  # type: ignore[index]  # it reads embeddings: a config says so
    strength = choose_strength(raw, y[has], patients=learnt.patients[has], seed=config.seed)
    heads = {
        name: fit_head(z, y[has], strength=strength)
        for name, z in (("raw", raw), ("clean", clean.embed(learnt)[has]))
    }
    found = deconf.intervene(
        {"raw": encoder, "clean": clean},
        edited,
        {edit.name: edit_of(edit) for edit in asked.edits},
        score=heads,
        doses=asked.doses,
        margin=asked.margin,
        seed=config.seed,
        progress=lambda done, total: _tell(progress, done, total),
    )
    return found.to_frame(), _text(config, found, learnt, clean), found


def edit_of(setting: EditSetting) -> Intervention:
    """Return the edit of a config.

    Raises
    ------
    SettingsError
        No such class, or it has no such setting.
    """
    names = [n for n in known.__all__ if isinstance(getattr(known, n), type)]
    if setting.kind not in names:
        raise SettingsError(
            f"no edit is called {setting.kind!r}.{did_you_mean(setting.kind, names)} "
            f"Known: {listing(names, 20)}."
        )
    try:
        one = getattr(known, setting.kind)(**setting.settings)
    except TypeError as error:
        raise SettingsError(f"{setting.name!r}: {error}.") from error
    if not isinstance(one, Intervention):
        raise SettingsError(f"{setting.kind!r} is no edit. Known: {listing(names, 20)}.")
    return one


def _tell(progress: Callable[[str], object], done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        progress(f"{done} of {total} films edited and embedded")


def _text(config: Config, found: Reactions, learnt: Cohort, clean: Any) -> str:
    """Return title, paragraph and the ranked table."""
    asked, unit = config.interventions, found.study.unit
    lines = [
        config.title,
        f"Encoder: {config.encoder}. Heads and cleaner ({clean.method}, of "
        f"{asked.confounder!r}) fitted on {len(learnt):,} films of "  # type: ignore[union-attr]
        f"{len(np.unique(learnt.patients)):,} other patients.",
        "",
        str(found),
        "",
        f"Moves in {unit} [95 % over patients]; shift likewise, signed; embedding in its spread.",
    ]
    for name in found.names:
        part = found.ranking[found.ranking["representation"] == name]
        wide = max(len(n) for n in part["intervention"])
        lines += [
            "",
            name,
            " " * (wide + 2) + f"{'moves':>20}{'shift':>24}{'embedding':>20}  verdict",
        ]
        for _, row in part.iterrows():
            edit = row["intervention"]
            cells = [
                found.effect(edit, metric, representation=name)
                for metric in ("score moves", "score shifts", "embedding moves")
            ]
            lines.append(
                f"{edit:<{wide + 2}}{cells[0]!s:>20}{cells[1]!s:>24}{cells[2]!s:>20}  "
                f"{row['verdict']}, {row['films']} films: {row['setting']}"
            )
    return "\n".join(lines)


def answered(job: Job) -> Found:
    """Answer a config of this kind."""
    data = job.config.data
    if data is None or data.images is None:
        raise ValueError("kind 'interventions' needs [data.images]")
    table, text, reactions = run_interventions(
        job.films,
        job.config,
        encoder_of(data.images),
        quick=job.quick,
        progress=job.progress,
    )
    return Found(table, text, {"figure.png": reactions.save})
