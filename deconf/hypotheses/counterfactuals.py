"""Whether the counterfactuals of a structural model can be believed, and how they move a score.

The checks ask what must hold of any counterfactual (Monteiro et al., "Measuring axiomatic soundness
of counterfactual image models", ICLR 2023): nothing changes under no change, a change is seen, a
change undone is undone, and noise tells nothing of the causes it was freed of.  A model that passes
may still be wrong: two models with one law can differ in every counterfactual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from deconf.causal.graph import IMAGE
from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, SettingsError, listing
from deconf.hypotheses.reactions.scores import scored
from deconf.maths import kinds
from deconf.maths.intervals import Interval, bootstrap
from deconf.maths.multiplicity import holm
from deconf.probes.attackers import settings_of
from deconf.probes.leakage import Leakage, leakage
from deconf.scm.mechanism import Choice
from deconf.scm.model import StructuralModel

COMPOSED = 1e-4  # standard deviations of the embedding: rounding, no more
RETURNED = 0.05  # likewise, there and back; discrete columns on the way draw their noise twice
SHORT = 0.1  # by which counterfactual films may be read less often as their level than real ones
TOLD = 0.05  # AUROC above luck at which noise tells a cause, Holm p below 0.05 besides
PERMUTATIONS = 200
READERS = ("logistic", "boosted")

Score = Callable[[Float[ndarray, "n d"]], Float[ndarray, " n"]]


@dataclass(frozen=True)
class Checks:
    """What must hold of the counterfactuals of one column.

    Attributes
    ----------
    composition : float
        Largest change of a coordinate when the column is set to what it is, in standard deviations.
    reversibility : float
        Mean change there and back, likewise.
    effectiveness : mapping of level to Interval
        Share of films of other levels that an attacker trained on real films reads as this level
        after do(column = level); the attacker that reads fewest.
    real : mapping of level to Interval
        The same attacker on real films of that level.
    independence : mapping of cause to Leakage
        What fresh attackers read of each cause of the image from the noise.
    refused : float
        Share of films without an answer.
    n : int
        Films.
    """

    column: str
    composition: float
    reversibility: float
    effectiveness: Mapping[str, Interval]
    real: Mapping[str, Interval]
    independence: Mapping[str, Leakage]
    refused: float
    n: int

    @property
    def failures(self) -> tuple[str, ...]:
        """What does not hold, in words."""
        out = []
        if self.composition > COMPOSED:
            out.append(f"no change moves films by {self.composition:.1e} sd")
        if self.reversibility > RETURNED:
            out.append(f"there and back moves films by {self.reversibility:.2f} sd on average")
        for level, share in self.effectiveness.items():
            if share.high < self.real[level].estimate - SHORT:
                out.append(
                    f"films set to {level} are read as {level} in {share} of cases, real ones in "
                    f"{self.real[level]}"
                )
        told = {cause: found for cause, found in self.independence.items() if not found.reason}
        p = holm(np.array([found.p for found in told.values()]))
        for (cause, found), adjusted in zip(told.items(), p, strict=True):
            if adjusted < 0.05 and found.estimate.estimate > found.floor + TOLD:
                out.append(f"noise tells {cause}: {found}")
        return tuple(out)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.failures:
            return f"counterfactuals of {self.column} fail: {'; '.join(self.failures)}."
        return (
            f"counterfactuals of {self.column} pass every check, which a wrong model may too: they "
            "stand on the graph and on the form of the mechanisms."
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each figure: check, of, estimate, low, high, beside."""
        rows: list[dict[str, Any]] = [
            {"check": "composition", "of": self.column, "estimate": self.composition},
            {"check": "reversibility", "of": self.column, "estimate": self.reversibility},
            {"check": "refused", "of": self.column, "estimate": self.refused},
        ]
        for level, share in self.effectiveness.items():
            beside = self.real[level].estimate
            rows.append(_line("effectiveness", level, share) | {"beside": beside})
        for cause, found in self.independence.items():
            rows.append(_line("independence", cause, found.estimate) | {"beside": found.floor})
        return pd.DataFrame(rows).assign(n=self.n)

    def __str__(self) -> str:
        lines = [
            f"counterfactuals of {self.column}, {self.n:,} films, {self.refused:.0%} refused",
            f"  composition    {self.composition:.1e} sd under no change",
            f"  reversibility  {self.reversibility:.1e} sd there and back",
        ]
        for level, share in self.effectiveness.items():
            lines.append(
                f"  effectiveness  read as {level} after do({level}): {share}; real films: "
                f"{self.real[level]}"
            )
        for cause, found in self.independence.items():
            lines.append(f"  independence   {cause} from noise: {found}")
        return "\n".join([*lines, self.verdict])


