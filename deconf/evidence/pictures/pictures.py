"""What a comparison keeps to be looked at: a map of held-out films, and a few of the films.

Both show the half of the patients on which the attackers judge, by the very maps that were
attacked, so that pictures and verdicts speak of the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from deconf.cohort.cohort import Cohort
from deconf.errors import DeconfError, listing
from deconf.evidence.contenders import Contender, Learned
from deconf.evidence.folds import Fold
from deconf.evidence.pictures.atlas import Points, points_of
from deconf.evidence.request import Request
from deconf.evidence.sources import as_encoder

if TYPE_CHECKING:
    from deconf.evidence.pictures.films import Film

MOST_FILMS = 8
PER_KIND = 2


@dataclass(frozen=True)
class Watched:
    """A contender, and what it last learned."""

    contender: Contender
    kept: list[Learned] = field(default_factory=list)

    def learn(self, train: np.ndarray, test: np.ndarray, seed: int) -> Learned:
        """Learn, and keep it."""
        self.kept[:] = [self.contender.learn(train, test, seed)]
        return self.kept[0]


@dataclass(frozen=True)
class Pictures:
    """Points of the map, films, and why there are none."""

    points: Points | None = None
    films: tuple[Film, ...] = ()
    reasons: tuple[str, ...] = ()


def watched(asked: Request) -> tuple[dict[str, Contender], dict[str, Watched]]:
    """Return the contenders to be attacked, and those of them whose work is to be shown."""
    shown = {
        name: Watched(asked.contenders[name])
        for name in asked.inspected
        if name == asked.reference or name not in asked.baselines
    }
    attacked = {name: shown.get(name, asked.contenders[name]) for name in asked.inspected}
    return attacked, shown


def pictures_of(
    shown: Mapping[str, Watched],
    asked: Request,
    representations: Mapping[str, Any],
    cohort: Cohort,
    half: Fold,
    *,
    seed: int,
) -> Pictures:
    """Return the map and the films; a picture that cannot be had costs a reason, nothing else."""
    learned = {name: one.kept[0] for name, one in shown.items() if one.kept}
    first = [name for name in (asked.reference,) if name in learned]
    order = [*first, *(name for name in learned if name not in first)]
    if not order:
        return Pictures()
    points = points_of(
        {name: learned[name].test for name in order},
        cohort.table.iloc[half.test].reset_index(drop=True),
        (*asked.confounders, *asked.tasks),
        seed=seed,
    )
    if cohort.roles["image"] is None or asked.reference not in learned:
        return Pictures(points)
    try:
        films = _films(learned, order, asked, representations, cohort, half, seed=seed)
    except (DeconfError, OSError) as error:
        return Pictures(points, (), (f"no example films: {error}",))
    if films:
        return Pictures(points, films)
    named = listing(asked.confounders)
    why = f"no image file could be read, or no two levels of {named} differ in their outcome"
    return Pictures(points, (), (f"no example films: {why}",))


def _films(
    learned: Mapping[str, Learned],
    order: list[str],
    asked: Request,
    representations: Mapping[str, Any],
    cohort: Cohort,
    half: Fold,
    *,
    seed: int,
) -> tuple[Film, ...]:
    """Draw films for up to two confounders, raw beside the first cleaner."""
    from deconf.evidence.pictures.films import example_films

    raw = asked.reference
    others = [name for name in order if name != raw]
    clean = next((name for name in others if name in asked.plans), next(iter(others), None))
    task = next(iter(asked.tasks))
    fitted, encoder = None, representations.get(raw)
    if clean is not None:
        source = representations[clean]
        encoder = getattr(source, "encoder", encoder)
        fitted = learned[clean].map or getattr(source, "map", None)
    confounders = asked.confounders[: MOST_FILMS // (2 * PER_KIND)]
    found: list[Film] = []
    for confounder in confounders:
        found += example_films(
            cohort,
            {raw: _whole(learned[raw], half, len(cohort))},
            {} if clean is None else {clean: _whole(learned[clean], half, len(cohort))},
            half.train,
            half.test,
            confounder,
            task,
            encoder=_reader(encoder),
            fitted=fitted,
            per_kind=PER_KIND,
            seed=seed,
        )
    return tuple(found)


def _reader(encoder: Any) -> Any:
    """Return an encoder that reads images, None for anything else."""
    if encoder is None or isinstance(encoder, np.ndarray):
        return None
    found = as_encoder(encoder)
    return None if getattr(found, "is_stored", False) or not hasattr(found, "embed") else found


def _whole(one: Learned, half: Fold, rows: int) -> np.ndarray:
    """Return the embedding in the order of the cohort, nan for rows of neither part."""
    z = np.full((rows, one.test.shape[1]), np.nan, dtype=np.float32)
    z[half.train], z[half.test] = one.train, one.test
    return z
