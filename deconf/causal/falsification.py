"""What a graph implies among recorded columns, put to the data.  They can refute it, no more.

Two tests.  First every independence that the graph implies between two columns without an arrow,
each with the smallest set that separates them: what is rejected is named.  Then, where the whole
graph is recorded, whether it violates fewer local Markov conditions than graphs with the same
arrows and the names dealt by chance (Eulig et al., "Toward falsifying causal graphs using a
permutation-based test", 2023, https://arxiv.org/abs/2305.09565; `dowhy.gcm.falsify_graph`).

Both use the kernel test of conditional independence (Zhang et al., "Kernel-based conditional
independence test", UAI 2011), whose cost grows with the cube of the rows: hence a subsample, one
row for each patient.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pandas as pd

from deconf.causal.graph import IMAGE, CausalGraph
from deconf.causal.narrative import in_words
from deconf.causal.separators import minimal_separators
from deconf.errors import CohortError, SettingsError, listing
from deconf.maths.kinds import is_categorical, numbers
from deconf.maths.multiplicity import holm

TEST = "kernel test of conditional independence"
FEWEST = 50
"""Patients with everything recorded below which nothing is tested."""


@dataclass(frozen=True)
class Implied:
    """An independence that a graph implies, and what the data say of it.

    Attributes
    ----------
    a, b : str
    given : tuple of str
    p, adjusted : float
        As tested, and by Holm over all that were tested.
    """

    a: str
    b: str
    given: tuple[str, ...]
    p: float
    adjusted: float

    def __str__(self) -> str:
        held = f" | {', '.join(self.given)}" if self.given else ""
        return f"{self.a} ⊥ {self.b}{held}"


@dataclass(frozen=True)
class Falsification:
    """A graph before the data.

    Attributes
    ----------
    implied : tuple of Implied
        Every independence tested, the most contradicted first.
    level : float
    rows, patients : int
        Tested, and how many there were.
    columns : tuple of str
        Recorded nodes.
    better_than_random : float or None
        Share of graphs with names dealt by chance that violate no more conditions than this one;
        None where it was not or cannot be asked.
    why_not : str
        Why it cannot.
    """

    implied: tuple[Implied, ...]
    level: float
    rows: int
    patients: int
    columns: tuple[str, ...]
    better_than_random: float | None
    why_not: str

    @property
    def contradictions(self) -> tuple[Implied, ...]:
        """The independences that the data reject."""
        return tuple(one for one in self.implied if one.adjusted <= self.level)

    @property
    def is_contradicted(self) -> bool:
        """Whether the data reject any of them."""
        return bool(self.contradictions)

    def __str__(self) -> str:
        """Return the findings as sentences, one a line."""
        rows = f"{self.rows:,} of {self.patients:,} patients"
        on = f"{TEST}, {rows}, Holm over {len(self.implied)}"
        if not self.implied:
            lines = [
                f"Nothing to test: the graph implies no independence among {in_words(self.columns)}"
                ", so these data could not contradict it."
            ]
        elif self.is_contradicted:
            lines = ["The data contradict the graph."]
        else:
            lines = [
                f"Not contradicted by {len(self.implied)} implied "
                f"independence{'s' if len(self.implied) > 1 else ''} ({on}). That is no proof."
            ]
        for one in self.contradictions:
            alike = f" among patients alike in {in_words(one.given)}" if one.given else ""
            lines.append(
                f"It says that {one.a} and {one.b} are unrelated{alike}, and they are not "
                f"(p {_said(one.adjusted)}; {on}): draw what links them."
            )
        if self.better_than_random is not None:
            share = f"{100 * self.better_than_random:.0f} %"
            lines.append(
                f"Of graphs with the same arrows and the names dealt by chance, {share} violate no "
                f"more conditions than this one ({TEST}, {rows})"
                + (
                    ": it fits the data better than chance."
                    if self.better_than_random <= self.level
                    else ": its fit cannot be told from chance."
                )
            )
        elif self.why_not:
            lines.append(f"Not compared with graphs by chance: {self.why_not}.")
        return "\n".join(lines)


def falsify(
    graph: CausalGraph,
    table: pd.DataFrame,
    *,
    patient: str | None = None,
    rows: int = 300,
    permutations: int = 20,
    level: float = 0.05,
    seed: int = 0,
) -> Falsification:
    """Test what a graph implies among the recorded columns of a table.

    Parameters
    ----------
    graph : CausalGraph
    table : DataFrame
    patient : str, optional
        Column of patients, of whom one row each is taken.
    rows : int
        Subsample; 300 take a fraction of a second a test, 1,000 some ten.
    permutations : int
        Graphs by chance to compare with; 0 leaves that out, at least 1 / level to tell.
    level : float
    seed : int

    Raises
    ------
    CohortError
        Fewer than two nodes are recorded, or too few patients with all of them.
    SettingsError
        A setting is out of range.
    """
    if not 0 < level < 1 or rows < FEWEST or permutations < 0:
        raise SettingsError(
            f"level={level!r}, rows={rows!r}, permutations={permutations!r}: expected a level "
            f"between 0 and 1, {FEWEST} rows or more, and no negative number of permutations."
        )
    known = _recorded(graph, table)
    frame = table if patient is None else table.drop_duplicates(patient)
    frame = frame[list(known)].dropna()
    if len(frame) < FEWEST:
        raise CohortError(
            f"{len(frame)} patients have {in_words(known)} all recorded: {FEWEST} at least are "
            "needed to test a graph. Leave columns out of the graph, or collect more."
        )
    total = len(frame)
    if total > rows:
        frame = frame.sample(rows, random_state=seed)
    data = {name: _values(frame[name]) for name in known}
    with _seeded(seed):
        found = [(a, b, given, _p(data, a, b, given)) for a, b, given in _implied(graph, known)]
        adjusted = holm(np.array([p for *_, p in found], dtype=float))
        why_not = _why_not(graph, known) if permutations else ""
        share = None if why_not or not permutations else _share(graph, data, permutations, level)
    implied = [Implied(*one, float(q)) for one, q in zip(found, adjusted, strict=True)]
    return Falsification(
        implied=tuple(sorted(implied, key=lambda one: (one.p, one.a, one.b))),
        level=level,
        rows=len(frame),
        patients=total,
        columns=known,
        better_than_random=share,
        why_not=why_not,
    )


def _recorded(graph: CausalGraph, table: pd.DataFrame) -> tuple[str, ...]:
    """Return the nodes that are columns with more than one value."""
    nodes = [n for n in graph.nodes if n != IMAGE and n not in graph.selected]
    known = tuple(n for n in nodes if n in table.columns and table[n].nunique() > 1)
    if len(known) < 2:
        raise CohortError(
            f"of the graph's nodes ({listing(nodes)}) the table records {len(known)} with more "
            f"than one value: a test needs two. Columns: {listing(table.columns)}."
        )
    return known


def _implied(
    graph: CausalGraph, known: tuple[str, ...]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield each pair that a set of recorded columns separates, with the smallest such set."""
    for a, b in combinations(known, 2):
        others = [n for n in known if n not in (a, b)]
        sets = minimal_separators(graph, [a], b, others, graph.selected)
        if sets:
            smallest = min(sorted(map(sorted, sets)), key=len)
            yield a, b, tuple(smallest)


