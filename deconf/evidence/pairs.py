"""An AUROC taken apart: pairs the shortcut helps, pairs it misleads, pairs it cannot touch.

An AUROC is the share of pairs, an ill and a healthy film, that a score puts in the right order.
Where the two films differ in the confounder a score may win the pair by knowing the confounder
alone.  So pairs are *aligned* (agreeing: the ill film is of the level with more illness in
training), *crossed* (conflicting: of the level with less), or of the *same level*, where the
artefact is the same on both sides and only the disease can decide.  What is left, two levels
equally ill in training or one never met there, is *untold*.  The AUROC of all pairs is the mean of
the parts by their numbers of pairs, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from deconf.evidence.environments import pair_counts, training_risk
from deconf.evidence.sweep import with_limits
from deconf.evidence.tasks import Scores, Task

ALL = "all"
COLUMNS = (
    "representation", "task", "confounder", "kind", "pairs", "share", "estimate", "low", "high",
    "difference", "difference_low", "difference_high",
)  # fmt: skip


def pair_split(
    task: Task, scores: Mapping[str, Scores], weights: np.ndarray, *, reference: str
) -> pd.DataFrame:
    """Return the AUROC of each kind of pair with its share, for each confounder of a task.

    Only films of one test part are paired, and only those whose confounder is recorded.

    Parameters
    ----------
    scores : mapping of representation to Scores
        nan where a fold was refused.
    weights : (1 + B, n)
        Ones first, then the patients as drawn: the same draws for all, so that the difference to
        ``reference`` is paired.

    Returns
    -------
    DataFrame
        One row per representation, confounder and kind: ``"aligned"``, ``"crossed"``, ``"same
        level"``, ``"untold"`` where there are such pairs, and ``"all"``.  ``share`` is the share
        of all pairs; ``Σ share · estimate`` over the kinds is the estimate of ``"all"``, which is
        the pooled AUROC where there is one test part (over several, that one weighs by films).
    """
    found: list[dict[str, object]] = []
    for confounder in task.levels:
        raw = scores.get(reference)
        base = None if raw is None else _areas(task, confounder, raw, raw.known, weights)[0]
        for name, own in scores.items():
            mine, pairs = _areas(task, confounder, own, own.known, weights)
            gaps: dict[str, np.ndarray] = {}
            if raw is not None and base is not None and name != reference:
                theirs, paired = base, mine
                if (own.known != raw.known).any():  # paired: the same films on both sides
                    both = own.known & raw.known
                    paired = _areas(task, confounder, own, both, weights)[0]
                    theirs = _areas(task, confounder, raw, both, weights)[0]
                gaps = {kind: paired[kind] - theirs[kind] for kind in paired if kind in theirs}
            for kind, values in mine.items():
                found.append(
                    {
                        "representation": name,
                        "task": task.name,
                        "confounder": confounder,
                        "kind": kind,
                        "pairs": pairs[kind],
                        "share": pairs[kind] / pairs[ALL],
                        **with_limits(values, ("estimate", "low", "high")),
                        **with_limits(
                            gaps.get(kind, np.full(1, np.nan)),
                            ("difference", "difference_low", "difference_high"),
                        ),
                    }
                )
    return pd.DataFrame(found, columns=list(COLUMNS))


def _areas(
    task: Task, confounder: str, scores: Scores, allowed: np.ndarray, weights: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Return the AUROC (1 + B,) of each kind that has pairs, and how many; both also of all."""
    levels = task.levels[confounder]
    rows = task.rows[allowed[task.rows] & (levels.codes[task.rows] >= 0)]
    risk = training_risk(task.y, levels.codes, len(levels.names), task.trains)
    logit, y, codes, fold = scores.logit[rows], task.y[rows], levels.codes[rows], task.fold[rows]
    counted = pair_counts(logit, y, codes, fold, risk, weights[:, rows])
    won, pairs = np.sum(list(counted.values()), axis=0)
    counted[ALL] = won, pairs
    areas, sizes = {}, {}
    for kind, (won, pairs) in counted.items():
        if pairs[0] > 0:
            none = np.full(len(pairs), np.nan)
            areas[kind] = np.divide(won, pairs, out=none, where=pairs > 0)
            sizes[kind] = int(pairs[0])
    return areas, sizes
