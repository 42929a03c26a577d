"""Site as confounder: what the whole archive allows, and what the sites with both classes allow."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import deconf
from deconf.cohort.cohort import Cohort
from deconf.errors import OverlapWarning
from deconf.experiment.answer import Found, Job
from deconf.experiment.config import Config


def run_sites(
    cohort: Cohort, config: Config, *, quick: bool, progress: Callable[[str], object]
) -> tuple[pd.DataFrame, str, Any]:
    """Plan on every site, leave each site out in turn, then study the sites holding both classes.

    Returns the tidy table of both comparisons, the text, and the report of the second.
    """
    sites = config.sites
    if sites is None:
        raise ValueError("run_sites needs a config of kind 'sites'")
    column, outcome = sites.confounder, cohort.outcomes[0]
    cleaners = {
        method: deconf.deconfound("stored", [column], method=method, seed=config.seed)
        for method in sites.methods
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OverlapWarning)  # the plan below says it in full
        plan = next(iter(cleaners.values())).plan(cohort)
        progress("every site, each left out in turn")
        whole = deconf.compare(cleaners, cohort, hold_out=column, seed=config.seed)
        both = _sites_with_both(cohort, column, outcome)
        part = cohort.subset(cohort.table[column].isin(both).to_numpy())
        progress(f"the sites with both classes: {', '.join(both)}")
        inside = deconf.compare(cleaners, part, folds=2 if quick else sites.folds, seed=config.seed)
    frames = [
        whole.to_frame().assign(study="every site, each left out in turn"),
        inside.to_frame().assign(study=f"patient-grouped folds of {', '.join(both)}"),
    ]
    text = "\n".join(
        [
            config.title,
            f"{len(cohort):,} films of {len(np.unique(cohort.patients)):,} patients; encoder: "
            f"{config.encoder}.",
            "",
            "PLAN, every site",
            str(plan),
            "",
            "EVERY SITE, EACH LEFT OUT IN TURN",
            str(whole),
            "",
            f"WHAT IS IDENTIFIED: sites with both classes ({', '.join(both)})",
            str(next(iter(cleaners.values())).plan(part)),
            "",
            str(inside),
        ]
    )
    return pd.concat(frames, ignore_index=True), text, inside


def _sites_with_both(cohort: Cohort, column: str, outcome: str) -> list[str]:
    table = cohort.table.dropna(subset=[outcome])
    classes = table.groupby(column, observed=True)[outcome].nunique()
    return sorted(classes[classes > 1].index.astype(str))


def answered(job: Job) -> Found:
    """Answer a config of this kind."""
    table, text, report = run_sites(job.films, job.config, quick=job.quick, progress=job.progress)
    return Found(table, text, {"report.html": report.save})
