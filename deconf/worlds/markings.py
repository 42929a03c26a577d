"""Letters burnt into a film: the side, and where a ward does so, the word PORTABLE."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Seven rows of five cells; each number is a row, its bits the cells from left to right.
LETTERS = {
    "A": (14, 17, 17, 31, 17, 17, 17), "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14), "D": (30, 17, 17, 17, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31), "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 15), "H": (17, 17, 17, 31, 17, 17, 17),
    "I": (14, 4, 4, 4, 4, 4, 14), "J": (7, 2, 2, 2, 2, 18, 12),
    "K": (17, 18, 20, 24, 20, 18, 17), "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17), "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14), "P": (30, 17, 17, 30, 16, 16, 16),
    "Q": (14, 17, 17, 17, 21, 18, 13), "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30), "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14), "V": (17, 17, 17, 17, 17, 10, 4),
    "W": (17, 17, 17, 21, 21, 21, 10), "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 17, 10, 4, 4, 4), "Z": (31, 1, 2, 4, 8, 16, 31),
    "0": (14, 17, 19, 21, 25, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31), "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14), "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14), "9": (14, 17, 17, 15, 1, 2, 12),
    "-": (0, 0, 0, 31, 0, 0, 0), ".": (0, 0, 0, 0, 0, 12, 12),
    " ": (0, 0, 0, 0, 0, 0, 0),
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


def printed(
    shape: tuple[int, int],
    text: str,
    corner: tuple[int, int],
    height: float,
    *,
    inset: tuple[float, float] = (0.06, 0.06),
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much of each pixel the letters of a text cover, and the plate behind them.

    Parameters
    ----------
    shape : (rows, columns) of the picture
    text : str
    corner : (-1 or 1, -1 or 1)
        x to the right, y down.
    height : float
        Of the letters, in halves of the shorter side.
    inset : distance from the edges, x and y, in halves of the shorter side

    Returns
    -------
    two (rows, columns) arrays of 0 to 1
    """
    half = min(shape) / 2
    cells = bitmap(text)
    cell = height / 7 * half
    covers = []
    sides = ((cells.shape[1], corner[0], inset[0], shape[1]), (9, corner[1], inset[1], shape[0]))
    for count, toward, gap, length in sides:
        start = gap * half if toward < 0 else length - gap * half - count * cell
        covers.append(_coverage(count, start, cell, length))
    across, down = covers
    letters = np.clip(down @ cells @ across.T, 0, 1)
    return letters, np.clip(down.sum(1)[:, None] * across.sum(1), 0, 1)


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
    picture : (rows, columns), 0 to 1
    text, corner, height, inset
        As in `printed`.
    boxed : bool
        As in `Style`.
    ink : float
        Brightness of the letters, or of the plate behind black ones.
    """
    letters, plate = printed(picture.shape, text, corner, height, inset=inset)
    if boxed:
        picture *= 1 - 0.92 * plate
        picture += 0.92 * plate * ink * (1 - 0.95 * letters)
    else:
        picture *= 1 - letters
        picture += letters * ink
