"""An attacker that is linear in smooth bumps: a kernel machine by random waves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deconf.probes.attackers.protocol import Probe, attackers, probe
from deconf.probes.coordinates import View, compressed, median_distance
from deconf.probes.tuning import tuned_linear


@attackers.register("rbf", "smooth clusters, by a kernel of two widths")
@dataclass(frozen=True)
class RadialBasis:
    """Logistic regression on random Fourier features (Rahimi & Recht 2007) of two widths.

    Parameters
    ----------
    components : int
        Principal components it looks at.
    features : int
        Waves per width.
    widths : tuple of tuples of float
        In units of the median distance.  The widths of a tuple are used together; of several
        tuples patient-grouped folds choose one.
    """

    reads_numbers: ClassVar[bool] = True

    components: int = 64
    features: int = 256
    widths: tuple[tuple[float, ...], ...] = ((0.5, 1.0),)
    strengths: tuple[float, ...] = (1e-2, 1e-1, 1.0)

    def fit(
        self,
        z: np.ndarray,
        target: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit on training rows."""
        view = compressed(z, self.components, whiten=True, seed=seed)
        x = view(z)
        typical = median_distance(x, np.random.default_rng(seed))

        def waves(widths: tuple[float, ...]) -> View:
            rng = np.random.default_rng(seed)
            directions = [rng.standard_normal((x.shape[1], self.features)) / w for w in widths]
            W = np.hstack(directions) / typical
            phase = rng.uniform(0, 2 * np.pi, W.shape[1])
            return lambda new: np.cos(new @ W + phase)

        several = [waves(widths) for widths in self.widths]
        decide = tuned_linear(
            x,
            target,
            patients,
            self.strengths,
            features=[lambda *_, wave=wave: wave for wave in several],
            seed=seed,
        )
        return probe(z, target, lambda new: decide(view(new)))
