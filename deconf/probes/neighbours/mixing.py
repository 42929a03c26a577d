"""Whether sites are mixed among neighbours, and diseases not: LISI and kBET.

The local inverse Simpson index is the effective number of sites (or classes) around an image: 1
where all neighbours are of one, L where L are equally present.  Korsunsky et al., "Fast, sensitive
and accurate integration of single-cell data with Harmony", Nature Methods 2019.  kBET asks of every
neighbourhood whether its sites could be a random draw from the cohort (chi-square test).  Büttner
et al., "A test metric for assessing single-cell RNA-seq batch correction", Nature Methods 2019.
Scaled as in Luecken et al., "Benchmarking atlas-level data integration", Nature Methods 2022, and
checked against scib-metrics 0.5.10: its ``kbet`` has no adaptive neighbourhood size, and its
``kbet_per_label``, on diffusion distances, has no counterpart here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconf.errors import SettingsError
from deconf.probes.neighbours.levels import numbered
from deconf.probes.neighbours.search import Neighbours

TOLERANCE = 1e-5  # of an entropy, in nats
STEPS = 50  # doublings and halvings until the entropy is met: as in t-SNE
BATCH = 1 << 20  # numbers handled at once: they stay in the cache


def lisi(near: Neighbours, codes: np.ndarray, *, perplexity: float | None = None) -> np.ndarray:
    """Return (n,) local inverse Simpson indices, from 1 to the number of levels.

    1 / Σ_level (Σ of the weights of its neighbours)², where a neighbour at distance d weighs
    exp(−βd) / Σ, and β is such that the entropy of the weights is log(perplexity).

    Parameters
    ----------
    near : Neighbours
        The row itself, where it is among them, weighs nothing.
    codes : (n,) array of codes or names
    perplexity : float, optional
        Effective number of neighbours; default: a third of the columns, rounded down.

    Returns
    -------
    (n,) array
        NaN for a row without neighbours.

    Raises
    ------
    SettingsError
        Where the perplexity is not above 1 (fewer than 6 columns by default) or is as large as
        the number of neighbours.
    """
    codes = numbered(codes, len(near.index), "the column")
    columns = near.index.shape[1]
    perplexity = columns // 3 if perplexity is None else perplexity
    if not 1 < perplexity < columns:
        raise SettingsError(
            f"a perplexity of {perplexity:g} with {columns} neighbours: search for at least 6 "
            "neighbours, and choose a perplexity above 1 and below their number."
        )
    used = near.known & (near.index != np.arange(len(codes))[:, None])
    levels, found = int(codes.max()) + 1, np.full(len(codes), np.nan)
    step = max(1, BATCH // columns)
    for start in range(0, len(codes), step):
        here = slice(start, start + step)
        weights = _weights(near.distance[here], used[here], np.log(perplexity))
        share = np.stack([(weights * (codes[near.index[here]] == v)).sum(1) for v in range(levels)])
        simpson = (share**2).sum(axis=0)
        with np.errstate(divide="ignore"):
            found[here] = np.where(simpson > 0, 1 / simpson, np.nan)
    return found


def _weights(distance: np.ndarray, used: np.ndarray, target: float) -> np.ndarray:
    """Return (n, k) weights whose entropy is the target, by bisection on β from 1.

    An entropy that no β reaches (copies at distance 0, too few neighbours) ends with the last β.
    """
    safe = np.where(used, distance, 0.0)
    beta = np.ones(len(safe))
    low, high = np.full(len(safe), -np.inf), np.full(len(safe), np.inf)
    weights = np.zeros(safe.shape)
    going = np.arange(len(safe))
    for tries in range(STEPS + 1):
        d, b = safe[going], beta[going]
        p = np.where(used[going], np.exp(-d * b[:, None]), 0.0)
        total = p.sum(axis=1)
        floor = np.where(total > 0, total, 1.0)
        entropy = np.where(total > 0, np.log(floor) + b * (d * p).sum(axis=1) / floor, 0.0)
        weights[going] = p / floor[:, None]
        over = entropy - target
        met = np.abs(over) < TOLERANCE
        going, b, over = going[~met], b[~met], over[~met]
        if not len(going) or tries == STEPS:
            break
        spread = over > 0
        low[going] = np.where(spread, b, low[going])
        high[going] = np.where(spread, high[going], b)
        with np.errstate(invalid="ignore"):
            middle = (low[going] + high[going]) / 2
        free = np.isinf(np.where(spread, high[going], low[going]))
        beta[going] = np.where(free, np.where(spread, 2 * b, b / 2), middle)
    return weights


def site_mixing(near: Neighbours, site: np.ndarray, *, perplexity: float | None = None) -> float:
    """Return iLISI: median LISI of sites, 0 where each keeps to itself, 1 where equally mixed.

    (median − 1) / (sites − 1).  Sites of unequal size cannot reach 1: compare with the value after
    shuffling the sites, not with 1.
    """
    found = lisi(near, site, perplexity=perplexity)
    return float((np.nanmedian(found) - 1) / (len(np.unique(site)) - 1))


def biology_kept(
    near: Neighbours, biology: np.ndarray, *, perplexity: float | None = None
) -> float:
    """Return cLISI: 1 where the neighbours of an image share its class, 0 where equally mixed.

    (classes − median LISI) / (classes − 1).
    """
    found, levels = lisi(near, biology, perplexity=perplexity), len(np.unique(biology))
    return float((levels - np.nanmedian(found)) / (levels - 1))


@dataclass(frozen=True)
class NeighbourhoodTest:
    """kBET: ``accepted`` is the share of rows whose neighbourhood could be a random draw.

    Attributes
    ----------
    accepted : float
    statistic, p : (n,) arrays
        Chi-square statistic with (sites − 1) degrees of freedom, and its p-value; NaN for a row
        without neighbours.
    """

    accepted: float
    statistic: np.ndarray
    p: np.ndarray


def kbet(near: Neighbours, site: np.ndarray, *, alpha: float = 0.05) -> NeighbourhoodTest:
    """Return the chi-square test of every neighbourhood against the sites of the whole cohort.

    Parameters
    ----------
    near : Neighbours
        To equal scib-metrics, search ``with_self=True``: there the row counts among its own
        neighbours.  A row is of its own site, so that even perfect mixing is then accepted a
        little less often than 1 − alpha says.
    site : (n,) array of codes or names
    alpha : float in (0, 1)
        Level of the test.
    """
    from scipy.special import chdtrc

    if not 0 < alpha < 1:
        raise SettingsError(f"alpha = {alpha}: choose a level between 0 and 1.")
    codes = numbered(site, len(near.index), "site")
    share = np.bincount(codes) / len(codes)
    counts = np.stack(
        [((codes[near.index] == level) & near.known).sum(axis=1) for level in range(len(share))]
    )
    size = counts.sum(axis=0)
    # Σ_level (O − E)² / E,  E = share · size
    expected = share[:, None] * np.where(size > 0, size, np.nan)
    statistic = ((counts - expected) ** 2 / expected).sum(axis=0)
    p = chdtrc(len(share) - 1, statistic)
    return NeighbourhoodTest(float(np.mean(p[size > 0] >= alpha)), statistic, p)
