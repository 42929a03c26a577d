"""How bright, how steep, and how far the light reaches: gamma, window, dark corners."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deconf.hypotheses.interventions.base import WHITE, Intervention, Pixels, blended


@dataclass(frozen=True)
class Gamma(Intervention):
    """A bent grey scale, ``255 (p / 255)^γ`` with ``γ = 2^strength``: above 0 darker.

    The gammas of the scanners of the phantom radiographs run from a strength of -0.5 to 0.5.

    Parameters
    ----------
    strength : float
        Octaves of gamma.

    Examples
    --------
    >>> Gamma(strength=1)(np.full((1, 1), 127.5), np.random.default_rng(0))
    array([[63.75]], dtype=float32)
    """

    LOWEST = -math.inf
    strength: float = 0.5

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002
        """Return the image through the curve."""
        # Rounding of a resize may leave a pixel a hair below black, whose power is no number.
        return WHITE * (np.clip(pixels, 0, WHITE) / WHITE) ** 2.0**self.strength

    def __str__(self) -> str:
        return f"gamma {2**self.strength:.2f}"


@dataclass(frozen=True)
class Window(Intervention):
    """A narrower window, ``level + 2^strength (p - level)``: above 0 steeper.

    Parameters
    ----------
    strength : float
        Octaves of contrast.
    level : float
        The grey that stays, 0 to 255.
    """

    LOWEST = -math.inf
    strength: float = 0.5
    level: float = WHITE / 2

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002
        """Return the image through the window."""
        return self.level + 2.0**self.strength * (pixels - self.level)

    def __str__(self) -> str:
        return f"window, contrast x{2**self.strength:.2f}"


@dataclass(frozen=True)
class DarkCorner(Intervention):
    """Corners that no light reaches, as under a dermatoscope or a round collimator.

    Parameters
    ----------
    radius : float
        Of the lit disc, as a share of half the diagonal.
    softness : float
        Width of its edge, likewise.
    strength : float in [0, 1]
        Share of the light that is missing outside.
    """

    HIGHEST = 1.0
    radius: float = 0.85
    softness: float = 0.04

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002
        """Return the image inside its disc."""
        rows, columns = pixels.shape[:2]
        y, x = np.mgrid[:rows, :columns] + 0.5
        away = np.hypot(y - rows / 2, x - columns / 2) / math.hypot(rows / 2, columns / 2)
        outside = np.clip((away - self.radius) / max(self.softness, 1e-6) + 0.5, 0, 1)
        return blended(pixels, self.strength * outside, 0.0)

    def __str__(self) -> str:
        return f"dark corners beyond {self.radius:g}, by {self.strength:g}"
