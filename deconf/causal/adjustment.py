"""What to hold fixed, so that a difference between levels of a cause is its effect.

*Total effect*: every path that is not causal is closed, every causal one left open (the complete
adjustment criterion of Perković, Textor, Kalisch & Maathuis, "Complete graphical characterization
and construction of adjustment sets", JMLR 2018, which contains the back-door criterion of Pearl).
*Direct effect*: the mediators named are held as well.  *Front door* (Pearl 1995): where no set
closes the back doors, what carries the whole effect may still show it.

The image and whatever is read from it are never held.  A score is a node below the image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import networkx as nx

from deconf.causal.graph import IMAGE, CausalGraph
from deconf.causal.narrative import in_words
from deconf.causal.separators import minimal_separators, open_paths, written
from deconf.errors import GraphError, NotIdentified

Kind = Literal["back door", "front door", "direct", "yours"]
Names = tuple[str, ...]
SHOWN = 3
"""Paths written out in full."""
FRONT = 3
"""Largest front-door set that is looked for."""


@dataclass(frozen=True)
class Adjustment:
    """What is held, why that suffices, and what it takes for granted.

    Attributes
    ----------
    kind : {"back door", "front door", "direct", "yours"}
        ``yours``: the set was given, not derived.
    given : tuple of str
        Held; for the front door the mediators that carry the effect.
    valid_sets : tuple of tuple of str
        The chosen one first, then every other minimal set that would do.
    not_through : tuple of str
        Mediators that are held because a direct effect was asked for; among ``given`` too.
    is_null : bool
        The graph has no directed path from cause to effect: it says that there is no effect.
    labels_from_image : tuple of str
        Held columns that the graph says are read from the image.
    leaves_open : str
        What the graph says is wrong with a set of your own; empty where it agrees.
    assumptions : tuple of str
    why, formula : str
    """

    cause: str
    effect: str
    kind: Kind
    given: Names
    valid_sets: tuple[Names, ...]
    not_through: Names = ()
    is_null: bool = False
    labels_from_image: Names = ()
    leaves_open: str = ""
    assumptions: tuple[str, ...] = ()
    why: str = ""

    @property
    def formula(self) -> str:
        """The estimand: what is averaged over what."""
        c, y, s = self.cause, self.effect, ", ".join(self.given)
        if self.kind == "front door":
            return (
                f"Σ_m P({s}=m | {c}=a) Σ_a' P({c}=a') E[{y} | {s}=m, {c}=a'], at a = 1 less a = 0"
            )
        if not self.given:
            return f"E[{y} | {c}=1] − E[{y} | {c}=0]"
        return f"Σ_s P(s) (E[{y} | {c}=1, s] − E[{y} | {c}=0, s]) with s = ({s})"


def adjustment(
    graph: CausalGraph,
    cause: str,
    effect: str,
    *,
    measured: Iterable[str],
    not_through: Names = (),
) -> Adjustment:
    """Return what to hold so that the effect of one node on another can be read off.

    Parameters
    ----------
    measured : iterable of str
        Columns at hand.
    not_through : tuple of str
        Mediators whose path is to be left out: a controlled direct effect, averaged over them.

    Raises
    ------
    GraphError
        Unknown node, or a mediator that is none.
    NotIdentified
        No measured set suffices: open paths, and what would close them.

    Examples
    --------
    >>> graph = CausalGraph.parse("severity -> ill; severity -> portable -> image -> score; "
    ...                           "ill -> image; severity -> image")
    >>> adjustment(graph, "portable", "score", measured=["severity", "ill"]).given
    ('severity',)
    """
    graph.require((cause, effect, *not_through))
    _check(graph, cause, effect, not_through)
    known = set(measured) & set(graph.nodes)
    problem = _Problem.of(graph, cause, effect, not_through)
    if unmeasured := sorted(set(not_through) - known):
        raise NotIdentified(
            f"the effect of {cause!r} on {effect!r} not through {in_words(not_through)} needs "
            f"{in_words(unmeasured)} held, and no column records it. Record it, or ask for the "
            "total effect."
        )
    sets = problem.sets(known)
    if sets:
        return problem.stated(sets, graph)
    if not not_through and (front := _front_doors(graph, cause, effect, known)):
        return Adjustment(
            cause,
            effect,
            "front door",
            front[0],
            tuple(front),
            assumptions=(
                f"{in_words(front[0])} carries the whole effect of {cause} and shares no "
                "unmeasured cause with it (front door)",
            ),
            why=f"no measured set closes the back doors; {in_words(front[0])} carries the effect.",
        )
    raise NotIdentified(problem.refusal(known))


def own_adjustment(
    graph: CausalGraph | None, cause: str, effect: str, given: Names, not_through: Names = ()
) -> Adjustment:
    """Return the user's own set, with what the graph (if any) thinks of it among the words.

    Raises
    ------
    GraphError
        A held column is the cause or the effect, or descends from the effect.
    """
    if cause == effect:
        raise GraphError(f"cause and effect are both {cause!r}: name two different nodes.")
    given = tuple(dict.fromkeys((*given, *not_through)))
    for name in given:
        if name in (cause, effect):
            raise GraphError(
                f"{name!r} is the {'cause' if name == cause else 'effect'} that is asked about and "
                "cannot be held: take it out of given=."
            )
    words = in_words(given) if given else "nothing"
    said = (f"holding {words} is your assumption (given=), not derived from a graph",)
    if graph is None:
        return Adjustment(cause, effect, "yours", given, (given,), not_through, assumptions=said)
    graph.require((cause, effect))
    digraph = graph.to_networkx()
    below = nx.descendants(digraph, effect)
    for name in given:
        if name in below:
            path = " -> ".join(nx.shortest_path(digraph, effect, name))
            raise GraphError(
                f"{name!r} descends from the outcome ({path}): holding it would take part of the "
                "effect away and may make one up. Take it out of given=, or turn the arrow round."
            )
    problem = _Problem.of(graph, cause, effect, not_through)
    held = {*given, *graph.selected} & set(graph.nodes)
    still = open_paths(problem.cut, cause, effect, held)
    on_path = sorted(held & problem.forbidden)
    wrong = f"the graph leaves {written(problem.cut, still[0])} open" if still else ""
    if on_path and not still:
        wrong = f"{in_words(on_path)} lies on or below a causal path"
    why = f"{words} held because you said so" + (f", but {wrong}." if wrong else "; it agrees.")
    from_image = nx.descendants(digraph, IMAGE) if IMAGE in digraph else set()
    return Adjustment(
        cause,
        effect,
        "yours",
        given,
        (given,),
        not_through,
        is_null=problem.is_null,
        labels_from_image=tuple(n for n in given if n in from_image),
        leaves_open=wrong,
        assumptions=said,
        why=why,
    )


def patients_would_do(
    graph: CausalGraph, cause: str, effect: str, measured: Collection[str]
) -> bool:
    """Whether films of the same patient close what no recorded set does.

    They do where all that stays open is a cause that nobody recorded and that does not follow from
    ``cause``: taken for something that does not change within a patient.  They do not where the
    effect acts on the cause, or where the cohort was selected on what both act on.

    Examples
    --------
    >>> hidden = CausalGraph.parse("frailty -> portable; frailty -> ill")
    >>> patients_would_do(hidden, "portable", "ill", ["portable", "ill"])
    True
    >>> reverse = CausalGraph.parse("ill -> portable")
    >>> patients_would_do(reverse, "portable", "ill", ["portable", "ill"])
    False
    """
    return _Problem.of(graph, cause, effect, ()).closes_within(measured)


@dataclass(frozen=True)
class _Problem:
    """A cause, an effect, and the graph in which they must be separated."""

    cause: str
    effect: str
    not_through: Names
    cut: CausalGraph  # without the first arrows of the causal paths in question
    forbidden: frozenset[str]  # on those paths, below them, or read from the image
    is_null: bool

    @classmethod
    def of(cls, graph: CausalGraph, cause: str, effect: str, not_through: Names) -> _Problem:
        digraph = graph.to_networkx()
        left = digraph.copy()
        left.remove_nodes_from(not_through)
        on_paths = (nx.descendants(left, cause) & nx.ancestors(left, effect)) | {effect}
        is_null = effect not in nx.descendants(left, cause)
        first = {(cause, v) for v in on_paths}
        below = set(on_paths).union(*(nx.descendants(digraph, v) for v in on_paths))
        if IMAGE in digraph:  # never hold the pixels, nor what was read from them
            below |= {IMAGE, *nx.descendants(digraph, IMAGE)}
        cut = replace(graph, edges=tuple(e for e in graph.edges if e not in first))
        return cls(cause, effect, not_through, cut, frozenset(below), is_null)

    def sets(self, measured: Collection[str]) -> list[Names]:
        """Return the sets to hold, mediators included, smallest first."""
        always = {*self.not_through, *self.cut.selected}
        if always & self.forbidden:
            return []
        usable = set(measured) - self.forbidden - {self.cause, *always}
        found = minimal_separators(self.cut, (self.cause,), self.effect, usable, always)
        return sorted(((*self.not_through, *sorted(s)) for s in found), key=lambda s: (len(s), s))

    def closes_within(self, measured: Collection[str]) -> bool:
        """Whether holding what is unrecorded and does not follow from the cause would do."""
        below = nx.descendants(self.cut.to_networkx(), self.cause)
        steady = set(self.cut.nodes) - below - {IMAGE}
        alike = replace(self, cut=replace(self.cut, bidirected=()))
        return bool(alike.sets(steady | set(measured)))

    def stated(self, sets: list[Names], graph: CausalGraph) -> Adjustment:
        between = nx.descendants(graph.to_networkx(), self.cause) & nx.ancestors(
            graph.to_networkx(), self.effect
        )
        open_between = tuple(sorted(set(between) & set(graph.nodes) - {IMAGE, *self.not_through}))
        said = []
        if open_between:
            said.append(
                f"what passes through {in_words(open_between)} counts as part of the effect "
                "(not_through= leaves it out)"
            )
        if self.not_through:
            said.append(
                f"no unmeasured cause is shared by {in_words(self.not_through)} and {self.effect}"
            )
        paths = open_paths(self.cut, self.cause, self.effect, {*self.not_through, *graph.selected})
        why = (
            "; ".join(written(self.cut, p) for p in paths[:SHOWN])
            + f" closed by holding {in_words([n for n in sets[0] if n not in self.not_through])}."
            if paths
            else f"no path other than the effect itself is open between {self.cause} and "
            f"{self.effect}."
        )
        if self.is_null:
            said.append(f"the graph draws no effect of {self.cause} on {self.effect}")
        return Adjustment(
            self.cause,
            self.effect,
            "direct" if self.not_through else "back door",
            sets[0],
            tuple(sets),
            self.not_through,
            self.is_null,
            assumptions=tuple(said),
            why=why,
        )

    def refusal(self, measured: set[str]) -> str:
        """Say which paths are open, and the columns and designs that would settle it."""
        held_ones = {*self.not_through, *self.cut.selected}
        about = f"the effect of {self.cause!r} on {self.effect!r} cannot be told from these data: "
        if bad := sorted(held_ones & self.forbidden):
            return (
                about + f"{in_words(bad)} is held throughout (selected on, or named in "
                "not_through) and lies on or below the causal path. Bring back what the selection "
                "left out, or name other mediators."
            )
        digraph = self.cut.to_networkx()
        above: set[str] = set().union(
            *(nx.ancestors(digraph, n) for n in (self.cause, self.effect, *held_ones))
        )
        best = (above & measured) - self.forbidden - {self.cause}
        paths = open_paths(self.cut, self.cause, self.effect, best | held_ones)
        shown = [written(self.cut, p) for p in paths[:SHOWN]] or [f"{self.cause} ... {self.effect}"]
        hidden = set(self.cut.nodes) - measured - {IMAGE, self.cause, self.effect}
        missing = sorted({n for p in paths for n in p} & hidden)
        text = about + (
            f"the paths {in_words(shown)} are open" if shown[1:] else f"the path {shown[0]} is open"
        )
        if missing:
            text += f" and {in_words(missing)} {'are' if missing[1:] else 'is'} not in the table"
        return text + ". What would settle it: " + "; ".join(self._remedies(measured, hidden)) + "."

    def _remedies(self, measured: set[str], hidden: set[str]) -> list[str]:
        told: dict[str, None] = {}
        for names in self.sets(measured | hidden):
            if extra := [n for n in names if n in hidden]:
                told[f"record {in_words(extra)}, then hold {in_words(names)}"] = None
        if self.closes_within(measured):
            told[f"the same patient at two levels of {self.cause} (within='patient')"] = None
        if IMAGE in self.cut.nodes:
            told[f"an edit of the image that changes only the trace of {self.cause}"] = None
        told[f"a date on which {self.cause} changed for all patients alike"] = None
        return list(told)


def _check(graph: CausalGraph, cause: str, effect: str, not_through: Names) -> None:
    if cause == effect:
        raise GraphError(f"cause and effect are both {cause!r}: name two different nodes.")
    if IMAGE in (cause, effect, *not_through):
        raise GraphError(
            f"{IMAGE!r} stands for the pixels and has no column: name a score, a column or a "
            "direction of the embedding."
        )
    if cause in graph.selected or effect in graph.selected:
        raise GraphError(
            f"{cause if cause in graph.selected else effect!r} is selected on, so it never varies: "
            "select through a node of its own, as cause -> [included]."
        )
    digraph = graph.to_networkx()
    for name in not_through:
        if name not in nx.descendants(digraph, cause) or name not in nx.ancestors(digraph, effect):
            raise GraphError(
                f"{name!r} is no mediator: no directed path {cause} -> {name} -> {effect}. Take it "
                "out of not_through=; what confounds is found by itself."
            )


def _front_doors(
    graph: CausalGraph, cause: str, effect: str, measured: Collection[str]
) -> list[Names]:
    """Return sets that carry the whole effect and are confounded with neither end (Pearl 1995)."""
    digraph = graph.to_networkx()
    between = nx.descendants(digraph, cause) & nx.ancestors(digraph, effect)
    usable = sorted(set(between) & set(measured) - {IMAGE})
    from_cause = replace(graph, edges=tuple(e for e in graph.edges if e[0] != cause))
    found: list[Names] = []
    for size in range(1, min(FRONT, len(usable)) + 1):
        for names in combinations(usable, size):
            if any(set(smaller) <= set(names) for smaller in found):
                continue
            around = digraph.copy()
            around.remove_nodes_from(names)
            carries_all = effect not in nx.descendants(around, cause)
            from_names = replace(graph, edges=tuple(e for e in graph.edges if e[0] not in names))
            if (
                carries_all
                and from_cause.d_separated(cause, names, graph.selected)
                and from_names.d_separated(names, effect, {cause, *graph.selected})
            ):
                found.append(names)
    return found
