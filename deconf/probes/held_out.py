"""Train attackers on half of the patients and let them read the other half.

One attacker is fitted per stratum: a common fit with an indicator of the stratum misses a trace
that differs between strata.  Where strata are thin a separate fit has too few rows to learn a
trace that is the *same* in all of them, so there each attacker is also fitted across strata
(on embeddings centred within strata) and reported as "..., pooled".  Both are judged within
strata only, so neither can win by knowing the stratum.

The split is made once.  Cross-fitting would use every row for testing, but attackers of
different folds share training rows, their errors are dependent, and the permutation test of the
pooled scores loses its level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from deconf.cohort.splits import patient_split
from deconf.probes.attackers import Attacker
from deconf.probes.sites import sites_apart
from deconf.probes.target import is_number

# A level needs this many patients on each side of the split to be trained on and judged.
FEWEST_PATIENTS = 2
# A stratum is thin below this many training patients per coordinate, as in the choice between
# pooled and stacked erasure: what the one can hide the other must be able to look for.
PATIENTS_PER_COORDINATE = 10
# Rows of a stratum per column needed to take a number out of it by least squares.
ROWS_PER_COLUMN = 5
# How the name of a fit says what was fitted.
IN_ORDER, POOLED = ", in order", ", pooled"


@dataclass(frozen=True)
class HeldOut:
    """What attackers say about patients they never saw.

    Attributes
    ----------
    rows : (m,) array of int
        The held-out rows, as numbers of the input; the arrays below follow this order.
    scores : mapping of attacker name to (m, L) or (m, 1) array
        Comparable within a stratum only.  One column where a number was put in order; the name
        then says so: "boosted, in order".
    codes, strata, patients : (m,) arrays
        Strata as judged: with sites apart, a site's share of a stratum.
    values : (m,) array
        The numbers to be put in order, freed of what ``numbers`` explain; the codes where none
        were given.
    trained_on : (t,) array of int
        The training rows.
    skipped : tuple of str
        Strata, or levels within a stratum, with too few patients to train on or to judge.
    """

    rows: np.ndarray
    scores: Mapping[str, np.ndarray]
    codes: np.ndarray
    strata: np.ndarray
    patients: np.ndarray
    values: np.ndarray
    trained_on: np.ndarray
    skipped: tuple[str, ...]


def read_held_out(
    z: np.ndarray,
    codes: np.ndarray,
    strata: np.ndarray,
    patients: np.ndarray,
    settings: Mapping[str, Attacker],
    *,
    names: tuple[str, ...] | None = None,
    numbers: np.ndarray | None = None,
    values: np.ndarray | None = None,
    sites: np.ndarray | None = None,
    most_rows: int = 5000,
    seed: int,
) -> HeldOut:
    """Fit attackers on half of the patients; return their scores on the other half.

    Parameters
    ----------
    z : (n, d) array
    codes : (n,) array of int, levels 0..L-1
    strata : (n,) array
        Any labels.
    patients : (n,) array
        All rows of a patient fall on one side.
    settings : mapping of name to attacker
    names : tuple of L str, optional
        The levels in words, for ``skipped``.
    numbers : (n, m) array, optional
        Continuous columns of the adjustment set.  What they still explain *inside* a stratum,
        in a straight line and a parabola, is taken out of embeddings (fitted on training rows)
        and of the ranks of held-out scores, else a wide stratum would look like a leak.  Ranks,
        since residuals of a skewed score have mean zero at every level and an AUROC off one half.
    values : (n,) array of float, optional
        A confounder that is a number, or whose levels have an order: attackers that can are also
        fitted to these.
    sites : (n,) array, optional
        Half of the sites instead of half of the patients; judged within site.
    most_rows : int
        Training patients beyond this many rows are not used: attackers hardly gain, and wait.
    """
    names = names or tuple(f"level {k}" for k in range(int(codes.max()) + 1))
    if sites is None:
        pairs = np.unique(np.stack([_numbered(strata), codes]), axis=1, return_inverse=True)[1]
        train, test = patient_split(patients, 0.5, strata=pairs, seed=seed)
        within = strata
    else:
        train, test = sites_apart(codes, strata, patients, sites, seed=seed)
        within = np.array([f"{a}, {b}" for a, b in zip(strata, sites, strict=True)])
    train = at_most(train, patients, most_rows, seed)
    kept, skipped = _judged(codes, strata, within, patients, train, test, names)
    train, test = train[kept[train]], test[kept[test]]
    scores: dict[str, np.ndarray] = {}
    if len(test):
        x = z if numbers is None else without(z, numbers, strata, train)
        stratum = _numbered(strata)
        smallest = min(
            len(np.unique(patients[train][stratum[train] == s])) for s in np.unique(stratum[test])
        )
        thin = PATIENTS_PER_COORDINATE * z.shape[1]
        is_pooled = len(np.unique(stratum[test])) > 1 and smallest < thin
        centred = without(z, numbers, strata, train, centre=True) if is_pooled else x
        everywhere = np.zeros_like(stratum)
        targets = {"": codes}
        if values is not None:
            free = without(values[:, None], numbers, strata, train, centre=True)[:, 0]
            targets[IN_ORDER] = free
        for name, attacker in settings.items():
            for kind, target in targets.items():
                if kind and not getattr(attacker, "reads_numbers", False):
                    continue
                fits = {f"{name}{kind}": (x, stratum)}
                if is_pooled:
                    fits[f"{name}{kind}{POOLED}"] = (centred, everywhere)
                for fit, (rows, groups) in fits.items():
                    scores[fit] = _scored(
                        attacker, rows, target, groups, patients, train, test, len(names), seed
                    )
    judged = (codes if values is None else values)[test].astype(float)
    if numbers is not None:
        own = np.arange(len(test))
        for fit, s in scores.items():
            scores[fit] = without(_ranked(s, within[test]), numbers[test], within[test], own)
        judged = without(judged[:, None], numbers[test], within[test], own)[:, 0]
    return HeldOut(test, scores, codes[test], within[test], patients[test], judged, train, skipped)


def _scored(
    attacker: Attacker,
    z: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    patients: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    levels: int,
    seed: int,
) -> np.ndarray:
    """Fit on each group's training rows and score its held-out rows; absent levels score 0."""
    scores = np.zeros((len(test), 1 if is_number(target) else levels))
    for group in np.unique(groups[test]):
        fit_rows = train[groups[train] == group]
        here = np.flatnonzero(groups[test] == group)
        seen, inner = np.array([0]), target[fit_rows]
        if not is_number(target):
            seen, inner = np.unique(inner, return_inverse=True)
        probe = attacker.fit(z[fit_rows], inner, patients=patients[fit_rows], seed=seed)
        scores[here[:, None], seen] = probe.scores(z[test[here]])
    return scores


