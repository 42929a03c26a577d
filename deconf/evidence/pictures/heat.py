"""From the head of a representation to a map on the pixels of the film itself.

The encoder sees a film squashed or cropped.  Where each of its pixels came from is read off a ramp
sent through the same preprocessing, so that any preprocessing that moves pixels about by rows and
columns can be undone without knowing it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deconf.encoders.base import Encoder
from deconf.evidence.pictures.saliency import attributions, top_of
from deconf.maths.maps import EmbeddingMap
from deconf.probes.head import Head

if TYPE_CHECKING:
    from PIL.Image import Image

    Preprocessing = Callable[[Image], Tensor]

Heat = Mapping[tuple[str, str], Float[np.ndarray, "h w"]]
Vector = Float[np.ndarray, " d"]

# Distance, as a share of the embedding's spread, up to which an encoder is said to have made it:
# bfloat16 stays near 0.01, another film or another encoder lies near 1.
SAME = 0.1
LEVEL = 1 / 255  # of an 8-bit ramp: how exactly a place can be read off it


class BothSides(nn.Module):
    """An encoder's embedding beside what a map makes of it, (n, 2 d): one pass for both."""

    def __init__(self, encoder: Encoder, fitted: EmbeddingMap | None) -> None:
        super().__init__()
        self.encoder, self.fitted = encoder, fitted

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n e"]:
        """Embed a batch, wherever and in whatever precision the encoder lives; gradients flow."""
        first = next(self.encoder.parameters(), images)
        raw = self.encoder(images.to(first.device, first.dtype)).float()
        if self.fitted is None:
            return torch.cat([raw, raw], dim=1)
        place = next(self.fitted.buffers(), raw).device
        return torch.cat([raw, self.fitted(raw.to(place)).to(raw.device)], dim=1)


def heat_of(
    film: Image,
    shape: tuple[int, int],
    encoder: Encoder,
    fitted: EmbeddingMap | None,
    before: Mapping[str, Vector],
    after: Mapping[str, Vector],
    heads: Mapping[tuple[str, str], Head],
    *,
    spread: float,
    seed: int = 0,
) -> dict[tuple[str, str], Float[np.ndarray, "h w"]]:
    """Return where each head looks, on a copy of the film of (h, w) pixels.

    Parameters
    ----------
    film : PIL image
    shape : (h, w)
    encoder, fitted
        As `deconf.evidence.pictures.films.example_films`.
    before, after : mapping of representation to its embedding (d,) of this film
        A representation is left out where the encoder, or encoder and map, give another vector.
    heads : mapping of (representation, role) to Head
        The maps of one role share a scale: 1 is the 99th percentile of the hottest.
    spread : float
        Root of the total variance of the raw embedding, the yardstick of "another vector".
    seed : int

    Empty where there is no preprocessing, or none by rows and columns.
    """
    preprocess = encoder.preprocess
    places = None if preprocess is None else origins(preprocess, film)
    if preprocess is None or places is None:
        return {}
    x = preprocess(film)
    raw = encoder.encode(x[np.newaxis])[0]
    reads_record = fitted is not None and fitted.needs_confounders
    clean = raw
    if fitted is not None and not reads_record:
        clean = _mapped(fitted, raw)
    shown = {name for name, z in before.items() if _is_same(z, raw, spread)}
    shown_after = {n for n, z in after.items() if not reads_record and _is_same(z, clean, spread)}
    keys = [key for key in heads if key[0] in shown | shown_after]
    if not keys:
        return {}
    directions = np.zeros((len(keys), 2, len(raw)))
    for k, key in enumerate(keys):
        directions[k, 0 if key[0] in shown else 1] = heads[key].coefficients
    sides = BothSides(encoder, None if reads_record else fitted)
    maps = attributions(sides, x[np.newaxis], directions.reshape(len(keys), -1), seed=seed)[:, 0]
    found = dict(zip(keys, maps, strict=True))
    top = {
        role: max(top_of(one) for key, one in found.items() if key[1] == role)
        for role in {key[1] for key in keys}
    }
    return {key: laid_on(one / top[key[1]], places, shape) for key, one in found.items()}


