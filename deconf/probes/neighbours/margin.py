"""The margin between biology and site, image by image (CRoMa of croma).

For every image: d_SO, the mean cosine distance to its m nearest images of the same biological class
at other sites, and d_OS, to its m nearest of other classes at the same site.  The margin
(d_OS − d_SO) / (d_OS + d_SO) lies between −1 and 1; above 0 biology is nearer than the site.
Unlike a count among k neighbours, it exists where neither kind is among the nearest.

"A distributional robustness margin for pathology foundation models",
https://github.com/clemsgrs/croma; checked against the package's own output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconf.errors import CohortError, SettingsError
from deconf.probes.neighbours.levels import numbered
from deconf.probes.neighbours.search import among, checked, in_metric


@dataclass(frozen=True)
class Margins:
    """The margins of an embedding.

    Attributes
    ----------
    median : float
    site_nearer : float
        Share of rows with a margin of 0 or less.
    low, tail : float
        The quantile at ``share``, and the mean of the margins up to it.
    share : float
    margins : (n,) array of float
        One for each row; resample these by patient for an interval.
    """

    median: float
    site_nearer: float
    low: float
    tail: float
    share: float
    margins: np.ndarray


def robustness_margin(
    z: np.ndarray,
    site: np.ndarray,
    biology: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    m: int = 5,
    share: float = 0.1,
) -> Margins:
    """Return the margin of every row, and its distribution.

    Parameters
    ----------
    z : (n, d) array
    site, biology : (n,) arrays of codes or names
    patients : (n,) array, optional
        Rows of the same patient are left out, as the original leaves out a declared group.
    m : int
        Neighbours of each kind.  With 5 no single neighbour decides.
    share : float in (0, 1)
        The tail that is reported.

    Raises
    ------
    CohortError
        Where a row has fewer than m neighbours of a kind, or all of them are its copies.  Rows
        are not dropped: those without neighbours are the rare classes and small sites.

    Examples
    --------
    >>> z = np.array([[0.0, 1], [0.1, 1], [1, 0], [1, 0.1]])  # the two classes lie apart
    >>> robustness_margin(z, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), m=1).site_nearer
    0.0
    """
    if m < 1 or not 0 < share < 1:
        raise SettingsError(f"m = {m}, share = {share}: m is at least 1, share between 0 and 1.")
    z = checked(z, "cosine")
    site, biology = numbered(site, len(z), "site"), numbered(biology, len(z), "biology")
    who = None if patients is None else np.unique(patients, return_inverse=True)[1]
    near, far = np.full(len(z), np.inf), np.full(len(z), np.inf)
    for s in np.unique(site):
        for y in np.unique(biology):
            rows = np.flatnonzero((site == s) & (biology == y))
            kinds = {"near": (site != s) & (biology == y), "far": (site == s) & (biology != y)}
            for kind, out in zip(kinds.values(), (near, far), strict=True):
                squared = among(z, rows, np.flatnonzero(kind), m, patients=who)[1]
                out[rows] = in_metric(squared, "cosine").mean(axis=1)
    _judge(near, far, m)
    margins = (far - near) / (far + near)
    low = float(np.quantile(margins, share))
    return Margins(
        float(np.median(margins)),
        float(np.mean(margins <= 0)),
        low,
        float(margins[margins <= low].mean()),
        share,
        margins,
    )


def _judge(near: np.ndarray, far: np.ndarray, m: int) -> None:
    for distance, kind in (
        (near, "of the same biological class at other sites"),
        (far, "of other biological classes at the same site"),
    ):
        lacking = np.flatnonzero(np.isinf(distance))
        if len(lacking):
            raise CohortError(
                f"row {lacking[0]} ({len(lacking)} such rows) has fewer than m = {m} rows of other "
                f"patients that are {kind}: choose a smaller m, or leave rare classes and small "
                "sites out."
            )
    copies = np.flatnonzero(near + far == 0)
    if len(copies):
        raise CohortError(
            f"row {copies[0]} ({len(copies)} such rows) lies exactly on its neighbours of both "
            "kinds, so that neither is nearer: leave copies out."
        )
