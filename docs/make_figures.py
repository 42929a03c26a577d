"""Draw the pictures of the documentation: ``python docs/make_figures.py``, about a minute.

The same seed gives the same pictures, so that a change in git is a change in what they show.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import deconf

HERE = Path(__file__).resolve().parent / "img"
INK, QUIET = "#22303c", "#8a97a3"
PORTABLE = (
    "severity -> pneumonia; severity -> portable; severity -> image;"
    "pneumonia -> image; portable -> image"
)
ENVIRONMENTS = ("aligned", "balanced", "reversed")


def graphs() -> None:
    """Draw two graphs with the arrow that is deleted."""
    save(deconf.CausalGraph.parse(PORTABLE).draw(deleted="portable"), "portable")
    save(deconf.CausalGraph.preset("multi_site").draw(deleted="site"), "multi_site")


def radiographs() -> None:
    """Draw six patients as they were filmed, and on either device."""
    draw = deconf.worlds.radiograph(n=6, size=128, sites=4, seed=11).train()
    rows = [draw.images, draw.do(portable=0), draw.do(portable=1)]
    Image.fromarray(np.vstack([np.hstack(row) for row in rows])).save(
        HERE / "radiographs.png", optimize=True
    )


def environments() -> None:
    """Draw what a head can do in three environments, by what was erased."""
    world = deconf.worlds.linear(n=2000, d=32)
    train = world.train()
    tests = {name: world.test(name, n=2000) for name in ENVIRONMENTS}
    kinds = {
        "raw": lambda draw: draw.cohort.embeddings,
        "nothing held": fitted(world, given=[]),
        "pneumonia held": fitted(world, graph=world.graph),
        "oracle": lambda draw: draw.oracle,
    }
    figure = Figure((7.2, 2.9))
    figure.set_layout_engine("constrained")
    ax = figure.add_subplot()
    for row, (name, clean) in enumerate(reversed(kinds.items())):
        y = train.cohort.table["pneumonia"]
        head = LogisticRegression(C=0.1, max_iter=1000).fit(clean(train), y)
        found = [
            roc_auc_score(draw.cohort.table["pneumonia"], head.decision_function(clean(draw)))
            for draw in tests.values()
        ]
        print(f"{name:<16}", dict(zip(tests, np.round(found, 3), strict=True)))
        ax.plot(found, [row] * 3, color=QUIET, lw=1.2, zorder=1)
        for place, marker, colour in zip(found, "o^s", (INK, QUIET, "#c0392b"), strict=True):
            ax.scatter(place, row, marker=marker, color=colour, s=55, zorder=2)
    for name, marker, colour in zip(ENVIRONMENTS, "o^s", (INK, QUIET, "#c0392b"), strict=True):
        ax.scatter([], [], marker=marker, color=colour, s=55, label=name)
    ax.set_yticks(range(len(kinds)), list(reversed(kinds)))
    ax.set_ylim(-0.6, len(kinds) - 0.4)
    ax.set_xlabel("AUROC of pneumonia on new patients")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="#e5e9ec", lw=0.8)
    ax.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    save(figure, "environments")


def tradeoff() -> None:
    """Draw leakage against task along three methods, where the scanner also turns the embedding."""
    world = deconf.worlds.linear(n=2000, d=48, trace="rotation+gain", seed=97)
    methods = ["leace", "aligned", "transport"]
    found = deconf.tradeoff(methods, world.train().cohort, "portable", graph=world.graph)
    print(found)
    save(found.figure(), "tradeoff")


def fitted(world: deconf.worlds.LinearWorld, **settings: object):
    """Return a function from a draw to its cleaned embedding."""
    cleaner = deconf.deconfound("stored", ["portable"], method="leace", **settings)
    clean = cleaner.fit(world.train().cohort)
    return lambda draw: clean.embed(draw.cohort)


def save(figure: Figure, name: str) -> None:
    """Write an SVG without date or random ids."""
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):
        figure.savefig(HERE / f"{name}.svg", format="svg", metadata={"Date": None})


if __name__ == "__main__":
    graphs()
    radiographs()
    environments()
    tradeoff()