def check_counterfactuals(
    model: StructuralModel,
    cohort: Cohort,
    column: str,
    *,
    attackers: Iterable[str] = READERS,
    seed: int = 0,
) -> Checks:
    """Check the counterfactual embeddings of a discrete column on patients the model never saw.

    Parameters
    ----------
    attackers : names
        Of `deconf.probes.attackers`; trained on half of these patients, they read the others.

    Raises
    ------
    SettingsError
        The column is not discrete, or does not reach the image.
    LeakageError
        The model was fitted on some of these patients.
    """
    levels = _levels(model, column)
    model.require_unseen(cohort)
    z = _embeddings(cohort)
    now = cohort.table[column].tolist()
    sd = float(np.sqrt(((z - z.mean(axis=0)) ** 2).mean()))
    same = model.counterfactual(cohort, {column: now}, seed=seed)
    composed = float(np.abs(_embeddings(same.cohort) - z[same.rows]).max()) / sd
    place = {level: i for i, level in enumerate(levels)}
    other = [levels[(place[v] + 1) % len(levels)] for v in now]
    there = model.counterfactual(cohort, {column: other}, seed=seed)
    back = model.counterfactual(
        there.cohort, {column: [now[row] for row in there.rows]}, seed=seed + 1
    )
    gone = _embeddings(back.cohort) - z[there.rows[back.rows]]
    codes = np.array([place[v] for v in now])
    share, real = _read(model, cohort, column, levels, codes, attackers, seed)
    return Checks(
        column,
        composed,
        float(np.sqrt((gone**2).mean())) / sd,
        MappingProxyType(share),
        MappingProxyType(real),
        MappingProxyType(_independence(model, cohort, attackers, seed)),
        1 - len(there.rows) / len(cohort),
        len(cohort),
    )


