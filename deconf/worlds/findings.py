"""What disease does to a simulated chest: consolidation, effusion, a nodule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deconf.worlds.anatomy import CM, Chest, Stack, dome, ellipse, ramp

GRAIN = 20
"""Side of the coarse noise that gives a consolidation its patchy edge."""
ZONES = 3
SPREADS = (1.0, 0.55, 0.25)
"""Shares of pneumonias with a first, a second and a third patch."""
SCARRED = 0.20
"""Share of patients without pneumonia who have a patch that looks like a faint one."""
NORMALS = ZONES * 5 + 8
UNIFORMS = 5
"""Random numbers of one patient besides ``GRAIN**2`` normals."""


def _patches(coarse: np.ndarray, size: int) -> Stack:
    """Return smooth noise, (films, size, size), from (films, GRAIN, GRAIN) normals."""
    place = (np.arange(size, dtype=np.float32) + 0.5) * (GRAIN / size) - 0.5
    near = np.exp(-0.5 * ((place[:, None] - np.arange(GRAIN)) / 0.8) ** 2)
    near /= np.sqrt((near**2).sum(1, keepdims=True))
    near = near.astype(np.float32)
    return near @ coarse @ near.T


def with_findings(
    body: Chest,
    normals: np.ndarray,
    uniforms: np.ndarray,
    coarse: np.ndarray,
    *,
    pneumonia: Stack,
    extent: Stack,
    effusion: Stack,
    nodule: Stack,
) -> Chest:
    """Return chests with their disease.

    Parameters
    ----------
    body : Chest
    normals, uniforms : (films, NORMALS), (films, UNIFORMS)
        Where the disease sits and how it looks; drawn once for a patient.
    coarse : (films, GRAIN, GRAIN) standard normals
    pneumonia, effusion, nodule : (films, 1, 1) of 0 and 1
    extent : (films, 1, 1)
        Of the consolidation; 1 is usual.
    """
    x, y, size = body.x, body.y, body.x.shape[1]
    n, u = (a.astype(np.float32)[..., None, None] for a in (normals, uniforms))
    side = np.where(u[:, 0] < 0.55, np.float32(-1), np.float32(1))

    zones: Stack = np.zeros_like(x)
    for k in range(ZONES):
        s = n[:, 5 * k : 5 * k + 5]
        here = side if k < 2 else -side  # the third patch, in the widespread, is on the other side
        cx = here * (0.42 + 0.10 * s[:, 0])
        cy = 0.15 + 0.22 * s[:, 1]
        wide = (0.145 + 0.02 * s[:, 2]) * np.sqrt(extent)
        high = (0.125 + 0.02 * s[:, 3]) * np.sqrt(extent)
        weight = (u[:, 1] < SPREADS[k]) * (1 if k == 0 else pneumonia)
        spot = ((x - cx) / wide) ** 2 + ((y - cy) / high) ** 2
        zones = np.maximum(zones, weight * np.exp(-0.5 * spot))
    cloud = ramp(1.5 * zones + 0.22 * _patches(coarse, size) - 0.75, 1.3) * (zones > 0.03)
    # Early disease is faint and an old scar looks alike: nobody reads these films perfectly.
    dense = 0.34 * np.exp(0.65 * n[:, 15])
    scar = 0.55 * dense * (u[:, 4] < SCARRED)
    filled = np.clip(np.where(pneumonia > 0, dense, scar), 0, 0.75) * cloud
    air = body.air * (1 - filled)

    # Fluid climbs along the flank: a meniscus that blunts the angle between dome and wall.
    fluid_side = np.where(u[:, 2] < 0.5, np.float32(-1), np.float32(1))
    height = 0.10 + 0.05 * np.abs(n[:, 16])
    climb = 0.85 * ramp(x * fluid_side - 0.52, 0.5) ** 2
    level = body.below + height * (0.55 + climb)
    air *= 1 - effusion * (x * fluid_side > 0) * 0.92 * ramp(level, 0.05)

    radius = 0.048 + 0.007 * np.clip(n[:, 17], -1.5, 1.5)
    nx = np.where(u[:, 3] < 0.5, np.float32(-1), np.float32(1)) * (0.42 + 0.12 * n[:, 18])
    ny = -0.05 + 0.22 * n[:, 19]
    ball = dome(ellipse(x, y, nx, ny, radius, radius)) * ramp(body.air - 2, 2)
    return replace(body, air=air, solid=body.solid + nodule * 2 * radius * CM * 1.7 * ball)
