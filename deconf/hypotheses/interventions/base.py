"""What a pixel intervention is, and how several follow one another."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import numpy as np
from jaxtyping import Float

from deconf.errors import CohortError, SettingsError

Pixels = Float[np.ndarray, "h w *colour"]
"""Grey (h, w) or colour (h, w, 3), from 0, black, to 255, white, as the readers deliver them."""
WHITE = 255.0
Own = TypeVar("Own", bound="Intervention")


@dataclass(frozen=True)
class Intervention(ABC):
    """One edit of an image, ``edit(pixels, rng) -> pixels``: what a step of the workflow leaves.

    At strength 0 it returns the pixels as they are, bit for bit.  The input is never changed; the
    same generator state gives the same image; and the random numbers do not depend on the
    strength, so that doses of one image differ by the dose alone.

    Parameters
    ----------
    strength : float
        0 does nothing; each edit says what 1 is.

    Raises
    ------
    SettingsError
        The strength is outside the range of the edit.
    """

    LOWEST: ClassVar[float] = 0.0
    HIGHEST: ClassVar[float] = math.inf

    strength: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        is_number = isinstance(self.strength, int | float | np.number)
        if not is_number or not self.LOWEST <= self.strength <= self.HIGHEST:
            raise SettingsError(
                f"the strength of {type(self).__name__} is {self.strength!r}: expected a number "
                f"from {self.LOWEST:g} to {self.HIGHEST:g}."
            )

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the edited image, float32 of the same shape, clipped to 0 to 255.

        Parameters
        ----------
        pixels : (h, w) or (h, w, 3) of 0 to 255
        rng : Generator

        Raises
        ------
        CohortError
            Not an image, or not of the kind the edit is for.
        """
        pixels = np.asarray(pixels)
        if pixels.ndim != 2 and not (pixels.ndim == 3 and pixels.shape[2] == 3):
            raise CohortError(
                f"an image to edit has the shape {pixels.shape}: expected (h, w) or (h, w, 3)."
            )
        if self.strength == 0:
            return pixels.astype(np.float32)
        edited = self.edit(pixels.astype(np.float64), rng)
        return np.clip(edited, 0, WHITE).astype(np.float32)

    @abstractmethod
    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the edited image; ``pixels`` are a float64 copy and the strength is not 0."""

    def at(self: Own, dose: float) -> Own:
        """Return the same edit at a multiple of its strength.

        Examples
        --------
        >>> from deconf.hypotheses.interventions import Gamma
        >>> Gamma(strength=0.8).at(0.5)
        Gamma(strength=0.4)
        """
        return replace(self, strength=self.strength * dose)

    def __or__(self, then: Intervention) -> Compose:
        """Return this edit followed by another."""
        return Compose(parts=(*_parts(self), *_parts(then)))

    def __str__(self) -> str:
        """Return what it does, in a few words with units."""
        return f"{type(self).__name__} {self.strength:g}"


@dataclass(frozen=True)
class Compose(Intervention):
    """Edits one after the other, each with random numbers of its own; what ``a | b`` makes.

    Parameters
    ----------
    parts : tuple of Intervention
    strength : float
        Multiplies the strength of every part.
    """

    parts: tuple[Intervention, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in self.parts:
            if not isinstance(part, Intervention):
                raise SettingsError(
                    f"{part!r} is no intervention: join those of deconf.interventions, as "
                    "TextMarker('AP') | PointSpread()."
                )

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the image after every part."""
        for part, own in zip(_parts(self), rng.spawn(len(self.parts)), strict=True):
            pixels = part(pixels, own)
        return pixels

    def __str__(self) -> str:
        return " | ".join(map(str, _parts(self)))


@dataclass(frozen=True)
class Custom(Intervention):
    """An edit of your own.

    Parameters
    ----------
    function : callable
        ``function(pixels, strength, rng) -> pixels``; ``pixels`` are its own float64 copy.
    name : str
        As tables and figures call it.

    Examples
    --------
    >>> halve = Custom(lambda pixels, strength, rng: pixels / (1 + strength), "half as bright")
    >>> halve(np.full((2, 2), 100.0), np.random.default_rng(0))[0, 0]
    np.float32(50.0)
    """

    function: Callable[[Pixels, float, np.random.Generator], Pixels]
    name: str = "edit of your own"

    def edit(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Return what the function makes of the image."""
        shape = pixels.shape
        edited = np.asarray(self.function(pixels, self.strength, rng))
        if edited.shape != shape:
            raise SettingsError(
                f"the edit {self.name!r} returns an image of shape {edited.shape} for one of "
                f"{shape}: an edit keeps the shape."
            )
        return edited

    def __str__(self) -> str:
        return self.name


def blended(pixels: Pixels, cover: Float[np.ndarray, "h w"], value: object) -> Pixels:
    """Return ``(1 - cover) pixels + cover value``, whether grey or colour."""
    share = cover if pixels.ndim == 2 else cover[..., None]
    return pixels * (1 - share) + share * np.asarray(value, dtype=np.float64)


def grey(pixels: Pixels) -> Float[np.ndarray, "h w"]:
    """Return the brightness of an image, by ITU-R 601 as `Preprocess` takes it."""
    return pixels if pixels.ndim == 2 else pixels @ np.array([0.299, 0.587, 0.114])


def _parts(one: Intervention) -> tuple[Intervention, ...]:
    return tuple(p.at(one.strength) for p in one.parts) if isinstance(one, Compose) else (one,)