def _read(
    model: StructuralModel,
    cohort: Cohort,
    column: str,
    levels: tuple[Any, ...],
    codes: ndarray,
    attackers: Iterable[str],
    seed: int,
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Return how often counterfactual and real films are read as each level."""
    train, test = next(iter(cohort.folds(2, seed)))
    z = _embeddings(cohort)
    probes = {
        name: attacker.fit(z[train], codes[train], patients=cohort.patients[train], seed=seed)
        for name, attacker in settings_of(attackers, "quick").items()
    }
    rest = cohort.subset(test)
    share, real = {}, {}
    for code, level in enumerate(levels):
        made = model.counterfactual(rest, {column: level}, seed=seed)
        moved = codes[test][made.rows] != code
        who = rest.patients[made.rows][moved]
        own = np.flatnonzero(codes[test] == code)
        if not len(own) or not moved.any():
            continue
        found = {
            name: (
                _share(probe.scores(_embeddings(made.cohort)[moved]).argmax(1) == code, who, seed),
                _share(probe.scores(z[test][own]).argmax(1) == code, rest.patients[own], seed),
            )
            for name, probe in probes.items()
        }
        worst = min(found, key=lambda n: found[n][0].estimate - found[n][1].estimate)
        share[kinds.said(level)], real[kinds.said(level)] = found[worst]
    return share, real


def _independence(
    model: StructuralModel, cohort: Cohort, attackers: Iterable[str], seed: int
) -> dict[str, Leakage]:
    """Return what attackers read of each cause of the image from its noise."""
    u = model.noise(cohort)
    out = {}
    causes = model.embedding.causes.names if model.embedding is not None else ()
    permutations = max(PERMUTATIONS, 40 * len(causes))  # Holm over many needs smaller p values
    for cause in causes:
        values = None
        if isinstance(model.nodes[cause], Choice):
            codes = kinds.codes(cohort.table[cause])[0]
        else:
            values = kinds.numbers(cohort.table[cause])
            codes = np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values)
        if len(np.unique(codes)) > 1:
            out[cause] = leakage(
                u, codes, patients=cohort.patients, attackers=attackers, values=values,
                permutations=permutations, seed=seed,
            )  # fmt: skip
    return out


@dataclass(frozen=True)
class Flip:
    """How a score moves when one column is set from one value to another.

    Attributes
    ----------
    change : Interval
        Mean of score(do(second)) - score(do(first)).
    moved : Interval
        Mean absolute change in standard deviations of the score over the films as they are.
    n, patients, refused : int
        Films answered, their patients, films without an answer.
    """

    column: str
    first: str
    second: str
    change: Interval
    moved: Interval
    n: int
    patients: int
    refused: int

    def __str__(self) -> str:
        return (
            f"do({self.column}: {self.first} -> {self.second}) changes the score by {self.change} "
            f"on average, each film by {self.moved} sd; n = {self.n:,} films of "
            f"{self.patients:,} patients, {self.refused:,} refused. By a structural model: it "
            "stands on the graph and on the form of the mechanisms."
        )


def flip_test(
    model: StructuralModel,
    cohort: Cohort,
    score: Score,
    column: str,
    values: tuple[Any, Any] | None = None,
    *,
    seed: int = 0,
) -> Flip:
    """Measure how much a score moves when a column is set from one value to another.

    Parameters
    ----------
    score : head, or function of (n, d) embeddings
        A cleaned one, say: ``lambda z: head.score(clean.embed(z))``.
    values : (first, second), optional
        By default the two levels of a column that has two.

    Raises
    ------
    SettingsError
        Values are not given and the column has not two levels; the score says no finite number
        of each film.
    """
    if values is None:
        node = model.nodes.get(column)
        levels = node.levels if isinstance(node, Choice) else ()
        if len(levels) != 2:
            raise SettingsError(
                f"{column!r} has {len(levels) or 'no'} levels: say from which to which, "
                "values=(a, b)."
            )
        values = levels[0], levels[1]
    sides = [model.counterfactual(cohort, {column: value}, seed=seed) for value in values]
    rows = np.intersect1d(sides[0].rows, sides[1].rows)
    if not len(rows):
        raise CohortError(f"no film has an answer under both values of {column!r}.")
    first, second = (
        scored(score, _embeddings(side.cohort))[np.searchsorted(side.rows, rows)] for side in sides
    )
    now = scored(score, _embeddings(cohort)[rows])
    spread = float(now.std()) or 1.0
    patients = cohort.patients[rows]
    change = second - first

    def mean_of(x: Float[ndarray, " n"]) -> Interval:
        return bootstrap(lambda w: w @ x / w.sum(axis=1), patients, seed=seed)

    return Flip(
        column,
        kinds.said(values[0]),
        kinds.said(values[1]),
        mean_of(change),
        mean_of(np.abs(change) / spread),
        len(rows),
        len(np.unique(patients)),
        len(cohort) - len(rows),
    )


def _embeddings(cohort: Cohort) -> Float[ndarray, "n d"]:
    if cohort.embeddings is None:
        raise CohortError("the cohort has no embeddings: cohort.with_embeddings(z).")
    return cohort.embeddings


def _levels(model: StructuralModel, column: str) -> tuple[Any, ...]:
    node = model.nodes.get(column)
    if not isinstance(node, Choice):
        discrete = [name for name, one in model.nodes.items() if isinstance(one, Choice)]
        raise SettingsError(
            f"{column!r} is no discrete column of the model. Discrete: {listing(discrete)}."
        )
    if IMAGE not in model.structure.after([column]) or model.embedding is None:
        raise SettingsError(f"{column!r} does not reach the image: nothing would change.")
    return node.levels


def _share(right: ndarray, patients: ndarray, seed: int) -> Interval:
    return bootstrap(lambda w: w @ right / w.sum(axis=1), patients, draws=500, seed=seed)


def _line(check: str, of: str, found: Interval) -> dict[str, Any]:
    own = {"estimate": found.estimate, "low": found.low, "high": found.high}
    return {"check": check, "of": of} | own
