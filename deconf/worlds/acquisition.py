"""The physics of a film: exposure, scatter, blur, quantum noise, and the scanner's own picture.

A ray through t cm of tissue lets exp(-μ t) of the photons pass.  The detector adds scatter from
all around, blurs, and counts: the noise is that of counting.  The scanner then takes the
logarithm, levels out broad differences, finds a window and bends the grey scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deconf.worlds.anatomy import Stack

MU = 0.155
"""Attenuation of water per cm, for the hard beam of a chest film."""


@dataclass(frozen=True)
class Scanner:
    """How one model of detector, with its processing, turns photons into grey.

    Attributes
    ----------
    gamma : float
        Bend of the grey scale; above 1 is darker.
    contrast : float
        Width of the window relative to the reference; larger is steeper.
    blur : float
        Standard deviation of the point spread, in half film widths.
    levelling : float in [0, 1)
        Share of the broad differences that processing takes out.
    noise : float
        Relative to an ideal counter.
    dose : float
        Exposure it is used at, relative to the reference.
    grain : float
        Weight of noise shared by neighbouring pixels.
    border : float
        Width of the collimator's shadow, in half film widths.
    border_grey : float in [0, 1]
    """

    gamma: float = 1.0
    contrast: float = 1.0
    blur: float = 0.008
    levelling: float = 0.40
    noise: float = 1.0
    dose: float = 1.0
    grain: float = 0.0
    border: float = 0.0
    border_grey: float = 0.0


SCANNERS = {
    "Aurora DR": Scanner(),
    "Borealis 2": Scanner(gamma=1.25, contrast=1.15, blur=0.006, levelling=0.45, noise=0.8),
    "Cassette CR-5": Scanner(
        gamma=0.80, contrast=0.88, blur=0.014, levelling=0.10, noise=1.7, dose=1.5, grain=1.0,
        border=0.035,
    ),
    "Delta Flat": Scanner(gamma=1.05, contrast=1.15, blur=0.007, levelling=0.55, border=0.015),
    "Ember CR": Scanner(
        gamma=0.92, contrast=0.95, blur=0.012, levelling=0.15, noise=1.4, dose=1.3, grain=0.6,
        border=0.05, border_grey=1.0,
    ),
    "Fjord Digital": Scanner(gamma=1.40, contrast=1.00, blur=0.009, levelling=0.35, noise=1.1),
    "Granite 300": Scanner(gamma=0.70, contrast=1.10, blur=0.010, levelling=0.50, grain=0.4),
}  # fmt: skip
REFERENCE = "Aurora DR"


def blurred(stack: Stack, sigma: Stack) -> Stack:
    """Return a stack blurred by a Gaussian of a width of its own for each film.

    Parameters
    ----------
    stack : (films, size, size)
    sigma : (films, 1, 1)
        Standard deviation in half film widths.
    """
    size = stack.shape[1]
    step = np.arange(size, dtype=np.float32) * (2 / size)
    apart = step[:, None] - step
    kernel = np.exp(apart**2 * (-0.5 / np.maximum(sigma, 1e-3) ** 2))
    kernel /= kernel.sum(2, keepdims=True)  # the edge of the film keeps its brightness
    return kernel @ stack @ kernel.transpose(0, 2, 1)


def broad(stack: Stack, sigma: float, nodes: int = 16) -> Stack:
    """Return a very smooth version of a stack: averaged onto a few nodes and spread out again."""
    size = stack.shape[1]
    line = ((np.arange(size) + 0.5) * (2 / size) - 1)[:, None]
    node = (np.arange(nodes) + 0.5) * (2 / nodes) - 1
    gather = np.exp(-0.5 * ((line - node) / (1 / nodes)) ** 2)
    spread = np.exp(-0.5 * ((line - node) / sigma) ** 2)
    gather = (gather / gather.sum(0)).astype(np.float32)
    spread = (spread / spread.sum(1, keepdims=True)).astype(np.float32)
    return spread @ (gather.T @ stack @ gather) @ spread.T


def counted(
    path: Stack, noise: Stack, *, photons: Stack, scatter: Stack, blur: Stack, grain: Stack
) -> Stack:
    """Return what the detector counts, 1 where nothing stands in the beam.

    Parameters
    ----------
    path : (films, size, size)
        Centimetres of water along each ray.
    noise : (films, size, size) standard normals
    photons, scatter, blur, grain : (films, 1, 1)
        Photons per reference pixel in the open beam; scattered share; point spread; weight of
        correlated noise.
    """
    primary = np.exp(path * np.float32(-MU))
    primary += scatter * broad(primary, 0.30)
    signal = blurred(primary, blur)
    shared = np.roll(noise, 1, 1) + np.roll(noise, 1, 2) + np.roll(noise, (1, 1), (1, 2))
    mixed = (noise + grain * shared) / np.sqrt(1 + 3 * grain**2)
    return np.maximum(signal + np.sqrt(signal / photons) * mixed, 1e-4)


def developed(signal: Stack, *, levelling: Stack, contrast: Stack, gamma: Stack) -> Stack:
    """Return the picture, 0 black to 1 white, from the counts."""
    grey = -np.log(signal)
    grey -= levelling * broad(grey, 0.35)
    size = grey.shape[1]
    edge, step = size // 8, max(1, size // 32)
    inner = grey[:, edge : size - edge : step, edge : size - edge : step].reshape(len(grey), -1)
    low, high = np.quantile(inner, [0.03, 0.96], axis=1)[:, :, None, None].astype(np.float32)
    middle, width = (low + high) / 2, (high - low) / contrast
    scaled = np.clip((grey - middle) / width * 0.80 + 0.50, 0, 1)
    # A toe and a shoulder, as film has them, then the gamma of the display.
    curve = scaled * scaled * (3 - 2 * scaled)
    return np.power(0.55 * scaled + 0.45 * curve, gamma)
