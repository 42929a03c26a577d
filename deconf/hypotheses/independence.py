"""Tests of whether a score or an embedding is independent of a confounder, given a set.

Three tests, each blind where another sees, and Holm's correction over all of them:

- *permutation*: what attackers read of the confounder on patients they never saw (for a score, the
  score itself), against conditional permutations (Berrett et al., JRSS B 2020).  Sees differences
  of means, and what the attackers see.
- *gcm*: do the residuals of reading and confounder go together (Shah & Peters, "The hardness of
  conditional independence testing and the generalised covariance measure", Annals of Statistics
  2020).  Robust where the models of both sides are rough; blind where the covariance is nil.
- *kernel*: HSIC of embedding and confounder against the same conditional permutations (Gretton et
  al., NeurIPS 2007).  Sees any dependence, the weaker the more dimensions there are.

No rejection is no proof of independence: read the number of patients beside it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, SettingsError, did_you_mean, listing
from deconf.maths.dependence import permuted_hsic
from deconf.maths.design import adjustment
from deconf.maths.kernels import categories, gaussian
from deconf.maths.kinds import is_categorical, numbers
from deconf.maths.moments import Given
from deconf.maths.multiplicity import holm
from deconf.probes.attackers import settings_of
from deconf.probes.cells import cells_of, levels_of
from deconf.probes.conditional import conditional_permutations
from deconf.probes.gcm import gcm
from deconf.probes.held_out import read_held_out, without
from deconf.probes.target import votes

TESTS = ("permutation", "gcm", "kernel")
ATTACKERS = ("logistic", "quadratic")
PER_KNOT = 30  # patients
USUAL = 500  # permutations
FEWEST = 40  # patients below which nothing is tested
ROUNDING = 1e-9  # of sums in another order, as a share of the statistic


@dataclass(frozen=True, eq=False)
class Independence:
    """What the tests say.

    Attributes
    ----------
    table : DataFrame
        One row for each confounder and test: ``confounder``, ``given``, ``test``, ``p``,
        ``adjusted`` (Holm over all rows) and ``patients``.
    level : float
    """

    table: pd.DataFrame
    level: float

    @property
    def verdict(self) -> str:
        """Return "dependent" where any corrected test rejects, else "no dependence shown"."""
        is_dependent = bool((self.table["adjusted"] <= self.level).any())
        return "dependent" if is_dependent else "no dependence shown"

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def __str__(self) -> str:
        """Return a sentence for each confounder."""
        said = []
        for confounder, part in self.table.groupby("confounder", sort=False):
            first = part.iloc[0]
            given = f" given {first['given']}" if first["given"] else ""
            found = ", ".join(
                f"{row['test']} p = {row['adjusted']:.2g} (n = {row['patients']:,})"
                for _, row in part.iterrows()
            )
            hit = bool((part["adjusted"] <= self.level).any())
            what = "depends on" if hit else "is not shown to depend on"
            said.append(
                f"It {what} {confounder}{given}: {found}; Holm over {len(self.table)} tests, one "
                "film for each patient."
            )
        if self.verdict != "dependent":
            said.append("That is no proof of independence.")
        return "\n".join(said)


def independence(
    what: Any,
    confounder: str | Sequence[str],
    given: str | Sequence[str] | None,
    cohort: Cohort,
    *,
    tests: Sequence[str] = TESTS,
    permutations: int | None = None,
    most: int = 1000,
    level: float = 0.05,
    seed: int = 0,
) -> Independence:
    """Test whether a representation or a score is independent of a confounder, given a set.

    Parameters
    ----------
    what : (n,) score, (n, d) embedding, column name, or an encoder
        Of the rows of the cohort.
    confounder : str or several
        Categories, or numbers.
    given : str, several, or None
        The adjustment set, as `CausalGraph.invariance` derives it; numbers are held by splines.
    cohort : Cohort
        One film of each patient is taken, at random.
    tests : any of "permutation", "gcm", "kernel"
    permutations : int, optional
        Of each test; default 500, or twice what Holm's correction needs to reject at all.
    most : int
        Patients of the kernel test, whose cost grows with their square.
    level : float
        Of the verdict.
    seed : int

    Raises
    ------
    CohortError
        Rows do not match, a column is absent or constant, or too few patients are left.
    SettingsError
        An unknown test, a number out of range, or so few permutations that after Holm's
        correction nothing could be rejected.

    Examples
    --------
    >>> from deconf.worlds import linear
    >>> cohort = linear(n=600, d=24, trace="shift", seed=97).train().cohort
    >>> found = independence(cohort.embeddings, "portable", "pneumonia", cohort, permutations=99)
    >>> found.verdict
    'dependent'
    """
    names = (confounder,) if isinstance(confounder, str) else tuple(confounder)
    tests = (tests,) if isinstance(tests, str) else tuple(tests)
    if not names:
        raise SettingsError("no confounder was named: say which column the test is about.")
    for word, value in (("seed", seed), ("permutations", permutations or 0), ("most", most)):
        if not isinstance(value, int | np.integer) or value < 0:
            raise SettingsError(f"{word} is {value!r}: expected a whole number, not below zero.")
    held = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    for test in tests:
        if test not in TESTS:
            raise SettingsError(
                f"no test is called {test!r}.{did_you_mean(str(test), TESTS)} Known: "
                f"{listing(TESTS)}."
            )
    if not 0 < level < 1 or most < FEWEST or not tests:
        raise SettingsError(
            f"level={level!r}, most={most!r}, tests={tests!r}: expected one test at least, a level "
            f"between 0 and 1, and {FEWEST} patients or more."
        )
    least = math.ceil(len(names) * len(tests) / level - ROUNDING) - 1
    if permutations is None:
        permutations = max(USUAL, 2 * least)
    if permutations < least:
        raise SettingsError(
            f"permutations={permutations!r} cannot reject anything at {level} after Holm over "
            f"{len(names) * len(tests)} tests: name {least} or more, or fewer tests."
        )
    z = _values(what, cohort)
    table = cohort.table
    _check(table, names, held)
    lines = []
    for name in names:
        rows = _rows(table, name, held, cohort.patients, seed)
        part = table.iloc[rows].reset_index(drop=True)
        one = _Data.of(z[rows], part, name, held)
        for test in tests:
            p, patients = _TEST[test](one, permutations, most, seed)
            lines.append(
                {"confounder": name, "given": ", ".join(held), "test": test, "p": p,
                 "patients": patients}
            )  # fmt: skip
    found = pd.DataFrame(lines)
    found.insert(4, "adjusted", holm(found["p"].to_numpy()))
    return Independence(found, level)


@dataclass(frozen=True, eq=False)
class _Data:
    """One film of each patient, as arrays."""

    z: Float[ndarray, "n d"]
    codes: ndarray
    values: ndarray | None
    strata: ndarray
    numbers: ndarray | None
    given: Given
    curves: ndarray | None

    @classmethod
    def of(cls, z: ndarray, table: pd.DataFrame, name: str, held: Sequence[str]) -> _Data:
        levels, cells = levels_of(table[name]), cells_of(table, held)
        is_number = levels.order is not None
        given = adjustment(table, held, np.ones(len(table), dtype=bool))
        curves = _curves(table, held)
        if curves is not None:
            z = _without_curves(z, curves)
            given = Given(given.codes, curves)
        return cls(
            z=z,
            codes=np.unique(levels.codes, return_inverse=True)[1],
            values=None if not is_number or levels.order is None else levels.order.astype(float),
            strata=cells.labels,
            numbers=cells.numbers,
            given=given,
            curves=curves,
        )

    @property
    def target(self) -> ndarray:
        """The confounder: levels, or a number."""
        return self.codes if self.values is None else self.values

    def among(self, rows: ndarray) -> _Data:
        return _Data(
            self.z[rows],
            self.codes[rows],
            None if self.values is None else self.values[rows],
            self.strata[rows],
            None if self.numbers is None else self.numbers[rows],
            self.given.rows(rows),
            None if self.curves is None else self.curves[rows],
        )


def _curves(table: pd.DataFrame, held: Sequence[str]) -> Float[ndarray, "n m"] | None:
    """Return splines of the numbers held, one knot for every 30 patients, 4 to 10 of them."""
    from sklearn.preprocessing import SplineTransformer

    smooth = [name for name in held if not is_categorical(table[name])]
    if not smooth:
        return None
    knots = int(np.clip(len(table) // PER_KNOT, 4, 10))
    spline = SplineTransformer(n_knots=knots, knots="quantile", include_bias=False)
    basis: ndarray = spline.fit_transform(np.stack([numbers(table[n]) for n in smooth], axis=1))
    return basis


def _without_curves(values: ndarray, curves: Float[ndarray, "n m"]) -> ndarray:
    """Return what an additive regression on the curves leaves of each column."""
    design = curves - curves.mean(axis=0)
    out: ndarray = values - design @ np.linalg.lstsq(design, values - values.mean(0), rcond=None)[0]
    return out


def _readings(data: _Data, seed: int) -> tuple[_Data, dict[str, ndarray]]:
    """Return held-out films and what is read of the confounder there.

    A score needs no attacker: all films count.
    """
    if data.z.shape[1] == 1:
        return data, {"score": data.z}
    held = read_held_out(
        data.z, data.codes, data.strata, np.arange(len(data.z)), settings_of(ATTACKERS, "quick"),
        numbers=data.numbers, values=data.values, seed=seed,
    )  # fmt: skip
    if not len(held.rows):
        raise CohortError(
            f"no stratum has patients enough at two levels ({'; '.join(held.skipped[:3])}): pool "
            "strata, or hold less."
        )
    return data.among(held.rows), dict(held.scores)


def _permutation(data: _Data, permutations: int, _most: int, seed: int) -> tuple[float, int]:
    """Return p of the largest covariance of a reading with the confounder, and the patients."""
    here, scores = _readings(data, seed)
    own = np.arange(len(here.z))
    parts = [without(s, here.numbers, here.strata, own, centre=True) for s in scores.values()]
    reading = np.hstack(parts)
    spread = reading.std(axis=0)
    reading = reading[:, spread > 0] / spread[spread > 0]
    vote = votes(here.target)
    vote = without(vote, here.numbers, here.strata, own, centre=True)
    vote = vote[:, vote.std(axis=0) > 1e-12] / vote.std(axis=0)[vote.std(axis=0) > 1e-12]
    if not reading.size or not vote.size:
        return 1.0, len(own)
    plain = votes(here.target).astype(float)
    plain = plain / np.maximum(plain.std(axis=0), 1e-12)
    index = conditional_permutations(here.target, here.given, times=permutations, seed=seed)
    observed = np.abs(reading.T @ plain).max()
    reached = sum(np.abs(reading.T @ plain[i]).max() >= observed * (1 - ROUNDING) for i in index)
    return (1 + int(reached)) / (permutations + 1), len(own)


def _gcm(data: _Data, permutations: int, _most: int, seed: int) -> tuple[float, int]:
    """Return p of the generalised covariance measure, and the patients."""
    here, scores = _readings(data, seed)
    own = np.arange(len(here.z))
    numbers = np.zeros((len(own), 1)) if here.numbers is None else here.numbers
    if here.values is not None:
        scores = {name: s for name, s in scores.items() if s.shape[1] == 1}
    values = (here.codes if here.values is None else here.values).astype(float)
    if here.curves is not None:
        scores = {name: _without_curves(s, here.curves) for name, s in scores.items()}
        values = _without_curves(values[:, None], here.curves)[:, 0]
    p = gcm(
        scores, here.codes, here.strata, own, numbers, values=values, draws=permutations, seed=seed
    )
    return p, len(own)


def _kernel(data: _Data, permutations: int, most: int, seed: int) -> tuple[float, int]:
    """Return p of HSIC against conditional permutations, and the patients."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(data.z))[:most])
    here = data.among(rows)
    # What the set explains of the embedding is taken out: it would drown what is looked for.
    clean = without(here.z, here.numbers, here.strata, np.arange(len(rows)), centre=True)
    if np.ptp(clean, axis=0).max() <= 1e-12:
        return 1.0, len(rows)
    y = categories(here.codes) if here.values is None else gaussian(here.values)
    index = conditional_permutations(here.target, here.given, times=permutations, seed=seed)
    values = permuted_hsic(gaussian(clean), y, np.vstack([np.arange(len(rows)), index]))
    reached = (values[1:] >= values[0] * (1 - ROUNDING)).sum()
    return (1 + int(reached)) / (permutations + 1), len(rows)


