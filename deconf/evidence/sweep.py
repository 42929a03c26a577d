"""A shift, step by step: the task as the tie of confounder and outcome loosens, breaks and turns.

Films are weighted by w(c, y)^t, with the weights w of `deconf.evidence.environments`: t = 0 is the
archive as found, at t = 1 confounder and outcome are independent, at t = 2 every odds ratio is its
inverse.  A representation that lives on the shortcut falls along the way; one that lost more than
the shortcut rises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from deconf.evidence.environments import Sweep, sweep
from deconf.evidence.tasks import Scores, Task
from deconf.maths.intervals import interval, weighted_aurocs

POWERS = tuple(step / 4 for step in range(9))
COLUMNS = (
    "representation", "task", "confounder", "power", "correlation", "estimate", "low", "high", "n",
    "difference", "difference_low", "difference_high",
)  # fmt: skip


def shift_sweep(
    task: Task, scores: Mapping[str, Scores], weights: np.ndarray, *, reference: str
) -> pd.DataFrame:
    """Return the AUROC of every representation along the shift, for each confounder of a task.

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
        One row per representation, confounder and power.  ``correlation`` is that of confounder
        and outcome among the weighted films, see `association`.  A confounder whose weights are
        refused has no rows; why, the task table says under ``"<confounder>: reversed"``.
    """
    found: list[dict[str, object]] = []
    for confounder, levels in task.levels.items():
        part = untied(task, confounder)
        if not len(part.rows):
            continue
        row_weights = np.stack([part.power(t) for t in POWERS])
        where = task.fold[part.rows] if task.is_held_out else np.zeros(len(part.rows), dtype=int)
        ties = association(task.y[part.rows], levels.codes[part.rows], where, row_weights)

        def along(
            own: Scores,
            allowed: np.ndarray,
            codes: np.ndarray = levels.codes,
            part: Sweep = part,
            row_weights: np.ndarray = row_weights,
        ) -> tuple[np.ndarray, int]:
            return _along(task, codes, part, row_weights, own, allowed, weights)

        raw = scores.get(reference)
        base = None if raw is None else along(raw, raw.known)[0]
        for name, own in scores.items():
            mine, n = along(own, own.known)
            gap = None
            if raw is not None and base is not None and name != reference:
                gap = mine - base
                if (own.known != raw.known).any():  # paired: the same films on both sides
                    both = own.known & raw.known
                    gap = along(own, both)[0] - along(raw, both)[0]
            for k, power in enumerate(POWERS):
                if np.isnan(mine[k, 0]):
                    continue
                found.append(
                    {
                        "representation": name,
                        "task": task.name,
                        "confounder": confounder,
                        "power": power,
                        "correlation": float(ties[k]),
                        **with_limits(mine[k], ("estimate", "low", "high")),
                        "n": n,
                        **with_limits(
                            np.full(1, np.nan) if gap is None else gap[k],
                            ("difference", "difference_low", "difference_high"),
                        ),
                    }
                )
    return pd.DataFrame(found, columns=list(COLUMNS))


def untied(task: Task, confounder: str) -> Sweep:
    """Return the weights that untie a confounder from the outcome; rows are those of the task."""
    levels, rows = task.levels[confounder], task.rows
    part = sweep(
        task.y[rows],
        levels.codes[rows],
        task.fold[rows] if task.is_held_out else np.zeros(len(rows), dtype=int),
        task.patients[rows],
        levels.names,
        outcome=task.name,
        group_names=task.fold_names if task.is_held_out else ("",),
    )
    return Sweep(rows[part.rows], part.weights, part.left_out)


def association(
    y: np.ndarray, codes: np.ndarray, groups: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the correlation of outcome and confounder inside groups, under each row of weights.

    The confounder stands as the share of ill films at its level, unweighted.  Unweighted the
    figure is then Cramér's V (for two levels the phi coefficient without its sign); where the
    association is turned round it is negative.

    Parameters
    ----------
    y : (n,) of 0 and 1
    codes, groups : (n,) int
    weights : (T, n)

    Returns
    -------
    (T,), 0 where nothing varies.

    Examples
    --------
    >>> y, c = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 0, 1, 1])
    >>> bool(abs(association(y, c, 0 * c, np.ones((1, 6)))[0] - 1 / 3) < 1e-12)
    True
    """
    cells = np.unique(np.stack([groups, codes]), axis=1, return_inverse=True)[1].ravel()
    risk = (np.bincount(cells, weights=y) / np.bincount(cells))[cells]
    inside = np.unique(groups, return_inverse=True)[1]
    found = np.zeros(len(weights))
    for k, w in enumerate(weights):
        total = np.bincount(inside, weights=w)
        a, b = (v - (np.bincount(inside, weights=w * v) / total)[inside] for v in (y, risk))
        spread_y, spread_c, both = ((w * v).sum() / w.sum() for v in (a * a, b * b, a * b))
        # Shares lie in [0, 1]: a variance of 1e-12 is rounding.
        if min(spread_y, spread_c) > 1e-12:
            found[k] = both / np.sqrt(spread_y * spread_c)
    return found


def _along(
    task: Task,
    codes: np.ndarray,
    part: Sweep,
    row_weights: np.ndarray,
    scores: Scores,
    allowed: np.ndarray,
    drawn: np.ndarray,
) -> tuple[np.ndarray, int]:
    """Return the AUROC (powers, 1 + B), fold by fold as everywhere, and the number of films.

    All weights are constant in a cell of level and class, so pairs are counted once for every
    pair of cells, and each power only adds these counts up anew.
    """
    keep = allowed[part.rows]
    rows, tilt = part.rows[keep], row_weights[:, keep]
    top = np.zeros((len(POWERS), len(drawn)))
    size = np.zeros_like(top)
    for fold in np.unique(task.fold[rows]):
        inside = task.fold[rows] == fold
        won, ill, healthy = (np.zeros((len(POWERS), len(drawn))) for _ in range(3))
        cells = {
            (level, truth): np.flatnonzero(
                inside & (codes[rows] == level) & (task.y[rows] == truth)
            )
            for level in np.unique(codes[rows[inside]])
            for truth in (0, 1)
        }
        mass = {key: drawn[:, rows[at]].sum(1, dtype=float) for key, at in cells.items()}
        heavy = {key: tilt[:, at[0]] for key, at in cells.items() if len(at)}
        for (level, truth), tilted in heavy.items():
            side = ill if truth else healthy
            side += np.outer(tilted, mass[level, truth])
        for a, b in ((a, b) for a in heavy for b in heavy if a[1] and not b[1]):
            at = rows[np.r_[cells[a], cells[b]]]
            area = weighted_aurocs(scores.logit[at], task.y[at], drawn[:, at])
            won += np.outer(heavy[a] * heavy[b], np.nan_to_num(area) * mass[a] * mass[b])
        pairs = ill * healthy
        top += np.where(pairs > 0, (ill + healthy) * won / np.where(pairs > 0, pairs, 1.0), 0.0)
        size += np.where(pairs > 0, ill + healthy, 0.0)
    area = np.full_like(top, np.nan)
    np.divide(top, size, out=area, where=size > 0)
    return area, len(rows)


def with_limits(values: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Return estimate and interval under three names; the first value is the films as they are."""
    found = interval(values[1:], float(values[0]))
    return dict(zip(names, (found.estimate, found.low, found.high), strict=True))
