"""The shift sweep as curves: SVG text, a band for each interval, every curve named at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from deconf.evidence.narrative import REFUSED, number, signed
from deconf.evidence.page.figures import Scale, ticks_of
from deconf.evidence.request import METADATA

if TYPE_CHECKING:
    from deconf.evidence.report import Report

# Okabe & Ito, "Color universal design", 2008: told apart by the colour-blind, and in grey.
RAW, GREY = "#D55E00", "#8b98a4"
OWN = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
# A tie of outcome and confounder below this cannot be loosened: the curve would be a dot.
LEAST_TIE = 0.03
WIDTH, HEIGHT = 500, 268
LEFT, RIGHT, TOP, BOTTOM = 34, 160, 10, 44
LINE = 13  # least distance of two names at the ends


@dataclass(frozen=True)
class Plane:
    """The drawing area: correlation falls from left to right, AUROC rises."""

    across: Scale
    up: Scale

    def x(self, correlation: float) -> float:
        """Return pixels from the left."""
        share = (self.across.high - correlation) / (self.across.high - self.across.low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, auroc: float) -> float:
        """Return pixels from the top."""
        share = (self.up.high - auroc) / (self.up.high - self.up.low)
        return round(TOP + share * (HEIGHT - TOP - BOTTOM), 1)


def colours(report: Report) -> dict[str, str]:
    """Return the colour of each representation: raw, the user's own in turn, baselines grey."""
    own = [n for n in report.names if n not in report.baselines and n != report.reference]
    found = dict.fromkeys(report.names, GREY)
    found |= {name: OWN[k % len(OWN)] for k, name in enumerate(own)}
    return found | {report.reference: RAW}


def sweep_curves(report: Report) -> list[dict[str, str]]:
    """Return one figure per task and confounder, or why there is none."""
    found: list[dict[str, str]] = []
    for task in report.tasks:
        for confounder in report.confounders:
            rows = report.sweep[
                (report.sweep["task"] == task) & (report.sweep["confounder"] == confounder)
            ]
            svg, why = "", ""
            if not len(rows):
                why = _refusal(report, task, confounder)
            elif rows["correlation"].max() < LEAST_TIE:
                tie = rows["correlation"].max()
                why = (
                    f"{confounder} and {task} are hardly associated in these films "
                    f"(correlation {number(tie)}): there is nothing to loosen or to turn round"
                )
            else:
                svg = curves(rows, colours(report), salt=f"{len(found)}", quiet=(METADATA,))
            found.append(
                {
                    "task": task,
                    "confounder": confounder,
                    "title": f"{task}, as its tie to {confounder} is loosened and turned round",
                    "axis": f"association of {confounder} and {task}: as found → none → reversed",
                    "svg": svg,
                    "why": why,
                }
            )
    return found


def curves(
    rows: pd.DataFrame, colour: Mapping[str, str], *, salt: str, quiet: Sequence[str] = ()
) -> str:
    """Return the curves of one task and confounder as SVG.

    Parameters
    ----------
    rows : DataFrame
        As `Report.sweep`.
    colour : mapping of representation to colour; grey ones get no band and are drawn first
    salt : str
        Keeps the inner names of several drawings on one page apart.
    quiet : names that do not stretch the scale
    """
    loud = rows[~rows["representation"].isin(quiet)]
    loud = loud if len(loud) else rows
    coloured = loud[loud["representation"].map(colour) != GREY]
    values = [*loud["estimate"], *coloured["low"], *coloured["high"]]
    up = Scale.around(values, low=0.5, high=0.9, step=0.1)
    tie = rows["correlation"]
    plane = Plane(Scale(min(float(tie.min()), -1e-6), float(tie.max())), up)
    names = sorted(dict.fromkeys(rows["representation"]), key=lambda n: colour[n] != GREY)
    parts = [_frame(plane, float(tie.max()), float(tie.min()), salt)]
    ends: list[tuple[float, str]] = []
    for name in names:
        own = rows[rows["representation"] == name].sort_values("power")
        at = [plane.x(c) for c in own["correlation"]]
        if colour[name] != GREY and own[["low", "high"]].notna().all(axis=None):
            upper = [f"{x},{plane.y(v)}" for x, v in zip(at, own["high"], strict=True)]
            lower = [f"{x},{plane.y(v)}" for x, v in zip(at, own["low"], strict=True)]
            band = " ".join([*upper, *lower[::-1]])
            parts.append(
                f'<polygon clip-path="url(#plot{salt})" points="{band}" fill="{colour[name]}" '
                'fill-opacity=".16"/>'
            )
        line = " ".join(f"{x},{plane.y(v)}" for x, v in zip(at, own["estimate"], strict=True))
        weight = 1.3 if colour[name] == GREY else 2.4
        parts.append(
            f'<polyline clip-path="url(#plot{salt})" points="{line}" fill="none" '
            f'stroke="{colour[name]}" stroke-width="{weight}" stroke-linejoin="round"/>'
        )
        ends.append((plane.y(float(own["estimate"].iloc[-1])), name))
    last = {n: float(rows[rows["representation"] == n]["estimate"].iloc[-1]) for n in names}
    for y, end, name in spread(ends, low=TOP + 4, high=HEIGHT - BOTTOM - 1):
        x = WIDTH - RIGHT
        edge = min(max(end, TOP), HEIGHT - BOTTOM)
        parts.append(
            f'<path d="M{x} {edge} L{x + 8} {y}" stroke="{colour[name]}" fill="none"/>'
            f'<text x="{x + 11}" y="{y + 3.5:g}" class="end {_kind(colour[name])}" '
            f'style="fill:{_ink(colour[name])}">'
            f"{escape(_cut(name))} {number(last[name])}</text>"
        )
    return (
        f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(_read_aloud(rows), quote=True)}">{"".join(parts)}</svg>'
    )


