"""Silhouettes: how much nearer an image is to its own group than to the next.

Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
J. Comput. Appl. Math. 1987; as a score of integration, Luecken et al., Nature Methods 2022.
Checked against scib-metrics.
"""

from __future__ import annotations

import numpy as np

from deconf.errors import CohortError
from deconf.probes.neighbours.levels import numbered
from deconf.probes.neighbours.search import Metric, checked, in_metric

BLOCK = 1 << 22  # float64 numbers in one block of distances: 32 MB


def silhouettes(
    z: np.ndarray, labelings: np.ndarray, *, metric: Metric = "euclidean"
) -> np.ndarray:
    """Return the (n, q) silhouettes of every row under q labelings, in one pass over distances.

    (b − a) / max(a, b), where a is the mean distance to the other rows of the group and b to the
    nearest other group; 0 for a row alone in its group.

    Parameters
    ----------
    z : (n, d) array
    labelings : (n, q) array of int
        Codes 0, 1, ...; at least two in every column.

    Notes
    -----
    Float64 throughout: the mean of distances, unlike their order, shows every lost digit.
    """
    z = checked(z, metric)
    sizes = [np.bincount(column) for column in labelings.T]
    if min(map(len, sizes)) < 2:
        raise CohortError("a silhouette needs two groups: a labeling has one only.")
    x = z - z.mean(axis=0)  # far from the origin the product would lose digits
    norms = (x**2).sum(axis=1)
    starts = np.cumsum([0, *map(len, sizes)])
    members = np.zeros((len(x), starts[-1]))
    members[np.arange(len(x))[:, None], labelings + starts[:-1]] = 1
    out = np.zeros(labelings.shape)
    step = max(1, BLOCK // len(x))
    for start in range(0, len(x), step):
        rows = np.arange(start, min(start + step, len(x)))
        squared = norms[rows, None] + norms - 2 * (x[rows] @ x.T)
        squared[np.arange(len(rows)), rows] = 0
        sums = in_metric(np.maximum(squared, 0, out=squared), metric) @ members
        for column, size in enumerate(sizes):
            part = sums[:, starts[column] : starts[column + 1]]
            out[rows, column] = _silhouette(part, size, labelings[rows, column])
    return out


def _silhouette(sums: np.ndarray, size: np.ndarray, own: np.ndarray) -> np.ndarray:
    rows = np.arange(len(own))
    a = sums[rows, own] / np.maximum(size[own] - 1, 1)
    mean = np.where(size > 0, sums / np.maximum(size, 1), np.inf)
    mean[rows, own] = np.inf
    b = mean.min(axis=1)
    widest = np.maximum(a, b)
    told = (size[own] > 1) & (widest > 0)
    return np.where(told, (b - a) / np.where(widest > 0, widest, 1), 0.0)


def biology_silhouette(
    z: np.ndarray, biology: np.ndarray, *, metric: Metric = "euclidean"
) -> float:
    """Return the mean silhouette of biological classes on [0, 1]: 1 apart, 0.5 overlapping."""
    codes = numbered(biology, len(z), "biology")
    return float((silhouettes(z, codes[:, None], metric=metric).mean() + 1) / 2)


def site_silhouette(
    z: np.ndarray, site: np.ndarray, biology: np.ndarray, *, metric: Metric = "euclidean"
) -> float:
    """Return 1 − |silhouette of sites| within biological classes: 1 where sites overlap.

    The mean over rows within a class, then over classes.  A class seen at one site, or whose
    every row has a site of its own, tells nothing and is left out.

    Raises
    ------
    CohortError
        Where no class is left.
    """
    site, biology = numbered(site, len(z), "site"), numbered(biology, len(z), "biology")
    means = []
    for level in np.unique(biology):
        rows = biology == level
        present, codes = np.unique(site[rows], return_inverse=True)
        if 1 < len(present) < rows.sum():
            found = silhouettes(np.asarray(z)[rows], codes[:, None], metric=metric)
            means.append(np.mean(1 - np.abs(found)))
    if not means:
        raise CohortError("no biological class was seen at two sites: sites cannot overlap in it.")
    return float(np.mean(means))
