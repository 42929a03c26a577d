"""Paired changes, film by film, and their patient-clustered intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from deconf.errors import CohortError
from deconf.maths.intervals import Interval, interval, patient_counts, weighted_aurocs

DRAWS = 1000
MOVES, SHIFTS, EMBEDDING, TOWARDS = "score moves", "score shifts", "embedding moves", "towards"
BEFORE, AFTER, CROSSED = "AUROC before", "AUROC after", "AUROC, healthy edited only"


@dataclass(frozen=True, eq=False)
class Changes:
    """What one representation makes of n films, before and after each edit.

    Attributes
    ----------
    name : str
    score : (n,) or None
        Of the films as they are.
    scores : (edits, n) or None
        Of the edited films.
    distance : (edits, n)
        ||z' - z||.
    centred : (n, d)
        Embeddings less their mean.
    """

    name: str
    score: Float[np.ndarray, " n"] | None
    scores: Float[np.ndarray, "edits n"] | None
    distance: Float[np.ndarray, "edits n"]
    centred: Float[np.ndarray, "n d"]


@dataclass(frozen=True, eq=False)
class Draws:
    """Weights of films: all ones first, then bootstrap draws of whole patients.

    The same for every edit and every representation, so that all differences are paired.
    """

    films: Float[np.ndarray, "draws n"]
    patients: Float[np.ndarray, "draws patients"]
    codes: np.ndarray

    @classmethod
    def of(cls, patients: np.ndarray, seed: int, draws: int = DRAWS) -> Draws:
        """Draw patients."""
        codes, counts = patient_counts(patients, draws, seed)
        weights = np.vstack([np.ones(counts.shape[1]), counts]).astype(np.float32)
        return cls(np.take(weights, codes, axis=1), weights, codes)

    def mean(
        self, values: Float[np.ndarray, " n"], rows: Bool[np.ndarray, " n"]
    ) -> Float[np.ndarray, " draws"]:
        """Return the mean over some films in every draw; nan where a draw has none of them."""
        weights = self.films[:, rows]
        total = weights.sum(axis=1, dtype=np.float64)
        out = np.full(len(total), np.nan)
        np.divide(weights @ values[rows], total, out=out, where=total > 0)
        return out

    def between_patients(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " draws"]:
        """Return the standard deviation of the patients' means (normaliser: patients)."""
        films = np.bincount(self.codes)
        own = np.bincount(self.codes, weights=values - values.mean()) / films
        total = self.patients.sum(axis=1, dtype=np.float64)
        mean = self.patients @ own / total
        return np.sqrt(np.maximum(self.patients @ own**2 / total - mean**2, 0))

    def spread(self, centred: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " draws"]:
        """Return sqrt(tr cov) of the embedding over films (normaliser: films)."""
        total = self.films.sum(axis=1, dtype=np.float64)
        squares = self.films @ (centred.astype(np.float64) ** 2).sum(1) / total
        means = (self.films @ centred.astype(np.float32)) / total[:, None]
        return np.sqrt(np.maximum(squares - (means**2).sum(1), 0))


@dataclass(frozen=True, eq=False)
class Figures:
    """Draws of every figure of one representation, ``of[edit][metric]`` (1 + draws,)."""

    name: str
    of: list[dict[str, Float[np.ndarray, " draws"]]]


def figures_of(
    changes: Changes,
    rows: list[Bool[np.ndarray, " n"]],
    y: Float[np.ndarray, " n"] | None,
    draws: Draws,
) -> Figures:
    """Return every figure of every edit in every draw.

    - *score moves*: E|s' - s| in standard deviations of the score between patients.
    - *score shifts*: E(s' - s), likewise.
    - *embedding moves*: E||z' - z|| / sqrt(tr cov z).
    - *towards*: E(s' - s) over the distance of the mean scores of ill and healthy films.
    - *AUROC* of the outcome before and after, and where healthy films alone are edited.

    Parameters
    ----------
    rows : (n,) bool for each edit
        Films that the edit can change.

    Raises
    ------
    CohortError
        The score or the embedding is the same for every patient.
    """
    spread = draws.spread(changes.centred)
    if spread[0] == 0:
        raise CohortError(
            f"{changes.name!r} gives every film one and the same embedding: there is no spread to "
            "measure a change by. Look at the encoder or its preprocessing."
        )
    scale, apart = None, None
    if changes.score is not None:
        scale = draws.between_patients(changes.score)
        if scale[0] <= 1e-12 * max(1.0, float(np.abs(changes.score).max())):
            raise CohortError(
                f"the score of {changes.name!r} is the same for every patient: there is no spread "
                "to measure a change by. Pass another score=."
            )
        if y is not None:
            apart = draws.mean(changes.score, y == 1) - draws.mean(changes.score, y == 0)
    found = []
    for k, here in enumerate(rows):
        one = {}
        if changes.score is not None and changes.scores is not None and scale is not None:
            change = changes.scores[k] - changes.score
            one[MOVES] = draws.mean(np.abs(change), here) / scale
            one[SHIFTS] = draws.mean(change, here) / scale
            if y is not None and apart is not None:
                one[TOWARDS] = draws.mean(change, here) / apart
                one |= _aurocs(changes.score, changes.scores[k], y, here, draws)
        one[EMBEDDING] = draws.mean(changes.distance[k], here) / spread
        found.append(one)
    return Figures(changes.name, found)


def _aurocs(
    score: np.ndarray, edited: np.ndarray, y: np.ndarray, here: np.ndarray, draws: Draws
) -> Iterator[tuple[str, np.ndarray]]:
    on = here & ~np.isnan(y)
    ill, weights = y[on] == 1, draws.films[:, on]
    mixed = np.where(ill, score[on], edited[on])
    yield BEFORE, weighted_aurocs(score[on], ill, weights)
    yield AFTER, weighted_aurocs(edited[on], ill, weights)
    yield CROSSED, weighted_aurocs(mixed, ill, weights)


def as_interval(values: Float[np.ndarray, " draws"], level: float = 0.95) -> Interval:
    """Return the estimate, which comes first, and the percentile interval of the draws."""
    return interval(values[1:], float(values[0]), level)