def _judged(
    codes: np.ndarray,
    strata: np.ndarray,
    within: np.ndarray,
    patients: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    names: tuple[str, ...],
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return which rows are used, and what is left out in words.

    A level counts in a part (a stratum, or a site's share of one) with enough patients to train
    on in its stratum and to judge in the part; a part counts with two such levels.
    """
    kept, skipped = np.zeros(len(codes), dtype=bool), []
    is_test = np.zeros(len(codes), dtype=bool)
    is_test[test] = True
    for part in np.unique(within if within is strata else within[test]):
        here = within == part
        stratum = strata == strata[np.argmax(here)]
        enough = []
        for level in np.unique(codes[here]):
            trained = len(np.unique(patients[train][(stratum & (codes == level))[train]]))
            tested = len(np.unique(patients[here & is_test & (codes == level)]))
            if min(trained, tested) >= FEWEST_PATIENTS:
                enough.append(level)
            else:
                skipped.append(
                    f"{names[level]} in {part}: {trained} training, {tested} held-out patients"
                )
        if len(enough) > 1:
            usable = np.isin(codes, enough)
            kept |= (here & is_test & usable) | (stratum & ~is_test & usable)
        elif len(np.unique(codes[here])) == 1 and enough:
            skipped.append(f"{part}: only {names[enough[0]]} occurs")
        elif enough:
            skipped.append(f"{part}: only {names[enough[0]]} has patients enough")
    return kept, tuple(skipped)


def without(
    values: np.ndarray,
    numbers: np.ndarray | None,
    strata: np.ndarray,
    fit_rows: np.ndarray,
    *,
    centre: bool = False,
) -> np.ndarray:
    """Take the stratum mean, and what numbers explain within strata, out of (n, p) values."""
    values = np.asarray(values, float).copy()
    is_fitted = np.zeros(len(values), dtype=bool)
    is_fitted[fit_rows] = True
    for stratum in np.unique(strata[fit_rows]):
        here = strata == stratum
        fit = here & is_fitted
        mean = values[fit].mean(0)
        if numbers is not None:
            x = (numbers - numbers[fit].mean(0)) / np.maximum(numbers[fit].std(0), 1e-12)
            design = np.hstack([x, x**2])
            slope_rows = design[fit] - design[fit].mean(0)
            if len(slope_rows) >= ROWS_PER_COLUMN * design.shape[1]:
                slope = np.linalg.lstsq(slope_rows, values[fit] - mean, rcond=None)[0]
                values[here] -= (design[here] - design[fit].mean(0)) @ slope
        if centre:
            values[here] -= mean
    return values


def _ranked(scores: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """Return the mid-ranks of (n, p) scores within strata."""
    ranks = np.empty(scores.shape)
    for stratum in np.unique(strata):
        here = strata == stratum
        ranks[here] = rankdata(scores[here], axis=0)
    return ranks


def ranks_within(
    score: np.ndarray, strata: np.ndarray, numbers: np.ndarray | None = None
) -> np.ndarray:
    """Return the mid-ranks of one score within strata, as a share of the films there, (n,).

    What ``numbers`` explain of them is taken out, see `read_held_out`.
    """
    ranks = _ranked(score[:, np.newaxis], strata)
    if numbers is not None:
        ranks = without(ranks, numbers, strata, np.arange(len(ranks)))
    place = _numbered(strata)
    return np.asarray(ranks[:, 0] / np.bincount(place)[place])


def at_most(rows: np.ndarray, patients: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Keep whole patients, at random, until the next would pass the limit of rows."""
    if len(rows) <= most:
        return rows
    who = _numbered(patients[rows])
    order = np.random.default_rng(seed).permutation(who.max() + 1)
    films = np.bincount(who)[order]
    chosen = order[: max(1, int((np.cumsum(films) <= most).sum()))]
    return rows[np.isin(who, chosen)]


def _numbered(labels: np.ndarray) -> np.ndarray:
    return np.unique(labels, return_inverse=True)[1]
