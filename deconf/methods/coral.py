"""Correlation alignment (CORAL): every level's covariance is carried onto the common one.

Whitened with the covariance of the level, coloured with that of all levels together, inside strata
where some are given; the means, with the common shares of the strata, are moved along.

Sun & Saenko, "Return of frustratingly easy domain adaptation", AAAI 2016,
https://arxiv.org/abs/1511.05547, algorithm 1, with one target for all levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from deconf.errors import SettingsError
from deconf.maths.maps import Chain, EmbeddingMap, LevelMap
from deconf.maths.moments import Given
from deconf.maths.shrinkage import SINGULAR, Shrinkage, oas, power, shrunk
from deconf.methods.aligned import membership, whole
from deconf.methods.base import Method, MethodCard, as_arrays, methods, tensor
from deconf.methods.leace import LEACE
from deconf.methods.levels import LevelMoments


@methods.register(
    "coral",
    MethodCard(
        guarantee="mean and covariance of every level agree, averaged over strata",
        needs=("levels",),
        second_moments=True,
        cost="n d^2 + L d^3",
        source="Sun & Saenko 2016",
    ),
)
@dataclass(frozen=True)
class CORAL(Method):
    """Match the second moments of every level, whole.

    Parameters
    ----------
    shrinkage : float in [0, 1] or "oas"
        Pull of both covariances towards a multiple of the identity; "oas" is the amount that the
        rows of the level ask for.  The paper adds the identity to covariances of standardised
        columns, which is a shrinkage of 0.5.  With any, the covariances no longer quite agree.
    read : "image" or "record"
        Whether the level of a new image is inferred from the image (posterior mixture, then LEACE
        for what mixing leaves in the means) or read from the table; "record" needs
        ``at_inference=True``.

    Warnings
    --------
    The whole matrix is matched, noise included: at d/n above 0.05 a level's estimation error is
    written into its images, for a fresh probe to read.  `Aligned` rescales only what chance cannot
    explain.
    """

    shrinkage: Shrinkage = "oas"
    read: Literal["image", "record"] = "image"

    def __post_init__(self) -> None:
        if self.shrinkage != "oas" and (
            isinstance(self.shrinkage, str) or not 0 <= self.shrinkage <= 1
        ):
            raise SettingsError(f"shrinkage is 'oas' or in [0, 1], not {self.shrinkage!r}.")

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
        m = LevelMoments.of(z, c, given, weights, patients, "coral")
        here, reference = m.effects()
        levels, d = here.shape
        change = np.zeros((levels, d, 0))
        if np.count_nonzero(m.weight.sum(axis=1)) > 1:
            change = np.eye(d) - self._carried(m)
        slope, bias, stretch = np.zeros((levels, d)), np.zeros(levels), np.zeros((0, d))
        if self.read == "image" and change.shape[2]:
            values, axes = np.linalg.eigh(np.einsum("ljk->jk", m.covariances()))
            stretch = axes[:, values > SINGULAR * max(values[-1], np.finfo(float).tiny)].T
            slope, bias = membership(z, m, given, weights, stretch, m.cells.centre)
        fitted = LevelMap(
            change,
            np.broadcast_to(np.eye(d), (levels, d, d)).copy() if change.shape[2] else change.mT,
            here,
            reference - here,
            slope,
            bias,
            stretch,
            m.cells.centre,
            m.design,
            reads=self.read == "record",
        )
        if self.read == "record" or fitted.is_identity:
            return fitted
        fitted = whole(fitted, z, m, given, weights)
        mapped = fitted(tensor(z)).numpy()
        rest = LEACE().fit(mapped, c, given=given, weights=weights, patients=patients, seed=seed)
        return Chain(fitted, rest)

    def _carried(self, m: LevelMoments) -> Float[ndarray, "L d d"]:
        """Return  C^1/2 C_l^-1/2  of every level, C the common covariance."""
        sigmas, sizes = m.covariances(), m.sizes()
        share = m.weight.sum(axis=1) / m.weight.sum()
        common = np.einsum("l,ljk->jk", share, sigmas)
        out = np.repeat(np.eye(m.cells.width)[None], len(sigmas), axis=0)
        for level, (sigma, n) in enumerate(zip(sigmas, sizes, strict=True)):
            if np.trace(sigma) > 0:  # more than one row
                # The same pull on both, or a thin level would be coloured twice; the lesser of
                # what each asks for: a round covariance asks for all of it.
                amount = min(oas(sigma, n), oas(common, n))
                rho = amount if self.shrinkage == "oas" else float(self.shrinkage)
                here, there = (shrunk(x, rho, n) for x in (sigma, common))
                out[level] = power(there, 0.5) @ power(here, -0.5)
        return out
