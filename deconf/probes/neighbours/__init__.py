"""What the neighbours of an image share with it: its disease, or its site."""

from __future__ import annotations

from deconf.probes.neighbours.clusters import Clustering, clustering_score
from deconf.probes.neighbours.margin import Margins, robustness_margin
from deconf.probes.neighbours.mixing import (
    NeighbourhoodTest,
    biology_kept,
    kbet,
    lisi,
    site_mixing,
)
from deconf.probes.neighbours.neighbourhood import (
    MEASURES,
    Measure,
    Neighbourhood,
    neighbourhood,
)
from deconf.probes.neighbours.robustness import (
    Robustness,
    paired_robustness_index,
    robustness_index,
    weighted_index,
)
from deconf.probes.neighbours.search import Neighbours, nearest
from deconf.probes.neighbours.shortcut import (
    Sweep,
    average_performance_drop,
    cramers_v,
    integrated_degradation,
    shortcut_sweep,
    training_plans,
)
from deconf.probes.neighbours.silhouette import biology_silhouette, silhouettes, site_silhouette

__all__ = [
    "MEASURES",
    "Clustering",
    "Margins",
    "Measure",
    "Neighbourhood",
    "NeighbourhoodTest",
    "Neighbours",
    "Robustness",
    "Sweep",
    "average_performance_drop",
    "biology_kept",
    "biology_silhouette",
    "clustering_score",
    "cramers_v",
    "integrated_degradation",
    "kbet",
    "lisi",
    "nearest",
    "neighbourhood",
    "paired_robustness_index",
    "robustness_index",
    "robustness_margin",
    "shortcut_sweep",
    "silhouettes",
    "site_mixing",
    "site_silhouette",
    "training_plans",
    "weighted_index",
]
