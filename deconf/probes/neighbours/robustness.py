"""The robustness index: whether neighbours share the disease or the site.

Of the neighbours of an image two kinds are telling: those of the same biological class at another
site (SO), and those of another class at the same site (OS).  The index is SO / (SO + OS): 1 where
biology alone decides who is near, 0 where the site does.

Kömen et al., "Towards robust foundation models for digital pathology", 2025,
https://arxiv.org/abs/2507.17845 (PathoROB).  The distance-weighted index (MaRI) is of croma,
https://github.com/clemsgrs/croma.  Both are checked against the packages' own output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deconf.errors import CohortError, SettingsError
from deconf.probes.neighbours.levels import numbered, paired_designs
from deconf.probes.neighbours.search import Neighbours, nearest

MOST_NEIGHBOURS = 600  # PathoROB looks no further on two of its three cohorts


@dataclass(frozen=True)
class Robustness:
    """The robustness index of an embedding.

    Attributes
    ----------
    index : float
        SO / (SO + OS), pooled over rows; NaN where no neighbour is of either kind.
    k : int
        Neighbours of each row.
    accuracy : float
        Balanced accuracy of the vote of those neighbours on the biological class.
    same_biology, same_site : (n,) arrays of int
        SO and OS of every row; resample these by patient for an interval.  Paired designs are laid
        end to end.
    """

    index: float
    k: int
    accuracy: float
    same_biology: np.ndarray
    same_site: np.ndarray


def candidates(most: int = MOST_NEIGHBOURS) -> tuple[int, ...]:
    """Return the numbers of neighbours that PathoROB tries, up to ``most``.

    Examples
    --------
    >>> candidates(35)
    (1, 3, 5, 7, 9, 11, 21, 31)
    """
    return tuple(k for k in (1, 3, 5, 7, 9, *range(11, most + 1, 10)) if k <= most)


def robustness_index(
    near: Neighbours, site: np.ndarray, biology: np.ndarray, *, k: int | None = None
) -> Robustness:
    """Return the robustness index.

    Parameters
    ----------
    near : Neighbours
        Under the cosine metric, without self and without the patient's (PathoROB: the slide's)
        other rows, to equal the original.
    site, biology : (n,) arrays of codes or names
    k : int, optional
        Default: of `candidates`, the one whose vote best tells the biological class (balanced
        accuracy, the smallest among equals), as in the paper: the index is read where the embedding
        is at its best.

    Raises
    ------
    CohortError
        With one site, one class, a missing code, or a row without neighbours.

    Examples
    --------
    >>> z = np.array([[0.0, 1], [0.1, 1], [1, 0], [1, 0.1]])  # the two classes lie apart
    >>> near = nearest(z, 2, metric="cosine")
    >>> robustness_index(near, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), k=1).index
    1.0
    """
    rows = len(near.index)
    design = (near, numbered(site, rows, "site"), numbered(biology, rows, "biology"))
    return _pooled([design], k)


def paired_robustness_index(
    z: np.ndarray,
    site: np.ndarray,
    biology: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    k: int | None = None,
    most: int = MOST_NEIGHBOURS,
) -> Robustness:
    """Return the index pooled over all complete designs of two sites by two classes.

    Within such a design neighbours of the one kind are as many to choose from as of the other, so
    that a frequent class does not raise the index by itself.  The cosine metric; the number of
    neighbours is chosen by the mean accuracy over designs.

    Raises
    ------
    CohortError
        Where no two classes both occur at two sites.
    """
    site, biology = (
        numbered(codes, len(z), called) for codes, called in ((site, "site"), (biology, "biology"))
    )
    designs = []
    for rows in paired_designs(site, biology):
        who = None if patients is None else np.asarray(patients)[rows]
        columns = min(most if k is None else k, len(rows) - 1)
        near = nearest(z[rows], columns, metric="cosine", patients=who)
        designs.append((near, site[rows], biology[rows]))
    if not designs:
        raise CohortError(
            "no two biological classes both occur at two sites: site and biology cannot be told "
            "apart by neighbours."
        )
    return _pooled(designs, k)


def weighted_index(
    near: Neighbours,
    site: np.ndarray,
    biology: np.ndarray,
    *,
    k: int,
    temperature: float | None = None,
) -> tuple[float, float]:
    """Return the margin-aware robustness index (MaRI of croma) and its temperature.

    SO and OS neighbours at distance d weigh exp(−d / temperature), so that a near neighbour counts
    for more.  Default temperature: the median distance of the telling neighbours.

    Raises
    ------
    CohortError
        Where that median is 0: most telling neighbours are copies, and distance tells nothing.
    """
    rows = len(near.index)
    near = near.first(k)
    so, os = _kinds(near, numbered(site, rows, "site"), numbered(biology, rows, "biology"))
    typed = near.distance[so | os]
    if not len(typed):
        return float("nan"), float("nan")
    scale = float(np.median(typed)) if temperature is None else temperature
    if scale <= 0:
        raise CohortError(
            "half of the telling neighbours are at distance 0 (copies of an image, or a collapsed "
            "embedding): leave copies out, or use the unweighted index."
        )
    weight = np.exp((typed.min() - near.distance) / scale)  # the shift cancels; no underflow
    same, other = weight[so].sum(), weight[os].sum()
    return float(same / (same + other)), scale


def vote_accuracy(near: Neighbours, biology: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Return the balanced accuracy of the vote of the first k neighbours, for each k.

    Among equals the smallest code wins.  Rows without neighbours are not counted.
    """
    rows, levels = len(biology), int(biology.max()) + 1
    votes, every, found = np.zeros((rows, levels), np.int32), np.arange(rows), {}
    for column in range(max(ks)):
        here = near.index[:, column] >= 0
        votes[every[here], biology[near.index[here, column]]] += 1
        if column + 1 in ks:
            voting = votes.any(axis=1)
            right = (votes.argmax(axis=1) == biology)[voting]
            total = np.bincount(biology[voting], minlength=levels)
            hits = np.bincount(biology[voting], weights=right, minlength=levels)
            found[column + 1] = (hits[total > 0] / total[total > 0]).mean()
    return np.array([found[k] for k in ks])


Design = tuple[Neighbours, np.ndarray, np.ndarray]


def _pooled(designs: list[Design], k: int | None) -> Robustness:
    common = min(int(near.known.sum(axis=1).min()) for near, _, _ in designs)
    if not common:
        raise CohortError("a row has no neighbours of other patients: leave its patient out.")
    ks = candidates(common) if k is None else (k,)
    for near, _, _ in designs:
        near.first(max(ks))  # raises where fewer were searched for
        if near.has_self:
            raise SettingsError("the robustness index counts other rows: search with_self=False.")
    accuracy = np.mean([vote_accuracy(near, y, ks) for near, _, y in designs], axis=0)
    best = int(np.argmax(accuracy))
    kinds = [_kinds(near.first(ks[best]), s, y) for near, s, y in designs]
    so, os = (np.concatenate([kind[which].sum(axis=1) for kind in kinds]) for which in (0, 1))
    telling = so.sum() + os.sum()
    index = float(so.sum() / telling) if telling else float("nan")
    return Robustness(index, ks[best], float(accuracy[best]), so, os)


def _kinds(
    near: Neighbours, site: np.ndarray, biology: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, k) masks: same biology at another site, other biology at the same site."""
    same_site = site[near.index] == site[:, None]
    same_biology = biology[near.index] == biology[:, None]
    return near.known & same_biology & ~same_site, near.known & ~same_biology & same_site
