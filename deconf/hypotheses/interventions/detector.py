"""What the detector does: point spread and the noise of counting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from deconf.errors import CohortError, SettingsError
from deconf.hypotheses.interventions.base import WHITE, Intervention, Pixels

SPREAD = 0.005
"""Standard deviation at strength 1, as a share of the shorter side: what the bedside adds to the
blur of the phantom radiographs."""


@dataclass(frozen=True)
class PointSpread(Intervention):
    """A Gaussian blur, as of a larger focal spot or a patient who moved.

    Parameters
    ----------
    strength : float
        Standard deviation in 0.005 of the shorter side: 5 pixels of a film of 1,000.
    """

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002
        """Return the image blurred; the edge keeps its brightness."""
        from scipy.ndimage import gaussian_filter

        sigma = self.strength * SPREAD * min(pixels.shape[:2])
        return np.asarray(gaussian_filter(pixels, sigma, mode="nearest", axes=(0, 1)))

    def __str__(self) -> str:
        return f"blur of {100 * SPREAD * self.strength:.2g} % of the side"


@dataclass(frozen=True)
class QuantumNoise(Intervention):
    """The noise of counting: each pixel's signal s becomes ``Poisson(s N / t) t / N``, t strength.

    Mean s, variance ``s t / N``.  At strength 1 the noise of the photons given is added to what
    is there already, so that the exposure is about halved in a film at that limit.

    Parameters
    ----------
    medium : "film" or "light"
        On a film bright means few photons, ``s = exp(-span p / 255)``: the phantom radiographs'
        physics.  "light" counts brightness itself, ``s = p / 255``, as a camera or microscope.
    photons : float
        N, for s = 1 and a pixel of an image of 128 by 128; smaller pixels count fewer.
    span : float
        Natural logarithm of the range of photons from white to black of a film.
    strength : float
        Variance, relative to that of the photons given.
    """

    medium: Literal["film", "light"] = "film"
    photons: float = 3500.0
    span: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.medium not in ("film", "light"):
            raise SettingsError(f"the medium is {self.medium!r}: expected 'film' or 'light'.")

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the image counted once more."""
        if self.medium == "film" and pixels.ndim == 3:
            raise CohortError(
                "QuantumNoise(medium='film') is for grey films and this image is in colour "
                f"{pixels.shape}: take medium='light'."
            )
        p = np.clip(pixels, 0, WHITE) / WHITE
        signal = np.exp(-self.span * p) if self.medium == "film" else p
        counts = self.photons * (128 / min(pixels.shape[:2])) ** 2 / self.strength
        seen = rng.poisson(signal * counts) / counts
        if self.medium == "light":
            return WHITE * seen
        least = 0.5 / counts  # no photon at all is as bright as a film gets
        return -WHITE / self.span * np.log(np.maximum(seen, least))

    def __str__(self) -> str:
        return f"quantum noise x{self.strength:g} ({self.medium})"
