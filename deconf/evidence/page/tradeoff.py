"""The trade-off as a figure, in words, and as one page: clean is left, able is up."""

from __future__ import annotations

import io
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from deconf.evidence.narrative import aligned, number, signed, wrapped
from deconf.evidence.page.curves import OWN
from deconf.evidence.strengths import RAW

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from deconf.evidence.tradeoff import Tradeoff

INK, SOFT, PALE = "#1d2730", "#5d6b78", "#dde3e8"
# Five hues are told apart by everybody; a marker each, and beyond five the same hues dashed.
MARKERS = ("o", "s", "^", "P", "v")
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
PICKED = (
    "All points were read from the same held-out films: one picked from this picture does a little "
    "worse elsewhere. Fit it, and audit it on other patients."
)
STYLE = Path(__file__).parent / "templates" / "report.css"


def tell(found: Tradeoff) -> str:
    """Return the points as a table for each confounder and task, then what they say."""
    lines = ["LEAK AGAINST TASK, on patients that neither map nor head has seen"]
    for confounder, task, block in _panels(found):
        first = block.iloc[0]
        lines += [
            "",
            f"{confounder} ({found.statements[confounder]}), {task}: leak is the AUROC of the "
            f"worst attacker (floor about {number(first['floor'])}); * on the front",
        ]
        rows = [["", "leak", "worst environment", "against raw", "within levels", "selection"]]
        for _, p in block.iterrows():
            change = ""
            if np.isfinite(p["worst_difference"]):
                change = f"{signed(p['worst_difference'])} {_reach(p, 'worst_difference')}"
            rows.append(
                [
                    ("*" if p["on_front"] else " ") + label(p),
                    _figure(p, "leak"),
                    _figure(p, "worst"),
                    change,
                    _figure(p, "within"),
                    str(p["selection"]),
                ]
            )
        rows = rows if any(row[-1] for row in rows[1:]) else [row[:-1] for row in rows]
        lines += aligned(rows)
    lines += [""]
    for sentence in [*sentences(found), *found.reasons]:
        lines += wrapped(sentence, "- ", "  ")
    return "\n".join(lines)


def sentences(found: Tradeoff) -> list[str]:
    """Return the front, the cleanest point on it and its price, for each confounder and task."""
    told = []
    for confounder, task, block in _panels(found):
        head = f"{confounder} / {task}: "
        front = block[block["on_front"]].sort_values("leak", kind="stable")
        if front.empty:
            why = next((r for r in block["reason"] if r), "no figure of the task can be had")
            told.append(f"{head}no front, {why}.")
            continue
        raw = block.iloc[0]
        clean = front.iloc[0]
        names = ", ".join(label(p) for _, p in front.iterrows())
        if clean["family"] == RAW:
            told.append(
                f"{head}no point leaks less than raw ({_figure(raw, 'leak')}): nothing was gained."
            )
            continue
        if len(front) == 1:
            said = f"{names} alone is the front: nothing else leaks less or does the task better"
        else:
            said = f"on the front, least leak first: {names}"
        told.append(
            f"{head}{said}. {label(clean)} leaks {_figure(clean, 'leak')} where raw leaks "
            f"{_figure(raw, 'leak')} and luck {number(clean['floor'])}; {_price(clean)}."
        )
    return [*told, PICKED]


def label(point: pd.Series) -> str:
    """Return what a point is called: ``leace, half``, ``dann, penalty=0.1``.

    >>> label(pd.Series({"family": "leace", "setting": "", "strength": 0.5}))
    'leace at 0.5'
    """
    if point["family"] == RAW:
        return RAW
    if point["setting"]:
        return f"{point['family']}, {point['setting']}"
    return f"{point['family']} at {point['strength']:g}"


