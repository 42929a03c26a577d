"""The clustering score: whether k-means finds the diseases or the sites.

Adjusted Rand index of the clusters with the biological class, minus that with the site, in every
complete design of two classes by two sites.  1: clusters are diseases; −1: clusters are sites.

Kömen et al., "Towards robust foundation models for digital pathology", 2025,
https://arxiv.org/abs/2507.17845 (PathoROB); checked against the package's own output.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from deconf.errors import CohortError, SettingsError
from deconf.maths.threads import one_thread
from deconf.probes.neighbours.levels import numbered, paired_designs
from deconf.probes.neighbours.search import checked
from deconf.probes.neighbours.silhouette import silhouettes

SEED = 1337  # of the original: trial t starts from SEED + t
STARTS_TO_CHOOSE, STARTS = 20, 5  # random starts of k-means when K is chosen, and in a trial
MOST_CLUSTERS = 30


@dataclass(frozen=True)
class Clustering:
    """The clustering score of an embedding.

    Attributes
    ----------
    score : float
        Mean over trials, then over designs.
    spread : float
        Standard deviation over trials, mean over designs: of the starts of k-means, not of the
        cohort.  NaN for one trial.
    clusters : tuple of int
        The number of clusters in each design.
    biology, site : (designs, trials) arrays
        Adjusted Rand indices.
    """

    score: float
    spread: float
    clusters: tuple[int, ...]
    biology: np.ndarray
    site: np.ndarray


def clustering_score(
    z: np.ndarray,
    site: np.ndarray,
    biology: np.ndarray,
    *,
    clusters: int | None = None,
    trials: int = 50,
) -> Clustering:
    """Return the clustering score.

    Parameters
    ----------
    z : (n, d) array
        Taken to unit length, so that k-means follows the cosine.
    site, biology : (n,) arrays of codes or names
    clusters : int, optional
        Default: from 2 to 30, the number with the best silhouette.
    trials : int
        Random starts whose scores are averaged.

    Raises
    ------
    CohortError
        Where no two classes both occur at two sites.

    Notes
    -----
    Patients play no part, as in the original: films of a patient cluster together, and where
    patients have many films a cluster may be a patient.  Another order of the rows is another
    start of k-means, and moves the score within its spread.
    """
    from sklearn.metrics import adjusted_rand_score

    if trials < 1 or (clusters is not None and clusters < 2):
        raise SettingsError(
            f"trials = {trials}, clusters = {clusters}: at least one trial and two clusters."
        )
    site, biology = numbered(site, len(z), "site"), numbered(biology, len(z), "biology")
    unit = checked(z, "cosine")
    designs = paired_designs(site, biology)
    if not designs:
        raise CohortError(
            "no two biological classes both occur at two sites: clusters cannot be judged."
        )
    chosen, found = [], np.zeros((2, len(designs), trials))
    with one_thread(unit.size):
        for d, rows in enumerate(designs):
            chosen.append(_chosen(unit[rows]) if clusters is None else clusters)
            for t in range(trials):
                labels = _clustered(unit[rows], chosen[-1], STARTS, SEED + t)
                found[:, d, t] = [adjusted_rand_score(c[rows], labels) for c in (biology, site)]
    score = found[0] - found[1]
    spread = score.std(axis=1, ddof=1).mean() if trials > 1 else np.nan
    return Clustering(float(score.mean()), float(spread), tuple(chosen), found[0], found[1])


def _chosen(unit: np.ndarray) -> int:
    """Return the number of clusters with the best silhouette; the smallest among equals."""
    most = min(MOST_CLUSTERS, len(np.unique(unit, axis=0)) - 1)
    if most < 2:
        raise CohortError(
            "a design of two classes by two sites has fewer than three distinct rows: there is "
            "nothing to cluster."
        )
    counts = range(2, most + 1)
    labelings = [_clustered(unit, count, STARTS_TO_CHOOSE, SEED) for count in counts]
    return counts[int(silhouettes(unit, np.stack(labelings, 1), metric="cosine").mean(0).argmax())]


def _clustered(unit: np.ndarray, clusters: int, starts: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    model = KMeans(n_clusters=clusters, random_state=seed, n_init=starts, init="random")
    with warnings.catch_warnings():
        # Copies leave fewer distinct points than clusters; what is found is still a partition.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels: np.ndarray = model.fit(unit).labels_
    return np.unique(labels, return_inverse=True)[1]
