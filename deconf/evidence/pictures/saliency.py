"""Where in a film a linear head looks: integrated gradients under noise, as a map of the film.

The path runs from a blurred copy of the film to the film itself, with noise added on the way:

    A(x) = (x - b) * mean over samples of  grad (w · f)(b + a (x - b) + noise)
    heat = box(box(A)²)

Integrated gradients are from Sundararajan, Taly & Yan, "Axiomatic attribution for deep networks",
ICML 2017, https://arxiv.org/abs/1703.01365; the noise from Smilkov et al., "SmoothGrad", 2017,
https://arxiv.org/abs/1706.03825; the blurred baseline from Fong & Vedaldi, "Interpretable
explanations of black boxes by meaningful perturbation", ICCV 2017,
https://arxiv.org/abs/1704.03296.

Of the plain gradient, SmoothGrad, its square, gradient times input and integrated gradients from
several baselines, this one put most of its heat where a planted mark was.  The sum is taken over
channels and over a small box *before* the square: what belongs to the mark adds up there, and the
shattered rest of the gradient cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deconf.errors import SettingsError

BATCH = 8  # films whose gradients are held at once
BASELINE = 1 / 4  # width of the baseline's blur, as a share of the longer side
SMOOTH = 1 / 16  # width of the box over which attributions are summed, likewise
PERCENTILE = 99.0  # of a map, shown as 1

Forward = Callable[[Tensor], Tensor]


def saliency(
    forward: Forward,
    images: Float[Tensor, "n c h w"],
    direction: Any,
    *,
    samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
    smooth: float = SMOOTH,
) -> Float[np.ndarray, "n h w"]:
    """Return where each film moves the score ``forward(film) @ direction``, scaled film by film.

    Parameters
    ----------
    forward : torch module or callable
        (n, c, h, w) to (n, d): an encoder, or an encoder followed by a fitted map.
    images : (n, c, h, w) tensor
        As the encoder takes them.
    direction : (d,)
        Coefficients of a linear head.
    samples : int
        Steps on the path, each with its own noise; every one costs a forward and a backward pass.
    noise : float
        Standard deviation, as a share of each film's range of values.
    seed : int
        Of the noise, which is the same for every film: a map does not depend on its neighbours.
    smooth : float
        Width of the box, as a share of the longer side; 0 for none.

    Returns
    -------
    (n, h, w) float32, not negative; the 99th percentile of each film is 1.  A film that does not
    move the score is all zeros.

    Raises
    ------
    SettingsError
        As `attributions`.

    Notes
    -----
    Each map stands on a scale of its own.  To set two probes side by side take `attributions`: a
    probe that finds nothing would otherwise look as hot as one that finds everything.

    Much of a map is the film and not the head: a random direction looks at the same edges, marks
    and borders, because where a film is flat there is nothing to attribute (Adebayo et al., "Sanity
    checks for saliency maps", NeurIPS 2018).  For an ImageNet MobileNetV2 on chest films the rank
    correlation with the map of a random direction is about 0.7, and the share of heat near the
    border is no larger.  Read what differs between two maps of one film; one map alone does not
    show that a head lives on a marker.
    """
    heat = attributions(
        forward, images, [direction], samples=samples, noise=noise, seed=seed, smooth=smooth
    )[0]
    return np.stack([one / top_of(one) for one in heat]) if len(heat) else heat


def attributions(
    forward: Forward,
    images: Float[Tensor, "n c h w"],
    directions: Any,
    *,
    samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
    smooth: float = SMOOTH,
) -> Float[np.ndarray, "k n h w"]:
    """Return the maps of several heads as they are, in squared units of their scores.

    The heads, ``directions`` (k, d), share the forward passes.  Runs in evaluation mode and leaves
    the training flags, ``requires_grad`` and the gradients of a module as they were.

    Raises
    ------
    SettingsError
        The images are no batch (n, c, h, w), the direction has another width than the embedding,
        a setting is out of range, or no gradient reaches the film.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise SettingsError(
            f"saliency reads a float batch (n, c, h, w), not {images.dtype} of shape "
            f"{tuple(images.shape)}. Pass what the encoder's preprocess returns, stacked."
        )
    if samples < 1 or noise < 0 or not 0 <= smooth < 1:
        raise SettingsError(
            f"saliency takes samples of at least 1, noise of at least 0 and smooth from 0 to below "
            f"1, not {samples}, {noise} and {smooth}."
        )
    heads = torch.as_tensor(np.asarray(directions))
    if not len(images):
        return np.zeros((len(heads), 0, *images.shape[2:]), dtype=np.float32)
    with _at_rest(forward), torch.inference_mode(False), torch.enable_grad():
        signed = [
            _integrated(forward, part.detach().clone(), heads, samples, noise, seed)
            for part in images.split(BATCH)
        ]
        squared = boxed(torch.cat(signed, dim=1), _odd(smooth, images)) ** 2
        heat = boxed(squared, _odd(smooth / 2, images))  # a second, for the eye: no square edges
    found: np.ndarray = heat.float().cpu().numpy()
    return found


def share_in(heat: Float[np.ndarray, "h w"], box: tuple[int, int, int, int]) -> float:
    """Return the share of the heat inside a box; nan where there is no heat.

    Parameters
    ----------
    heat : (h, w)
    box : (top, left, bottom, right) in pixels, the last two not included

    Examples
    --------
    >>> share_in(np.ones((4, 4)), (0, 0, 2, 2))
    0.25
    """
    top, left, bottom, right = box
    total = float(heat.sum(dtype=np.float64))
    inside = float(heat[top:bottom, left:right].sum(dtype=np.float64))
    return inside / total if total else math.nan


def top_of(heat: np.ndarray) -> float:
    """Return what a map is divided by for show: its 99th percentile, never zero.

    Where less than one pixel in a hundred has any heat the largest stands in.
    """
    return float(np.percentile(heat, PERCENTILE)) or float(np.max(heat)) or 1.0


def boxed(x: Float[Tensor, "n c h w"], width: int) -> Float[Tensor, "n c h w"]:
    """Return the mean over a box of odd width; at the border, over what lies inside the film."""
    if width <= 1:
        return x
    return nn.functional.avg_pool2d(x, width, 1, width // 2, count_include_pad=False)


def _integrated(
    forward: Forward, x: Tensor, heads: Tensor, samples: int, noise: float, seed: int
) -> Float[Tensor, "k n h w"]:
    """Return the signed attributions of a batch to each head, summed over channels."""
    base = boxed(x, _odd(BASELINE, x))
    spread = noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same noise on any device
    total = x.new_zeros(len(heads), *x.shape)
    for step in range(samples):
        jitter = torch.randn(x.shape[1:], generator=generator).to(x)
        point = base + (step + 0.5) / samples * (x - base) + spread * jitter
        total += _gradients(forward, point, heads)
    return ((x - base) * total / samples).sum(2)


def _gradients(forward: Forward, point: Tensor, heads: Tensor) -> Float[Tensor, "k n c h w"]:
    point.requires_grad_()
    z = forward(point.clone())  # a copy: an encoder may begin by normalising in place
    if z.ndim != 2 or z.shape[1] != heads.shape[1]:
        raise SettingsError(
            f"the head has {heads.shape[1]} coefficients, the embedding is {tuple(z.shape)}: were "
            "they made by the same encoder?"
        )
    if not z.requires_grad:
        raise SettingsError(
            "no gradient reaches the film: the encoder detaches, or runs without gradients. Pass "
            "a module whose forward is differentiable."
        )
    z = z.double()
    found = [
        torch.autograd.grad((z @ head.to(z)).sum(), point, retain_graph=k < len(heads) - 1)[0]
        for k, head in enumerate(heads)
    ]
    return torch.stack(found)


def _odd(share: float, x: Tensor) -> int:
    """Return a share of the longer side as an odd number of pixels, which has a middle."""
    return 2 * round(share * max(x.shape[2:]) / 2) + 1 if share else 1


@contextmanager
def _at_rest(forward: Forward) -> Iterator[None]:
    """Put a module in evaluation mode with frozen parameters, and back, part by part."""
    if not isinstance(forward, nn.Module):
        yield
        return
    modes = [(part, part.training) for part in forward.modules()]
    learns = [(p, p.requires_grad) for p in forward.parameters()]
    try:
        forward.eval()
        for parameter, _ in learns:
            parameter.requires_grad_(False)  # their gradients would cost a third more
        yield
    finally:
        for part, was_training in modes:
            part.training = was_training
        for parameter, learned in learns:
            parameter.requires_grad_(learned)
