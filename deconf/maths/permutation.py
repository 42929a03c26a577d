"""Permutations within strata that move whole patients.

The null of a leakage test is that, inside a stratum, the confounder could as well have been
dealt to other *patients*.  Shuffling single films breaks the bond between films of a patient
and rejects a true null far more often than its level; so patients change places, and only
with patients who have as many films in the same strata (Winkler et al., "Multi-level block
permutation", NeuroImage 2015).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Shaped

from deconf.maths.intervals import factorised


def permutations_within(
    strata: Shaped[np.ndarray, " n"],
    patients: Shaped[np.ndarray, " n"] | None = None,
    *,
    times: int,
    seed: int,
) -> Iterator[Int[np.ndarray, " n"]]:
    """Yield index arrays such that ``c[index]`` is ``c`` permuted within strata.

    Two patients may change places when they have the same number of rows in every stratum;
    their rows correspond in the order of stratum, then of the table.  A patient whose layout is
    unlike all others stays put: with many such patients the test loses power, never its level.
    Patients with one row each make the plain permutation within strata.

    Parameters
    ----------
    strata : (n,) array
        The stratum of each row; every distinct value is one stratum.
    patients : (n,) array, optional
        Default: every row is its own patient.
    times : int
        How many permutations.  The identity is not put in: use ``p = (1 + #) / (times + 1)``.
    seed : int

    Examples
    --------
    Ann and Bo have a film in each stratum and change places as a pair; Cy is alone of his kind.

    >>> strata, patients = np.array([0, 1, 0, 1, 1]), np.array(["ann", "ann", "bo", "bo", "cy"])
    >>> for index in permutations_within(strata, patients, times=2, seed=3):
    ...     print(index)
    [2 3 0 1 4]
    [0 1 2 3 4]
    """
    blocks = [rows for rows in _exchangeable(strata, patients) if len(rows) > 1]
    rng = np.random.default_rng(seed)
    for _ in range(times):
        index = np.arange(len(strata))
        for rows in blocks:
            index[rows] = rng.permutation(rows)  # permutes the patients: the first axis
        yield index


def _exchangeable(
    strata: Shaped[np.ndarray, " n"], patients: Shaped[np.ndarray, " n"] | None
) -> Iterator[Int[np.ndarray, "patients films"]]:
    """Yield, for each layout, the rows of the patients who have it."""
    stratum = factorised(strata)
    patient = np.arange(len(stratum)) if patients is None else factorised(patients)
    order = np.lexsort((stratum, patient))  # stable: the order of the table breaks ties
    films = np.bincount(patient, minlength=1)
    start = np.cumsum(films) - films
    for size in np.unique(films[films > 0]):
        rows = order[start[films == size][:, np.newaxis] + np.arange(size)]
        _, layout = np.unique(stratum[rows], axis=0, return_inverse=True)
        for same in range(int(layout.max()) + 1):
            yield rows[layout == same]
