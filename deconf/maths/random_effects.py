"""How much a figure differs between sites beyond chance, and where that of another site may lie.

Sites have true figures of their own, drawn from a normal distribution; each is seen with an error
of known size.  The mean of that distribution is one question, the figure of *another* site the
other: its interval holds the spread between sites, which no number of patients makes smaller.

Higgins, Thompson & Spiegelhalter, "A re-evaluation of random-effects meta-analysis", JRSS A
172 (2009), section 3.3.  Between-site variance: Paule & Mandel, Journal of Research of the
National Bureau of Standards 87 (1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real
from scipy.optimize import brentq
from scipy.special import stdtrit

from deconf.errors import CohortError
from deconf.maths.intervals import Interval

# Two sites give one difference, and a spread of which nobody knows the spread.
FEWEST_SITES = 3


@dataclass(frozen=True)
class RandomEffects:
    """A mean over sites and the spread around it.

    Attributes
    ----------
    mean : float
    standard_error : float
        Of the mean.
    between : float
        Variance of the true figures between sites, τ².
    sites : int
    """

    mean: float
    standard_error: float
    between: float
    sites: int

    def another(self, error: float = 0.0, level: float = 0.95) -> Interval:
        """Return where the figure of another site lies: mean ± t(k-2) √(τ² + se²).

        Parameters
        ----------
        error : float
            Standard error with which the new figure is seen: 0 for its true figure.
        """
        half = stdtrit(self.sites - 2, (1 + level) / 2) * math.sqrt(
            self.between + self.standard_error**2 + error**2
        )
        return Interval(self.mean, self.mean - half, self.mean + half, level)


def random_effects(
    estimates: Real[np.ndarray, " k"], errors: Real[np.ndarray, " k"]
) -> RandomEffects:
    """Return the mean of the sites' figures and their variance between sites.

    τ² solves ``Q(τ²) = Σ (y_i - ȳ)² / (s_i² + τ²) = k - 1``, 0 where even Q(0) is smaller.  The
    variance of the mean is ``1 / Σ 1/(s_i² + τ²)``: at this τ² that is also the variance of Hartung
    & Knapp (Statistics in Medicine 2001), never taken below the usual one.

    Parameters
    ----------
    estimates, errors : (k,) arrays
        A figure for each site and its standard error, on a scale where a normal distribution is
        plausible (log-odds, for an AUROC).

    Raises
    ------
    CohortError
        Fewer than three sites; a figure that is no number; an error that is not positive.

    Examples
    --------
    Equal errors: the spread of the figures, less what chance brings.

    >>> found = random_effects(np.array([0.8, 1.0, 1.5]), np.array([0.2, 0.2, 0.2]))
    >>> round(found.mean, 3), round(found.between, 3)  # variance 0.13, less 0.04
    (1.1, 0.09)
    """
    y, s = np.asarray(estimates, dtype=float), np.asarray(errors, dtype=float)
    if len(y) != len(s):
        raise CohortError(f"{len(y)} figures but {len(s)} standard errors: one of each per site.")
    if len(y) < FEWEST_SITES:
        raise CohortError(
            f"{len(y)} site{'' if len(y) == 1 else 's'}: how much sites differ cannot be told from "
            f"fewer than {FEWEST_SITES}."
        )
    bad = np.flatnonzero(~(np.isfinite(y) & np.isfinite(s) & (s > 0)))
    if len(bad):
        raise CohortError(
            f"site {bad[0]} has the figure {y[bad[0]]:g} with standard error {s[bad[0]]:g}: give "
            "numbers, and errors above 0."
        )

    def excess(between: float) -> float:
        w = 1 / (s**2 + between)
        return float(w @ (y - w @ y / w.sum()) ** 2) - (len(y) - 1)

    # At the plain variance of the figures Q is k - 1 at most, since each weight is below 1/τ².
    most = float(y.var(ddof=1))
    between = float(brentq(excess, 0.0, most)) if excess(0.0) > 0 else 0.0
    w: Float[np.ndarray, " k"] = 1 / (s**2 + between)
    return RandomEffects(float(w @ y / w.sum()), float(w.sum() ** -0.5), between, len(y))
