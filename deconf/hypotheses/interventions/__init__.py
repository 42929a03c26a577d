"""Pixel interventions: small edits of an image that imitate one step of the workflow each.

``a | b`` does one after the other; ``edit.at(0.5)`` is half the dose; ``edit(pixels, rng)``
returns new pixels.  `deconf.intervene` measures what an encoder makes of them.
"""

from deconf.hypotheses.interventions.base import Compose, Custom, Intervention
from deconf.hypotheses.interventions.blanking import BlankMarker, Box, burnt_in
from deconf.hypotheses.interventions.detector import PointSpread, QuantumNoise
from deconf.hypotheses.interventions.exposure import DarkCorner, Gamma, Window
from deconf.hypotheses.interventions.markings import Ink, Ruler, TextMarker
from deconf.hypotheses.interventions.stain import Stain
from deconf.hypotheses.interventions.storage import Compression, Resampling

__all__ = [
    "BlankMarker",
    "Box",
    "Compose",
    "Compression",
    "Custom",
    "DarkCorner",
    "Gamma",
    "Ink",
    "Intervention",
    "PointSpread",
    "QuantumNoise",
    "Resampling",
    "Ruler",
    "Stain",
    "TextMarker",
    "Window",
    "burnt_in",
]
