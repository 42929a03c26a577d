"""What the neighbours of a film share with it, before and after: its disease, or its site.

An attacker asks whether the confounder *can* be read; a neighbourhood shows what decides who is
near whom, which is what retrieval, clustering and few-shot use live on.  The measures are those
of `deconf.probes.neighbours`, on held-out patients, with intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from deconf.errors import CohortError
from deconf.maths.intervals import interval, patient_weights
from deconf.maths.kinds import codes, is_categorical
from deconf.probes.neighbours.neighbourhood import Neighbourhood, neighbourhood

MOST_ROWS = 3000  # films: a silhouette costs their square
FEWEST_ROWS = 60
COLUMNS = (
    "representation", "confounder", "task", "measure", "estimate", "low", "high", "shuffled",
    "n", "difference", "difference_low", "difference_high",
)  # fmt: skip


def neighbourhoods(
    embeddings: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    patients: np.ndarray,
    confounders: Sequence[str],
    tasks: Sequence[str],
    *,
    reference: str,
    draws: int,
    seed: int,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the neighbourhood measures of every representation, and what was left out.

    Parameters
    ----------
    embeddings : mapping of representation to (n, d)
        Of held-out patients.
    table : DataFrame of n rows
    patients : (n,)
        Films of one patient are no neighbours of one another.
    confounders, tasks : columns
        A confounder takes the place of the site.  A number has no levels to mix, and is left out
        by name.
    reference : str
        Differences are taken to this one, paired by patient, and all are read at its number of
        neighbours.
    draws : int
        Of the bootstrap over patients; see `deconf.probes.neighbours.Measure.read`.

    Returns
    -------
    DataFrame with `COLUMNS`
        ``shuffled``: the measure after levels were dealt at random within each class.
    reasons : tuple of str
    """
    rows: list[dict[str, object]] = []
    reasons: list[str] = []
    for confounder in confounders:
        if not is_categorical(table[confounder]):
            reasons.append(f"neighbourhoods: {confounder} is a number and has no levels to mix")
            continue
        for task in tasks:
            level, disease = (np.asarray(codes(table[c])[0]) for c in (confounder, task))
            here = _some(np.flatnonzero((level >= 0) & (disease >= 0)), patients, seed)
            pair = level[here], disease[here], patients[here]
            try:
                found, notes = _found(embeddings, here, *pair, reference=reference, seed=seed)
            except CohortError as error:
                reasons.append(f"neighbourhoods of {confounder} and {task}: {error}")
                continue
            reasons += [f"neighbourhoods of {confounder} and {task}: {note}" for note in notes]
            weights = patient_weights(patients[here], draws, seed)
            weights = np.vstack([np.ones((1, len(here)), dtype=weights.dtype), weights])
            raw = found.get(reference)
            for name, own in found.items():
                base = None if raw is None or name == reference else raw
                for row in _rows(own, base, weights):
                    rows.append({"representation": name, "confounder": confounder, "task": task,
                                 **row})  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)), tuple(dict.fromkeys(reasons))


def _found(
    embeddings: Mapping[str, np.ndarray],
    here: np.ndarray,
    level: np.ndarray,
    disease: np.ndarray,
    patients: np.ndarray,
    *,
    reference: str,
    seed: int,
) -> tuple[dict[str, Neighbourhood], list[str]]:
    """Return the neighbourhood of every representation, in their order."""
    if len(here) < FEWEST_ROWS:
        raise CohortError(f"{len(here)} held-out films have both; {FEWEST_ROWS} are needed.")
    found, k = {}, None
    for name in sorted(embeddings, key=lambda name: name != reference):
        z = embeddings[name][here]
        found[name] = neighbourhood(z, level, disease, patients=patients, k=k, seed=seed)
        k = found[name].k
    notes = [f"{name}, {reason}" for name in embeddings for reason in found[name].reasons]
    return {name: found[name] for name in embeddings}, notes


def _rows(
    own: Neighbourhood, raw: Neighbourhood | None, weights: np.ndarray
) -> list[dict[str, object]]:
    rows = []
    for name, measure in own.measures.items():
        values = measure.read(weights)
        limits = interval(values[1:], float(values[0]))
        row: dict[str, object] = {
            "measure": name, "estimate": limits.estimate, "low": limits.low, "high": limits.high,
            "shuffled": measure.shuffled, "n": own.rows,
            **dict.fromkeys(("difference", "difference_low", "difference_high"), np.nan),
        }  # fmt: skip
        if raw is not None and name in raw.measures:
            gap = values - raw.measures[name].read(weights)
            paired = interval(gap[1:], float(gap[0]))
            row |= {"difference": paired.estimate, "difference_low": paired.low,
                    "difference_high": paired.high}  # fmt: skip
        rows.append(row)
    return rows


def _some(rows: np.ndarray, patients: np.ndarray, seed: int) -> np.ndarray:
    """Return at most `MOST_ROWS` rows: whole patients, at random."""
    if len(rows) <= MOST_ROWS:
        return rows
    who = np.unique(patients[rows], return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(who.max() + 1)
    films = np.bincount(who)[order]
    chosen = order[: int((np.cumsum(films) <= MOST_ROWS).sum())]
    return rows[np.isin(who, chosen)]