def drawn(found: Tradeoff) -> Figure:
    """Draw one panel for each confounder and task."""
    from matplotlib.figure import Figure

    panels = list(_panels(found))
    across = min(len(panels), 2)
    down = -(-len(panels) // across)
    figure = Figure(figsize=(7.4 * across, 5.0 * down), layout="constrained")
    axes = np.atleast_1d(figure.subplots(down, across, squeeze=False)).ravel()
    for ax, (confounder, task, block) in zip(axes, panels, strict=False):
        _panel(ax, block)
        ax.set_title(
            f"{task}  against  {confounder}", loc="left", fontsize=12, color=INK, weight="bold"
        )
        ax.set_xlabel(
            f"leak of {confounder}: AUROC of the worst attacker  "
            f"({found.statements[confounder]})", color=SOFT, fontsize=9.5,
        )  # fmt: skip
        ax.set_ylabel(f"{task}: AUROC in the worst environment", color=SOFT, fontsize=9.5)
    for ax in axes[len(panels) :]:
        ax.remove()
    handles = axes[0].get_legend_handles_labels()[0]
    for handle in handles:
        handle.set_markersize(7)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6),
                  frameon=False, labelcolor=INK, fontsize=10)  # fmt: skip
    return figure


def _panel(ax: Axes, block: pd.DataFrame) -> None:
    known = block[block["leak"].notna() & block["worst"].notna()]
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(PALE)
    ax.tick_params(colors=SOFT, labelsize=9)
    ax.grid(color=PALE, lw=0.6)
    ax.set_axisbelow(True)
    if known.empty:
        why = next((r for r in block["reason"] if r), "no figure can be had")
        ax.text(0.5, 0.5, f"REFUSED\n{why}", ha="center", va="center", color=SOFT,
                transform=ax.transAxes, wrap=True)  # fmt: skip
        return
    raw = known[known["family"] == RAW]
    _limits(ax, known)
    floor = float(known["floor"].median())
    ax.axvline(floor, color=SOFT, lw=1, ls=(0, (2, 3)))
    ax.text(floor, 1.0, " luck", color=SOFT, fontsize=8.5, va="top", ha="left",
            transform=ax.get_xaxis_transform())  # fmt: skip
    _staircase(ax, known)
    for k, (family, own) in enumerate(_families(known)):
        tint, marker = OWN[k % len(OWN)], MARKERS[k % len(MARKERS)]
        dash = DASHES[k // len(OWN) % len(DASHES)]
        path = pd.concat([raw, own])
        ax.plot(path["leak"], path["worst"], color=tint, lw=1.7, ls=dash, alpha=0.8, zorder=3,
                marker=marker, ms=0, label=_legend(family, own))  # fmt: skip
        ax.errorbar(
            own["leak"], own["worst"], xerr=_errors(own, "leak"), yerr=_errors(own, "worst"),
            fmt="none", ecolor=tint, elinewidth=0.9, alpha=0.3, zorder=2,
        )  # fmt: skip
        sizes = 22 + 58 * np.linspace(1 / len(own), 1, len(own)) ** 2
        edges = [INK if front else "white" for front in own["on_front"]]
        ax.scatter(own["leak"], own["worst"], s=sizes, c=tint, marker=marker, edgecolors=edges,
                   linewidths=[1.2 if front else 0.6 for front in own["on_front"]],
                   zorder=4)  # fmt: skip
    if len(raw):
        ax.errorbar(raw["leak"], raw["worst"], xerr=_errors(raw, "leak"),
                    yerr=_errors(raw, "worst"), fmt="D", ms=8, color=SOFT, mec="white",
                    elinewidth=1.2, zorder=5)  # fmt: skip
        ax.annotate(RAW, (raw["leak"].iloc[0], raw["worst"].iloc[0]), xytext=(-9, -4),
                    textcoords="offset points", color=SOFT, fontsize=11, ha="right", va="top",
                    weight="bold")  # fmt: skip


def _legend(family: str, own: pd.DataFrame) -> str:
    """Return what a family is called, with the rule by which an invariant-risk method was chosen.

    >>> _legend("irm", pd.DataFrame({"selection": ["oracle"]}))
    'irm (selection: oracle)'
    """
    rules = [rule for rule in dict.fromkeys(own["selection"]) if rule]
    return f"{family} (selection: {'; '.join(rules)})" if rules else family


def _limits(ax: Axes, known: pd.DataFrame) -> None:
    x = [*known["leak_low"].dropna(), *known["leak_high"].dropna(), *known["leak"],
         *known["floor"].dropna()]  # fmt: skip
    y = [*known["worst_low"].dropna(), *known["worst_high"].dropna(), *known["worst"]]
    wide, tall = max(max(x) - min(x), 0.1), max(max(y) - min(y), 0.1)
    ax.set_xlim(min(x) - 0.05 * wide, max(x) + 0.05 * wide)
    ax.set_ylim(min(y) - 0.06 * tall, max(y) + 0.06 * tall)


def _staircase(ax: Axes, known: pd.DataFrame) -> None:
    """Shade what the front leaves behind it: more leak and less task."""
    front = known[known["on_front"]].sort_values("leak", kind="stable")
    if front.empty:
        return
    right, floor = ax.get_xlim()[1], ax.get_ylim()[0]
    x = [*front["leak"], right]
    y = [*front["worst"], front["worst"].iloc[-1]]
    ax.fill_between(x, floor, y, step="post", color="#eef3f7", lw=0, zorder=0)
    ax.step(x, y, where="post", color="#b9c6d1", lw=1.2, zorder=1)


def _errors(own: pd.DataFrame, axis: str) -> np.ndarray:
    """Return the distances to the limits, 0 where there are none."""
    low = (own[axis] - own[f"{axis}_low"]).to_numpy(float)
    high = (own[f"{axis}_high"] - own[axis]).to_numpy(float)
    errors: np.ndarray = np.clip(np.nan_to_num(np.stack([low, high])), 0, None)
    return errors


def page(found: Tradeoff) -> str:
    """Return figure, sentences and every figure as one HTML file that opens offline."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "deconf"}):
        found.figure().savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    said = "".join(f"<li>{escape(s)}</li>" for s in [*sentences(found), *found.reasons])
    frame = found.table.drop(columns=["reason"])
    head = "".join(f"<th>{escape(c.replace('_', ' '))}</th>" for c in frame.columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in frame.itertuples(index=False))
    table = f"<table><tr>{head}</tr>{body}</table>"
    config = found.config
    title = "What more cleaning buys, and what it costs"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE.read_text()}"
        "table{font-size:.78rem;border-collapse:collapse}td,th{padding:.15rem .5rem;"
        "text-align:right;border-bottom:1px solid var(--line)}figure{margin:1rem 0}"
        "figure svg{width:100%;height:auto}.wide{overflow-x:auto}</style></head><body>"
        f'<h1>{title}</h1><p class="lead">{config["films"]:,} films of {config["patients"]:,} '
        "patients. Every figure is on patients that map and head have not seen; intervals are "
        "95 %, by patient. Larger points are stronger; ringed ones are on the front.</p>"
        f"<figure>{svg[svg.index('<svg') :]}</figure><ul>{said}</ul>"
        f'<h2>Every figure</h2><div class="wide">{table}</div></body></html>'
    )


def _panels(found: Tradeoff) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for (confounder, task), block in found.table.groupby(["confounder", "task"], sort=False):
        yield str(confounder), str(task), block


def _families(known: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for family, own in known[known["family"] != RAW].groupby("family", sort=False):
        yield str(family), own


def _figure(point: pd.Series, axis: str) -> str:
    if not np.isfinite(point[axis]):
        return "REFUSED"
    return f"{number(point[axis])} {_reach(point, axis)}"


def _reach(point: Any, axis: str) -> str:
    return f"[{number(point[f'{axis}_low'])}, {number(point[f'{axis}_high'])}]"


def _cell(value: Any) -> str:
    """Return a cell of the table of every figure: three decimals, empty where there is none."""
    if isinstance(value, float):
        text = f"{value:.3f}".rstrip("0").rstrip(".") if np.isfinite(value) else ""
    else:
        text = ("yes" if value else "") if isinstance(value, bool | np.bool_) else str(value)
    return f"<td>{escape(text)}</td>"


def _price(point: pd.Series) -> str:
    """Say what a point costs or brings the task in the worst environment, against raw."""
    gap = f"{signed(point['worst_difference'])} {_reach(point, 'worst_difference')}"
    if point["worst_difference_low"] > 0:
        return f"the task in its worst environment gains {gap}"
    if point["worst_difference_high"] < 0:
        return f"the task in its worst environment pays {gap}"
    return f"whether the task in its worst environment gains or pays cannot be told, {gap}"