def spread(
    ends: Sequence[tuple[float, str]], *, low: float, high: float
) -> list[tuple[float, float, str]]:
    """Return (place, end, name) with places at least a line apart, near the ends they name.

    Examples
    --------
    >>> spread([(50.0, "a"), (52.0, "b")], low=0, high=100)
    [(44.5, 50.0, 'a'), (57.5, 52.0, 'b')]
    """
    placed: list[list[tuple[float, str]]] = []  # clusters from top to bottom
    for end in sorted(ends):
        placed.append([end])
        while len(placed) > 1 and _top(placed[-1], low, high) < (
            _top(placed[-2], low, high) + LINE * len(placed[-2])
        ):
            placed[-2:] = [[*placed[-2], *placed[-1]]]
    return [
        (round(_top(cluster, low, high) + LINE * k, 1), end, name)
        for cluster in placed
        for k, (end, name) in enumerate(cluster)
    ]


def _top(cluster: Sequence[tuple[float, str]], low: float, high: float) -> float:
    """Return the place of the first of names that stand a line apart around their mean."""
    reach = LINE * (len(cluster) - 1)
    middle = sum(end for end, _ in cluster) / len(cluster)
    return max(min(middle - reach / 2, high - reach), low)


def _frame(plane: Plane, found: float, turned: float, salt: str) -> str:
    """Return the axes and the area to which curves are cut."""
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [
        f'<clipPath id="plot{salt}"><rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" '
        f'height="{floor - TOP}"/></clipPath>'
    ]
    for tick in ticks_of(plane.up):
        y = plane.y(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
            f'<text x="{LEFT - 5}" y="{y + 3.5:g}" text-anchor="end">{tick:g}</text>'
        )
    marks = [(found, "as found", "start"), (0.0, "none", "middle"), (turned, "reversed", "end")]
    for tie, word, anchor in marks if turned < 0 else marks[:2]:
        x = plane.x(tie)
        figure = signed(tie) if word != "none" else "0"
        parts.append(
            f'<line class="{"none" if word == "none" else "tick"}" x1="{x}" x2="{x}" '
            f'y1="{TOP if word == "none" else floor}" y2="{floor + 4}"/>'
            f'<text x="{x}" y="{floor + 16}" text-anchor="{anchor}">{word}</text>'
            f'<text x="{x}" y="{floor + 29}" text-anchor="{anchor}">{figure}</text>'
        )
    parts.append(f'<line class="base" x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    return "".join(parts)


def _kind(tint: str) -> str:
    return "grey" if tint == GREY else "own"


def _ink(tint: str) -> str:
    """Return the colour of a name: grey lines are too pale for text."""
    return "#5d6b78" if tint == GREY else tint


def _cut(name: str, most: int = 17) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _refusal(report: Report, task: str, confounder: str) -> str:
    """Return why there is no curve, as the task table says it."""
    t = report.table[
        (report.table["task"] == task)
        & (report.table["environment"] == f"{confounder}: reversed")
        & (report.table["status"] == REFUSED)
    ]
    return str(t["reason"].iloc[0]) if len(t) else "no weights were asked for"


def _read_aloud(rows: pd.DataFrame) -> str:
    """Return the curves in words, for those who do not see them: first and last AUROC of each."""
    told = []
    for name, own in rows.sort_values("power").groupby("representation", sort=False):
        first, last = own["estimate"].iloc[[0, -1]]
        told.append(f"{name} {number(first)} to {number(last)}")
    return f"AUROC as the association is turned round: {'; '.join(told)}"
