"""Erase the directions whose variance differs between levels, then those whose mean does.

Gain, blur and noise change second moments, which linear erasure leaves to nonlinear probes.  Cheap
and safe; costs skill where the disease shares such a direction.

The band is that of Marchenko & Pastur, "Distribution of eigenvalues for some sets of random
matrices", 1967.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deconf.errors import SettingsError
from deconf.maths.maps import AffineMap, Chain, EmbeddingMap
from deconf.maths.moments import Given
from deconf.methods.base import Method, MethodCard, as_arrays, methods, tensor
from deconf.methods.leace import LEACE
from deconf.methods.levels import LevelMoments
from deconf.methods.spikes import spikes


@methods.register(
    "quadratic",
    MethodCard(
        guarantee="means and the significant differences in variance agree within strata",
        laws=("idempotent", "null"),
        needs=("levels",),
        second_moments=True,
        cost="n d^2 + L d^3",
        source="Belrose et al. 2023; Marchenko & Pastur 1967",
    ),
)
@dataclass(frozen=True)
class Quadratic(Method):
    """Project out mean differences and variance differences.

    Parameters
    ----------
    most : float in (0, 1]
        Largest share of the dimensions that may go; the strongest differences first.
    """

    most: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.most <= 1:
            raise SettingsError(f"most is a share in (0, 1], not {self.most!r}.")

    def fit(
        self,
        z: Any,
        c: Any,
        *,
        given: Given | None = None,
        outcome: Any = None,
        weights: Any = None,
        patients: Any = None,
        seed: int = 0,
    ) -> EmbeddingMap:
        """Fit on training rows; see `Method.fit`."""
        del outcome
        z, c, given = as_arrays(z, c, given)
        keep = {"given": given, "weights": weights, "patients": patients, "seed": seed}
        m = LevelMoments.of(z, c, given, weights, patients, "quadratic")
        lower, lower_inverse, found = spikes(m.covariances(), m.sizes(), m.totals())
        directions = np.hstack([f.directions for f in found])
        if directions.shape[1] == 0:
            return LEACE().fit(z, c, **keep)
        strength = np.abs(np.log(np.concatenate([f.values for f in found])))
        u, size, _ = np.linalg.svd(directions * strength, full_matrices=False)
        rank = min(int(np.sum(size > 1e-6 * size[0])), int(self.most * z.shape[1]))
        u = u[:, :rank]
        variances = AffineMap(lower @ u, u.T @ lower_inverse, m.cells.centre)
        return Chain(variances, LEACE().fit(variances(tensor(z)).numpy(), c, **keep))
