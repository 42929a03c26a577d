"""Does the prediction use the confounder: the score, not the embedding, compared between levels.

An embedding may hold what a head never looks at.  Here the attacker is the score itself: among
films alike in the adjustment set, does it run higher at one level of the confounder than at the
others?  The AUROC of the score for a level says in which direction and how far; HSIC on ranks sees
any other dependence (a wider spread, a bend in a number).  Both nulls permute whole patients
within strata.  Scores of different folds come from different heads and are compared inside a fold
only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from deconf.maths.dependence import dependence
from deconf.maths.equivalence import equivalence_of_draws
from deconf.maths.intervals import Interval, factorised, interval, stratified_aurocs
from deconf.maths.kernels import Kernel, categories, gaussian
from deconf.probes.held_out import ranks_within
from deconf.probes.null import exchangeable_rows, permuted

# Median distance of two numbers drawn evenly from 0 to 1, which is what ranks are.
WIDTH = 1 - 0.5**0.5
NOTHING = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Reliance:
    """How a score depends on a confounder among films alike in the adjustment set.

    Attributes
    ----------
    levels : mapping of level to Interval
        AUROC of the score for this level against the others, within strata: above one half where
        the score runs higher.  Of two levels the second only, the first being its mirror.
    level : str
        The one furthest from one half.
    p : float
        Of that distance, the choice of the level paid for.
    beyond : float
        The p-value of the claim that every level lies within the margin of one half.
    correlation : float
        HSIC of score and confounder within strata, normalised, less its mean under the null: 0
        for independence.  A shift to an AUROC of 0.52 gives 0.001, to 0.55 gives 0.006.
    hsic_p : float
    n, n_patients : int
        Films compared, of so many patients.
    reason : str
        Why there is no figure; empty when there is one.
    note : str
    """

    levels: Mapping[str, Interval] = field(default_factory=dict)
    level: str = ""
    p: float = np.nan
    beyond: float = np.nan
    correlation: float = np.nan
    hsic_p: float = np.nan
    n: int = 0
    n_patients: int = 0
    reason: str = ""
    note: str = ""

    @property
    def auroc(self) -> Interval:
        """Of the level furthest from one half."""
        return self.levels.get(self.level, NOTHING)


def reliance(
    score: np.ndarray,
    codes: np.ndarray,
    names: tuple[str, ...],
    strata: np.ndarray,
    patients: np.ndarray,
    weights: np.ndarray,
    *,
    numbers: np.ndarray | None = None,
    values: np.ndarray | None = None,
    margin: float,
    permutations: int,
    seed: int,
) -> Reliance:
    """Measure how a score depends on a confounder within strata.

    Parameters
    ----------
    score : (n,) array
        Comparable within a stratum.
    codes : (n,) array of int
        Level of each film, none missing.
    names : tuple of str
        The levels in words.
    strata : (n,) array
        Fold and cell of the adjustment set, as one label.
    patients : (n,) array
    weights : (1 + B, n) array
        Ones, then the patients as drawn.
    numbers : (n, m) array, optional
        Continuous columns of the adjustment set: what they explain of the ranks inside a stratum
        is taken out.
    values : (n,) array, optional
        A continuous confounder itself; ``codes`` are then its thirds, and HSIC takes the number.
    margin : float
        See `Reliance.beyond`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> c, one = rng.integers(2, size=400), np.zeros(400, dtype=int)
    >>> w = np.ones((100, 400))
    >>> found = reliance(rng.normal(size=400) + c, c, ("PA", "AP"), one, np.arange(400), w,
    ...                  margin=0.05, permutations=999, seed=0)
    >>> found.level, found.p, found.auroc.estimate > 0.7
    ('AP', 0.001, True)
    """
    kept, note = exchangeable_rows(codes, strata, patients, seed=seed)
    kept = kept[_is_mixed(codes[kept], strata[kept])]
    if not len(kept):
        return Reliance(
            reason="no two films of one test part, alike in the adjustment set, differ in level"
        )
    present, c = np.unique(codes[kept], return_inverse=True)
    s, who, drawn = factorised(strata[kept]), patients[kept], weights[:, kept]
    ranks = ranks_within(score[kept], s, None if numbers is None else numbers[kept])
    asked = [1] if len(present) == 2 else list(range(len(present)))
    sided = {
        f"{sign}{level}": _one_column(sign * ranks, level, len(present))
        for level in asked
        for sign in (1, -1)
    }
    null, observed = permuted(sided, c, s, who, permutations=permutations, seed=seed)
    null = null.max(axis=1)
    found, beyond = {}, []
    for level in asked:
        area = stratified_aurocs(ranks, c == level, s, drawn)
        found[names[present[level]]] = interval(area[1:], float(area[0]))
        beyond.append(equivalence_of_draws(area[1:] - 0.5, float(area[0]) - 0.5, margin).p)
    y = categories(c) if values is None else gaussian(values[kept])
    correlation, hsic_p = _any_dependence(ranks, y, s, who, permutations, seed)
    return Reliance(
        levels=found,
        level=max(found, key=lambda name: abs(found[name].estimate - 0.5)),
        p=float((1 + (null >= observed.max() - 1e-12).sum()) / (len(null) + 1)),
        beyond=float(np.max(beyond)),
        correlation=correlation,
        hsic_p=hsic_p,
        n=len(kept),
        n_patients=len(np.unique(who)),
        note=note,
    )


def _is_mixed(codes: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """(n,) bool: the stratum of this film holds more than one level."""
    pairs = np.unique(np.stack([factorised(strata), codes]), axis=1)[0]
    return np.asarray(np.bincount(pairs)[factorised(strata)] > 1)


def _one_column(ranks: np.ndarray, level: int, levels: int) -> np.ndarray:
    """Return (n, levels) scores that speak of one level; the constant others stand at one half.

    The permuted maximum over such columns, each with both signs, is the greatest distance of a
    level from one half, up to a factor that is the same in every permutation.
    """
    scores = np.zeros((len(ranks), levels))
    scores[:, level] = ranks
    return scores


def _any_dependence(
    ranks: np.ndarray,
    confounder: Kernel,
    strata: np.ndarray,
    patients: np.ndarray,
    permutations: int,
    seed: int,
) -> tuple[float, float]:
    """Return HSIC as a correlation above its mean under the null, and its p."""
    if np.ptp(ranks) == 0:
        return 0.0, 1.0
    found = dependence(
        gaussian(ranks, width=WIDTH), confounder, strata=strata, patients=patients,
        permutations=permutations, seed=seed,
    )  # fmt: skip
    if not found.statistic > 0:
        return 0.0, 1.0
    return found.correlation * (1 - float(found.null.mean()) / found.statistic), found.p
