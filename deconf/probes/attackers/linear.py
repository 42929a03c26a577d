"""A linear attacker, and one that is linear in squares and products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deconf.probes.attackers.protocol import Probe, attackers, probe
from deconf.probes.coordinates import View, row_span, second_order, standardise
from deconf.probes.target import parted
from deconf.probes.tuning import tuned_linear


@attackers.register("logistic", "differences of means: what a linear head could use")
@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression on standardised coordinates, L2 strength tuned.

    For a number: ridge regression.

    Parameters
    ----------
    strengths : tuple of float
        scikit-learn's C (inverse penalty on the summed loss), the strongest penalty first:
        1e-4 suits a thousand coordinates, 1 a handful.
    """

    reads_numbers: ClassVar[bool] = True

    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

    def fit(
        self,
        z: np.ndarray,
        target: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit; in the span of the rows when d > n, where an L2 fit is exact."""
        view = standardise(z)
        span = row_span(view(z))
        decide = tuned_linear(span(view(z)), target, patients, self.strengths, seed=seed)
        return probe(z, target, lambda new: decide(span(view(new))))


@attackers.register("quadratic", "differences of variances and of products")
@dataclass(frozen=True)
class Quadratic:
    """Logistic regression on squares and products of the directions whose variance differs.

    The directions are chosen anew inside every tuning fold: chosen once on all training rows
    they look telling on the very rows that chose them, and too weak a penalty would win.  For a
    number they are those in which its thirds differ.
    """

    reads_numbers: ClassVar[bool] = True

    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)

    def fit(
        self,
        z: np.ndarray,
        target: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit on training rows."""
        view = standardise(z)

        def features(x: np.ndarray, target: np.ndarray) -> View:
            pairs = second_order(x, parted(target), seed=seed)
            scale = standardise(pairs(x))
            return lambda new: scale(pairs(new))

        decide = tuned_linear(
            view(z), target, patients, self.strengths, features=features, seed=seed
        )
        return probe(z, target, lambda new: decide(view(new)))
