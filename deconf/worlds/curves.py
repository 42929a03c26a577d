"""Thin curved things on a film: vessels, wires.  Drawn as many points, each a little mass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRUNKS, STEPS = 18, 48
SPREAD = 2 * (0.618034 * np.arange(STEPS) % 1) - 1  # even across a tube, whatever its length
NORMALS = TRUNKS * 3 * 5 + 4
"""Standard normals that shape the vessels of one patient."""


@dataclass(frozen=True)
class Curves:
    """Points, (films, points), with their mass: path length times area, in half film widths."""

    x: np.ndarray
    y: np.ndarray
    mass: np.ndarray


def splat(curves: Curves, size: int) -> np.ndarray:
    """Return the mean thickness in every pixel, (films, size, size), in half film widths.

    Each point is shared among its four nearest pixels; what falls outside the film is lost.
    """
    films = len(curves.x)
    column, row = ((p + 1) * (size / 2) - 0.5 for p in (curves.x, curves.y))
    out = np.zeros(films * (size + 2) ** 2)
    stride = size + 2
    column, row = (np.clip(p + 1, 0, size + 0.999) for p in (column, row))
    i, j = row.astype(np.int64), column.astype(np.int64)
    fi, fj = row - i, column - j
    start = np.arange(films)[:, None] * stride**2
    for di, dj in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (fi if di else 1 - fi) * (fj if dj else 1 - fj) * curves.mass
        at = start + np.minimum(i + di, size + 1) * stride + np.minimum(j + dj, size + 1)
        out += np.bincount(at.ravel(), share.ravel(), minlength=len(out))
    inner = out.reshape(films, stride, stride)[:, 1:-1, 1:-1]
    return (inner * (size / 2) ** 2).astype(np.float32)


def vessels(normals: np.ndarray) -> tuple[Curves, Curves]:
    """Return the vessels that fan out of the hila, and the two main bronchi.

    Every trunk gives off two branches and thins towards the flank.

    Parameters
    ----------
    normals : (films, NORMALS) standard normals
    """
    films = len(normals)
    shape = normals[:, : TRUNKS * 15].reshape(films, 3, TRUNKS, 5)
    side = np.where(np.arange(TRUNKS) % 2, 1.0, -1.0)[:, None]
    fan = np.linspace(-1.25, 1.35, TRUNKS // 2).repeat(2)
    s = shape[:, 0]
    start = (0.125 + 0.02 * s[..., 0], -0.04 + 0.05 * s[..., 1] + 0.05 * fan)
    trunk = _grown(
        start, fan + 0.12 * s[..., 2], 0.48 + 0.07 * s[..., 3], 0.3 * s[..., 4],
        0.026 * (1 + 0.15 * s[..., 0]),
    )  # fmt: skip
    parts = [trunk]
    for k, place, turn in ((1, 12, 0.55), (2, 20, -0.55)):
        s = shape[:, k]
        fork = (trunk.x[..., place], trunk.y[..., place])
        angle = fan + 0.12 * shape[:, 0, :, 2] + turn + 0.2 * s[..., 2]
        thin = np.full_like(angle, 0.014)
        parts.append(_grown(fork, angle, 0.30 + 0.05 * s[..., 3], 0.4 * s[..., 4], thin))
    x = np.stack([part.x * side for part in parts], 1)
    y, mass = (np.stack([getattr(part, k) for part in parts], 1) for k in ("y", "mass"))

    t = np.linspace(0.0, 1.0, STEPS)
    angle = np.array([0.75, 0.95])[:, None] + 0.06 * normals[:, -4:-2, None]
    reach = np.array([0.24, 0.20])[:, None] * t
    across = 0.022 * SPREAD
    bx = np.array([1.0, -1.0])[:, None] * (reach * np.cos(angle) + across * np.sin(angle)) + 0.01
    by = -0.21 + reach * np.sin(angle) - across * np.cos(angle)
    hollow = np.full(bx.shape, 5e-4 / STEPS)
    return _flat(x, y, mass), _flat(bx, by, hollow)


def _grown(
    start: tuple[np.ndarray, np.ndarray],
    angle: np.ndarray,
    length: np.ndarray,
    bend: np.ndarray,
    radius: np.ndarray,
) -> Curves:
    """Return bent tapering tubes; every argument is (films, tubes)."""
    t = np.linspace(0.0, 1.0, STEPS)
    heading = angle[..., None] + bend[..., None] * t
    reach = length[..., None] * t
    r = radius[..., None] * (1 - 0.8 * t)
    c, s = np.cos(heading), np.sin(heading)
    x = start[0][..., None] + reach * c - 0.7 * r * SPREAD * s
    y = start[1][..., None] + reach * s + 0.7 * r * SPREAD * c
    return Curves(x, y, np.pi * r**2 * length[..., None] / STEPS)


def _flat(x: np.ndarray, y: np.ndarray, mass: np.ndarray) -> Curves:
    return Curves(*(a.reshape(len(x), -1) for a in (x, y, mass)))


def wires(normals: np.ndarray, shown: np.ndarray) -> Curves:
    """Return the leads of a monitor: electrodes on the chest and the wires that leave the film.

    Parameters
    ----------
    normals : (films, WIRE_NORMALS) standard normals
    shown : (films,) of 0 and 1
    """
    films = len(normals)
    s = normals.reshape(films, 3, 5)
    t = np.linspace(0.0, 1.0, 220)
    home = np.array([[-0.55, -0.42], [0.58, -0.40], [0.50, 0.38]])
    exit_ = np.array([[-0.35, 1.15], [0.30, 1.15], [0.85, 1.15]])
    x0, y0 = home[:, 0] + 0.07 * s[..., 0], home[:, 1] + 0.07 * s[..., 1]
    x1, y1 = exit_[:, 0] + 0.2 * s[..., 2], exit_[:, 1]
    bow = 0.25 * s[..., 3]
    sway = 0.08 * s[..., 4]
    x = x0[..., None] + (x1 - x0)[..., None] * t + bow[..., None] * np.sin(np.pi * t)
    x = x + sway[..., None] * np.sin(3 * np.pi * t)
    y = y0[..., None] + (y1 - y0)[..., None] * t
    wire = np.full(x.shape, 1.5e-5)
    turn = np.linspace(0, 40 * np.pi, 160)
    radius = 0.028 * np.sqrt(np.linspace(0.02, 1, 160))
    ex, ey = x0[..., None] + radius * np.cos(turn), y0[..., None] + radius * np.sin(turn)
    disc = np.full(ex.shape, 2.4e-6)
    flat = [np.concatenate([a, b], -1).reshape(films, -1) for a, b in ((x, ex), (y, ey))]
    mass = np.concatenate([wire, disc], -1).reshape(films, -1) * shown[:, None]
    return Curves(flat[0], flat[1], mass)


WIRE_NORMALS = 15
"""Standard normals that lay the leads of one film."""
