"""Things written or laid on an image: letters, a ruler, ink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from deconf.errors import SettingsError, did_you_mean, listing
from deconf.hypotheses.interventions.base import WHITE, Intervention, Pixels, blended, grey
from deconf.worlds.markings import LETTERS, printed

CORNERS = {
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}
VIOLET = (84.0, 48.0, 150.0)  # gentian violet on skin
Corner = Literal["top left", "top right", "bottom left", "bottom right"]


@dataclass(frozen=True)
class TextMarker(Intervention):
    """A word burnt into a corner, as PORTABLE or AP on a film.

    Parameters
    ----------
    text : str
        Capital letters, digits, space, hyphen and full stop.
    corner : "top left", "top right", "bottom left" or "bottom right"
    height : float
        Of the letters, as a share of the shorter side.
    plate : bool
        Black letters on a white plate instead of white letters.
    inset : (float, float)
        Distance from the edges, across and down, as shares of the shorter side.
    strength : float in [0, 1]
        Opacity.

    Examples
    --------
    >>> film = np.zeros((400, 400))
    >>> marked = TextMarker("AP", corner="top right")(film, np.random.default_rng(0))
    >>> int(marked.max()), float(marked[100:].max())
    (247, 0.0)
    """

    HIGHEST = 1.0

    text: str = "PORTABLE"
    corner: Corner = "top left"
    height: float = 0.045
    plate: bool = False
    inset: tuple[float, float] = (0.035, 0.035)

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = sorted({letter for letter in self.text if letter not in LETTERS})
        if unknown or not self.text.strip():
            raise SettingsError(
                f"the text {self.text!r} cannot be written"
                + (f": no sign for {listing(map(repr, unknown))}" if unknown else "")
                + f". Known signs: {''.join(sorted(LETTERS))!r}."
            )
        if self.corner not in CORNERS:
            raise SettingsError(
                f"the corner is {self.corner!r}.{did_you_mean(str(self.corner), CORNERS)} "
                f"Choose from {listing(CORNERS)}."
            )

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002
        """Return the image with the word on it."""
        letters, plate = printed(
            pixels.shape[:2],
            self.text,
            CORNERS[self.corner],
            2 * self.height,
            inset=(2 * self.inset[0], 2 * self.inset[1]),
        )
        ink = 0.97 * WHITE
        if self.plate:
            pixels = blended(pixels, 0.92 * self.strength * plate, ink)
            return blended(pixels, self.strength * letters * plate, 0.05 * ink)
        return blended(pixels, self.strength * letters, ink)

    def __str__(self) -> str:
        return f"text {self.text} {self.corner}, opacity {self.strength:g}"


@dataclass(frozen=True)
class Ruler(Intervention):
    """A scale along the lower edge: a tick each step, every fifth one longer.

    Parameters
    ----------
    step : float
        Between ticks, as a share of the width.
    ink : float
        Brightness of the ticks, 0 to 255: dark on skin, bright on a film.
    strength : float in [0, 1]
        Opacity.
    """

    HIGHEST = 1.0

    step: float = 0.025
    ink: float = 15.0

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002
        """Return the image with the scale on it."""
        rows, columns = pixels.shape[:2]
        place = (np.arange(columns) + 0.5) / columns / self.step
        wide = max(1.0, 0.004 * columns) / columns / self.step  # of a tick, in steps
        nearest = np.rint(place)
        across = np.clip(0.5 + (wide / 2 - np.abs(place - nearest)) * columns * self.step, 0, 1)
        length = np.where(nearest % 5 == 0, 0.07, 0.04)
        down = (rows - np.arange(rows)[:, None] - 0.5) / rows
        return blended(pixels, self.strength * across * (down < length), self.ink)

    def __str__(self) -> str:
        return f"ruler, opacity {self.strength:g}"


@dataclass(frozen=True)
class Ink(Intervention):
    """Pen strokes around the middle, as a surgeon marks the skin; elsewhere on every image.

    Parameters
    ----------
    strokes : int
    colour : (red, green, blue), 0 to 255
        Of the ink; on a grey image its brightness.
    width : float
        Of the pen, as a share of the shorter side.
    strength : float in [0, 1]
        Opacity.
    """

    HIGHEST = 1.0

    strokes: int = 3
    colour: tuple[float, float, float] = VIOLET
    width: float = 0.02

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the image with strokes at random places on a ring around its middle."""
        rows, columns = pixels.shape[:2]
        short = min(rows, columns)
        y, x = np.mgrid[:rows, :columns] + 0.5
        y, x = (y - rows / 2) / short, (x - columns / 2) / short
        radius, angle = np.hypot(x, y), np.arctan2(y, x)
        cover = np.zeros((rows, columns))
        for start, length, ring in rng.random((self.strokes, 3)):
            middle = 2 * np.pi * start
            apart = np.abs((angle - middle + np.pi) % (2 * np.pi) - np.pi)
            off = np.hypot(
                radius - (0.30 + 0.12 * ring), np.maximum(apart - 0.15 - 0.35 * length, 0) * radius
            )
            cover = np.maximum(cover, np.clip(0.5 + (self.width / 2 - off) * short, 0, 1))
        ink = np.asarray(self.colour, dtype=np.float64)
        # Ink lets light through: it takes away its complement, and skin is seen beneath.
        tinted = pixels * (ink if pixels.ndim == 3 else grey(ink[None, None])[0, 0]) / WHITE
        return blended(pixels, self.strength * cover, tinted)

    def __str__(self) -> str:
        return f"ink, {self.strokes} strokes, opacity {self.strength:g}"
