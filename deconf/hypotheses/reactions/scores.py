"""The score that may react: a head fitted on other patients, a direction, a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from deconf.cohort.cohort import Cohort
from deconf.cohort.splits import patient_folds
from deconf.errors import CohortError, SettingsError, did_you_mean, listing
from deconf.maths import kinds
from deconf.probes.head import choose_strength, fit_head

FOLDS = 5
Scorer = Callable[[Float[np.ndarray, "n d"]], Float[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be scored.

    Attributes
    ----------
    said : str
        The score in words.
    given : Any
        Head, direction, function, or a mapping of representation to one of them; None where a
        head is to be fitted.
    y : (n,) float or None
        Outcome of the films, nan where it is not recorded.
    outcome : str
        Its column, or "".
    """

    said: str
    given: Any
    y: Float[np.ndarray, " n"] | None
    outcome: str = ""


def target_of(score: Any, cohort: Cohort) -> Target | None:
    """Return what to score, or None where only the embedding can be looked at.

    Raises
    ------
    SettingsError
        A column is unknown or has not two values, or several outcomes and none was named.
    """
    if score is None and not cohort.outcomes:
        return None
    if score is None or isinstance(score, str):
        name = score if isinstance(score, str) else _only(cohort.outcomes)
        said = f"a head of {name!r} fitted on other patients"
        return Target(said, None, _binary(cohort, name), name)
    if len(cohort.outcomes) == 1 and len(kinds.levels(cohort.table[cohort.outcomes[0]])) == 2:
        return Target(_said(score), score, _binary(cohort, cohort.outcomes[0]), cohort.outcomes[0])
    return Target(_said(score), score, None)


def scorers_of(
    target: Target, name: str, z: Float[np.ndarray, "n d"], cohort: Cohort, seed: int
) -> Scorer:
    """Return the function that scores embeddings of all n films of one representation.

    Where a head is fitted it is fitted on the films as they are, in folds: a film, edited or not,
    is scored by the head that has not seen its patient.
    """
    if target.given is None:
        return _cross_fitted(z, target.y, cohort, seed)  # type: ignore[arg-type]
    given = target.given
    if isinstance(given, Mapping):
        if name not in given:
            raise SettingsError(
                f"score= names {listing(map(repr, given))} and not the representation {name!r}."
                f"{did_you_mean(name, given)} Give one score for each."
            )
        given = given[name]
    if not callable(getattr(given, "score", given)):
        direction = np.asarray(given, dtype=np.float64)
        if direction.shape != (z.shape[1],):
            raise SettingsError(
                f"the direction has the shape {direction.shape} and {name!r} has {z.shape[1]} "
                "columns: pass one number for each column, a function of (n, d), or a column name."
            )
        return lambda x: np.asarray(x, dtype=np.float64) @ direction

    return lambda x: scored(given, x)


def scored(by: Any, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Return what a function of embeddings, or a head, says of each film.

    Raises
    ------
    SettingsError
        It does not say one finite number of each.
    """
    out = np.asarray(getattr(by, "score", by)(x), dtype=np.float64)
    if out.shape != (len(x),) or not np.isfinite(out).all():
        raise SettingsError(
            f"the score returns an array of shape {out.shape} for {len(x):,} films"
            f"{'' if np.isfinite(out).all() else ', some of it nan or infinite'}: expected one "
            "finite number each, as log-odds."
        )
    return out


def _cross_fitted(
    z: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], cohort: Cohort, seed: int
) -> Scorer:
    known = ~np.isnan(y)
    patients = cohort.patients
    fewest = min(len(np.unique(patients[y == value])) for value in (0, 1))
    if fewest < 2:
        raise CohortError(
            f"one value of the outcome has {fewest} patients: too few to fit a head on other "
            "patients. Pass score=, a head fitted elsewhere or a direction."
        )
    strength = choose_strength(z[known], y[known], patients=patients[known], seed=seed)
    heads: list[tuple[np.ndarray, Any]] = []
    for train, test in patient_folds(
        patients, min(FOLDS, fewest), strata=np.nan_to_num(y, nan=2).astype(int), seed=seed
    ):
        rows = train[known[train]]
        heads.append((test, fit_head(z[rows], y[rows], strength=strength)))

    def by_others(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        out = np.empty(len(x))
        for rows, head in heads:
            out[rows] = head.score(x[rows])
        return out

    return by_others


def _only(outcomes: Sequence[str]) -> str:
    if len(outcomes) > 1:
        raise SettingsError(
            f"this cohort has the outcomes {listing(outcomes)}: name the one to score, "
            f"score={outcomes[0]!r}."
        )
    return outcomes[0]


def _binary(cohort: Cohort, name: str) -> Float[np.ndarray, " n"]:
    table = cohort.table
    if name not in table.columns:
        raise SettingsError(
            f"score={name!r} is not a column.{did_you_mean(name, table.columns)} "
            f"Columns: {listing(table.columns, 24)}."
        )
    values = kinds.levels(table[name])
    if len(values) != 2:
        raise SettingsError(
            f"{name!r} has {len(values)} different values ({listing(map(kinds.said, values), 6)}): "
            "a head is fitted for an outcome of two. Pass score=, a head, a direction or a "
            "function of the embedding."
        )
    code, _ = kinds.codes(table[name])
    return np.where(code < 0, np.nan, code).astype(np.float64)


def _said(score: Any) -> str:
    if isinstance(score, Mapping):
        return "the score given for each representation"
    if hasattr(score, "score"):
        return "the head given"
    return "the function given" if callable(score) else "the direction given"
