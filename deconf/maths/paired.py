"""AUROCs of several scores on the same bootstrap draws of patients, and their differences.

`weighted_aurocs` takes any weights, row by row of a ``(draws, n)`` array.  Here the weights are
counts of patients, and all draws walk through the sorted films together: a film adds one vector
of counts.  Nothing of size draws x films is ever built, and whole numbers stay whole, so every
area is the one a resampled table would give, ties at one half included.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Real, Shaped

from deconf.errors import CohortError
from deconf.maths.intervals import Interval, auroc, interval, patient_counts

# Draws walk together in groups: long enough that numpy's overhead per film is small, and few
# enough that patients x draws of float64 stay near this many numbers (64 MB).
TOGETHER = 1 << 23
LONGEST = 2048  # draws; three such vectors fit in the first or second cache

LOSES, WINS, TIES = 0, 1, 2


def paired_aurocs(
    scores: Real[np.ndarray, "n k"],
    label: Shaped[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
    *,
    site: Shaped[np.ndarray, " n"] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Float[np.ndarray, "draws k"]:
    """Return the AUROC of each score in each bootstrap draw of patients.

    Row b holds the AUROCs of the same draw, so differences of columns are paired.  The draws are
    those of `patient_weights` with the same seed (Field & Welsh, JRSS B 2007).

    Parameters
    ----------
    scores : (n, k) array
        One column per score to compare.
    label : (n,) array of bool or of 0 and 1
    patients : (n,) array
        Whole patients are drawn.  ``np.arange(n)`` for the ordinary bootstrap.
    site : (n,) array, optional
        Draw sites first, then patients inside them: see `patient_counts`.

    Returns
    -------
    (draws, k) array of float64
        ``nan`` where a draw holds one class only.

    Raises
    ------
    CohortError
        Where lengths differ, a score is nan, or there is one class only.

    Examples
    --------
    >>> label = np.arange(40) % 4 > 1
    >>> scores = np.column_stack([np.arange(40.0), label])
    >>> paired_aurocs(scores, label, np.arange(40), draws=3)[:, 1]
    array([1., 1., 1.])
    """
    positive = two_classes(scores, label, patients)
    codes, counts = patient_counts(patients, draws, seed, site=site)
    walks = [_walk(column, positive, codes) for column in scores.T]
    units = counts.shape[1]
    films = np.stack([np.bincount(codes[at], minlength=units) for at in (positive, ~positive)])
    areas = np.full((draws, scores.shape[1]), np.nan)
    step = int(np.clip(TOGETHER // units, 64, LONGEST))
    for start in range(0, draws, step):
        mass = np.ascontiguousarray(counts[start : start + step].T, dtype=float)
        pairs = (films.astype(float) @ mass).prod(axis=0)
        for k, walk in enumerate(walks):
            area = areas[start : start + step, k]
            np.divide(_won(mass, *walk), pairs, out=area, where=pairs > 0)
    return areas


def auroc_difference(
    score: Real[np.ndarray, " n"],
    other: Real[np.ndarray, " n"],
    label: Shaped[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
    *,
    site: Shaped[np.ndarray, " n"] | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return AUROC(score) - AUROC(other) with its paired, patient-clustered interval.

    Raises
    ------
    CohortError
        As `paired_aurocs`.

    Examples
    --------
    >>> label = np.arange(60) % 3 > 1
    >>> print(auroc_difference(label, np.zeros(60), label, np.arange(60)))
    0.50 [0.50, 0.50]
    """
    both = np.column_stack([score, other])
    areas = paired_aurocs(both, label, patients, site=site, draws=draws, seed=seed)
    estimate = auroc(both[:, 0], label) - auroc(both[:, 1], label)
    return interval(areas[:, 0] - areas[:, 1], estimate, level)


def two_classes(
    scores: Real[np.ndarray, "n k"],
    label: Shaped[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"],
) -> Bool[np.ndarray, " n"]:
    """Return the label as bool, or say what keeps these scores from having an AUROC."""
    if not len(scores) == len(label) == len(patients):
        raise CohortError(
            f"{len(scores):,} scores, {len(label):,} labels and {len(patients):,} patients: "
            "one of each per film is needed, in the same order."
        )
    missing = np.argwhere(np.isnan(scores))
    if len(missing):
        row, column = missing[0]
        raise CohortError(
            f"score {column} is nan in row {row} ({len(missing):,} nan in all): leave these films "
            "out of every score, or the comparison is not paired."
        )
    wrong = np.flatnonzero(~np.isin(label, (0, 1)))
    if len(wrong):
        raise CohortError(
            f"label {label[wrong[0]]!r} in row {wrong[0]} is neither 0 nor 1: pass a bool per "
            "film, and leave out films whose label is missing."
        )
    positive: np.ndarray = label.astype(bool)
    if positive.all() or not positive.any():
        held = "positive" if len(positive) and positive.all() else "negative"
        raise CohortError(
            f"all {len(positive):,} films are {held}: an AUROC compares two classes. "
            "Take films of both, or leave this group out of the comparison."
        )
    return positive


def _walk(
    score: Real[np.ndarray, " n"], positive: Bool[np.ndarray, " n"], codes: Int[np.ndarray, " n"]
) -> tuple[list[int], list[int]]:
    """Return patients in the order of their films, and what happens at each step.

    From the lowest score up: a negative is added to what lies below (LOSES), a positive beats
    all that lies below (WINS).  A positive that ties with a negative is met twice, before and
    after its ties, and each time counts half (TIES).  Where positives are many the walk goes
    from the top with the roles exchanged, since a win costs twice what a loss does.
    """
    if positive.mean() > 0.5:
        score, positive = -score.astype(float), ~positive
    _, tie = np.unique(score, return_inverse=True)
    among = np.bincount(tie, minlength=tie.max() + 1)
    ill = np.bincount(tie[positive], minlength=len(among))
    mixed = ((ill > 0) & (ill < among))[tie] & positive
    again = np.flatnonzero(mixed)
    step = np.where(positive, np.where(mixed, TIES, WINS), LOSES)
    rows = np.r_[np.arange(len(score)), again]
    turn = np.r_[np.where(positive, 0, 1), np.full(len(again), 2)]
    order = np.lexsort((turn, tie[rows]))
    return codes[rows[order]].tolist(), step[rows[order]].tolist()


def _won(
    mass: Float[np.ndarray, "units draws"], units: list[int], steps: list[int]
) -> Float[np.ndarray, " draws"]:
    """Return the weight of pairs in which the positive scores higher, ties one half."""
    below, won, halves, here = np.zeros((4, mass.shape[1]))
    for unit, step in zip(units, steps, strict=True):
        if step == LOSES:
            np.add(below, mass[unit], out=below)
        else:
            np.multiply(mass[unit], below, out=here)
            total = won if step == WINS else halves
            np.add(total, here, out=total)
    return won + halves / 2
