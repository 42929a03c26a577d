"""From scores to figures: estimate, interval and difference to raw, or REFUSED and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deconf.evidence.tasks import Measure, Scores, Task, measures
from deconf.maths.equivalence import minimum_detectable_effect
from deconf.maths.intervals import interval

COLUMNS = (
    "representation", "selection", "task", "metric", "environment", "estimate", "low", "high", "n",
    "n_patients", "difference", "difference_low", "difference_high", "detectable", "status",
    "reason",
)  # fmt: skip
WORST = ("AUROC", "worst environment")
FROZEN = ("AUROC", "pooled, head of raw")


@dataclass(frozen=True)
class Draws:
    """A statistic on the films as they are (first) and on every bootstrap draw of patients."""

    values: np.ndarray
    rows: np.ndarray

    @property
    def estimate(self) -> float:
        """The statistic itself."""
        return float(self.values[0])


Evidence = dict[tuple[str, str], Draws]


def judged(
    task: Task,
    scores: Mapping[str, Scores],
    frozen: Mapping[str, Scores],
    weights: np.ndarray,
    *,
    reference: str,
    refusals: Mapping[str, Mapping[int, str]],
    asked: Sequence[Measure] | None = None,
) -> list[dict[str, object]]:
    """Return the rows of the report's table for one task.

    Parameters
    ----------
    scores : mapping of representation to Scores
        nan where a fold was refused.
    frozen : mapping of representation to Scores
        The raw embedding's head on the cleaned embedding, where that can be done.
    weights : (1 + B, n)
        Ones first, then the patients as drawn.
    reference : str
        The representation to which differences are taken.
    refusals : mapping of representation to {fold: reason}
    asked : sequence of Measure, optional
        Default: all of `measures`.
    """
    asked = measures(task) if asked is None else asked
    found = {name: _evidence(task, asked, s, s.known, weights) for name, s in scores.items()}
    raw = scores.get(reference)
    rows: list[dict[str, object]] = []
    for name, own in scores.items():
        mine, theirs = found[name], found.get(reference, {})
        if raw is not None and (own.known != raw.known).any():
            both = own.known & raw.known  # a difference is paired: the same films on both sides
            mine = _evidence(task, asked, own, both, weights)
            theirs = _evidence(task, asked, raw, both, weights)
        refused = refusals.get(name, {})
        for measure in [_worst(asked), *asked]:
            pair = None
            if name != reference:
                pair = mine.get(measure.key), theirs.get(measure.key)
            cell = _cell(task, measure, found[name].get(measure.key), pair, refused)
            if measure.key == WORST and cell["status"] == "ok":
                which = _which(asked, found[name])
                cell["reason"] = "; ".join(n for n in (which, str(cell["reason"])) if n)
            rows.append({"representation": name, "task": task.name, **cell})
        if name in frozen:
            pooled = next(m for m in asked if m.key == ("AUROC", "pooled"))
            other = Measure(*FROZEN, pooled.rows, pooled.of, note="trained on raw, not refitted")
            one = _evidence(task, [other], frozen[name], frozen[name].known, weights)[FROZEN]
            cell = _cell(task, other, one, (one, theirs.get(pooled.key)), refused)
            rows.append({"representation": name, "task": task.name, **cell})
    return rows


def _worst(asked: Sequence[Measure]) -> Measure:
    """Return the headline: the lowest AUROC of the sweep over all confounders."""
    worlds = [m for m in asked if m.is_environment]
    possible = [m for m in worlds if not m.refused]
    refused = "" if possible else "; ".join(dict.fromkeys(m.refused for m in worlds if m.refused))
    lost = dict.fromkeys(
        f"{m.environment.split(': ')[0]} ({m.refused})" for m in worlds if m.refused
    )
    note = f"without {'; '.join(lost)}" if lost and possible else ""
    rows = possible[0].rows if possible else np.zeros(0, dtype=int)
    return Measure(*WORST, rows, possible[0].of if possible else _nothing, refused, note)


def _nothing(scores: Scores, rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    del scores, rows
    return np.full(len(drawn), np.nan)


def _evidence(
    task: Task,
    asked: Sequence[Measure],
    scores: Scores,
    allowed: np.ndarray,
    weights: np.ndarray,
) -> Evidence:
    found: Evidence = {}
    for measure in asked:
        if measure.refused:
            continue
        rows = measure.rows[allowed[measure.rows]]
        if len(rows) == 0:
            found[measure.key] = Draws(np.full(len(weights), np.nan), rows)
            continue
        drawn = weights[:, rows] if len(rows) < len(task.y) else weights
        found[measure.key] = Draws(measure.of(scores.at(rows), rows, drawn), rows)
    worlds = [found[m.key] for m in asked if m.is_environment and m.key in found]
    if worlds:
        values = np.stack([w.values for w in worlds])
        # One world without a figure (nobody of a class drawn) leaves no worst of all.
        lowest = values.min(axis=0)
        found[WORST] = Draws(
            lowest, worlds[int(np.argmin(np.nan_to_num(values[:, 0], nan=2)))].rows
        )
    return found


def _cell(
    task: Task,
    measure: Measure,
    found: Draws | None,
    pair: tuple[Draws | None, Draws | None] | None,
    refused: Mapping[int, str],
) -> dict[str, object]:
    """Return one row: a figure with its interval, or REFUSED with nothing but the reason."""
    rows = measure.rows if found is None else found.rows
    said = _folds_said(task, measure, refused)
    cell: dict[str, object] = {
        "metric": measure.metric,
        "environment": measure.environment,
        **dict.fromkeys(("estimate", "low", "high"), np.nan),
        "n": len(rows),
        "n_patients": len(np.unique(task.patients[rows])),
        **dict.fromkeys(("difference", "difference_low", "difference_high", "detectable"), np.nan),
    }
    if found is None or np.isnan(found.estimate):
        nothing = measure.nothing if len(rows) or not said else ""
        reason = measure.refused or "; ".join(n for n in (nothing, said) if n)
        return cell | {"status": "REFUSED", "reason": reason}
    limits = interval(found.values[1:], found.estimate)
    cell |= {"estimate": found.estimate, "low": limits.low, "high": limits.high}
    if pair is not None and pair[0] is not None and pair[1] is not None:
        gap = pair[0].values - pair[1].values
        if np.isfinite(gap[0]):
            limits = interval(gap[1:], float(gap[0]))
            cell |= {
                "difference": limits.estimate,
                "difference_low": limits.low,
                "difference_high": limits.high,
                "detectable": minimum_detectable_effect(float(np.nanstd(gap[1:]))),
            }
    return cell | {"status": "ok", "reason": "; ".join(n for n in (measure.note, said) if n)}


def _which(asked: Sequence[Measure], own: Evidence) -> str:
    """Name the environment that was the worst."""
    worst = own[WORST].estimate
    names = [m.environment for m in asked if m.is_environment and _at(own, m) == worst]
    return f"the worst is {names[0]}" if names else ""


def _at(own: Evidence, measure: Measure) -> float:
    found = own.get(measure.key)
    return np.nan if found is None else found.estimate


def _folds_said(task: Task, measure: Measure, refused: Mapping[int, str]) -> str:
    """Return the refused folds that the measure would have needed, each reason once."""
    needed = set(np.unique(task.fold[measure.rows]).tolist())
    reasons: dict[str, list[str]] = {}
    for fold, why in refused.items():
        if fold in needed:
            reasons.setdefault(why, []).append(task.fold_names[fold])
    return "; ".join(f"without {', '.join(folds)}: {why}" for why, folds in reasons.items())
