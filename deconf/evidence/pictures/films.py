"""Example films: where the shortcut tells the truth, where it misleads, and what a probe looks at.

Films are drawn at random among the held-out ones of each kind.  Choosing those whose score moved
most would show the cleaning at its best and prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8
from scipy.special import expit

from deconf.causal.overlap import FEW
from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder
from deconf.errors import ReadError, SettingsError, did_you_mean, listing
from deconf.evidence.environments import training_risk
from deconf.evidence.pictures.heat import Heat, heat_of
from deconf.maths import kinds
from deconf.maths.maps import EmbeddingMap
from deconf.probes.cells import levels_of
from deconf.probes.head import Head, choose_strength, fit_head

if TYPE_CHECKING:
    from PIL.Image import Image

CHOSEN = "drawn at random among held-out films"
# To be printed under the maps: measured, see `deconf.evidence.pictures.saliency.saliency`.
CAUTION = (
    "any head, even a random one, looks at edges and bright marks: read what differs between two "
    "maps of one film"
)
SIZE = 160  # pixels of the longest side
TRIES = 20  # files that may fail before a cell is given up: a folder that is gone costs no minutes

Kind = Literal["aligned", "crossed"]
KINDS: tuple[Kind, ...] = ("aligned", "crossed")


@dataclass(frozen=True)
class Film:
    """A held-out film, the scores it was given, and where the heads look.

    Attributes
    ----------
    kind : "aligned" or "crossed"
        Whether the film bears out the association of confounder and outcome in the training part,
        or contradicts it.
    caption : str
        Level and outcome in words, as ``"portable, no pneumonia"``; nothing else of the table.
    image : (h, w) or (h, w, 3) uint8
    scores : mapping of representation to the probability of the outcome
    heat : mapping of (representation, "confounder" or "outcome") to (h, w) float32
        On the film's own pixels, zero where the encoder does not look.  The maps of one role share
        a scale (1 is the 99th percentile of the hottest), so that a probe with little left to read
        looks pale.  Empty where no encoder reads the films.
    """

    kind: Kind
    caption: str
    image: UInt8[np.ndarray, "h w *colour"]
    scores: Mapping[str, float]
    heat: Heat = field(default_factory=dict)


def example_films(
    cohort: Cohort,
    before: Mapping[str, Float[np.ndarray, "n d"]],
    after: Mapping[str, Float[np.ndarray, "n e"]],
    train: Int[np.ndarray, " t"],
    test: Int[np.ndarray, " u"],
    confounder: str,
    outcome: str,
    *,
    encoder: Encoder | None = None,
    fitted: EmbeddingMap | None = None,
    per_kind: int = 2,
    size: int = SIZE,
    seed: int = 0,
) -> tuple[Film, ...]:
    """Return a few held-out films of each kind, of different patients, drawn at random.

    Of the confounder the two levels count between which the share of ill films differs most in the
    training part.  *Aligned* are ill films of the level with more illness and healthy ones of the
    other; *crossed* are healthy films of the first and ill ones of the second.

    Parameters
    ----------
    cohort : Cohort of n rows
        With an image role; without one there is nothing to show.
    before, after : mapping of name to (n, d) embeddings of the whole cohort
        Rows that are neither in ``train`` nor in ``test`` are not read.  The ridge of the heads is
        chosen on the first of ``before``.
    train, test : row numbers
        Heads are fitted on ``train``, films come from ``test``.
    confounder, outcome : columns
        The outcome has two values; films without a recorded one are not drawn.
    encoder : Encoder, optional
        With one that reads images there are heat maps.
    fitted : EmbeddingMap, optional
        What was done to the encoder's embedding; None for nothing.  A representation of ``after``
        that encoder and map do not reproduce has no heat, nor has one whose map reads records.
    per_kind : int
        Films of each kind, fewer where there are no more.
    size : int
        Pixels of the longest side.
    seed : int

    Returns
    -------
    tuple of Film, the aligned first; empty without an image role, or where no two levels differ in
    the training part and are met again in the test part.  A file that cannot be read is passed
    over for another draw.

    Raises
    ------
    SettingsError
        A column is not there, the outcome has not two values, or ``before`` is empty.
    """
    table = cohort.table
    y, words = _outcome(table, outcome)
    if confounder not in table.columns:
        raise _unknown("confounder", confounder, table)
    if not before:
        raise SettingsError("before= is empty: name the raw embedding, such as {'raw': z}.")
    if cohort.roles["image"] is None:
        return ()
    levels = levels_of(table[confounder])
    pair = _telling_pair(y, levels.codes, cohort.patients, train, test)
    if pair is None:
        return ()
    drawn = list(
        _drawn(cohort, y, levels.codes, pair, test, per_kind=per_kind, size=size, seed=seed)
    )
    if not drawn:
        return ()
    everything = {**before, **after}
    raw = next(iter(before.values()))
    is_first = np.select([levels.codes == pair[0], levels.codes == pair[1]], [1.0, 0.0], np.nan)
    heads = {
        (name, role): head
        for role, target in (("confounder", is_first), ("outcome", y))
        for name, head in _heads(everything, raw, target, cohort.patients, train, seed).items()
    }
    spread = float(np.sqrt(np.var(raw[train], axis=0, dtype=np.float64).sum()))
    names = [_in_words(table[confounder], name) for name in levels.names]
    films = []
    for one in drawn:
        scores = {n: heads[n, "outcome"].score(z[[one.row]])[0] for n, z in everything.items()}
        heat: Heat = {}
        if encoder is not None and not encoder.is_stored:
            heat = heat_of(
                one.image,
                one.small.shape[:2],
                encoder,
                fitted,
                {name: z[one.row] for name, z in before.items()},
                {name: z[one.row] for name, z in after.items()},
                heads,
                spread=spread,
                seed=seed,
            )
        films.append(
            Film(
                kind=one.kind,
                caption=f"{names[levels.codes[one.row]]}, {words[int(y[one.row])]}",
                image=one.small,
                scores={name: float(expit(score)) for name, score in scores.items()},
                heat=heat,
            )
        )
    return tuple(films)


@dataclass(frozen=True)
class _Drawn:
    """A film as it was drawn and read."""

    kind: Kind
    row: int
    image: Image
    small: UInt8[np.ndarray, "h w *colour"]


def _outcome(table: pd.DataFrame, name: str) -> tuple[np.ndarray, tuple[str, str]]:
    """Return the outcome as 0, 1 or nan, and what to call the two."""
    if name not in table.columns:
        raise _unknown("outcome", name, table)
    values = kinds.levels(table[name])
    if len(values) != 2:
        raise SettingsError(
            f"the outcome {name!r} has {len(values)} different values "
            f"({listing(map(kinds.said, values), 6)}): films are shown for an outcome of two. "
            f"Make one, such as table[{name!r}] > limit."
        )
    code, _ = kinds.codes(table[name])
    y = np.where(code < 0, np.nan, code)
    healthy, ill = (_in_words(table[name], f"{name}={kinds.said(v)}", no="no") for v in values)
    return y, (healthy, ill)


def _in_words(column: pd.Series, level: str, no: str = "not") -> str:
    """Return a level as a caption says it.

    Examples
    --------
    >>> _in_words(pd.Series([0, 1], name="portable"), "portable=0")
    'not portable'
    >>> _in_words(pd.Series(["AP", "PA"], name="view"), "view=AP")
    'view AP'
    """
    name, found, value = level.partition("=")
    name = name.replace("_", " ")
    if found and set(kinds.levels(column)) <= {0, 1}:  # True and False are 1 and 0
        return name if value in ("1", "True") else f"{no} {name}"
    return f"{name} {value}".strip()


def _unknown(role: str, name: str, table: pd.DataFrame) -> SettingsError:
    return SettingsError(
        f"the {role} {name!r} is not a column.{did_you_mean(name, table.columns)} "
        f"Columns: {listing(table.columns, 24)}."
    )


def _telling_pair(
    y: np.ndarray, codes: np.ndarray, patients: np.ndarray, train: np.ndarray, test: np.ndarray
) -> tuple[int, int] | None:
    """Return the levels of most and least illness in training, among those met in both parts."""
    known = train[(codes[train] >= 0) & ~np.isnan(y[train])]
    tested = codes[test[~np.isnan(y[test])]]
    enough = [
        int(level)
        for level in np.unique(codes[known])
        if level in tested and len(np.unique(patients[known[codes[known] == level]])) >= FEW
    ]
    if len(enough) < 2:
        return None
    risk = training_risk(y, codes, int(codes.max()) + 1, [train])[0]
    first, second = max(enough, key=lambda k: risk[k]), min(enough, key=lambda k: risk[k])
    return (first, second) if risk[first] > risk[second] else None


def _drawn(
    cohort: Cohort,
    y: np.ndarray,
    codes: np.ndarray,
    pair: tuple[int, int],
    test: np.ndarray,
    *,
    per_kind: int,
    size: int,
    seed: int,
) -> Iterator[_Drawn]:
    """Yield films of each kind, by turns ill and healthy ones, no patient twice."""
    from deconf.cohort.images import read_image, thumbnail

    paths, patients = cohort.image_paths, cohort.patients
    order = np.random.default_rng(seed).permutation(np.asarray(test))
    met: set[Any] = set()

    def readable(kind: Kind, level: int, value: int) -> Iterator[_Drawn]:
        failed = 0
        for row in order[(codes[order] == level) & (y[order] == value)].tolist():
            if patients[row] in met:
                continue
            try:
                found = _Drawn(kind, row, read_image(paths[row]), thumbnail(paths[row], size))
            except ReadError:
                failed += 1
                if failed == TRIES:
                    return
                continue
            met.add(patients[row])
            yield found

    for kind in KINDS:
        ill, healthy = pair if kind == "aligned" else pair[::-1]
        cells = [readable(kind, ill, 1), readable(kind, healthy, 0)]
        left = per_kind
        while left and cells:
            cell = cells.pop(0)
            one = next(cell, None)
            if one is not None:
                yield one
                left -= 1
                cells.append(cell)


def _heads(
    representations: Mapping[str, np.ndarray],
    raw: np.ndarray,
    target: np.ndarray,
    patients: np.ndarray,
    train: np.ndarray,
    seed: int,
) -> dict[str, Head]:
    """Return the head of every representation, its ridge chosen on the raw embedding."""
    rows = train[~np.isnan(target[train])]
    strength = choose_strength(raw[rows], target[rows], patients=patients[rows], seed=seed)
    return {
        name: fit_head(z[rows], target[rows], strength=strength)
        for name, z in representations.items()
    }