def _said(p: float) -> str:
    return f"= {p:.2g}" if p > 1e-12 else "< 1e-12"


def _values(column: pd.Series[Any]) -> npt.NDArray[Any]:
    """Return a column as the kernel test takes it: categories as text, numbers standardised."""
    if is_categorical(column):
        return column.astype(str).to_numpy(dtype=object)[:, None]
    values = numbers(column)
    scaled: npt.NDArray[Any] = (values - values.mean()) / (values.std() or 1.0)
    return scaled[:, None]


def _p(data: dict[str, npt.NDArray[Any]], a: str, b: str, given: tuple[str, ...]) -> float:
    from dowhy.gcm.independence_test import kernel_based

    held = np.hstack([data[name].astype(object) for name in given]) if given else None
    if held is not None and all(data[name].dtype != object for name in given):
        held = held.astype(float)
    return float(kernel_based(data[a], data[b], held, bootstrap_n_jobs=1))


def _why_not(graph: CausalGraph, known: tuple[str, ...]) -> str:
    """Return why the recorded part of the graph is no directed graph of its own, or ""."""
    hidden = sorted({*graph.nodes} - {*known, IMAGE, *graph.selected})
    if hidden:
        return f"{in_words(hidden)} {'are' if hidden[1:] else 'is'} not recorded"
    if graph.bidirected:
        a, b = graph.bidirected[0]
        return f"{a} and {b} share a cause that nobody recorded"
    if graph.selected:
        return f"the cohort was selected on {in_words(graph.selected)}"
    if any(a == IMAGE for a, _ in graph.edges):
        return "a column is read from the image, which is none"
    return "" if len(known) > 2 else "two columns are too few for it"


def _share(
    graph: CausalGraph, data: dict[str, npt.NDArray[Any]], permutations: int, level: float
) -> float:
    from dowhy import gcm

    digraph = nx.DiGraph([(a, b) for a, b in graph.edges if IMAGE not in (a, b)])
    digraph.add_nodes_from(data)
    frame = pd.DataFrame({name: values[:, 0] for name, values in data.items()})
    found = gcm.falsify.falsify_graph(
        digraph, frame, n_permutations=permutations, significance_level=level,
        significance_ci=level, n_jobs=1, show_progress_bar=False,
    )  # fmt: skip
    summary = found.summary[gcm.falsify.FalsifyConst.VALIDATE_LMC]
    return float(summary[gcm.falsify.FalsifyConst.P_VALUE])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed numpy's and Python's global generators, which dowhy draws from, and put them back."""
    import random

    kept, kept_too = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other packages' own deprecations
            yield
    finally:
        np.random.set_state(kept)  # noqa: NPY002
        random.setstate(kept_too)
