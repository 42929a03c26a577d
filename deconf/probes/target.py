"""What an attacker is asked to read: which level a film has, or how high a number is.

Levels are integers 0..L-1 and a reading is one score per level.  Numbers are floats, and a reading
is one column: what the attacker expects, of which the audit uses the order only.
"""

from __future__ import annotations

import numpy as np

# The probability of a level that a fold never saw: a loss that hurts but stays finite.
UNSEEN = 1e-3
PARTS = 3


def is_number(target: np.ndarray) -> bool:
    """Whether a target holds numbers to be put in order, and not levels."""
    return bool(np.issubdtype(target.dtype, np.floating))


def parted(target: np.ndarray) -> np.ndarray:
    """Return (n,) levels: those of the target, or the third of each number.

    To deal folds evenly and to look for telling coordinates.

    Examples
    --------
    >>> parted(np.array([0.1, 0.9, 0.5])).tolist(), parted(np.array([2, 0])).tolist()
    ([0, 2, 1], [2, 0])
    """
    if not is_number(target):
        return target
    edges = np.quantile(target, np.arange(1, PARTS) / PARTS)
    return np.unique(np.searchsorted(edges, target, side="right"), return_inverse=True)[1]


def votes(target: np.ndarray) -> np.ndarray:
    """Return what a film says of its own level, one-hot (n, L), or of its number, (n, 1)."""
    return target[:, None] if is_number(target) else np.eye(int(target.max()) + 1)[target]


def loss(reading: np.ndarray, target: np.ndarray) -> float:
    """Return the mean log loss of (n, L) probabilities, or the mean square error of numbers."""
    if is_number(target):
        return float(((reading.ravel() - target) ** 2).mean())
    p = np.clip(reading[np.arange(len(target)), target], 1e-12, 1.0)
    return float(-np.log(p).mean())


def spread_out(p: np.ndarray, seen: np.ndarray, levels: int) -> np.ndarray:
    """Return (n, levels) probabilities from those of the levels that a fold saw."""
    full = np.full((len(p), levels), UNSEEN)
    full[:, seen] = p
    return full
