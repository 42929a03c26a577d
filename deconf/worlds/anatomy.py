"""A chest made of formulas: what a ray crosses on its way through a phantom patient.

Every organ is a soft shape on the plane of the film (the unit is half the film's width, about
18 cm; x to the viewer's right, y down), and a film is the sum of centimetres of water-equivalent
tissue along each ray.  The lungs take tissue away; the heart, consolidation and effusion take air
away from the lungs; bone adds.  All functions work on a stack of films at once: arrays are
(films, size, size), or (films, 1, 1) for a number per film.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconf.worlds.curves import Curves, splat, vessels

Stack = np.ndarray
"""(films, size, size) float32."""
Number = np.ndarray | np.floating | float
"""(films, 1, 1) float32, or one for all films."""

CM = 18.0  # centimetres in half a film's width
AERATED = 0.26  # density of aerated lung relative to water

# One standard normal number each, drawn once for a patient: how this chest differs from the mean.
VARIES = (
    "build", "depth", "lung_width", "lung_height", "apex", "dome_right", "dome_left", "curve",
    "heart_x", "heart_y", "heart_size", "heart_tilt", "mediastinum", "aorta", "trachea", "ribs",
    "rib_slope", "rib_contrast", "clavicle", "clavicle_tilt", "scapula", "scapula_y", "shoulder",
    "neck", "arm", "breast_size", "breast_y", "gas_x", "gas_y", "gas_size", "gas_seen", "density",
)  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """How a patient stood or lay at one film: (films, 1, 1) arrays.

    Attributes
    ----------
    shift_x, shift_y, turn, zoom : float32
        Of the body on the film; ``turn`` in radians.
    breath : float32
        Depth of inspiration; the domes sink by it.
    supine : float32
        1 for a bedside film taken from the front (AP), 0 for a standing one (PA).
    """

    shift_x: Stack
    shift_y: Stack
    turn: Stack
    zoom: Stack
    breath: Stack
    supine: Stack

    def to_body(self, size: int) -> tuple[Stack, Stack]:
        """Return the body's x and y at every pixel."""
        line = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
        x, y = line[None, None, :] - self.shift_x, line[None, :, None] - self.shift_y
        c, s = np.cos(self.turn) / self.zoom, np.sin(self.turn) / self.zoom
        return c * x + s * y, c * y - s * x

    def to_film(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where points of the body, (films, points), fall on the film."""
        flat = {k: getattr(self, k)[:, :, 0] for k in ("shift_x", "shift_y", "turn", "zoom")}
        c, s = np.cos(flat["turn"]) * flat["zoom"], np.sin(flat["turn"]) * flat["zoom"]
        return c * x - s * y + flat["shift_x"], s * x + c * y + flat["shift_y"]


def ramp(distance: Stack, width: float) -> Stack:
    """Return 0 outside, 1 inside, rising over ``width`` where the signed distance is 0."""
    out = distance * np.float32(1 / width)
    out += np.float32(0.5)
    return np.clip(out, 0, 1, out=out)


def dome(inside: Stack) -> Stack:
    """Return the chord through a solid whose boundary is where ``inside`` falls to 0."""
    return np.sqrt(np.maximum(inside, 0))


def ellipse(x: Stack, y: Stack, cx: Number, cy: Number, a: Number, b: Number) -> Stack:
    """Return 1 in the centre of an ellipse, 0 on its edge, negative outside."""
    return 1 - ((x - cx) / a) ** 2 - ((y - cy) / b) ** 2


@dataclass(frozen=True)
class Chest:
    """The paths through one stack of chests, before any finding.

    Attributes
    ----------
    x, y : (films, size, size)
        The body's coordinates at every pixel.
    solid, air, bone : (films, size, size)
        Centimetres of tissue as if there were no lungs; of lung; of bone (as water).
    domes : (films, size, size)
        How far below the diaphragm a pixel lies.
    """

    x: Stack
    y: Stack
    solid: Stack
    air: Stack
    bone: Stack
    below: Stack

    def path(self) -> Stack:
        """Return the centimetres of water that attenuate alike."""
        return np.maximum(self.solid - (1 - AERATED) * self.air, 0) + self.bone


def chest(
    varies: dict[str, Stack],
    pose: Pose,
    *,
    age: Stack,
    female: Stack,
    enlarged: Stack,
    branches: np.ndarray,
    size: int,
) -> Chest:
    """Return the chests of a stack of patients.

    Parameters
    ----------
    varies : mapping of `VARIES` to (films, 1, 1)
    pose : Pose
    age, female, enlarged : (films, 1, 1)
        Years; 0 or 1; the factor by which the heart is wider than normal.
    branches : (films, k) standard normals
        Shape of the vessels.
    size : int
        Pixels on a side.
    """
    x, y = pose.to_body(size)
    v, supine = varies, pose.supine
    u, left = np.abs(x), x > 0
    solid, top = _torso(v, u, y)
    solid += _breasts(v, u, y, female)

    xc = 0.355 + 0.095 * y
    half = (0.425 + 0.016 * v["lung_width"]) * (1 + 0.02 * v["build"])
    tall = 1.02 + 0.03 * v["lung_height"]
    yc = np.float32(0.28) + 0.02 * v["apex"] + 0.02 * supine
    across = ((u - xc) / half) ** 2
    inside = 1 - across - ((y - yc) / tall) ** 2
    inside = np.maximum(inside, 0)
    air = np.sqrt(inside * (2 - inside)) * (15.5 + 0.8 * v["depth"])

    level = np.where(left, 0.475 + 0.025 * v["dome_left"], 0.42 + 0.025 * v["dome_right"])
    level += 0.045 * pose.breath - 0.09 * supine
    off = u - np.where(left, np.float32(0.36), np.float32(0.33))
    below = y - level - (0.95 + 0.12 * v["curve"]) * off**2 * np.where(off > 0, 1.25, 0.75)
    # Lung behind and below the dome still lies in the ray: a faint grey under the edge.
    air *= 0.90 * ramp(-below, 0.022) + 0.10 * ramp(0.10 - below, 0.22)

    heart, column = _mediastinum(v, x, y, age, enlarged, supine)
    air = np.maximum(air - heart, 0) * (1 - column)
    bone = _bones(v, u, y, across, top, age, supine)
    tree, windpipe = vessels(branches)
    hidden = np.clip(air * 0.12, 0, 1)  # the heart outshines the vessels in front of it
    solid += splat(_on_film(tree, pose), size) * hidden * (2.4 * CM)
    solid -= splat(_on_film(windpipe, pose), size) * CM
    width = 0.036 + 0.003 * v["trachea"]
    middle = 0.012 + 0.006 * v["trachea"]
    solid -= 2.8 * dome(1 - ((x - middle) / width) ** 2) * ramp(-0.2 - y, 0.05) * ramp(solid - 4, 2)
    solid -= _gas(v, x, y, pose.breath)
    return Chest(x, y, solid, air, bone, below)


def _on_film(curves: Curves, pose: Pose) -> Curves:
    return Curves(*pose.to_film(curves.x, curves.y), curves.mass)


def _torso(v: dict[str, Stack], u: Stack, y: Stack) -> tuple[Stack, Stack]:
    """Return trunk, neck, shoulders and arms, and the distance below the shoulder line."""
    neck = 0.235 + 0.015 * v["neck"] + 0.01 * v["build"]
    slope = (u / neck) ** 2
    top = y + 0.845 - 0.03 * v["shoulder"] - 0.22 * u**2
    top += 0.9 * np.exp(-(slope**2)) + 0.13 * np.exp(-0.45 * slope)
    wide = 0.985 + 0.035 * v["build"]
    flank = np.minimum(u / wide, 1)
    trunk = dome(1 - flank**3 * flank) * (20.5 + 1.6 * v["depth"] + 0.8 * v["build"])
    trunk *= np.sqrt(ramp(top - 0.09, 0.26))
    # Below the armpit the arms hang a little off the trunk.
    lateral = 0.985 + 0.02 * v["arm"] + 0.10 * (y + 0.45)
    arm = 8.5 * dome(1 - ((u - lateral) / 0.16) ** 2) * ramp(top - 0.06, 0.12)
    return np.maximum(trunk, arm), top


def _breasts(v: dict[str, Stack], u: Stack, y: Stack, female: Stack) -> Stack:
    size = 0.37 + 0.05 * v["breast_size"]
    fold = 0.56 + 0.06 * v["breast_y"]
    inside = ellipse(u, y, np.float32(0.56), fold - 0.9 * size, size, 0.9 * size)
    return female * 7.5 * size * np.sqrt(dome(inside)) * ramp(y - fold + 0.36, 0.6)


def _mediastinum(
    v: dict[str, Stack], x: Stack, y: Stack, age: Stack, enlarged: Stack, supine: Stack
) -> tuple[Stack, Stack]:
    """Return the heart, in cm of lung it displaces, and the great vessels, a share from 0 to 1."""
    # A heart farther from the detector (AP) throws a larger shadow: 1.15 at the bedside.
    scale = enlarged * (1 + 0.04 * v["heart_size"]) * (1 + 0.15 * supine)
    hx, hy = 0.135 + 0.015 * v["heart_x"], 0.275 + 0.02 * v["heart_y"] - 0.07 * supine
    tilt = 0.72 + 0.08 * v["heart_tilt"]
    c, s = np.cos(tilt), np.sin(tilt)
    along, aside = c * (x - hx) + s * (y - hy), c * (y - hy) - s * (x - hx)
    ventricle = 1 - (along / (0.40 * scale)) ** 2 - (aside / (0.285 * scale)) ** 2
    atrium = ellipse(x, y, -0.035 * scale, hy - 0.01, 0.165 * scale, 0.25 * scale)
    inside = np.maximum(np.maximum(ventricle, atrium), 0)
    heart = 14.0 * np.sqrt(inside * (1.4 - 0.4 * inside))

    old = (age - 50) / 30
    stretch = (1 + 0.07 * v["mediastinum"]) * (1 + 0.16 * supine)
    border = 0.085 + 0.02 * ramp(y + 0.55, 0.6) + 0.03 * ramp(y - 0.1, 0.5)
    column = ramp(border * stretch - np.abs(x - 0.002), 0.03)
    knob = (0.082 + 0.012 * old + 0.006 * v["aorta"]) * stretch
    for cx, cy, radius in (
        (0.070 + 0.018 * old, -0.30, knob),  # aortic knob
        (0.052, -0.09, 0.105 * stretch),  # pulmonary trunk
    ):
        disc = ellipse(x, y, cx, np.float32(cy), radius, 1.35 * radius)
        np.maximum(column, 0.9 * ramp(disc - 0.15, 0.6), out=column)
    return heart, column


def _bones(
    v: dict[str, Stack],
    u: Stack,
    y: Stack,
    across: Stack,
    top: Stack,
    age: Stack,
    supine: Stack,
) -> Stack:
    """Return spine, ribs, clavicles, shoulder blades and upper arms, in cm of water."""
    spacing = 0.150 + 0.005 * v["ribs"]
    turn = np.float32(2 * np.pi)
    bone = 2.4 * ramp(0.085 - u, 0.03)
    bone *= 0.85 + 0.15 * np.cos(turn / 0.125 * y)

    # All ribs of a kind are one wave: its phase says how far a pixel lies from the nearest rib.
    strength = (1 + 0.15 * v["rib_contrast"]) * (1.15 - 0.25 * (age - 50) / 40)
    cage = ramp(1.06 - across, 0.12) * ramp(top - 0.13, 0.08)
    edge = 1 + 0.6 * np.minimum(across, 1.2) ** 3  # at the flank the ray runs along the rib
    sag = (0.36 + 0.05 * v["rib_slope"]) * (1.15 - 0.3 * y)
    behind = np.cos((y - sag * u**2 + 0.10 * u + 0.02 * v["ribs"]) * (turn / spacing))
    front = np.cos((y + 0.42 * u + 0.3 * u**2 + 0.03 * v["ribs"]) * (turn / spacing))
    posterior = ramp(behind - 0.25, 0.9) * (0.75 + 0.25 * ramp(0.85 - behind, 0.3))
    anterior = ramp(front - 0.35, 0.9) * ramp(u - 0.36, 0.2)
    shown = cage * strength * edge
    bone += shown * ramp(u - 0.06, 0.05) * ramp(0.62 - y, 0.5) * 1.30 * posterior
    bone += shown * ramp(0.50 - y, 0.4) * ramp(y + 0.52, 0.1) * 0.80 * anterior

    rise = 0.30 + 0.04 * v["clavicle_tilt"] - 0.10 * supine
    line = y + 0.47 + 0.02 * v["clavicle"] + 0.07 * supine + rise * u + 0.03 * np.cos(6.5 * u)
    collar = dome(1 - (line / 0.040) ** 2) * (1.25 - 0.5 * dome(1 - (line / 0.025) ** 2))
    bone += 3.0 * collar * ramp(u - 0.09, 0.03) * ramp(0.80 - u, 0.08)

    # Standing, the patient rolls the shoulder blades off the lungs; in bed nobody can.
    bx = 0.865 + 0.02 * v["scapula"] - 0.155 * supine
    by = -0.33 + 0.03 * v["scapula_y"]
    blade = ellipse(u + 0.28 * (y - by), y, bx, by, np.float32(0.17), np.float32(0.33))
    rim = ramp(blade, 0.10) * ramp(0.22 - blade, 0.2)
    bone += 0.55 * ramp(blade, 0.08) + 1.1 * rim
    wide, high = np.float32(0.105), np.float32(0.115)
    head = ellipse(u, y, 0.90 - 0.02 * supine, np.float32(-0.53), wide, high)
    shaft = dome(1 - ((u - 0.945 - 0.12 * (y + 0.45)) / 0.052) ** 2) * ramp(y + 0.50, 0.1)
    bone += np.maximum(2.6 * dome(head), 2.2 * shaft)
    return bone * ramp(top - 0.03, 0.05)


def _gas(v: dict[str, Stack], x: Stack, y: Stack, breath: Stack) -> Stack:
    """Return the gas under the left dome, in most patients."""
    size = 0.10 + 0.02 * v["gas_size"]
    level = 0.63 + 0.02 * v["gas_y"] + 0.04 * breath
    bubble = ellipse(x, y, 0.36 + 0.05 * v["gas_x"], level, 1.35 * size, 0.75 * size)
    return (v["gas_seen"] > -0.4) * 5.5 * dome(bubble)
