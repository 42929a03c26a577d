"""All neighbourhood measures of an embedding, film by film, from two searches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deconf.errors import CohortError
from deconf.probes.neighbours.levels import numbered
from deconf.probes.neighbours.margin import robustness_margin
from deconf.probes.neighbours.mixing import kbet, lisi
from deconf.probes.neighbours.robustness import robustness_index
from deconf.probes.neighbours.search import nearest
from deconf.probes.neighbours.silhouette import silhouettes

COLUMNS = 90  # neighbours searched for, the size at which single-cell studies read LISI
ALPHA = 0.05  # of kBET

MEASURES = {
    "robustness index": "of the telling neighbours, the share that have the disease in common: "
    "1 the disease decides who is near, 0 the site",
    "margin": "above 0 the disease is nearer, below 0 the site",
    "site mixing (iLISI)": "1 sites are mixed among neighbours, 0 each keeps to itself",
    "disease kept (cLISI)": "1 neighbours share the disease, 0 diseases are mixed",
    "neighbourhoods accepted (kBET)": "share whose sites could be a random draw of the cohort",
    "silhouette of sites": "1 sites lie over one another within a class, 0 apart",
    "silhouette of the disease": "1 classes lie apart, 0.5 over one another",
}
"""What each measure says, by name."""


@dataclass(frozen=True)
class Measure:
    """A measure as parts that belong to rows, so that rows can be drawn anew.

    Attributes
    ----------
    values : (n,) array
        NaN where a row tells nothing.
    share : (n,) array or None
        The measure is  Σ value / Σ share,  each row once; None: it is the median of the values.
    scale, offset : float
        Bring it to its range: offset + scale x what the rows say.
    shuffled : float
        What it reads after sites were dealt at random to the rows of each class: what a clean
        embedding reaches with these sizes.  NaN for a measure of the disease, which stays as it is,
        and for the margin.
    """

    values: np.ndarray
    share: np.ndarray | None = None
    scale: float = 1.0
    offset: float = 0.0
    shuffled: float = np.nan

    @property
    def figure(self) -> float:
        """The measure of all rows."""
        return float(self.read(np.ones((1, len(self.values))))[0])

    def read(self, weights: np.ndarray) -> np.ndarray:
        """Return the measure under each of (B, n) weights of the rows, (B,).

        The neighbours stay who they are: an interval made with it is that of the rows that are
        judged, not of those around them.
        """
        known = np.flatnonzero(~np.isnan(self.values))
        values, drawn = self.values[known], weights[:, known].astype(float)
        if self.share is None:
            return self.offset + self.scale * _medians(values, drawn)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean: np.ndarray = (drawn @ values) / (drawn @ self.share[known])
        return self.offset + self.scale * mean


@dataclass(frozen=True)
class Neighbourhood:
    """What the neighbours of an image share.

    Attributes
    ----------
    rows, k : int
        Rows judged; neighbours of each in the robustness index.
    measures : mapping of name in `MEASURES` to Measure
    reasons : tuple of str
        Why a measure is not there.
    """

    rows: int
    k: int
    measures: Mapping[str, Measure]
    reasons: tuple[str, ...] = ()

    @property
    def figures(self) -> dict[str, float]:
        """Every measure of all rows, by name."""
        return {name: measure.figure for name, measure in self.measures.items()}


def neighbourhood(
    z: np.ndarray,
    site: np.ndarray,
    biology: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    k: int | None = None,
    columns: int = COLUMNS,
    seed: int = 0,
) -> Neighbourhood:
    """Return every neighbourhood measure that is made of single rows.

    Parameters
    ----------
    z : (n, d) array
        Rows to judge: held-out patients only, where the map was fitted on others.
    site, biology : (n,) arrays of codes or names
        Leave out rows where either is missing.
    patients : (n,) array, optional
        Other rows of the same patient are no neighbours.
    k : int, optional
        Neighbours in the robustness index.  Default: chosen by the vote on biology, for each
        embedding on its own.  To compare embeddings give them all the k of the raw one.
    columns : int
        Neighbours searched for; fewer where there are fewer rows.
    seed : int
        Of the shuffles.

    Raises
    ------
    CohortError
        With one site, one class, no class at two sites, fewer than 7 rows, or a missing code.

    Notes
    -----
    The indices move with the sizes of sites and classes.  Compare embeddings of the same rows, and
    read an index beside its shuffled value.
    """
    site, biology = numbered(site, len(z), "site"), numbered(biology, len(z), "biology")
    if len(z) < 7:
        raise CohortError(f"{len(z)} rows are too few for neighbourhoods: 7 at least.")
    most = min(max(columns, k or 0), len(z) - 1)
    near = nearest(z, most, metric="cosine", patients=patients)
    found = robustness_index(near, site, biology, k=k)
    # k and not the vote decides here, and biology has not moved: the same k.
    dealt = _dealt(site, biology, seed)
    shuffled = robustness_index(near, dealt, biology, k=found.k)
    plain = nearest(z, min(columns, len(z) - 1), patients=patients)
    sites, classes = int(site.max()) + 1, int(biology.max()) + 1
    mixed, random = lisi(plain, site), lisi(plain, dealt)
    tested, dealt_tested = kbet(plain, site, alpha=ALPHA), kbet(plain, dealt, alpha=ALPHA)
    every = np.ones(len(z))
    measures = {
        "robustness index": Measure(
            found.same_biology.astype(float),
            (found.same_biology + found.same_site).astype(float),
            shuffled=shuffled.index,
        ),
        # iLISI = (median - 1) / (sites - 1),  cLISI = (classes - median) / (classes - 1)
        "site mixing (iLISI)": Measure(
            mixed,
            scale=1 / (sites - 1),
            offset=-1 / (sites - 1),
            shuffled=float((np.nanmedian(random) - 1) / (sites - 1)),
        ),
        "disease kept (cLISI)": Measure(
            lisi(plain, biology), scale=-1 / (classes - 1), offset=classes / (classes - 1)
        ),
        "neighbourhoods accepted (kBET)": Measure(
            np.where(np.isnan(tested.p), np.nan, tested.p >= ALPHA),
            every,
            shuffled=dealt_tested.accepted,
        ),
        "silhouette of sites": _of_sites(z, site, biology),
        "silhouette of the disease": Measure(
            silhouettes(z, biology[:, None])[:, 0], every, scale=0.5, offset=0.5
        ),
    }
    reasons: list[str] = []
    try:
        measures["margin"] = Measure(robustness_margin(z, site, biology, patients=patients).margins)
    except CohortError as error:
        reasons.append(f"no margin: {error}")
    return Neighbourhood(
        len(z), found.k, {m: measures[m] for m in MEASURES if m in measures}, tuple(reasons)
    )


def _of_sites(z: np.ndarray, site: np.ndarray, biology: np.ndarray) -> Measure:
    """Return 1 - |silhouette of sites| within classes, each class counting once."""
    values, share = np.full(len(z), np.nan), np.zeros(len(z))
    for level in np.unique(biology):
        rows = np.flatnonzero(biology == level)
        present, codes = np.unique(site[rows], return_inverse=True)
        if 1 < len(present) < len(rows):
            share[rows] = 1 / len(rows)
            values[rows] = (1 - np.abs(silhouettes(z[rows], codes[:, None])[:, 0])) / len(rows)
    if not share.any():
        raise CohortError("no biological class was seen at two sites: sites cannot overlap in it.")
    return Measure(values, share)


def _dealt(site: np.ndarray, biology: np.ndarray, seed: int) -> np.ndarray:
    """Return sites shuffled among the rows of each biological class."""
    rng, dealt = np.random.default_rng(seed), site.copy()
    for level in np.unique(biology):
        rows = np.flatnonzero(biology == level)
        dealt[rows] = site[rng.permutation(rows)]
    return dealt


def _medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted median under each row of weights; NaN where all weigh nothing."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[:, order], axis=1)
    half = below[:, -1:] / 2
    lower, upper = np.argmax(below >= half, axis=1), np.argmax(below > half, axis=1)
    middle = (values[order][lower] + values[order][upper]) / 2  # half may fall between two rows
    return np.where(half[:, 0] > 0, middle, np.nan)
