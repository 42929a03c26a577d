"""Location and scale of a site, pulled towards what all features of that site have in common.

Johnson, Li & Rabinovic, "Adjusting batch effects in microarray expression data using empirical
Bayes methods", Biostatistics 2007, https://doi.org/10.1093/biostatistics/kxj037, equations 3.1 to
3.4 (parametric priors).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

CONVERGED = 1e-4  # relative step at which the published code stops; its figures hold no further
MOST_ROUNDS = 1000  # never met: the conditional means contract by about 1/n a round


def posterior(
    location: Float[ndarray, " d"], variance: Float[ndarray, " d"], n: float
) -> tuple[Float[ndarray, " d"], Float[ndarray, " d"]]:
    """Return the posterior location and variance of each feature of one site.

    The prior of the locations is normal, that of the variances inverse gamma, both with the moments
    that the estimates have across the features.  Location and variance each need the other, and are
    found in turn; the stopping rule is that of the published code, over all features at once.

    Parameters
    ----------
    location, variance : (d,)
        Estimates for each feature, in units of its pooled standard deviation; at least two
        features, variances with divisor n - 1.
    n : float
        Independent rows of the site.  A single one has no variance: that stays as it is.
    """
    middle, spread = location.mean(), location.var(ddof=1)
    if n <= 1:
        return (spread * location + middle) / (spread + 1), variance
    squares = (n - 1) * variance
    variance = np.where(variance > 0, variance, 1.0)
    m = variance.mean()
    s2 = max(float(variance.var(ddof=1)), 1e-12 * m**2)  # equal variances: a prior without width
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    old_location, old_variance = location, variance
    for _ in range(MOST_ROUNDS):
        # γ* = (n τ² γ̂ + δ² γ̄) / (n τ² + δ²);  δ²* = (b + ½ Σ (z − γ*)²) / (n/2 + a − 1)
        new_location = (spread * n * location + old_variance * middle) / (spread * n + old_variance)
        left = squares + n * (location - new_location) ** 2
        new_variance = (0.5 * left + b) / (n / 2 + a - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = (
                np.abs(new_location - old_location) / old_location,
                np.abs(new_variance - old_variance) / old_variance,
            )
        old_location, old_variance = new_location, new_variance
        # Divided by the signed location, as published: negative ones never hold it up.
        if max(float(np.nan_to_num(step, posinf=0).max()) for step in steps) <= CONVERGED:
            break
    return old_location, old_variance
