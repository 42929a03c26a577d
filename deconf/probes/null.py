"""The null of a leakage test: levels dealt to other patients of the same stratum.

Attackers stay as they are; held-out levels are permuted within strata, whole patients at a
time.  The maximum of the statistics over attackers is what the strongest reaches by luck.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import numpy as np
from scipy.stats import rankdata

from deconf.maths.concordance import permuted_concordances, stratified_concordances
from deconf.maths.intervals import BLOCK
from deconf.maths.permutation import permutations_within

# Share of a level's variance within strata that no permutation moves.  A leak of AUROC A lifts the
# floor by about this times (A - 0.5), so 0.04 lifts it by 0.02 at most.
MOST_UNMOVED = 0.04
FILM_LIMITS = (4, 2, 1)


def permuted(
    scores: Mapping[str, np.ndarray],
    codes: np.ndarray,
    strata: np.ndarray,
    patients: np.ndarray,
    *,
    values: np.ndarray | None = None,
    permutations: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the (B, attackers) permuted statistics and the (attackers,) observed ones.

    One permutation moves the levels and the numbers of a row together and serves all attackers,
    so that a maximum over them is a maximum of what happened together.

    Scores never move, so neither do their ranks, and an AUROC is linear in who carries which
    level: AUROC = Σ_i a[i, c_i] + const.  A permutation costs one look-up per row.  A score of one
    column is judged by its concordance with ``values`` (default: the codes), which is not linear
    and costs a sort.
    """
    order = codes if values is None else values
    one, rows = np.ones((1, len(codes))), np.arange(len(codes))
    forms = {
        name: _linear_form(score, codes, strata)
        for name, score in scores.items()
        if score.shape[1] > 1
    }
    observed = [
        forms[name][0][rows, codes].sum() + forms[name][1]
        if name in forms
        else stratified_concordances(score[:, 0], order, strata, one)[0]
        for name, score in scores.items()
    ]
    null = np.empty((permutations, len(scores)))
    draws = permutations_within(strata, patients, times=permutations, seed=seed)
    step = max(1, BLOCK // len(codes))
    for first in range(0, permutations, step):
        index = np.array(list(islice(draws, step)))
        dealt = codes[index]
        for j, (name, score) in enumerate(scores.items()):
            if name in forms:
                a, const = forms[name]
                found = a[rows, dealt].sum(1) + const
            else:
                found = permuted_concordances(score[:, 0], order, strata, index)
            null[first : first + len(index), j] = found
    return null, np.array(observed)


def _linear_form(
    scores: np.ndarray, codes: np.ndarray, strata: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return a (n, L) and const such that Σ a[i, c_i] + const is `multilevel_auroc`.

    Mann-Whitney: AUROC = (Σ ranks of the n₁ positives − n₁(n₁+1)/2) / (n₁ n₀), ties at mid-rank.
    The counts n₁, n₀ of a stratum are the same for every permutation within it.
    """
    a, const = np.zeros(scores.shape), 0.0
    groups = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    compared = 0
    for level in range(scores.shape[1]):
        ones = [(codes[rows] == level).sum() for rows in groups]
        both = [(rows, n1) for rows, n1 in zip(groups, ones, strict=True) if 0 < n1 < len(rows)]
        total = sum(len(rows) for rows, _ in both)
        compared += bool(both)
        for rows, n1 in both:
            share, pairs = len(rows) / total, n1 * (len(rows) - n1)
            a[rows, level] = share * rankdata(scores[rows, level]) / pairs
            const -= share * n1 * (n1 + 1) / 2 / pairs
    if not compared:
        return a, np.nan
    return a / compared, const / compared


def detectable_auroc(codes: np.ndarray, strata: np.ndarray, patients: np.ndarray) -> float:
    """Return about the smallest AUROC that would be noticed, counting patients, not films.

    0.5 + 2.5 sd, where under the null the variance of a stratum is (n₁+n₀+1) / (12 n₁ n₀),
    strata are independent and levels (one against the rest) are taken as wholly dependent.
    """
    spread = []
    for level in np.unique(codes):
        variance, total = 0.0, 0
        for stratum in np.unique(strata):
            here = strata == stratum
            is_level = here & (codes == level)
            n1 = len(np.unique(patients[is_level]))
            n0 = len(np.unique(patients[here & ~is_level]))
            if n1 and n0:
                variance += here.sum() ** 2 * (n1 + n0 + 1) / (12 * n1 * n0)
                total += int(here.sum())
        if total:
            spread.append(np.sqrt(variance) / total)
    return float(min(1.0, 0.5 + 2.5 * np.mean(spread))) if spread else np.nan


def exchangeable_rows(
    codes: np.ndarray, strata: np.ndarray, patients: np.ndarray, *, seed: int
) -> tuple[np.ndarray, str]:
    """Return the rows to judge, such that permuting patients really moves the levels, and a note.

    Patients change places with patients who have as many films in the same strata.  One with 17
    films has no fellow, and where films per patient differ between sites the permuted sites are
    much the true ones: the "null" then holds part of the leak, the floor rises with it, and a
    leak looks like luck.  So films per patient and stratum are thinned at random to 4, 2 or 1,
    and at last to one film per patient, which frees every patient.

    Parameters
    ----------
    codes, strata, patients : (n,) arrays
    """
    stratum, who = _numbered(strata), _numbered(patients)
    cell = who * (stratum.max() + 1) + stratum
    kept = np.arange(len(codes))
    if unmoved(codes, stratum, who) <= MOST_UNMOVED:
        return kept, ""
    shuffled = np.random.default_rng(seed).permutation(len(codes))
    limits = [(cell, limit, "patient and stratum") for limit in FILM_LIMITS]
    for key, limit, per in [*limits, (who, 1, "patient")]:
        kept = np.sort(shuffled[_place_within(key[shuffled]) < limit])
        films = f"{limit} film{'s' if limit > 1 else ''} per {per}"
        if unmoved(codes[kept], stratum[kept], who[kept]) <= MOST_UNMOVED:
            break
    note = (
        f"judged on at most {films} ({len(kept):,} of {len(codes):,} held-out films), so that "
        "patients can change places in the permutations"
    )
    return kept, note


def unmoved(codes: np.ndarray, strata: np.ndarray, patients: np.ndarray) -> float:
    """Return the share of the levels' variance within strata that permuting patients leaves.

    That is the expected correlation of a level with its permuted self: the between-group share
    of variance, a group being the rows that can change places (same layout of films over strata,
    same stratum, same place among the patient's films there).

    Examples
    --------
    Single films move freely; a patient with two films and no fellow does not move at all.

    >>> one = np.zeros(4, int)
    >>> unmoved(np.array([0, 1, 0, 1]), one, np.array([0, 1, 2, 3]))
    0.0
    >>> unmoved(np.array([0, 0, 1, 1]), one, np.array([0, 1, 2, 2]))
    1.0
    """
    stratum, who = _numbered(strata), _numbered(patients)
    films = np.zeros((who.max() + 1, stratum.max() + 1), dtype=int)
    np.add.at(films, (who, stratum), 1)
    layout = np.unique(films, axis=0, return_inverse=True)[1].ravel()[who]
    place = _place_within(who * (stratum.max() + 1) + stratum)
    group = np.unique(np.stack([layout, stratum, place]), axis=1, return_inverse=True)[1].ravel()
    level = np.eye(codes.max() + 1)[codes]
    inside = level - _means(level, stratum)
    total = float((inside**2).sum())
    return float((_means(inside, group) ** 2).sum() / total) if total else 0.0


def _means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return each row's group mean of (n, p) values."""
    sums = np.zeros((group.max() + 1, values.shape[1]))
    np.add.at(sums, group, values)
    return (sums / np.bincount(group)[:, None])[group]


def _place_within(key: np.ndarray) -> np.ndarray:
    """Return 0 for the first row of its key, 1 for the second, and so on."""
    order = np.argsort(key, kind="stable")
    counts = np.bincount(key)
    start = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.empty(len(key), dtype=int)
    place[order] = np.arange(len(key)) - start
    return place


def _numbered(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1]
