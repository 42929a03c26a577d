"""A causal graph as a picture: causes left, the image right."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import copysign, hypot
from typing import TYPE_CHECKING, Any, cast

import networkx as nx

from deconf.causal.graph import IMAGE, CausalGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PAPER, ACCENT, GONE, SOFT = "#22303c", "#ffffff", "#1f5f8b", "#c0392b", "#8a97a3"
ACROSS, DOWN = 2.3, 1.1
"""Distance between layers and between the nodes of a layer, in inches of the figure."""
LEGEND = 5.0
"""Least width of a figure, in inches: its legend has to fit."""
SWEEPS = 12
ARROW = {"arrowstyle": "-|>", "linewidth": 1.4, "color": INK}
GONE_ARROW = {"arrowstyle": "-|>", "linewidth": 1.4, "color": GONE, "linestyle": (0, (4, 3))}
COMMON_CAUSE = {"arrowstyle": "<|-|>", "linewidth": 1.2, "color": SOFT, "linestyle": (0, (2, 2))}

Place = tuple[float, float]
Edge = tuple[str, str]


@dataclass(frozen=True)
class Layout:
    """Where nodes stand, and how far each edge bows from a straight line, in the same units."""

    places: dict[str, Place]
    bows: dict[Edge, float]


def draw(graph: CausalGraph, *, deleted: Sequence[str] = (), ax: Axes | None = None) -> Figure:
    """Draw a graph: see ``CausalGraph.draw``."""
    from matplotlib.figure import Figure

    gone = set(graph.edges) - set(graph.without_trace(deleted).edges) if deleted else set()
    plan = layout(graph)
    width, height = _extent(graph, plan)
    if ax is None:
        wide = max(width[1] - width[0], LEGEND)
        figure = Figure((wide, height[1] - height[0] + 0.4), facecolor=PAPER)
        figure.set_layout_engine("constrained")
        ax = figure.add_subplot()
    ax.set_xlim(width)
    ax.set_ylim(height)
    ax.set_axis_off()
    boxes = {name: _node(ax, graph, name, plan.places[name]) for name in graph.nodes}
    for edge in graph.edges:
        look = GONE_ARROW if edge in gone else ARROW
        _arrow(ax, boxes, plan, edge, plan.bows[edge], look)
    for a, b in graph.bidirected:
        _arrow(ax, boxes, plan, (a, b), plan.bows[a, b], COMMON_CAUSE)
    _legend(ax, graph, gone)
    return cast("Figure", ax.get_figure(root=True))


def layout(graph: CausalGraph) -> Layout:
    """Place nodes in layers from causes to effects, after Sugiyama, Tagawa & Toda 1981.

    An edge over several layers gets a waypoint in each, so that room is kept for it.

    Examples
    --------
    >>> layout(CausalGraph.parse("severity -> portable -> image; severity -> image")).places
    {'image': (4.6, 0.0), 'portable': (2.3, 0.55), 'severity': (0.0, 0.0)}
    """
    depth = _depths(graph)
    layers: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name in graph.nodes:
        layers[depth[name]].append(name)
    waypoints: dict[Edge, list[str]] = {}
    links: list[Edge] = [pair for pair in graph.bidirected if depth[pair[0]] == depth[pair[1]]]
    for a, b in graph.edges:
        between = range(depth[a] + 1, depth[b])
        chain = [f"{a} -> {b} at {layer}" for layer in between]
        for layer, waypoint in zip(between, chain, strict=True):
            layers[layer].append(waypoint)
        waypoints[a, b] = chain
        links += pairwise([a, *chain, b])
    height = _heights(layers, links)
    at = {n: (ACROSS * x, 0.0 - DOWN * height[n]) for x, layer in enumerate(layers) for n in layer}
    bows = {edge: _bow(at, edge, chain) for edge, chain in waypoints.items()}
    for a, b in graph.bidirected:
        across, up = at[b][0] - at[a][0], at[b][1] - at[a][1]
        # Upright arcs bow to the left, away from the arrows that leave to the right.
        bows[a, b] = 0.25 * (hypot(across, up) if across else up)
    return Layout({name: at[name] for name in graph.nodes}, bows)


def _depths(graph: CausalGraph) -> dict[str, int]:
    digraph: Any = nx.DiGraph(graph.edges)
    digraph.add_nodes_from(graph.nodes)
    order = list(nx.topological_sort(digraph))
    depth: dict[str, int] = {}
    for name in order:
        depth[name] = 1 + max((depth[p] for p in digraph.predecessors(name)), default=-1)
    for name in reversed(order):
        # A cause stands just left of its first effect, not at the far left for want of parents.
        if after := [depth[child] for child in digraph.successors(name)]:
            depth[name] = min(after) - 1
    lowest = min(depth.values())
    return {name: d - lowest for name, d in depth.items()}


def _heights(layers: list[list[str]], links: Sequence[Edge]) -> dict[str, float]:
    """Order every layer so that few links cross: each node beside the mean of its neighbours."""
    near: dict[str, list[str]] = {name: [] for layer in layers for name in layer}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)

    def stand(layer: list[str]) -> dict[str, float]:
        return {name: i - (len(layer) - 1) / 2 for i, name in enumerate(layer)}

    height = {name: h for layer in layers for name, h in stand(layer).items()}
    best, fewest = dict(height), _crossings(height, links, layers)
    for sweep in range(SWEEPS):
        for layer in layers if sweep % 2 else layers[::-1]:
            pull = {n: sum(height[m] for m in near[n]) / max(len(near[n]), 1) for n in layer}
            layer.sort(key=pull.__getitem__)
            height.update(stand(layer))
        if (count := _crossings(height, links, layers)) < fewest:
            best, fewest = dict(height), count
    return best


def _crossings(
    height: dict[str, float], links: Sequence[Edge], layers: Sequence[Sequence[str]]
) -> float:
    layer_of = {name: x for x, layer in enumerate(layers) for name in layer}
    count = 0.0
    for (a, b), (c, d) in combinations(links, 2):
        if layer_of[a] == layer_of[c] and layer_of[b] == layer_of[d]:
            count += (height[a] - height[c]) * (height[b] - height[d]) < 0
    # Among equals, the shorter lines.
    return count + 1e-3 * sum(abs(height[a] - height[b]) for a, b in links)


def _bow(at: dict[str, Place], edge: Edge, chain: Sequence[str]) -> float:
    """Return how far the furthest waypoint lies above the straight line."""
    (x0, y0), (x1, y1) = at[edge[0]], at[edge[1]]
    above = [at[w][1] - (y0 + (y1 - y0) * (at[w][0] - x0) / (x1 - x0)) for w in chain]
    return max(above, key=abs, default=0.0)


def _node(ax: Axes, graph: CausalGraph, name: str, place: Place) -> Any:
    is_image, is_selected = name == IMAGE, name in graph.selected
    is_workflow = name in graph.workflow
    shape = "square,pad=0.45" if is_selected else "round,pad=0.45,rounding_size=0.5"
    return ax.text(
        *place,
        name + ("!" if is_workflow else ""),
        ha="center",
        va="center",
        fontsize=11,
        fontweight="bold" if is_image else "normal",
        color=PAPER if is_image else INK,
        zorder=2,
        bbox={
            "boxstyle": shape,
            "facecolor": ACCENT if is_image else ("#f6efe0" if is_workflow else PAPER),
            "edgecolor": ACCENT if is_image else INK,
            "linewidth": 2.4 if is_selected else 1.2,
        },
    )


def _arrow(
    ax: Axes, boxes: dict[str, Any], plan: Layout, edge: Edge, bow: float, look: dict[str, Any]
) -> None:
    a, b = edge
    (x0, y0), (x1, y1) = plan.places[a], plan.places[b]
    # A quadratic arc of matplotlib bows rad/2 of its length, to the right of its direction.
    rad = -2 * bow / hypot(x1 - x0, y1 - y0) * (1 if x1 >= x0 else -1)
    ax.annotate(
        "",
        xy=(x1, y1),
        xytext=(x0, y0),
        zorder=3,  # after the nodes: their boxes, which cut the arrows, must have been placed
        arrowprops={
            "mutation_scale": 14,
            "patchA": boxes[a].get_bbox_patch(),
            "patchB": boxes[b].get_bbox_patch(),
            "shrinkA": 1,
            "shrinkB": 2,
            "connectionstyle": f"arc3,rad={rad:.3f}",
            **look,
        },
    )


def _extent(graph: CausalGraph, plan: Layout) -> tuple[Place, Place]:
    xs, ys = (list(values) for values in zip(*plan.places.values(), strict=True))
    for (a, b), bow in plan.bows.items():
        (x0, y0), (x1, y1) = plan.places[a], plan.places[b]
        upright = x0 == x1
        xs.append((x0 + x1) / 2 - (copysign(1, y1 - y0) * bow if upright else 0))
        ys.append((y0 + y1) / 2 + (0 if upright else bow))
    wide = 0.05 * max(map(len, graph.nodes)) + 0.3
    return (min(xs) - wide, max(xs) + wide), (min(ys) - 0.4, max(ys) + 0.4)


def _legend(ax: Axes, graph: CausalGraph, gone: Collection[Edge]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Any] = []
    if gone:
        entries.append(Line2D([], [], color=GONE, ls=(0, (4, 3)), label="workflow: deleted"))
    if graph.bidirected:
        entries.append(Line2D([], [], color=SOFT, ls=(0, (2, 2)), label="unmeasured common cause"))
    if graph.selected:
        entries.append(Patch(fc=PAPER, ec=INK, lw=2.4, label="selected on"))
    if graph.workflow:
        entries.append(Patch(fc="#f6efe0", ec=INK, label="workflow (!)"))
    if entries:
        ax.legend(
            handles=entries,
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=len(entries),
            frameon=False,
            fontsize=9,
        )