_TEST = {"permutation": _permutation, "gcm": _gcm, "kernel": _kernel}


def _values(what: Any, cohort: Cohort) -> Float[ndarray, "n d"]:
    if isinstance(what, str):
        if what not in cohort.table.columns:
            raise CohortError(
                f"the table has no column {what!r}.{did_you_mean(what, cohort.table.columns)} "
                f"Columns: {listing(cohort.table.columns)}."
            )
        name, what = what, pd.to_numeric(cohort.table[what], errors="coerce")
        words = cohort.table[name][what.isna() & cohort.table[name].notna()]
        if len(words):
            raise CohortError(
                f"the column {name!r} holds {words.iloc[0]!r}: a score is a number. Of two words "
                f"make 0 and 1, table[{name!r}] == {words.iloc[0]!r}."
            )
    elif hasattr(what, "embed"):
        what = what.embed(cohort)
    array = np.asarray(what, dtype=np.float64)
    if array.ndim not in (1, 2) or len(array) != len(cohort):
        raise CohortError(
            f"{array.shape} values for {len(cohort):,} films: expected (n,) scores or (n, d) "
            "embeddings, one row for each."
        )
    array = array.reshape(len(array), -1)
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise CohortError(
            f"{bad.sum():,} of {len(array):,} rows hold nan or infinity, first row "
            f"{int(bad.argmax())} (counting from 0): leave those films out, cohort.subset(...)."
        )
    return array


