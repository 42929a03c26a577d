"""Other worlds made of the films at hand: the confounder untied from the outcome, or turned round.

With  w(c, y) = P(c) P(y) / P(c, y)  the confounder is independent of the outcome among the
weighted films; with w² their association is turned round: every odds ratio becomes its inverse.
A model that lives on the shortcut does well in the first of the three worlds (w⁰) and badly in
the last; one that was erased too much the other way about.  The worst of the three is therefore
the figure to compare.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from deconf.causal.overlap import FEW
from deconf.maths.intervals import factorised, weighted_aurocs

# Name of the environment: power of w.
SWEEP: Mapping[str, int] = {"as in training": 0, "independent": 1, "reversed": 2}
# No row counts for more than this many medians: the reversed world must not hang on one film.
TRIM = 20.0
KINDS = ("aligned", "crossed", "same level", "untold")


@dataclass(frozen=True)
class Sweep:
    """Rows that can be reweighted, their weights at power one, and what was left out.

    Attributes
    ----------
    rows : (m,) int
    weights : (m,)
        w(c, y), computed inside each group.
    left_out : tuple of str
        Levels without enough patients of both classes, in words.
    """

    rows: np.ndarray
    weights: np.ndarray
    left_out: tuple[str, ...]

    def power(self, exponent: float) -> np.ndarray:
        """Return w to a power, trimmed at 20 medians, mean 1."""
        w = self.weights**exponent
        w = np.minimum(w, TRIM * np.median(w))
        return w / w.mean()


def sweep(
    y: np.ndarray,
    codes: np.ndarray,
    groups: np.ndarray,
    patients: np.ndarray,
    names: tuple[str, ...],
    *,
    outcome: str,
    group_names: tuple[str, ...] = ("",),
) -> Sweep:
    """Return the weights that untie confounder and outcome inside every group of films.

    Parameters
    ----------
    y : (n,) of 0 and 1
    codes : (n,) int
        Level of the confounder, -1 for missing; missing rows are left out.
    groups : (n,) int
        Parts that are reweighted each by itself: held-out sites; zeros where folds are random.
    patients : (n,)
    names : tuple of str
        The levels in words.
    outcome : str
        Its name, for the words.

    A level with fewer than ten patients of either class in its group is left out by name: no
    weight can stand for films that are not there.  A group needs two levels.
    """
    kept, weights, left_out = [], [], []
    for group in np.unique(groups):
        inside = (groups == group) & (codes >= 0)
        if len(np.unique(codes[inside])) < 2:
            continue
        good = []
        for level in np.unique(codes[inside]):
            counts = [
                len(np.unique(patients[inside & (codes == level) & (y == value)]))
                for value in (0, 1)
            ]
            if min(counts) >= FEW:
                good.append(level)
                continue
            fewest = int(np.argmin(counts))
            where = f" at {group_names[group]}" if group_names[group] else ""
            left_out.append(
                f"{counts[fewest] or 'no'} {names[level]} patients with {outcome}={fewest}{where}"
            )
        if len(good) < 2:
            continue
        rows = np.flatnonzero(inside & np.isin(codes, good))
        c, t = np.unique(codes[rows], return_inverse=True)[1], y[rows].astype(int)
        joint = np.zeros((c.max() + 1, 2))
        np.add.at(joint, (c, t), 1.0 / len(rows))
        independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        kept.append(rows)
        weights.append((independent / joint)[c, t])
    if not kept:
        return Sweep(np.zeros(0, dtype=int), np.zeros(0), tuple(left_out))
    rows = np.concatenate(kept)
    order = np.argsort(rows)
    return Sweep(rows[order], np.concatenate(weights)[order], tuple(left_out))


def pair_counts(
    score: np.ndarray,
    y: np.ndarray,
    codes: np.ndarray,
    strata: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray,
    *,
    kinds: Collection[str] = KINDS,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, for each kind of pair, how many the score orders rightly and how many there are.

    A pair (ill film at level a, healthy film at level b) is *aligned* when illness was more
    frequent at a than at b in training, *crossed* when it was less frequent: there a score that
    lives on the shortcut is wrong.  *Same level*: a is b.  *Untold*: as frequent, or a level never
    met in training.  A tie counts one half.

    Parameters
    ----------
    score, y, codes, strata : (n,)
        Only films of one stratum (a fold) are compared.
    risk : (strata, levels)
        Share of ill films at each level in the training part of each stratum.
    weights : (B, n)
    kinds : some of `KINDS`
        The others are not counted.

    Returns
    -------
    mapping of kind to two (B,) arrays
    """
    found = {kind: (np.zeros(len(weights)), np.zeros(len(weights))) for kind in kinds}
    for stratum in np.unique(strata):
        inside = strata == stratum
        levels = np.unique(codes[inside])
        for ill, healthy in product(levels, levels):
            kind = _kind(ill, healthy, risk[stratum])
            positive = inside & (codes == ill) & (y == 1)
            negative = inside & (codes == healthy) & (y == 0)
            if kind not in found or not positive.any() or not negative.any():
                continue
            rows = np.flatnonzero(positive | negative)
            drawn = weights[:, rows]
            truth = positive[rows]
            count = drawn[:, truth].sum(1, dtype=float) * drawn[:, ~truth].sum(1, dtype=float)
            area = weighted_aurocs(score[rows], truth, drawn)
            won, pairs = found[kind]
            won += np.where(count > 0, count * np.nan_to_num(area), 0.0)
            pairs += count
    return found


def discordant_aurocs(
    score: np.ndarray,
    y: np.ndarray,
    codes: np.ndarray,
    strata: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray,
    *,
    crossed: bool,
) -> np.ndarray:
    """Return the share of rightly ordered pairs among the crossed, or the aligned, ones.

    See `pair_counts`.

    Returns
    -------
    (B,), nan where there is no such pair.
    """
    kind = "crossed" if crossed else "aligned"
    won, pairs = pair_counts(score, y, codes, strata, risk, weights, kinds=[kind])[kind]
    return np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _kind(ill: int, healthy: int, risk: np.ndarray) -> str:
    if ill == healthy:
        return "same level"
    gap = risk[ill] - risk[healthy]
    if not gap or np.isnan(gap):
        return "untold"
    return "aligned" if gap > 0 else "crossed"


def training_risk(
    y: np.ndarray, codes: np.ndarray, levels: int, trains: list[np.ndarray]
) -> np.ndarray:
    """Return (folds, levels): the share of ill films at each level among the training rows."""
    risk = np.full((len(trains), levels), np.nan)
    for fold, rows in enumerate(trains):
        used = rows[(codes[rows] >= 0) & ~np.isnan(y[rows])]
        count = np.bincount(codes[used], minlength=levels)
        ill = np.bincount(codes[used], weights=y[used], minlength=levels)
        np.divide(ill, count, out=risk[fold], where=count > 0)
    return risk


def joined(*codes: np.ndarray) -> np.ndarray:
    """Return one code for every combination of codes."""
    return factorised(np.unique(np.stack(codes), axis=1, return_inverse=True)[1].ravel())
