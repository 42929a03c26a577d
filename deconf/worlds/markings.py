"""Letters burnt into a film: the side, and where a ward does so, the word PORTABLE."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Seven rows of five cells; each number is a row, its bits the cells from left to right.
LETTERS = {
    "A": (14, 17, 17, 31, 17, 17, 17), "B": (30, 17, 17, 30, 17, 17, 30),
    "D": (30, 17, 17, 17, 17, 17, 30), "E": (31, 16, 16, 30, 16, 16, 31),
    "I": (14, 4, 4, 4, 4, 4, 14), "L": (16, 16, 16, 16, 16, 16, 31),
    "N": (17, 25, 21, 19, 17, 17, 17), "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16), "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30), "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14), " ": (0, 0, 0, 0, 0, 0, 0),
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How a site marks its films.

    Attributes
    ----------
    word : str
        What it writes on a portable film.
    corner : tuple of (-1 or 1, -1 or 1)
        Where: x to the right, y down.
    height : float
        Of the letters, in half film widths.
    boxed : bool
        Black letters on a white plate, or white letters.
    side : str
        The letter of the side marker, "L" or "R", at that side's upper corner.
    """

    word: str
    corner: tuple[int, int]
    height: float
    boxed: bool
    side: str


STYLES = (
    Style("PORTABLE", (-1, -1), 0.085, False, "L"),
    Style("AP", (1, -1), 0.12, False, "R"),
    Style("PORTABLE", (1, 1), 0.085, True, "L"),
    Style("AP SUPINE", (-1, 1), 0.08, True, "R"),
    Style("PORT", (1, -1), 0.10, True, "R"),
)


@lru_cache(maxsize=64)
def bitmap(text: str) -> np.ndarray:
    """Return the cells of a text, (9, 6 letters + 1), 1 where there is ink, with a margin.

    Examples
    --------
    >>> print("".join(".#"[int(cell)] for cell in bitmap("L")[7]))
    .#####.
    """
    rows = [[LETTERS[letter][r] for letter in text] for r in range(7)]
    cells = [[(row >> bit) & 1 for row in line for bit in (5, 4, 3, 2, 1, 0)] for line in rows]
    inner = np.array(cells, dtype=np.float32)
    out = np.zeros((9, inner.shape[1] + 1), dtype=np.float32)
    out[1:-1, :-1] = inner
    return out


def _coverage(cells: int, start: float, cell: float, size: int) -> np.ndarray:
    """Return how much of each pixel each cell covers, (size, cells); ``start`` in pixels."""
    left = start + cell * np.arange(cells)
    pixel = np.arange(size)[:, None]
    return np.clip(np.minimum(pixel + 1, left + cell) - np.maximum(pixel, left), 0, 1)


def stamp(
    picture: np.ndarray,
    text: str,
    corner: tuple[int, int],
    height: float,
    *,
    boxed: bool = False,
    inset: tuple[float, float] = (0.06, 0.06),
    ink: float = 0.97,
) -> None:
    """Write a text into a corner of one picture, in place.

    Parameters
    ----------
    picture : (size, size), 0 to 1
    text : str
    corner, height, boxed
        As in `Style`.
    inset : distance from the edges, x and y, in half film widths
    ink : float
        Brightness of the letters, or of the plate behind black ones.
    """  # fmt: skip
    size = picture.shape[0]
    cells = bitmap(text)
    cell = height / 7 * size / 2
    spans = []
    for count, toward, gap in ((cells.shape[1], corner[0], inset[0]), (9, corner[1], inset[1])):
        start = gap * size / 2 if toward < 0 else size - gap * size / 2 - count * cell
        spans.append((count, start))
    across, down = (_coverage(count, start, cell, size) for count, start in spans)
    letters = np.clip(down @ cells @ across.T, 0, 1)
    if boxed:
        plate = np.clip(down.sum(1)[:, None] * across.sum(1), 0, 1)
        picture *= 1 - 0.92 * plate
        picture += 0.92 * plate * ink * (1 - 0.95 * letters)
    else:
        picture *= 1 - letters
        picture += letters * ink
