"""From a causal graph to the independence a clean embedding must satisfy.

Delete the arrows workflow -> image.  Whatever independence d-separation then promises between a
confounder and the image is what an embedding without the trace must show.  It is a necessary
condition, never a sufficient one: matching distributions does not prove that the embedding would
stay the same had the confounder been different.

Veitch et al., "Counterfactual invariance to spurious correlations", NeurIPS 2021,
https://arxiv.org/abs/2106.00545; Makar et al., AISTATS 2022, https://arxiv.org/abs/2105.06422;
Kaur, Kiciman & Sharma, ICLR 2023, https://arxiv.org/abs/2206.07837.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal

import networkx as nx

from deconf.causal.graph import IMAGE, CausalGraph, as_names
from deconf.causal.question import Question, Rank, Set
from deconf.causal.reasons import assumptions, hidden_nodes, remedies, why_closed, why_open
from deconf.errors import CohortError, GraphError, listing

Status = Literal["identified", "identified if", "not identified"]


@dataclass(frozen=True)
class Invariance:
    """The statement ``z ⊥ confounders | given``, and why the graph makes it.

    Attributes
    ----------
    confounders, given, outcome : tuple of str
        Column names.  Selected nodes are always held and are not listed in ``given``.
    status : {"identified", "identified if", "not identified"}
        The graph's answer; ``is_identified`` is the first two.
    is_needed : bool
        False when no directed path leads from the confounders to the image: nothing to remove.
    valid_sets : tuple of tuple of str
        The chosen set, then every other minimal set that would do.
    parts : tuple of Invariance
        One per confounder, when no set serves them all; ``given`` is then empty.
    mediators : tuple of str
        Unmarked nodes on directed paths from a confounder to the image, other than outcomes.
    assumptions, remedies : tuple of str
        What the answer rests on; what would close an open path.
    why : str
        The paths, closed or open.
    """

    confounders: Set
    given: Set = ()
    is_identified: bool = True
    status: Status = "identified"
    is_needed: bool = True
    outcome: Set = ()
    valid_sets: tuple[Set, ...] = ()
    parts: tuple[Invariance, ...] = ()
    mediators: Set = ()
    assumptions: tuple[str, ...] = ()
    why: str = ""
    remedies: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.parts:
            return "; ".join(str(part) for part in self.parts)
        names = ", ".join(self.confounders)
        if not self.is_needed:
            return f"nothing to remove for {names}"
        if not self.is_identified:
            return f"z ⊥ {names} | ? (not identified)"
        return f"z ⊥ {names}" + (f" | {', '.join(self.given)}" if self.given else "")


def derive(
    graph: CausalGraph,
    confounders: str | Sequence[str],
    outcome: str | Sequence[str] = (),
    measured: Iterable[str] | None = None,
    *,
    rank: Rank | None = None,
) -> Invariance:
    """Return the independence the graph demands of an embedding without the confounders' trace.

    Parameters
    ----------
    graph : CausalGraph
        Must hold the node ``image``.
    confounders, outcome : str or sequence of str
        Nodes of the graph.
    measured : iterable of str, optional
        Columns at hand; default every node.  Only these can be conditioned on.
    rank : callable (confounders, set) -> sortable, optional
        Orders the valid sets, best first; default the smaller, then the one with the outcomes,
        then by name.  A plan ranks by overlap.  The empty set, where valid, is the only minimal
        one; with several outcomes a set that holds them all comes before any other.

    Raises
    ------
    GraphError
        If a name is not in the graph, or a confounder is the image, an outcome or selected on.
    CohortError
        If a confounder is not measured.

    Examples
    --------
    >>> text = "severity -> pneumonia -> image; severity -> portable -> image; severity -> image"
    >>> graph = CausalGraph.parse(text)
    >>> print(derive(graph, "portable", "pneumonia"))
    z ⊥ portable | severity
    >>> derive(graph, "portable", "pneumonia", measured=["portable", "pneumonia"]).status
    'not identified'
    """
    confounders, outcome = as_names(confounders), as_names(outcome)
    question = Question(
        graph=graph,
        cut=_checked(graph, confounders, outcome).without_trace(confounders),
        confounders=confounders,
        outcome=outcome,
        measured=_measured(graph, confounders, measured),
        rank=rank or (lambda _, names: (len(names), -len({*names} & {*outcome}), names)),
    )
    digraph = nx.DiGraph(graph.edges)
    digraph.add_nodes_from(graph.nodes)
    needed = tuple(c for c in confounders if nx.has_path(digraph, c, IMAGE))
    idle = [_nothing(question, c) for c in confounders if c not in needed]
    if not needed:
        return idle[0] if len(idle) == 1 else replace(_joined(question, idle), parts=())
    answer = _answer(question, needed)
    return _joined(question, [*(answer.parts or (answer,)), *idle]) if idle else answer


def _checked(graph: CausalGraph, confounders: Set, outcome: Set) -> CausalGraph:
    if IMAGE not in graph.nodes:
        raise GraphError(
            f"the graph has no node {IMAGE!r}, which stands for the pixels: add what leaves its "
            f"trace there, such as {(*confounders, 'scanner')[0]} -> {IMAGE}."
        )
    if not confounders:
        raise GraphError("no confounder was named: say which node's trace is to be removed.")
    graph.require((*confounders, *outcome))
    for name in confounders:
        if name == IMAGE or name in outcome:
            role = "the image itself" if name == IMAGE else "the outcome as well"
            raise GraphError(f"the confounder {name!r} is {role}: erasing it would erase both.")
        if name in graph.selected:
            raise GraphError(
                f"the confounder {name!r} is selected on, so every row has one and the same value. "
                f"Take the brackets off, or select through a node of its own: {name} -> [included]."
            )
    if IMAGE in outcome:
        raise GraphError(f"the outcome cannot be {IMAGE!r}: name the column to be predicted.")
    return graph


def _measured(
    graph: CausalGraph, confounders: Set, measured: Iterable[str] | None
) -> frozenset[str]:
    known = frozenset(graph.nodes if measured is None else as_names(measured))
    for name in confounders:
        if name not in known:
            raise CohortError(
                f"the confounder {name!r} is in the graph but not among the measured columns "
                f"({listing(sorted(known))}). Only what is recorded can be removed: add the "
                "column, or name one that stands in for it."
            )
    return known & set(graph.nodes) - {IMAGE, *confounders, *graph.selected}


def _nothing(question: Question, confounder: str) -> Invariance:
    return Invariance(
        confounders=(confounder,),
        outcome=question.outcome,
        is_needed=False,
        why=f"nothing to remove: no directed path leads from {confounder} to the image.",
    )


def _answer(question: Question, confounders: Set) -> Invariance:
    """Jointly, else one by one, else by proxies, else say what is open."""
    if joint := _by_measured(question, confounders):
        return joint
    if len(confounders) > 1:
        alone = [_by_measured(question, (c,)) for c in confounders]
        if all(alone):
            return _joined(question, [part for part in alone if part])
    if joint := _by_proxy(question, confounders):
        return joint
    if len(confounders) == 1:
        return _refused(question, confounders[0])
    return _joined(question, [_answer(question, (c,)) for c in confounders])


def _joined(question: Question, parts: Sequence[Invariance]) -> Invariance:
    statuses: list[Status] = ["not identified", "identified if", "identified"]
    status = min((part.status for part in parts), key=statuses.index)
    return Invariance(
        confounders=tuple(c for part in parts for c in part.confounders),
        is_identified=status != "not identified",
        status=status,
        is_needed=any(part.is_needed for part in parts),
        outcome=question.outcome,
        parts=tuple(parts),
        mediators=as_names(m for part in parts for m in part.mediators),
        assumptions=as_names(a for part in parts for a in part.assumptions),
        why=" ".join(part.why for part in parts),
        remedies=as_names(r for part in parts for r in part.remedies),
    )


def _by_measured(question: Question, confounders: Set) -> Invariance | None:
    sets = question.separators(confounders, question.measured)
    if not sets:
        return None
    ranked = sorted(map(question.ordered, sets), key=lambda s: question.rank(confounders, s))
    if len(question.outcome) > 1:
        ranked = _all_outcomes_first(question, confounders, ranked)
    return _stated(question, confounders, ranked)


def _all_outcomes_first(question: Question, confounders: Set, ranked: list[Set]) -> list[Set]:
    """Put a set with every outcome first: given Y1 alone, what severity does to Y2 is erased."""
    outcomes = set(question.outcome) & question.measured
    for names in ranked:
        together = question.ordered({*names, *outcomes})
        if outcomes & set(names) and question.separates(confounders, together):
            return [together, *(s for s in ranked if s != together)]
    return ranked


@dataclass(frozen=True)
class _Proxied:
    """A valid set in which proxies stand for unmeasured nodes."""

    given: Set
    stands_for: Mapping[str, str] = field(default_factory=dict)  # unmeasured -> its proxy


def _by_proxy(question: Question, confounders: Set) -> Invariance | None:
    """Find sets that need unmeasured nodes, each with a measured pure proxy."""
    proxies = _pure_proxies(question)
    sets = question.separators(confounders, question.measured | set(proxies))
    answers = []
    for names in sets:
        hidden = sorted(names - question.measured)
        for choice in product(*(proxies[u] for u in hidden)):
            given = question.ordered((names & question.measured) | set(choice))
            answers.append(_Proxied(given, dict(zip(hidden, choice, strict=True))))
    if not answers:
        return None
    answers.sort(key=lambda a: (len(a.stands_for), question.rank(confounders, a.given)))
    valid = list(dict.fromkeys(a.given for a in answers))
    return _stated(question, confounders, valid, answers[0].stands_for)


def _pure_proxies(question: Question) -> dict[str, list[str]]:
    """Measured nodes that say nothing but a noisy reading of one unmeasured node."""
    graph, hidden = question.graph, hidden_nodes(question)
    proxies: dict[str, list[str]] = {}
    for name in question.ordered(question.measured):
        parents = [a for a, b in graph.edges if b == name]
        is_leaf = not any(a == name for a, _ in graph.edges)
        shares = any(name in pair for pair in graph.bidirected)
        if len(parents) == 1 and parents[0] in hidden and is_leaf and not shares:
            proxies.setdefault(parents[0], []).append(name)
    return proxies


def _stated(
    question: Question,
    confounders: Set,
    valid: Sequence[Set],
    stands_for: Mapping[str, str] | None = None,
) -> Invariance:
    stands_for = stands_for or {}
    given = valid[0]
    held = {*given, *stands_for} - set(stands_for.values())
    between = question.mediators(confounders)
    return Invariance(
        confounders=confounders,
        given=given,
        status="identified if" if stands_for else "identified",
        outcome=question.outcome,
        valid_sets=tuple(valid),
        mediators=between,
        assumptions=assumptions(question, confounders, given, stands_for, between),
        why=why_closed(question, confounders, held, stands_for),
    )


def _refused(question: Question, confounder: str) -> Invariance:
    return Invariance(
        confounders=(confounder,),
        is_identified=False,
        status="not identified",
        outcome=question.outcome,
        mediators=question.mediators((confounder,)),
        why=why_open(question, confounder),
        remedies=remedies(question, confounder),
    )
