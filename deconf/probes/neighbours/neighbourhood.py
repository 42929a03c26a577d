"""All neighbourhood measures of an embedding, from two searches."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from deconf.errors import CohortError
from deconf.probes.neighbours.levels import numbered
from deconf.probes.neighbours.margin import robustness_margin
from deconf.probes.neighbours.mixing import biology_kept, kbet, site_mixing
from deconf.probes.neighbours.robustness import robustness_index, weighted_index
from deconf.probes.neighbours.search import nearest
from deconf.probes.neighbours.silhouette import biology_silhouette, site_silhouette

COLUMNS = 90  # neighbours searched for, the size at which single-cell studies read LISI


@dataclass(frozen=True)
class Neighbourhood:
    """What the neighbours of an image share.

    Attributes
    ----------
    rows, k : int
        Rows judged; neighbours of each in the robustness index.
    robustness, robustness_weighted : float
        SO / (SO + OS), plain and with near neighbours counting for more: 1 biology, 0 site.
    robustness_shuffled : float
        The plain index after sites were dealt to the rows of each class at random: what a clean
        embedding would reach with these classes and these sizes of sites.
    margin, margin_tail, site_nearer : float
        Median margin, mean of its lowest tenth, share of rows at or below 0; NaN where a row has
        fewer than five neighbours of a kind, and ``margin_why`` says so.
    margin_why : str
    site_mixing, site_mixing_shuffled : float
        iLISI scaled to [0, 1], and what it reaches after shuffling sites within classes.
    biology_kept : float
        cLISI scaled to [0, 1].
    neighbourhoods_accepted : float
        kBET at 0.05.
    site_silhouette, biology_silhouette : float
        On [0, 1]; for sites 1 is overlap, for biology 1 is separation.
    """

    rows: int
    k: int
    robustness: float
    robustness_weighted: float
    robustness_shuffled: float
    margin: float
    margin_tail: float
    site_nearer: float
    margin_why: str
    site_mixing: float
    site_mixing_shuffled: float
    biology_kept: float
    neighbourhoods_accepted: float
    site_silhouette: float
    biology_silhouette: float

    def to_dict(self) -> dict[str, float | int | str]:
        """Return the figures by name."""
        return asdict(self)


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
    """Return every neighbourhood measure that one table row can hold.

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
    margin, tail, nearer, why = _margin(z, site, biology, patients)
    return Neighbourhood(
        rows=len(z),
        k=found.k,
        robustness=found.index,
        robustness_weighted=weighted_index(near, site, biology, k=found.k)[0],
        robustness_shuffled=shuffled.index,
        margin=margin,
        margin_tail=tail,
        site_nearer=nearer,
        margin_why=why,
        site_mixing=site_mixing(plain, site),
        site_mixing_shuffled=site_mixing(plain, dealt),
        biology_kept=biology_kept(plain, biology),
        neighbourhoods_accepted=kbet(plain, site).accepted,
        site_silhouette=site_silhouette(z, site, biology),
        biology_silhouette=biology_silhouette(z, biology),
    )


def _dealt(site: np.ndarray, biology: np.ndarray, seed: int) -> np.ndarray:
    """Return sites shuffled among the rows of each biological class."""
    rng, dealt = np.random.default_rng(seed), site.copy()
    for level in np.unique(biology):
        rows = np.flatnonzero(biology == level)
        dealt[rows] = site[rng.permutation(rows)]
    return dealt


def _margin(
    z: np.ndarray, site: np.ndarray, biology: np.ndarray, patients: np.ndarray | None
) -> tuple[float, float, float, str]:
    try:
        found = robustness_margin(z, site, biology, patients=patients)
    except CohortError as error:
        return np.nan, np.nan, np.nan, str(error)
    return found.median, found.tail, found.site_nearer, ""
