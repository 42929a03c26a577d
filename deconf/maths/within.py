"""The same patient under both levels of a cause: contrasts in which patients are their own control.

Whatever does not change within a patient (anatomy, sex, chronic disease) cannot confound them;
whatever does, such as how ill the patient was that day, still can.  Patients seen at one level
only say nothing and get no weight.

Mantel & Haenszel 1959 for ratios; the difference is the fixed-effects regression, whose weights
``n₁ n₀ / n`` are theirs too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deconf.maths.intervals import Interval, factorised, influence_interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WithinPatient:
    """A contrast within patients.

    Attributes
    ----------
    difference : Interval
        Mean of the outcome at level 1 less level 0, in its units.
    ratio : Interval or None
        Mantel-Haenszel risk ratio; None where the outcome is not 0 and 1.
    patients, films : int
        With films at both levels, and their films.
    discordant : int
        Of those patients, how many have outcomes that differ between films: the only ones that
        move the difference.  (Patients with the finding on every film pull the risk ratio to 1.)
    """

    difference: Interval
    ratio: Interval | None
    patients: int
    films: int
    discordant: int


def within_patient(
    y: Floats, a: npt.NDArray[np.bool_], patients: npt.NDArray[np.int64], *, level: float = 0.95
) -> WithinPatient:
    """Contrast two levels within patients, intervals over patients.

    With n₁, n₀ films of patient p at the two levels and N of both, ``D_p = ȳ₁ − ȳ₀`` and
    ``w_p = n₁ n₀ / N``, the difference is ``Σ w D / Σ w`` and, with ``r_p = w ȳ₁``,
    ``s_p = w ȳ₀``, the ratio is ``Σ r / Σ s``.

    Parameters
    ----------
    y : (n,) array
    a : (n,) array of bool
    patients : (n,) array of codes

    Examples
    --------
    >>> y = np.array([1.0, 0, 1, 1, 0, 0, 1])
    >>> a = np.array([1, 0, 1, 0, 1, 0, 1], dtype=bool)
    >>> found = within_patient(y, a, np.array([0, 0, 1, 1, 2, 2, 3]))
    >>> found.patients, found.discordant, round(found.difference.estimate, 2)
    (3, 1, 0.33)
    """
    who = factorised(patients)
    one, nil = np.bincount(who, weights=a), np.bincount(who, weights=~a)
    both = (one > 0) & (nil > 0)
    if not both.any():
        nothing = Interval(math.nan, math.nan, math.nan, level)
        return WithinPatient(nothing, None, 0, 0, 0)
    total = one + nil
    w = np.where(both, one * nil / total, 0.0)
    mean_1 = np.bincount(who, weights=y * a) / np.maximum(one, 1)
    mean_0 = np.bincount(who, weights=y * ~a) / np.maximum(nil, 1)
    r, s = (w * mean_1)[both], (w * mean_0)[both]
    d, w = (mean_1 - mean_0)[both], w[both]
    people = np.arange(len(w))
    estimate = float((w * d).sum() / w.sum())
    difference = influence_interval(estimate, w * (d - estimate) / w.mean(), people, level=level)
    low, high = np.full(len(one), np.inf), np.full(len(one), -np.inf)
    np.minimum.at(low, who, y)
    np.maximum.at(high, who, y)
    ratio = None
    if np.isin(y, (0.0, 1.0)).all():
        ratio = _ratio(r, s, people, level)
    return WithinPatient(
        difference,
        ratio,
        patients=int(both.sum()),
        films=int(total[both].sum()),
        discordant=int((both & (high > low)).sum()),
    )


def _ratio(r: Floats, s: Floats, people: npt.NDArray[np.int64], level: float) -> Interval:
    if r.sum() <= 0 or s.sum() <= 0:
        return Interval(math.nan, math.nan, math.nan, level)
    log = influence_interval(
        math.log(r.sum() / s.sum()), r / r.mean() - s / s.mean(), people, level=level
    )
    return Interval(math.exp(log.estimate), math.exp(log.low), math.exp(log.high), level)
