"""Does performance differ between levels of the confounder, and could a difference have been seen.

Four figures at each level, all shares of films or of pairs, so that one margin fits them:
sensitivity and specificity at the threshold the training patients set, the AUROC of the films of
the level among themselves, and the observed less the stated risk.  The commonest level is what the
others are set against; draws of patients are shared, so a patient with films at both counts for
both.

The four answer to different causes.  Where the score given the disease is the same at two levels,
sensitivity, specificity and AUROC are too; if illness is more frequent at one of them its stated
risks are then too low, whatever the model (Kleinberg, Mullainathan & Raghavan, "Inherent trade-offs
in the fair determination of risk scores", ITCS 2017; Chouldechova, Big Data 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from deconf.causal.overlap import FEW
from deconf.evidence.calibration import expit
from deconf.evidence.tasks import Scores, Task
from deconf.maths.equivalence import equivalence_of_draws, minimum_detectable_effect
from deconf.maths.intervals import interval, stratified_aurocs
from deconf.maths.multiplicity import holm

SENSITIVITY, SPECIFICITY, AUROC, CALIBRATION = (
    "sensitivity", "specificity", "AUROC", "observed less stated risk"
)  # fmt: skip
COLUMNS = (
    "metric", "level", "against", "estimate", "at_reference", "difference", "low", "high", "p",
    "p_margin", "detectable", "n",
)  # fmt: skip


@dataclass(frozen=True)
class Disparity:
    """Differences between levels.

    Attributes
    ----------
    gaps : DataFrame
        One row per metric and level: ``estimate`` at the level, ``at_reference`` at the commonest
        one, ``difference`` with its 95 % interval, ``p`` of no difference (Holm over the rows),
        ``p_margin`` of the claim that the difference is smaller than the margin, ``detectable``:
        the smallest true difference that would have been found with 80 % power at the level Holm
        starts from, 0.05 over the number of rows.
    left_out : tuple of str
        Levels without enough patients of both classes, in words.
    reason : str
        Why there is no figure; empty when there is one.
    """

    gaps: pd.DataFrame
    left_out: tuple[str, ...] = ()
    reason: str = ""


def disparity(
    task: Task, confounder: str, scores: Scores, weights: np.ndarray, *, margin: float
) -> Disparity:
    """Compare performance between the levels of a confounder.

    Parameters
    ----------
    scores : Scores
        A film is called ill above ``base``: the log-odds of the outcome in the training part.
    weights : (1 + B, n)
        Ones first, then the patients as drawn.
    margin : float
        The largest difference that does not matter, a share.
    """
    levels = task.levels[confounder]
    rows = task.rows[scores.known[task.rows] & (levels.codes[task.rows] >= 0)]
    found: dict[int, dict[str, np.ndarray]] = {}
    left_out = []
    for level in np.unique(levels.codes[rows]):
        here = rows[levels.codes[rows] == level]
        counts = [len(np.unique(task.patients[here[task.y[here] == v]])) for v in (0, 1)]
        if min(counts) >= FEW:
            found[level] = _figures(task, scores, here, weights)
            continue
        rarer = int(np.argmin(counts))
        left_out.append(
            f"{counts[rarer] or 'no'} {levels.names[level]} patients with {task.name}={rarer}"
        )
    blank = pd.DataFrame(columns=list(COLUMNS))
    if len(found) < 2:
        why = f": {'; '.join(left_out)}" if left_out else ""
        return Disparity(
            blank, tuple(left_out),
            f"fewer than two levels of {confounder} have {FEW} patients of each class{why}",
        )  # fmt: skip
    size = {level: int((levels.codes[rows] == level).sum()) for level in found}
    reference = max(size, key=lambda level: size[level])
    others = [level for level in found if level != reference]
    gaps = [
        {
            "metric": metric,
            "level": levels.names[level],
            "against": levels.names[reference],
            "n": size[level] + size[reference],
            **_gap(mine, found[reference][metric], margin, tests=4 * len(others)),
        }
        for level in others
        for metric, mine in found[level].items()
    ]
    frame = pd.DataFrame(gaps, columns=list(COLUMNS))
    return Disparity(frame.assign(p=holm(frame["p"].to_numpy(dtype=float))), tuple(left_out))


def _figures(
    task: Task, scores: Scores, rows: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return each figure of some films (1 + B,)."""
    own, y, drawn = scores.at(rows), task.y[rows], weights[:, rows]
    called = own.logit > own.base
    return {
        SENSITIVITY: _share(called, y == 1, drawn),
        SPECIFICITY: _share(~called, y == 0, drawn),
        AUROC: stratified_aurocs(own.logit, y, task.fold[rows], drawn),
        CALIBRATION: _share(y - expit(own.logit), np.ones(len(rows), dtype=bool), drawn),
    }


def _share(values: np.ndarray, among: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the weighted mean of values among some films, for each draw."""
    drawn = drawn[:, among]
    total = drawn.sum(1, dtype=float)
    top = (drawn * values[among]).sum(1, dtype=float)
    return np.divide(top, total, out=np.full(len(drawn), np.nan), where=total > 0)


def _gap(mine: np.ndarray, theirs: np.ndarray, margin: float, *, tests: int) -> dict[str, float]:
    gap = mine - theirs
    limits = interval(gap[1:], float(gap[0]))
    known = gap[1:][~np.isnan(gap[1:])]
    error = float(known.std(ddof=1)) if len(known) > 1 and not math.isnan(limits.low) else math.nan
    lost = math.isnan(error)
    return {
        "estimate": float(mine[0]),
        "at_reference": float(theirs[0]),
        "difference": limits.estimate,
        "low": limits.low,
        "high": limits.high,
        "p": math.nan if lost else _two_sided(limits.estimate, error),
        "p_margin": equivalence_of_draws(gap[1:], limits.estimate, margin).p,
        "detectable": math.nan if lost else minimum_detectable_effect(error, alpha=0.05 / tests),
    }


def _two_sided(difference: float, error: float) -> float:
    """Return the normal p-value: draws are too few to reach what Holm asks of many levels."""
    if error == 0:
        return float(difference == 0)
    return 2 * NormalDist().cdf(-abs(difference) / error)
