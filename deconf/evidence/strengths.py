"""The points of a trade-off: a cleaner at a strength, and what it makes of a split.

T_a(z) = z + a (T(z) - z):  raw at a = 0, the fitted map at a = 1.  It needs nothing of the method:
a cleaner is fitted once and mixed with the raw embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from deconf.errors import CohortError, SettingsError
from deconf.evidence.contenders import Fixed, Learned, Refitted
from deconf.evidence.folds import Fold

RAW = "raw"
STRENGTHS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Point:
    """A cleaner at a strength."""

    family: str
    place: int = 0
    strength: float = 0.0
    setting: str = ""

    @property
    def name(self) -> str:
        """The key of its scores."""
        return RAW if self.family == RAW else f"{self.family} {self.place} {self.strength:g}"


def checked_strengths(strengths: Sequence[float]) -> tuple[float, ...]:
    """Return the strengths beside raw, in order."""
    found = sorted({float(a) for a in strengths} - {0.0})
    if not found or not all(0 < a <= 1 for a in found):
        raise SettingsError(
            f"strengths are shares between 0 (raw, always drawn) and 1 (the map as fitted), not "
            f"{list(strengths)}."
        )
    return tuple(found)


def points_of(families: Mapping[str, Sequence[Any]], strengths: Sequence[float]) -> list[Point]:
    """Return raw, each lone cleaner at every strength, each cleaner of a family at its full one."""
    points = [Point(RAW)]
    for name, several in families.items():
        if len(several) == 1:
            points += [Point(name, 0, a) for a in strengths]
        else:
            points += [Point(name, k, 1.0, said) for k, said in enumerate(_differences(several))]
    return points


def _differences(several: Sequence[Any]) -> list[str]:
    """Return the settings in which the methods of a family differ, as a reader would write them."""
    settings = [
        {f.name: getattr(c.method, f.name) for f in fields(c.method)}
        if is_dataclass(c.method)
        else {}
        for c in several
    ]
    keys = dict.fromkeys(key for one in settings for key in one)
    differ = [k for k in keys if any(one.get(k) != settings[0].get(k) for one in settings)]
    return [", ".join(f"{k}={one[k]!r}" for k in differ if k in one) for one in settings]


def raw_of(fitters: Mapping[tuple[str, int], Any]) -> Fixed:
    """Return the raw embedding, which all must share."""
    origins = {one.origin for one in fitters.values()}
    first = next(iter(fitters.values()))
    if len(origins) > 1 or not isinstance(first, Refitted) or first.base is None:
        raise SettingsError(
            "a trade-off starts at one raw embedding: pass unfitted cleaners of the same encoder."
        )
    return Fixed(first.base, first.origin)


def partly(one: Learned, raw: Learned, strength: float) -> Learned:
    """Return  z + a (T(z) - z)  of training and test rows; head weights to the power a."""
    if strength == 1:
        return one
    return replace(
        one,
        train=raw.train + np.float32(strength) * (one.train - raw.train),
        test=raw.test + np.float32(strength) * (one.test - raw.test),
        weights=None if one.weights is None else one.weights**strength,
        map=None,
    )


def learn_points(
    points: Sequence[Point],
    fitters: Mapping[tuple[str, int], Any],
    raw: Fixed,
    part: Fold,
    seed: int,
) -> tuple[dict[str, Learned], dict[str, str]]:
    """Fit every cleaner once, and return what it makes of the films at every strength."""
    own = raw.learn(part.train, part.test, seed)
    fitted: dict[tuple[str, int], Learned] = {}
    failed: dict[tuple[str, int], str] = {}
    for key, fitter in fitters.items():
        try:
            fitted[key] = fitter.learn(part.train, part.test, seed)
        except CohortError as error:
            failed[key] = str(error)
    learned, refused = {RAW: own}, {}
    for point in points[1:]:
        key = point.family, point.place
        if key in failed:
            refused[point.name] = failed[key]
        else:
            learned[point.name] = partly(fitted[key], own, point.strength)
    return learned, refused
