"""Burnt-in marks found and painted over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from deconf.errors import SettingsError
from deconf.hypotheses.interventions.base import WHITE, Intervention, Pixels, blended, grey

STROKE = 0.03  # widest stroke of a letter, share of the shorter side
STANDS_OUT = 0.30  # how much brighter than its surroundings ink is, share of white
GAP = 0.03  # letters nearer than this are one word
MARGIN = 0.015  # painted beyond the box, where compression leaves ripples
OUTER = 0.30  # marks sit in the outer part of a side; what lies deeper is anatomy
SMALLEST, LARGEST = 0.018, 0.60  # sides of a box, shares of the shorter and of each side
LONGEST = 10.0  # times as long as high: a word is, the shadow of a collimator is longer


@dataclass(frozen=True)
class Box:
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, ends not included."""

    top: int
    bottom: int
    left: int
    right: int


def burnt_in(pixels: Pixels) -> tuple[Box, ...]:
    """Return boxes around bright, thin, sharp marks in the outer part of an image.

    Ink is what a white top-hat keeps: brighter by `STANDS_OUT` than anything wider than `STROKE`.
    Strokes close together are one mark; what touches the edge of the image is a border.  A rule
    of thumb, made for white letters on films: look at what it finds, and pass boxes of your own
    where it is wrong.
    """
    from scipy import ndimage

    light = grey(np.asarray(pixels, dtype=np.float64))
    rows, columns = light.shape
    short = min(rows, columns)
    window = 2 * max(1, round(STROKE * short / 2)) + 1
    ink = light - ndimage.grey_opening(light, size=(window, window)) > STANDS_OUT * WHITE
    ink &= _outer(light.shape)
    reach = max(1, round(GAP * short / 2))
    joined = ndimage.binary_dilation(ink, np.ones((2 * reach + 1, 2 * reach + 1), dtype=bool))
    labels, _ = ndimage.label(joined)
    found = []
    for label, (down, across) in enumerate(ndimage.find_objects(labels), start=1):
        here = ink[down, across] & (labels[down, across] == label)
        at = np.argwhere(here)
        (top, left), (bottom, right) = at.min(0), at.max(0) + 1
        box = Box(
            int(down.start + top),
            int(down.start + bottom),
            int(across.start + left),
            int(across.start + right),
        )
        if _is_mark(box, float(here[top:bottom, left:right].mean()), rows, columns):
            found.append(box)
    return tuple(found)


@dataclass(frozen=True)
class BlankMarker(Intervention):
    """Burnt-in marks painted over with what surrounds them.

    Each box is filled from its four sides (a bilinearly blended Coons patch).  An image where
    nothing is found stays as it is.

    Parameters
    ----------
    find : callable
        ``find(pixels) -> boxes``.
    strength : float in [0, 1]
        Opacity of the paint.
    """

    HIGHEST = 1.0
    find: Callable[[Pixels], Sequence[Box]] = burnt_in

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG002
        """Return the image without the marks."""
        rows, columns = pixels.shape[:2]
        beyond = max(1, round(MARGIN * min(rows, columns)))
        for box in self.find(pixels):
            if not (0 <= box.top < box.bottom <= rows and 0 <= box.left < box.right <= columns):
                raise SettingsError(f"{box} does not lie on an image of {rows} x {columns} pixels.")
            top, bottom = max(0, box.top - beyond), min(rows, box.bottom + beyond)
            left, right = max(0, box.left - beyond), min(columns, box.right + beyond)
            paint = _patch(pixels, top, bottom, left, right)
            cover = np.full(paint.shape[:2], float(self.strength))
            pixels[top:bottom, left:right] = blended(pixels[top:bottom, left:right], cover, paint)
        return pixels

    def __str__(self) -> str:
        return f"burnt-in marks blanked, opacity {self.strength:g}"


def _outer(shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    down, across = (np.minimum(np.arange(n) + 0.5, n - 0.5 - np.arange(n)) / n for n in shape)
    return np.asarray((down[:, None] < OUTER) | (across < OUTER))


def _is_mark(box: Box, filled: float, rows: int, columns: int) -> bool:
    """Whether a box is as large as a word or a letter, and as full of ink as writing is."""
    high, wide = box.bottom - box.top, box.right - box.left
    least = SMALLEST * min(rows, columns)
    is_sized = least <= high <= LARGEST * rows and least / 2 <= wide <= LARGEST * columns
    is_inside = box.top > 1 and box.left > 1 and box.bottom < rows - 1 and box.right < columns - 1
    is_compact = max(high, wide) <= LONGEST * min(high, wide) and filled > 0.15
    return is_sized and is_inside and is_compact


def _patch(
    pixels: Pixels, top: int, bottom: int, left: int, right: int
) -> Float[np.ndarray, "h w *colour"]:
    """Return a smooth filling of a box from the pixels along its sides.

    A side on the edge of the image takes the values of the opposite one.
    """
    rows, columns = pixels.shape[:2]
    above = pixels[top - 1, left:right] if top else None
    below = pixels[bottom, left:right] if bottom < rows else None
    before = pixels[top:bottom, left - 1] if left else None
    behind = pixels[top:bottom, right] if right < columns else None
    v = ((np.arange(bottom - top) + 0.5) / (bottom - top))[:, None]
    u = ((np.arange(right - left) + 0.5) / (right - left))[None]
    if pixels.ndim == 3:
        u, v = u[..., None], v[..., None]
    layers = []
    if above is not None or below is not None:
        first = above if above is not None else below
        last = below if below is not None else above
        layers.append((1 - v) * first[None] + v * last[None])  # type: ignore[index]
    if before is not None or behind is not None:
        first = before if before is not None else behind
        last = behind if behind is not None else before
        layers.append((1 - u) * first[:, None] + u * last[:, None])  # type: ignore[index]
    if not layers:  # the box is the whole image
        return np.full_like(pixels, pixels.mean())
    if len(layers) == 1:
        return layers[0]
    # Near a side its own values count most; in the middle both pairs count the same.
    near_v, near_u = np.minimum(v, 1 - v), np.minimum(u, 1 - u)
    share = near_u / (near_u + near_v)
    return share * layers[0] + (1 - share) * layers[1]