def _check(table: pd.DataFrame, names: Sequence[str], held: Sequence[str]) -> None:
    for name in itertools.chain(names, held):
        if name not in table.columns:
            raise CohortError(
                f"the table has no column {name!r}.{did_you_mean(name, table.columns)} "
                f"Columns: {listing(table.columns)}."
            )
        if name in names and name in held:
            raise CohortError(f"{name!r} is confounder and held at once: take it out of one.")


def _rows(
    table: pd.DataFrame, name: str, held: Sequence[str], patients: ndarray, seed: int
) -> ndarray:
    """Return one film of each patient, among those with everything recorded."""
    known = np.flatnonzero((levels_of(table[name]).codes >= 0) & cells_of(table, held).known)
    order = np.random.default_rng(seed).permutation(known)
    first = np.unique(patients[order].astype(str), return_index=True)[1]
    rows: ndarray = np.sort(order[first])
    if len(rows) < FEWEST:
        raise CohortError(
            f"{len(rows)} patients have {listing([name, *held])} recorded: {FEWEST} at least are "
            "needed to test anything."
        )
    if table[name].iloc[rows].nunique() < 2:
        raise CohortError(
            f"the confounder {name!r} has one level only among {len(rows):,} patients: nothing "
            "can depend on a constant."
        )
    return rows
