"""Which eigenvalues of a whitened covariance are more than noise.

Rows of white noise give a covariance whose eigenvalues fill an interval around one: only pairs
outside are a difference between levels (Marchenko & Pastur 1967).  Where the yardstick is another
covariance with noise of its own, the extreme eigenvalues follow Johnstone, "Multivariate analysis
and Jacobi ensembles: largest eigenvalue, Tracy-Widom limits and rates of convergence", 2008.

A direction that the adjustment set explains almost whole is left alone.  Spikes are found in units
of what the set leaves, and are applied to films in which the set is still there: along a direction
of which a share rho is left a film lies 1/sqrt(rho) units out, and a spike found from n rows is off
by about 1/sqrt(n) of a unit towards every other direction.  The map would so move a film by chance
by 1/sqrt(rho n) of its deviation.  Below rho = 1/n that is more than one deviation, in exchange for
a difference that is less than 1/n of the variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from deconf.maths.shrinkage import root

CROWDED = 0.1  # d/n above which covariances are too noisy to be matched at all
TRACY_WIDOM = 3.0  # passed about once in 600 by an extreme eigenvalue, in its own units
LEAST = 1e-5  # share of a variance below which float32 products cannot tell it from nothing
SLACK = 1.13  # least multiple of the half-width, for tails a little heavier than the normal's


@dataclass(frozen=True)
class Spikes:
    """Eigenpairs of a whitened covariance outside the band: values (j,), directions (r, j)."""

    values: Float[ndarray, " j"]
    directions: Float[ndarray, "r j"]


def spikes(
    sigmas: Float[ndarray, "L d d"],
    sizes: Float[ndarray, " L"],
    totals: Float[ndarray, "L d d"] | None = None,
) -> tuple[Float[ndarray, "d r"], Float[ndarray, "r d"], list[Spikes]]:
    """Return a root of the common covariance, its inverse, and where each level departs from it.

    The common covariance is the average of the levels that have rows enough; without two of those
    there is nothing to compare (r = 0).  It is not shrunk: rows are many here, and padding the
    yardstick alone would make every quiet direction look like a difference.

    Parameters
    ----------
    sigmas : (L, d, d)
        Covariance of every level.
    sizes : (L,)
        Independent rows of every level.
    totals : (L, d, d), optional
        Covariance of every level before the adjustment set was taken out.  Directions of which
        less than 1/n of it is left, n the smallest size that counts, are no part of the root.
    """
    d = sigmas.shape[1]
    ample = d / sizes <= CROWDED
    if ample.sum() < 2 or not sigmas[ample].any():  # too few rows, or an embedding that is constant
        none = Spikes(np.zeros(0), np.zeros((0, 0)))
        return np.zeros((d, 0)), np.zeros((0, d)), [none] * len(sizes)
    lower, inverse = root(sigmas[ample].mean(axis=0))
    if totals is not None:
        least = max(1 / sizes[ample].min(), LEAST)
        lower, inverse = _known(lower, inverse, totals[ample].mean(axis=0), least)
    found = []
    for level, sigma in enumerate(sigmas):
        values, vectors = np.linalg.eigh(inverse @ sigma @ inverse.T)
        out = np.zeros(len(values), dtype=bool)
        if ample[level]:
            others = sizes[ample & (np.arange(len(sizes)) != level)]
            low, high = band(len(values), sizes[level], others)
            out = (values < low) | (values > high)
        found.append(Spikes(np.clip(values[out], 1e-6, None), vectors[:, out]))
    return lower, inverse, found


def _known(
    lower: Float[ndarray, "d r"],
    inverse: Float[ndarray, "r d"],
    total: Float[ndarray, "d d"],
    least: float,
) -> tuple[Float[ndarray, "d q"], Float[ndarray, "q d"]]:
    """Return the root of a covariance less the directions that hold a tiny share of the total.

    With R R^T the covariance and S a root of the total, the eigenvalues of  S^-1 R R^T S^-T  are
    the shares.  The root as it came where none is tiny.
    """
    whole, inverse_whole = root(total)
    axes, spread, _ = np.linalg.svd(inverse_whole @ lower, full_matrices=False)
    kept = spread**2 >= least
    if kept.all():
        return lower, inverse
    axes, spread = axes[:, kept], spread[kept]
    return whole @ (axes * spread), (axes / spread).T @ inverse_whole


def band(d: int, n: float, others: Float[ndarray, " K"]) -> tuple[float, float]:
    """Return where the eigenvalues of a level stay by chance, whitened by the average of all.

    With lambda an eigenvalue of the level against the average of the ``K`` others (taken as one
    Wishart matrix of matching noise), that against the average of all K + 1 levels is
    ``(K + 1) lambda / (K + lambda)``; the extreme lambda are those of a double Wishart law.

    Examples
    --------
    >>> [round(edge, 2) for edge in band(64, 2000, np.array([2000.0]))]
    [0.72, 1.28]
    """
    count = len(others)
    rest = count**2 / np.sum(1 / others)
    edges = 1 / _largest(d, rest, n), _largest(d, n, rest)
    low, high = ((count + 1) * edge / (count + edge) for edge in edges)
    return low, high


def _largest(d: int, n: float, rest: float) -> float:
    """Return what the largest eigenvalue of n rows against ``rest`` rows stays below by chance."""
    total = n + rest - 1  # Johnstone 2008, equations 3 to 6, for the logit of the largest root
    gamma, phi = (2 * np.arcsin(np.sqrt((size - 0.5) / total)) for size in (min(d, n), max(d, n)))
    edge = 2 * np.log(np.tan((phi + gamma) / 2))
    unit = (16 / total**2 / (np.sin(phi + gamma) ** 2 * np.sin(phi) * np.sin(gamma))) ** (1 / 3)
    centre = np.log(n / rest)
    return float(np.exp(max(SLACK * (edge - centre), edge - centre + TRACY_WIDOM * unit)))
