"""The figure: what each edit does to score and embedding, dose by dose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deconf.hypotheses.reactions.estimates import EMBEDDING, MOVES, SHIFTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deconf.hypotheses.reactions.result import Reactions

COLOURS = ("#2a6f97", "#c8553d", "#6c757d", "#5a8f3d")
TITLES = {
    MOVES: "score moves\nmean |change|, sd between patients",
    SHIFTS: "score shifts\nmean change, sd between patients",
    EMBEDDING: "embedding moves\nmean distance / spread",
}


def drawn(found: Reactions) -> Figure:
    """Return one row for each edit, strongest first; pale and small are the lower doses."""
    from matplotlib.figure import Figure

    table, names, edits = found.table, found.names, found.interventions
    metrics = [metric for metric in TITLES if metric in set(table["metric"])]
    doses = sorted(table["dose"].unique())
    height = len(edits) * (0.20 + 0.16 * len(names)) + 1.3
    fig = Figure(figsize=(3.2 * len(metrics) + 3.0, height), layout="constrained")
    axes = np.atleast_1d(fig.subplots(1, len(metrics), sharey=True))
    lanes = np.linspace(-0.2, 0.2, len(names)) if len(names) > 1 else [0.0]
    for ax, metric in zip(axes, metrics, strict=True):
        for name, colour, lane in zip(names, _colours(len(names)), lanes, strict=True):
            part = table[(table["metric"] == metric) & (table["representation"] == name)]
            for dose in doses:
                rows = part[part["dose"] == dose].set_index("intervention").loc[edits]
                y = np.arange(len(edits)) + lane
                share = dose / doses[-1] if doses[-1] > 0 else 1.0
                is_top = dose == doses[-1]
                look = {"color": colour, "alpha": 1.0 if is_top else 0.25 + 0.4 * share}
                if is_top:
                    ax.hlines(y, rows["low"], rows["high"], lw=1.8, color=colour, alpha=0.6)
                label = (name if len(doses) == 1 else f"{name}, dose {dose:g}") if is_top else None
                ax.plot(rows["estimate"], y, "o", ms=2.5 + 2.5 * share, label=label, mew=0, **look)
        if metric == SHIFTS:
            ax.axvline(0, color="0.6", lw=0.8, ls=":")
        else:
            ax.set_xlim(left=0)
        if metric == found.study.ranked:
            ax.axvline(found.study.margin, color="0.6", lw=0.8, ls=":")
        ax.set_title(TITLES[metric], fontsize=9)
        ax.tick_params(left=False, labelsize=8)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_axisbelow(True)
        ax.grid(axis="y", color="0.93", lw=0.8)
    axes[0].set_yticks(np.arange(len(edits)), edits)
    axes[0].invert_yaxis()
    axes[-1].legend(frameon=False, loc="lower right", fontsize=8)
    fig.supxlabel(
        f"{found.study.films:,} films of {found.study.patients:,} patients; 95 % intervals over "
        f"patients; dotted: margin {found.study.margin:g}"
        + ("; pale: lower doses" if len(doses) > 1 else ""),
        fontsize=8,
        color="0.35",
    )
    return fig


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]
