"""What a comparison was asked for: checked before any work, and the contenders lined up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deconf.causal.columns import check_columns
from deconf.causal.graph import CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.errors import SettingsError, did_you_mean, listing
from deconf.evidence.contenders import (
    Contender,
    Fixed,
    Metadata,
    RandomProjection,
    Refitted,
    Refused,
    Reweighted,
)
from deconf.evidence.invariances import Layer, layers
from deconf.evidence.sources import Sources, is_unfitted, raw_name
from deconf.maths.design import Encoding
from deconf.maths.kinds import levels as values_of
from deconf.maths.kinds import said

METADATA, RANDOM, REWEIGHTING = "metadata only", "random projection", "reweighting"
BASELINES = (METADATA, RANDOM, REWEIGHTING)
DRAWS = {"quick": 500, "full": 1000}  # patient bootstraps


@dataclass(frozen=True)
class Request:
    """Everything that was asked for.

    Attributes
    ----------
    contenders : mapping of name to Contender, baselines among them
    names, baselines, inspected : tuple of str
        All of them; those nobody passed; those that are attacked.
    reference : str
        Differences are taken to this one.
    plans : mapping of cleaner to Plan
    layers : list of {confounder: Invariance}
    tasks : mapping of column to (n,) of 0, 1 and nan
    columns : tuple of str
        Those with a role, in which nobody looks for what was lost.
    fallback_rank : int
        Directions of the random projection where no cleaner says its own.
    """

    contenders: dict[str, Contender]
    names: tuple[str, ...]
    baselines: tuple[str, ...]
    inspected: tuple[str, ...]
    reference: str
    plans: dict[str, Any]
    layers: list[Layer]
    confounders: tuple[str, ...]
    tasks: dict[str, np.ndarray]
    columns: tuple[str, ...]
    fallback_rank: int
    notes: list[str]


def checked(
    representations: Mapping[str, Any],
    cohort: Cohort,
    confounders: str | Sequence[str] | None,
    graph: CausalGraph | str | None,
    hold_out: str | None,
    folds: int,
    tasks: str | Sequence[str] | None,
    effort: str,
) -> Request:
    """Check the request before any work, and line up the contenders."""
    if not isinstance(representations, Mapping) or not representations:
        raise SettingsError(
            "compare needs a mapping of names to representations, such as "
            '{"raw": encoder, "clean": cleaner}.'
        )
    if effort not in DRAWS:
        raise SettingsError(f"effort is {effort!r}: expected 'quick' or 'full'.")
    for name in (METADATA, RANDOM, REWEIGHTING):
        if name in representations:
            raise SettingsError(f"{name!r} is the name of a baseline: call yours something else.")
    if hold_out is None and (not isinstance(folds, int) or folds < 2):
        raise SettingsError(f"folds is {folds!r}: give a whole number of at least 2.")
    named = _confounders(representations, confounders)
    table = cohort.table
    wanted = tasks_of(cohort, table, tasks, named)
    check_columns(table, named, tuple(wanted), (), cohort.roles["patient"])
    plans = _plans(representations, cohort)
    sources, notes = Sources(cohort), []
    contenders: dict[str, Contender] = {
        name: sources.contender(r) for name, r in representations.items()
    }
    reference = raw_name(representations)
    raw, origin, baselines = _raw(reference, contenders, cohort)
    if reference is None and raw is not None:
        reference = "raw"
        contenders = {"raw": Fixed(raw, origin), **contenders}
        baselines.append("raw")
    elif reference is None:
        reference = next(iter(contenders))
        notes.append(f"no raw embedding is at hand: differences are taken to {reference!r}")
    dealt = layers(plans, cohort, named, graph)
    given = tuple(dict.fromkeys(g for layer in dealt for i in layer.values() for g in i.given))
    known = tuple(dict.fromkeys(c for c in (*named, *given) if c not in wanted))
    known = tuple(c for c in known if c not in cohort.outcomes)
    inspected = tuple(contenders)
    contenders[METADATA] = Metadata(cohort, known)
    if raw is not None:
        contenders[RANDOM] = RandomProjection(raw, 0, origin)
        contenders[REWEIGHTING] = _reweighted(cohort, raw, origin, named, given, wanted)
        inspected = (*inspected, RANDOM)
        notes.append(
            f"{METADATA} and {REWEIGHTING} are not attacked: one is the confounders, the other "
            f"the embedding of {reference}"
        )
    encoding = Encoding.of(table, named)
    return Request(
        contenders=contenders,
        names=tuple(contenders),
        baselines=(*baselines, *(n for n in contenders if n in (METADATA, RANDOM, REWEIGHTING))),
        inspected=inspected,
        reference=reference,
        plans=plans,
        layers=dealt,
        confounders=named,
        tasks={name: y for name, (y, _) in wanted.items()},
        columns=tuple(
            c for c in (cohort.roles["patient"], cohort.roles["image"], hold_out, *named,
                        *wanted, *cohort.outcomes) if c is not None
        ),
        fallback_rank=max(1, encoding.encode(table)[0].shape[1] - len(named)),
        notes=[*notes, *(note for _, note in wanted.values() if note)],
    )  # fmt: skip


def _confounders(
    representations: Mapping[str, Any], confounders: str | Sequence[str] | None
) -> tuple[str, ...]:
    if confounders is not None:
        named = [confounders] if isinstance(confounders, str) else list(confounders)
    else:
        named = []
        for r in representations.values():
            own = getattr(r, "confounders", None)
            named += [own] if isinstance(own, str) else list(own or ())
            if not is_unfitted(r):
                named += list(getattr(getattr(r, "plan", None), "invariances", ()))
    if not named:
        raise SettingsError(
            "nobody says which confounders to look for: none of "
            f"{listing(map(repr, representations))} is a cleaner. Pass confounders=, say ['site']."
        )
    return tuple(dict.fromkeys(named))


def _plans(representations: Mapping[str, Any], cohort: Cohort) -> dict[str, Any]:
    """Return the plan of each cleaner: made for this cohort, or as it was fitted."""
    plans = {}
    for name, r in representations.items():
        if is_unfitted(r):
            plans[name] = r.plan(cohort)
        elif hasattr(getattr(r, "plan", None), "invariances"):
            plans[name] = r.plan
    return plans


def tasks_of(
    cohort: Cohort,
    table: pd.DataFrame,
    tasks: str | Sequence[str] | None,
    confounders: Sequence[str],
) -> dict[str, tuple[np.ndarray, str]]:
    """Return each task as 0, 1 or nan, and a note on which class is 1."""
    named = cohort.outcomes if tasks is None else [tasks] if isinstance(tasks, str) else tasks
    if not named:
        raise SettingsError(
            "there is no task: the cohort has no outcome column. Pass tasks=, or "
            "Cohort.read(..., outcome=...)."
        )
    found = {}
    for name in dict.fromkeys(named):
        if name not in table.columns:
            raise SettingsError(
                f"the task {name!r} is not a column.{did_you_mean(name, table.columns)} "
                f"Columns: {listing(table.columns, 24)}."
            )
        if name in confounders:
            raise SettingsError(
                f"{name!r} is both task and confounder: what is to be told cannot be erased."
            )
        values = values_of(table[name])
        if len(values) != 2:
            shown = listing(map(said, values), 6)
            raise SettingsError(
                f"the task {name!r} has {len(values)} different values ({shown}): compare judges "
                f"tasks of two classes. Make one, such as table[{name!r}] > limit, or pass tasks=."
            )
        y = (table[name] == values[1]).to_numpy(dtype=float)
        note = "" if values == [0, 1] else f"{name}: {said(values[1])} is taken for the ill class"
        found[name] = (np.where(table[name].isna(), np.nan, y), note)
    return found


def _raw(
    reference: str | None, contenders: Mapping[str, Contender], cohort: Cohort
) -> tuple[np.ndarray | None, str, list[str]]:
    """Return the raw embedding: as passed, as the first cleaner reads it, or as stored."""
    if reference is not None:
        own = contenders[reference]
        if isinstance(own, Fixed):
            return own.z, own.origin, []
    for contender in contenders.values():
        if isinstance(contender, Refitted | Fixed) and contender.base is not None:
            return contender.base, contender.origin, []
    if cohort.embeddings is not None and cohort.embeddings.ndim == 2:
        return cohort.embeddings, "stored", []
    return None, "", []


def _reweighted(
    cohort: Cohort,
    raw: np.ndarray,
    origin: str,
    confounders: tuple[str, ...],
    given: tuple[str, ...],
    tasks: Mapping[str, Any],
) -> Contender:
    if not set(given) & {*tasks, *cohort.outcomes}:
        return Refused(
            "the graph does not hold the outcome fixed, and weighting on it would bring in an "
            "association that is not there"
        )
    return Reweighted(cohort, raw, confounders, given, origin)
