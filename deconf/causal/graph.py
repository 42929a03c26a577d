"""Causal graphs over the columns of a table, with one node for the pixels.

Directed arrows are causes; ``a <-> b`` is an unmeasured common cause; ``[x]`` was selected on
(every row of the table has it); ``x!`` is workflow: it touches the pixels, never the patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import networkx as nx

from deconf.causal import notation
from deconf.causal.presets import PRESETS
from deconf.errors import GraphError, did_you_mean, listing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from deconf.causal.falsification import Falsification
    from deconf.causal.invariance import Invariance

IMAGE = "image"
"""The node that stands for the pixels."""

Names = str | Iterable[str]


@dataclass(frozen=True)
class CausalGraph:
    """An acyclic directed mixed graph whose nodes are column names and ``image``.

    Parameters
    ----------
    nodes : tuple of str
        Node names; names that appear in an edge are added.
    edges : tuple of (cause, effect)
        Directed arrows.
    bidirected : tuple of (a, b)
        Pairs with an unmeasured common cause.
    selected : tuple of str
        Nodes the cohort was selected on: always conditioned on.
    workflow : tuple of str
        Nodes whose arrow into the image is workflow, whatever the confounder in question.

    Raises
    ------
    GraphError
        If the graph is empty, has a cycle, a self-loop, or an unknown selected or workflow node.

    Examples
    --------
    >>> graph = CausalGraph.parse("severity -> pneumonia -> image; severity -> portable -> image")
    >>> print(graph.invariance("portable", "pneumonia"))
    z ⊥ portable | pneumonia
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str], ...] = ()
    bidirected: tuple[tuple[str, str], ...] = ()
    selected: tuple[str, ...] = ()
    workflow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Sorted, so that two graphs that say the same are equal whatever the order of writing.
        pairs = [*self.edges, *self.bidirected]
        nodes = {*self.nodes, *(name for pair in pairs for name in pair)}
        canonical: dict[str, Iterable[Any]] = {
            "nodes": nodes,
            "edges": set(self.edges),
            "bidirected": {(min(pair), max(pair)) for pair in self.bidirected},
            "selected": set(self.selected),
            "workflow": set(self.workflow),
        }
        for name, value in canonical.items():
            object.__setattr__(self, name, tuple(sorted(value)))
        self._check()

    def _check(self) -> None:
        if not self.nodes:
            raise GraphError(f"the graph is empty: it needs an arrow. {notation.GRAMMAR}")
        for a, b in (*self.edges, *self.bidirected):
            if a == b:
                raise GraphError(f"{a!r} has an arrow to itself: a node cannot be its own cause.")
        for node in self.nodes:
            if not node or set(node) & set('"\n'):
                raise GraphError(f"{node!r} cannot name a node: it is empty or has a quote in it.")
        self.require(self.selected)
        for name in self.workflow:
            if name not in self.nodes:
                raise GraphError(
                    f"workflow node {name!r} is not in the graph.{did_you_mean(name, self.nodes)} "
                    f"Nodes: {listing(self.nodes)}."
                )
        if IMAGE in (*self.selected, *self.workflow):
            raise GraphError(
                f"{IMAGE!r} stands for the pixels: it can be neither selected on nor workflow. "
                f"For selection on what an image shows write {IMAGE} -> [included]."
            )
        directed = nx.DiGraph(self.edges)
        if not nx.is_directed_acyclic_graph(directed):
            cycle = [a for a, _ in nx.find_cycle(directed)]
            path = " -> ".join([*cycle, cycle[0]])
            raise GraphError(
                f"the graph has a cycle, {path}: causes must come before effects. Turn one arrow "
                "round, split a node by time (severity_before), or write a <-> b."
            )

    @classmethod
    def parse(cls, text: str, *, workflow: Names = ()) -> CausalGraph:
        """Read a graph from text.

        Statements are separated by ``;`` or new lines: ``a -> b``, ``a <- b``, chains
        ``a -> b -> c``, ``a <-> b``, ``[x]``, ``x!``; ``#`` begins a comment.  Brackets and ``!``
        may also stand inside an edge.

        Parameters
        ----------
        text : str
            The statements.
        workflow : str or sequence of str
            Names to mark as workflow besides those written with ``!``.

        Raises
        ------
        GraphError
            If a statement cannot be read (it is quoted, with its place), or the graph is not one.

        Examples
        --------
        >>> print(CausalGraph.parse("portable -> exposure! -> image; site -> [included] <- sick"))
        exposure! -> image; portable -> exposure; sick -> [included]; site -> included
        """
        if not isinstance(text, str):
            raise GraphError(f"a graph is read from text, not {type(text).__name__}.")
        said = notation.read(text)
        return cls(
            nodes=tuple(said.nodes),
            edges=tuple(said.edges),
            bidirected=tuple(said.bidirected),
            selected=tuple(said.selected),
            workflow=(*said.workflow, *as_names(workflow)),
        )

    @classmethod
    def preset(cls, name: str) -> CausalGraph:
        """Return a graph of a common situation: see ``deconf.causal.presets``.

        Raises
        ------
        GraphError
            If no preset has this name.

        Examples
        --------
        >>> print(CausalGraph.preset("slide_scanner").invariance("scanner", "tumour"))
        z ⊥ scanner | tumour
        """
        if name not in PRESETS:
            raise GraphError(
                f"no preset graph is called {name!r}.{did_you_mean(name, PRESETS)} "
                f"Known: {listing(PRESETS)}."
            )
        return cls.parse(PRESETS[name])

    @classmethod
    def ask(
        cls,
        columns: Iterable[str] | None = None,
        *,
        answers: Mapping[str, Any] | None = None,
        read: Callable[[str], str] = input,
        show: Callable[[str], object] = print,
    ) -> CausalGraph:
        """Return the graph that the answers to six plain questions draw: see ``interview.ask``."""
        from deconf.causal.interview import ask

        known = None if columns is None else tuple(map(str, columns))
        return ask(known, answers=answers, read=read, show=show)

    @classmethod
    def from_networkx(cls, digraph: Any) -> CausalGraph:
        """Read a ``networkx.DiGraph``.

        Node attributes ``selected`` and ``workflow`` are booleans.  An unmeasured common cause is
        a parentless node with ``latent=True`` or an edge with ``bidirected=True``.

        Raises
        ------
        GraphError
            If the graph is undirected, or a latent node has parents.
        """
        if not digraph.is_directed():
            raise GraphError("the networkx graph is undirected: a causal graph needs a DiGraph.")
        latent = {n for n, about in digraph.nodes(data=True) if about.get("latent")}
        for node in latent:
            if parents := list(digraph.predecessors(node)):
                raise GraphError(
                    f"latent node {node!r} has a parent, {parents[0]!r}. Drop latent=True and "
                    "leave its column out of the table: no column means unmeasured."
                )
        edges, bidirected = [], []
        for a, b, about in digraph.edges(data=True):
            if about.get("bidirected"):
                bidirected.append((str(a), str(b)))
            elif a not in latent:
                edges.append((str(a), str(b)))
        for node in latent:
            # A latent with several children separates like the pairs of them: the projection of
            # Verma & Pearl 1990 keeps every d-separation among the nodes that are left.
            children = sorted(str(child) for child in digraph.successors(node))
            bidirected += [(a, b) for i, a in enumerate(children) for b in children[i + 1 :]]
        named = {n: about for n, about in digraph.nodes(data=True) if n not in latent}
        return cls(
            nodes=tuple(str(n) for n in named),
            edges=tuple(edges),
            bidirected=tuple(bidirected),
            selected=tuple(str(n) for n, about in named.items() if about.get("selected")),
            workflow=tuple(str(n) for n, about in named.items() if about.get("workflow")),
        )

    def to_networkx(self) -> Any:
        """Return a ``networkx.DiGraph``; ``a <-> b`` becomes a latent parent called ``a <-> b``."""
        digraph = nx.DiGraph()
        for node in self.nodes:
            marks = {"selected": node in self.selected, "workflow": node in self.workflow}
            digraph.add_node(node, **marks)
        digraph.add_edges_from(self.edges)
        for a, b in self.bidirected:
            latent = f"{a} <-> {b}"
            digraph.add_node(latent, latent=True)
            digraph.add_edges_from([(latent, a), (latent, b)])
        return digraph

    def __str__(self) -> str:
        said: set[str] = set()

        def show(name: str) -> str:  # marks are said once, at the first mention
            if name in said:
                return notation.write(name)
            said.add(name)
            marked = notation.write(name) + ("!" if name in self.workflow else "")
            return f"[{marked}]" if name in self.selected else marked

        statements = [f"{show(a)} -> {show(b)}" for a, b in self.edges]
        statements += [f"{show(a)} <-> {show(b)}" for a, b in self.bidirected]
        statements += [show(name) for name in self.nodes if name not in said]
        return "; ".join(statements)

    def require(self, names: Names) -> None:
        """Raise ``GraphError`` for the first name that is not a node."""
        for name in as_names(names):
            if name not in self.nodes:
                raise GraphError(
                    f"the graph has no node {name!r}.{did_you_mean(name, self.nodes)} "
                    f"Nodes: {listing(self.nodes)}."
                )

    def renamed(self, names: Mapping[str, str]) -> CausalGraph:
        """Return the graph with nodes renamed, to fit a preset to a table's own columns.

        Examples
        --------
        >>> graph = CausalGraph.preset("slide_scanner").renamed({"tumour": "grade"})
        >>> print(graph.invariance("scanner", "grade"))
        z ⊥ scanner | grade
        """
        self.require(names)
        new = {node: names.get(node, node) for node in self.nodes}
        if len(set(new.values())) < len(new):
            raise GraphError(f"renaming would give two nodes one name: {listing(new.values())}.")
        return CausalGraph(
            nodes=tuple(new.values()),
            edges=tuple((new[a], new[b]) for a, b in self.edges),
            bidirected=tuple((new[a], new[b]) for a, b in self.bidirected),
            selected=tuple(new[n] for n in self.selected),
            workflow=tuple(new[n] for n in self.workflow),
        )

    def d_separated(self, a: Names, b: Names, given: Names = ()) -> bool:
        """Whether every path between ``a`` and ``b`` is blocked by ``given`` alone.

        Selected nodes are not added: pass ``(*given, *graph.selected)`` for the law of the cohort.

        Examples
        --------
        >>> graph = CausalGraph.parse("portable <- severity -> pneumonia")
        >>> graph.d_separated("portable", "pneumonia", "severity")
        True
        """
        sets = tuple(set(as_names(names)) for names in (a, b, given))
        for names in sets:
            self.require(sorted(names))
        if (sets[0] & sets[1]) or (sets[2] & (sets[0] | sets[1])):
            raise GraphError("d-separation needs three sets of nodes without a common member.")
        return bool(nx.is_d_separator(self.to_networkx(), *sets))

    def without_trace(self, confounders: Names) -> CausalGraph:
        """Return G*: the graph without the arrows from workflow into the image.

        In G* the node ``image`` stands for what the image would be without the trace, so the
        independences G* promises are those a clean embedding must show.
        """
        workflow = {*as_names(confounders), *self.workflow}
        self.require(sorted(workflow))
        kept = tuple((a, b) for a, b in self.edges if not (b == IMAGE and a in workflow))
        return replace(self, edges=kept)

    def invariance(
        self,
        confounders: str | Sequence[str],
        outcome: str | Sequence[str] | None = None,
        *,
        measured: Iterable[str] | None = None,
    ) -> Invariance:
        """Return the independence a clean embedding must satisfy: see ``derive``."""
        from deconf.causal.invariance import derive

        return derive(self, confounders, outcome or (), measured=measured)

    def falsify(
        self,
        table: pd.DataFrame,
        *,
        patient: str | None = None,
        rows: int = 300,
        permutations: int = 20,
        level: float = 0.05,
        seed: int = 0,
    ) -> Falsification:
        """Put what the graph implies among recorded columns to the data: see ``falsification``."""
        from deconf.causal.falsification import falsify

        return falsify(
            self,
            table,
            patient=patient,
            rows=rows,
            permutations=permutations,
            level=level,
            seed=seed,
        )

    def sentences(self, workflow: Names = ()) -> tuple[str, ...]:
        """Return what the graph says, and what its missing arrows assume, in plain sentences."""
        from deconf.causal.sentences import sentences

        return sentences(self, as_names(workflow))

    def draw(self, *, deleted: Names = (), ax: Axes | None = None) -> Figure:
        """Draw the graph in layers, causes left, the image right.

        Parameters
        ----------
        deleted : str or sequence of str
            Confounders whose arrow into the image is drawn as deleted.
        ax : matplotlib Axes, optional
            Where to draw; a new figure otherwise.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from deconf.causal.drawing import draw

        return draw(self, deleted=as_names(deleted), ax=ax)


def as_names(names: Names | None) -> tuple[str, ...]:
    """Return one name, several or none as a tuple without repeats, in order."""
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
