"""Representations side by side: what still leaks, what the task costs, what else was lost.

Whatever can be fitted is fitted anew on the training patients of every fold, so that nothing is
judged on a patient it has seen.  Beside what is passed stand four baselines: the raw embedding,
the metadata alone, a random projection of the same rank, and reweighting without erasure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from deconf.causal.graph import CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.evidence.external import external
from deconf.evidence.folds import Fold, folds_of, half_split, with_bar
from deconf.evidence.inspection import inspect
from deconf.evidence.judged import COLUMNS, judged
from deconf.evidence.own_head import selection_of
from deconf.evidence.pairs import pair_split
from deconf.evidence.pictures.pictures import Pictures, pictures_of, watched
from deconf.evidence.provenance import provenance
from deconf.evidence.questions import ask
from deconf.evidence.report import Report
from deconf.evidence.request import DRAWS, RANDOM, Request, checked
from deconf.evidence.scoring import Ledger, heads_told, score_fold
from deconf.evidence.sweep import shift_sweep
from deconf.evidence.tasks import Scores, Task
from deconf.maths.intervals import patient_weights
from deconf.maths.threads import one_thread
from deconf.probes.cells import levels_of
from deconf.probes.leakage import Effort


def compare(
    representations: Mapping[str, Any],
    cohort: Cohort,
    *,
    confounders: str | Sequence[str] | None = None,
    graph: CausalGraph | str | None = None,
    hold_out: str | None = None,
    folds: int = 5,
    tasks: str | Sequence[str] | None = None,
    seed: int = 0,
    effort: Effort = "quick",
    pictures: bool = True,
) -> Report:
    """Compare representations on patients that none of them has seen.

    Parameters
    ----------
    representations : mapping of name to representation
        An unfitted cleaner (`deconfound`), which is refitted in every fold; a fitted one; an
        encoder; ``"stored"``; or an (n, d) array in the order of the cohort.
    cohort : Cohort
    confounders : column or columns, optional
        Default: those of the cleaners.
    graph : CausalGraph or text, optional
        What all are held to, beside the graphs of the cleaners.
    hold_out : column, optional
        Its levels are left out in turn, say ``"site"``; default patient-grouped folds.
    folds : int
        Number of patient-grouped folds, without ``hold_out``.
    tasks : column or columns of two classes, optional
        Default: the outcomes of the cohort.  Rows without an outcome still help to fit.
    seed : int
    effort : "quick" or "full"
        Of the attackers, and of the bootstrap (500 or 1,000 draws).
    pictures : bool
        Keep what the page shows of held-out films: a map of the embeddings, and, where the cohort
        names image files, a few of the films themselves.

    Returns
    -------
    Report

    Raises
    ------
    SettingsError
        No confounder or task is known, a task is not of two classes, a name is taken.
    CohortError
        Columns or embeddings do not fit the cohort.
    LeakageError
        A fitted representation has seen some of these patients.

    Notes
    -----
    A figure that cannot be had (one class in a fold, no patients in a cell, a graph that
    identifies nothing) reads REFUSED with its reason and is averaged into nothing.

    An invariant-risk method (``irm``, ``dfr``, ...) is judged by the head that was trained with its
    map, where the task is the outcome of that head; the reasons say by which, and the column
    ``selection`` who chose it.

    With ``hold_out`` and four to six usable levels every pair of them is left out once more, to
    test what the others foretell of a level (`deconf.evidence.external`); with more only at
    "full" effort.
    """
    asked = checked(representations, cohort, confounders, graph, hold_out, folds, tasks, effort)
    parts = folds_of(cohort, hold_out, folds, seed)
    judged_tasks = _tasks(asked, cohort, parts, is_held_out=hold_out is not None)
    ledger = Ledger(len(cohort))
    half = half_split(cohort, parts, hold_out, seed)
    with one_thread(0 if cohort.embeddings is None else cohort.embeddings.size):
        for number, part in enumerate(with_bar(parts, "comparing, fold by fold")):
            score_fold(
                ledger,
                asked.contenders,
                judged_tasks,
                number,
                part,
                reference=asked.reference,
                fallback_rank=asked.fallback_rank,
                seed=seed,
            )
        attacked, shown = watched(asked)
        looked = inspect(
            attacked,
            half,
            cohort,
            layers=asked.layers,
            plans=asked.plans,
            reference=asked.reference,
            asked_columns=asked.columns,
            confounders=asked.confounders,
            tasks=list(asked.tasks),
            fallback_rank=asked.fallback_rank,
            effort=effort,
            draws=DRAWS[effort],
            seed=seed,
        )
        seen = Pictures()
        if pictures:
            seen = pictures_of(shown, asked, representations, cohort, half, seed=seed)
        weights = patient_weights(cohort.patients, DRAWS[effort], seed)
        weights = np.vstack([np.ones((1, len(cohort)), dtype=weights.dtype), weights])
        answers = ask(
            judged_tasks,
            {task.name: _scores(asked, task, ledger) for task in judged_tasks},
            cohort.table,
            looked.verdict,
            weights,
            plans=asked.plans,
            layers=asked.layers,
            effort=effort,
            seed=seed,
        )
        elsewhere = external(
            asked.contenders,
            judged_tasks,
            [] if hold_out is None else parts,
            ledger,
            reference=asked.reference,
            fallback_rank=asked.fallback_rank,
            effort=effort,
            seed=seed,
        )
    return Report(
        table=_table(asked, judged_tasks, ledger, weights, representations),
        leakage=looked.leakage,
        verdict=MappingProxyType(dict(looked.verdict)),
        lost=looked.lost,
        out_of_span=pd.DataFrame(ledger.spans, columns=["representation", "held out", "share"]),
        plans=MappingProxyType(asked.plans),
        names=asked.names,
        baselines=asked.baselines,
        reference=asked.reference,
        confounders=asked.confounders,
        tasks=tuple(asked.tasks),
        reasons=_unique(
            [
                *asked.notes,
                *heads_told(representations, ledger),
                *_ranks(ledger),
                *looked.reasons,
                *seen.reasons,
            ]
        ),
        warnings=_unique(_cautions(asked, ledger)),
        config=provenance(
            cohort,
            folds=[part.name for part in parts],
            hold_out=hold_out,
            attacked=f"{half.name}: {len(half.test):,} films",
            bootstraps=DRAWS[effort],
            effort=effort,
            seed=seed,
        ),
        sweep=_each(shift_sweep, asked, judged_tasks, ledger, weights),
        pairs=_each(pair_split, asked, judged_tasks, ledger, weights),
        questions=answers,
        external=elsewhere,
        neighbours=looked.neighbours,
        points=seen.points,
        films=seen.films,
    )


def _tasks(asked: Request, cohort: Cohort, parts: list[Fold], *, is_held_out: bool) -> list[Task]:
    table = cohort.table
    fold = np.full(len(cohort), -1)
    for number, part in enumerate(parts):
        fold[part.test] = number
    levels = {name: levels_of(table[name]) for name in asked.confounders}
    return [
        Task(
            name=name,
            y=y,
            fold=fold,
            fold_names=tuple(part.name for part in parts),
            trains=[part.train for part in parts],
            levels=levels,
            patients=cohort.patients,
            is_held_out=is_held_out,
        )
        for name, y in asked.tasks.items()
    ]


def _table(
    asked: Request,
    tasks: Sequence[Task],
    ledger: Ledger,
    weights: np.ndarray,
    representations: Mapping[str, Any],
) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for task in tasks:
        rows += judged(
            task,
            _scores(asked, task, ledger),
            ledger.edits(task, asked.reference),
            weights,
            reference=asked.reference,
            refusals=ledger.refusals.get(task.name, {}),
        )
    rules = {name: selection_of(representations.get(name)) for name in asked.names}
    found = [{**row, "selection": rules[str(row["representation"])]} for row in rows]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _scores(asked: Request, task: Task, ledger: Ledger) -> dict[str, Scores]:
    return {name: ledger.note(ledger.scores, task, name) for name in asked.names}


def _each(
    of: Callable[..., pd.DataFrame],
    asked: Request,
    tasks: Sequence[Task],
    ledger: Ledger,
    weights: np.ndarray,
) -> pd.DataFrame:
    """Return the frames of every task as one."""
    frames = [
        of(task, _scores(asked, task, ledger), weights, reference=asked.reference) for task in tasks
    ]
    held = [frame for frame in frames if len(frame)]
    return pd.concat(held, ignore_index=True) if held else frames[0]


def _cautions(asked: Request, ledger: Ledger) -> list[str]:
    """Return what the plans beware of, and how many fits had to extrapolate."""
    told = []
    for name, plan in asked.plans.items():
        told += [f"{name}: {warning}" for warning in getattr(plan, "warnings", ())]
        fits = ledger.fits.get(name, [])
        if any(fits):
            told.append(
                f"{name}: in {sum(fits)} of {len(fits)} folds cells are empty and the map "
                "extrapolates; no figure can check it there"
            )
    return told


def _ranks(ledger: Ledger) -> list[str]:
    said = []
    for name, ranks in ledger.ranks.items():
        low, high = min(ranks), max(ranks)
        span = f"{low}" if low == high else f"{low} to {high}"
        said.append(f"{name} removes {span} direction{'' if span == '1' else 's'} in a fold")
    if ledger.ranks:
        said.append(f"{RANDOM} removes as many random ones as the cleaner that removes the most")
    return said


def _unique(said: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(said))
