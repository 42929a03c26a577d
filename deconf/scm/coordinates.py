"""The leading principal coordinates of an embedding; what lies beside them is carried through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from deconf.maths.moments import cell_moments

SHARE = 0.95  # of the variance
FEWEST, MOST = 16, 64


@dataclass(frozen=True)
class Coordinates:
    """Standardised principal coordinates x = (z - centre) axes / scale.

    Attributes
    ----------
    centre, axes, scale : (d,), (d, r), (r,)
    share : float
        Of the variance of the training rows that lies in them.
    """

    centre: Float[ndarray, " d"]
    axes: Float[ndarray, "d r"]
    scale: Float[ndarray, " r"]
    share: float

    @classmethod
    def of(cls, z: Float[ndarray, "n d"], rank: int | None = None) -> Coordinates:
        """Return as many coordinates as hold 95 % of the variance, 16 to 64 (or ``rank``)."""
        m = cell_moments(z)
        values, vectors = np.linalg.eigh(m.within()[0].zz)
        values, vectors = values[::-1].clip(0), vectors[:, ::-1]
        usable = int((values > 1e-10 * max(values[0], np.finfo(float).tiny)).sum())
        held = np.cumsum(values) / max(values.sum(), np.finfo(float).tiny)
        if rank is None:
            rank = int(np.clip(np.searchsorted(held, SHARE) + 1, FEWEST, MOST))
        rank = min(rank, usable)
        share = float(held[rank - 1]) if rank else 0.0
        return cls(m.centre, vectors[:, :rank], np.sqrt(values[:rank]), share)

    def of_embedding(self, z: Float[ndarray, "n d"]) -> Float[ndarray, "n r"]:
        """Return the coordinates (n, r)."""
        return (z - self.centre) @ self.axes / self.scale

    def moved(
        self, z: Float[ndarray, "n d"], change: Float[ndarray, "n r"]
    ) -> Float[ndarray, "n d"]:
        """Return the embedding with its coordinates changed and the rest as it was."""
        return z + (change * self.scale) @ self.axes.T
