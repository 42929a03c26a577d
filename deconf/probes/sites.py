"""Some sites to train attackers at, others to let them read: does a trace travel."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from deconf.cohort.splits import without_patients
from deconf.errors import CohortError

# Up to so many sites every way to part them is tried; beyond, so many at random.
FEW_SITES = 10
TRIES = 500
FEWEST = 2


def sites_apart(
    codes: np.ndarray,
    strata: np.ndarray,
    patients: np.ndarray,
    sites: np.ndarray,
    *,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of some sites to train on, and those of the others.

    The parting is the one that leaves the most patients on its smaller side, counting on the
    held-out side only patients in cells where two levels can be told apart.  Patients with films
    on both sides leave training.

    Parameters
    ----------
    codes, strata, patients, sites : (n,) arrays

    Raises
    ------
    CohortError
        One site only.

    Examples
    --------
    >>> sites = np.repeat(["A", "B", "C"], [4, 8, 12])
    >>> c, one = np.arange(24) % 2, np.zeros(24)
    >>> train, test = sites_apart(c, one, np.arange(24), sites, seed=0)
    >>> np.unique(sites[train]).tolist(), np.unique(sites[test]).tolist()
    (['A', 'B'], ['C'])
    """
    names, site = np.unique(sites, return_inverse=True)
    if len(names) < 2:
        raise CohortError(
            f"every row is of site {names[0]}: attackers need one site to learn at and another to "
            "read. Leave sites= out, or bring films of a second site."
        )
    readable = np.array([_readable(site == s, codes, strata, patients) for s in range(len(names))])
    people = np.array([len(np.unique(patients[site == s])) for s in range(len(names))])

    def worth(out: np.ndarray) -> tuple[int, int]:
        smaller = min(readable[out].sum(), people[~out].sum())
        return int(smaller), -abs(2 * int(out.sum()) - len(out))

    held_out = max(_partings(len(names), seed), key=worth)
    return without_patients(held_out[site], patients, known=np.ones(len(site), dtype=bool))


def _partings(count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield (count,) masks of the held-out sites."""
    if count <= FEW_SITES:
        for size in range(1, count):
            for chosen in combinations(range(count), size):
                yield np.isin(np.arange(count), chosen)
        return
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):
        yield rng.permutation(count) < rng.integers(1, count)


def _readable(here: np.ndarray, codes: np.ndarray, strata: np.ndarray, patients: np.ndarray) -> int:
    """Return the patients of a site in cells where two levels have patients enough."""
    counted = 0
    for stratum in np.unique(strata[here]):
        cell = here & (strata == stratum)
        people = [len(np.unique(patients[cell & (codes == c)])) for c in np.unique(codes[cell])]
        enough = [count for count in people if count >= FEWEST]
        counted += sum(enough) if len(enough) > 1 else 0
    return counted
