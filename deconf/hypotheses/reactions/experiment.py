"""A randomised experiment on pixels: what an encoder makes of one step of the workflow.

Each film is compared with itself, and nothing but the edit differs: patient, disease, position
and device are held fixed by design, known or unknown.  So no graph has to be assumed and nothing
adjusted for.  An encoder that did not react at all would be invariant to this edit in the sense of
Veitch et al. ("Counterfactual invariance to spurious correlations", NeurIPS 2021).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from deconf.cohort.cohort import Cohort
from deconf.errors import SettingsError
from deconf.hypotheses.interventions import Intervention
from deconf.hypotheses.reactions.estimates import (
    EMBEDDING,
    MOVES,
    SHIFTS,
    Changes,
    Draws,
    Figures,
    as_interval,
    figures_of,
)
from deconf.hypotheses.reactions.representations import Representation, grouped
from deconf.hypotheses.reactions.result import RATIO, Reactions, Study
from deconf.hypotheses.reactions.scores import Target, scorers_of, target_of
from deconf.hypotheses.reactions.streaming import Edit, Edited, edited_embeddings

logger = logging.getLogger(__name__)


def intervene(
    encoder: Any,
    cohort: Cohort,
    interventions: Intervention | Sequence[Intervention] | Mapping[str, Intervention],
    *,
    score: Any = None,
    doses: Sequence[float] = (0.5, 1.0),
    margin: float = 0.1,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Reactions:
    """Edit every film and measure what the encoder makes of it; rank the edits.

    Parameters
    ----------
    encoder : Encoder, name, nn.Module, DeconfoundedEncoder, or a mapping of name to one of them
        Has to read images, hence to have a preprocess.  A cleaner alone is set beside its own
        encoder; a cleaner of stored embeddings beside the image encoder named with it.
    cohort : Cohort with image files, or with a stack of grey images (n, h, w) of 0 to 255
        Patients whom no cleaner among the encoders was fitted on.
    interventions : one of `deconf.interventions`, several, or a mapping of name to one
    score : optional
        A column of two values, for which a head is fitted in folds so that every film is scored
        by a head of other patients (default: the cohort's outcome, if it has one); a fitted head
        or function of (n, d); a direction (d,); or a mapping of representation to one of these.
        Without any, the embedding alone is looked at.
    doses : sequence of float
        Multiples of each strength; the largest is the one that is ranked.
    margin : float
        What counts as ignoring an edit, in standard deviations of the score between patients
        (without a score: of the embedding's spread).
    seed : int
    workers : int, optional
        Threads that read and edit.
    progress : callable, optional
        Told ``(done, total)`` films.

    Returns
    -------
    Reactions

    Raises
    ------
    CohortError
        No images, an edit that does not suit them, or nothing varies.
    SettingsError
        A setting, a score or an intervention cannot be meant.
    LeakageError
        A cleaner was fitted on patients of this cohort.
    ReadError
        A file cannot be read.

    Examples
    --------
    >>> import deconf
    >>> films = deconf.worlds.radiograph(n=40, size=64, sites=1).test("balanced", 40)
    >>> cohort = deconf.Cohort.from_arrays(films.images, films.table, patient="patient")
    >>> edits = [deconf.interventions.TextMarker(), deconf.interventions.Gamma(strength=0.01)]
    >>> found = deconf.intervene("zoo:phantom", cohort, edits, doses=[1])
    >>> found.ranking["intervention"].tolist()
    ['text PORTABLE top left, opacity 1', 'gamma 1.01']
    """
    edits = _edits(interventions, doses)
    if not margin > 0:
        raise SettingsError(f"margin is {margin!r}: expected a positive number, say 0.1.")
    target = target_of(score, cohort)
    groups = grouped(encoder, cohort)
    changes: list[Changes] = []
    changed = np.zeros((len(edits), len(cohort)), dtype=bool)
    for group in groups:
        logger.info("%d films, %d edits of each, %r", len(cohort), len(edits), group.encoder)
        edited = edited_embeddings(
            group.encoder, group.images, edits, seed=seed, workers=workers, progress=progress
        )
        changed |= edited.changed
        changes += [_changes(edited, one, target, cohort, seed) for one in group.members]
    tried: dict[str, np.ndarray] = {}
    for edit, films in zip(edits, changed, strict=True):
        tried[edit.name] = tried.get(edit.name, False) | films
    rows = [tried[e.name] if tried[e.name].any() else np.ones(len(cohort), bool) for e in edits]
    draws = Draws.of(cohort.patients, seed)
    y = None if target is None else target.y
    found = [figures_of(one, rows, y, draws) for one in changes]
    study = Study(
        films=len(cohort),
        patients=len(np.unique(cohort.patients)),
        score="" if target is None else target.said,
        outcome="" if target is None else target.outcome,
        margin=margin,
        seed=seed,
        encoders=tuple(repr(group.encoder) for group in groups),
    )
    table = pd.DataFrame(_lines(edits, tried, found, cohort.patients))
    return Reactions(table, _ranking(edits, tried, found, study), study)


def _edits(given: Any, doses: Sequence[float]) -> list[Edit]:
    """Return every intervention at every dose, the doses of one sharing its random numbers."""
    if isinstance(given, (Intervention, str)):  # a name is refused below
        given = [given]
    named = dict(given) if isinstance(given, Mapping) else {}
    if not isinstance(given, Mapping):
        for one in given:
            if str(one) in named:
                raise SettingsError(
                    f"two interventions are called {str(one)!r}: name them, {{'name': edit, ...}}."
                )
            named[str(one)] = one
    if not named:
        raise SettingsError("there is no intervention: pass one or several of them.")
    for name, one in named.items():
        if not isinstance(one, Intervention):
            raise SettingsError(
                f"{name!r} is {one!r}, no intervention: take one of deconf.interventions, or wrap "
                "a function of your own, Custom(function, 'name')."
            )
    levels = sorted({float(dose) for dose in doses})
    if not levels or not all(np.isfinite(level) and level >= 0 for level in levels):
        raise SettingsError(f"doses={doses!r}: expected multiples of the strength, as (0.5, 1).")
    return [
        Edit(str(name), dose, one.at(dose), stream)
        for stream, (name, one) in enumerate(named.items())
        for dose in levels
    ]


def _changes(
    edited: Edited, one: Representation, target: Target | None, cohort: Cohort, seed: int
) -> Changes:
    """Return the changes of one representation; one edit's embeddings in memory at a time."""
    before = one.of(edited.before)
    scorer = None if target is None else scorers_of(target, one.name, before, cohort, seed)
    distance, scores = [], []
    for after in edited.after:
        new = one.of(np.asarray(after))
        distance.append(np.linalg.norm(new.astype(np.float64) - before, axis=1))
        if scorer is not None:
            scores.append(scorer(new))
    return Changes(
        one.name,
        None if scorer is None else scorer(before),
        None if scorer is None else np.array(scores),
        np.array(distance),
        before - before.mean(axis=0, dtype=np.float64),
    )


def _lines(
    edits: Sequence[Edit],
    tried: Mapping[str, np.ndarray],
    found: Sequence[Figures],
    patients: np.ndarray,
) -> Iterator[dict[str, Any]]:
    for one in found:
        for k, edit in enumerate(edits):
            figures = dict(one.of[k])
            if one is not found[0]:
                figures |= {
                    RATIO[metric]: _ratio(figures[metric], found[0].of[k][metric])
                    for metric in (MOVES, EMBEDDING)
                    if metric in figures
                }
            for metric, values in figures.items():
                it = as_interval(values)
                yield {
                    "representation": one.name,
                    "intervention": edit.name,
                    "dose": edit.dose,
                    "setting": str(edit.intervention),
                    "metric": metric,
                    "estimate": it.estimate,
                    "low": it.low,
                    "high": it.high,
                    "level": it.level,
                    "films": int(tried[edit.name].sum()),
                    "patients": len(np.unique(patients[tried[edit.name]])),
                }


def _ratio(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    out = np.full(len(values), np.nan)
    np.divide(values, first, out=out, where=first > 0)
    return out


def _ranking(
    edits: Sequence[Edit], tried: Mapping[str, np.ndarray], found: Sequence[Figures], study: Study
) -> pd.DataFrame:
    """Return the edits at their largest dose, those that move most first, by representation."""
    top = max(edit.dose for edit in edits)
    at = [k for k, edit in enumerate(edits) if edit.dose == top]
    lines = []
    for one in found:
        values = np.array([one.of[k][study.ranked] for k in at])
        order = np.argsort(-values[:, 0], kind="stable")
        winners = np.nanargmax(np.nan_to_num(values[:, 1:], nan=-1.0), axis=0)
        for rank, i in enumerate(order, start=1):
            edit, it = edits[at[i]], as_interval(values[i])
            shift = as_interval(one.of[at[i]].get(SHIFTS, np.full_like(values[i], np.nan)))
            lines.append(
                {
                    "representation": one.name,
                    "rank": rank,
                    "intervention": edit.name,
                    "setting": str(edit.intervention),
                    "films": int(tried[edit.name].sum()),
                    "moves": it.estimate,
                    "low": it.low,
                    "high": it.high,
                    "shift": shift.estimate,
                    "shift_low": shift.low,
                    "shift_high": shift.high,
                    "first": float((winners == i).mean()),
                    "verdict": study.verdict(it, bool(tried[edit.name].any())),
                }
            )
    return pd.DataFrame(lines)
