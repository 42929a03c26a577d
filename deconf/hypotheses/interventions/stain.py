"""The stain of a slide, changed in optical density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deconf.errors import CohortError
from deconf.hypotheses.interventions.base import WHITE, Intervention, Pixels

# Rows: optical density of haematoxylin and eosin in red, green and blue, measured by Ruifrok &
# Johnston (2001, Table 1); the third direction, what neither explains, is their cross product.
HAEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.072, 0.990, 0.105)
LEAST = 1.0  # the darkest a pixel counts: black has no finite density


@dataclass(frozen=True)
class Stain(Intervention):
    """More or less of each stain: Beer and Lambert's law, by colour deconvolution.

    The optical density ``-log10(I / 255)`` is split into haematoxylin, eosin and a rest; the two
    are multiplied by ``2^(strength x weight)`` and the image is put together again (Ruifrok &
    Johnston, "Quantification of histochemical staining by color deconvolution", Analytical and
    Quantitative Cytology and Histology 2001).  Bare glass stays white.

    Parameters
    ----------
    haematoxylin, eosin : float
        Weights.
    strength : float
        Octaves of concentration at weight 1.
    """

    LOWEST = -math.inf
    strength: float = 0.5
    haematoxylin: float = 1.0
    eosin: float = -1.0

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002
        """Return the slide with other concentrations."""
        if pixels.ndim == 2:
            raise CohortError(
                f"Stain needs a colour image and this one is grey, {pixels.shape}: a stain is told "
                "by its colour. For grey images take Gamma or Window."
            )
        stains = np.array([HAEMATOXYLIN, EOSIN])
        stains = np.vstack([stains, np.cross(*stains)])
        stains /= np.linalg.norm(stains, axis=1, keepdims=True)
        density = -np.log10(np.maximum(pixels, LEAST) / WHITE)
        amount = density @ np.linalg.inv(stains)
        change = 2.0 ** (self.strength * np.array([self.haematoxylin, self.eosin, 0.0])) - 1
        # The change is added, so that what is darker than LEAST keeps its own value times a factor.
        return pixels * 10.0 ** -((amount * change) @ stains)

    def __str__(self) -> str:
        h, e = (2 ** (self.strength * w) for w in (self.haematoxylin, self.eosin))
        return f"stain, haematoxylin x{h:.2f}, eosin x{e:.2f}"