def origins(
    preprocess: Preprocessing, film: Image
) -> tuple[Float[np.ndarray, " h"], Float[np.ndarray, " w"]] | None:
    """Return where the rows and columns of the encoder's input lie in the film, as shares of it.

    nan for rows and columns that hold padding; None where the input is no picture of the film by
    rows and columns (turned, warped, normalised by its own content).
    """
    from PIL import Image

    width, height = film.size
    across = np.broadcast_to((np.arange(width) + 0.5) / width, (height, width))
    down = np.broadcast_to(((np.arange(height) + 0.5) / height)[:, np.newaxis], (height, width))

    def seen(shares: np.ndarray) -> np.ndarray:
        values = shares * 255.0
        ramp = (
            Image.fromarray(values.astype(np.float32))
            if film.mode == "F"
            else Image.fromarray(np.rint(values).astype(np.uint8)).convert(film.mode)
        )
        array: np.ndarray = preprocess(ramp).double().mean(0).numpy()
        return array

    black, white = seen(np.zeros_like(across)), seen(np.ones_like(across))
    contrast = white - black
    is_film = np.abs(contrast) > 0.5 * np.abs(contrast).max()
    if not is_film.any():
        return None
    contrast = np.where(is_film, contrast, 1.0)
    rows = _along(np.where(is_film, (seen(down) - black) / contrast, np.nan))
    columns = _along(np.where(is_film, (seen(across) - black) / contrast, np.nan).T)
    return None if rows is None or columns is None else (rows, columns)


def laid_on(
    heat: Float[np.ndarray, "i j"],
    places: tuple[Float[np.ndarray, " i"], Float[np.ndarray, " j"]],
    shape: tuple[int, int],
) -> Float[np.ndarray, "h w"]:
    """Return a map of the encoder's input on the film, bilinear, zero outside what it saw.

    Parameters
    ----------
    heat : (i, j)
    places : (i,) and (j,)
        Where its rows and columns lie in the film, from `origins`.
    shape : (h, w)

    Examples
    --------
    >>> laid_on(np.ones((2, 2)), (np.array([0.375, 0.625]), np.array([0.25, 0.75])), (4, 2))
    array([[0., 0.],
           [1., 1.],
           [1., 1.],
           [0., 0.]], dtype=float32)
    """
    across_rows, across_columns = (
        _weights(place, count) for place, count in zip(places, shape, strict=True)
    )
    return (across_rows @ heat @ across_columns.T).astype(np.float32)


def _along(shares: np.ndarray) -> np.ndarray | None:
    """Return (i,) places of the rows of a ramp that grows downwards, None where it is none."""
    known = ~np.isnan(shares)
    count = known.sum(1)
    mean = np.full(len(shares), np.nan)
    np.divide(np.where(known, shares, 0).sum(1), count, out=mean, where=count > 0)
    off = np.abs(np.where(known, shares - mean[:, np.newaxis], 0)).max()
    steps = np.diff(mean[count > 0])
    if off > 4 * LEVEL or (steps < -2 * LEVEL).any() or steps.sum() <= 0:
        return None
    mean[count > 0] = np.maximum.accumulate(mean[count > 0])
    return mean


def _weights(places: np.ndarray, count: int) -> np.ndarray:
    """Return (count, i): the share of each input row in each row of the film."""
    known = np.flatnonzero(~np.isnan(places))
    at = (np.arange(count) + 0.5) / count
    index = np.interp(at, places[known], known.astype(float))
    half = 0.5 * (places[known[-1]] - places[known[0]]) / max(len(known) - 1, 1)
    # Rounding moves a place by half a level; a map that stops a pixel short would look cropped.
    low, high = places[known[0]] - half - LEVEL, places[known[-1]] + half + LEVEL
    lower = np.floor(index).astype(int)
    upper = np.minimum(lower + 1, len(places) - 1)
    weights = np.zeros((count, len(places)))
    every = np.arange(count)
    np.add.at(weights, (every, lower), 1 - (index - lower))
    np.add.at(weights, (every, upper), index - lower)
    weights[(at < low) | (at > high)] = 0.0
    return weights


def _mapped(fitted: EmbeddingMap, z: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        place = next(fitted.buffers(), torch.zeros(())).device
        found: np.ndarray = fitted(torch.tensor(z[np.newaxis], device=place))[0].cpu().numpy()
    return found


def _is_same(recorded: np.ndarray, made: np.ndarray, spread: float) -> bool:
    if recorded.shape != made.shape:
        return False
    return bool(np.linalg.norm(recorded - made) <= SAME * spread)
