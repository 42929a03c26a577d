"""The pictures of a report, as SVG text: interval bars, their axis, the causal graph.

Bars are placed in percent of their box, so that one drawing fits a laptop, a phone and paper.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deconf.causal.graph import CausalGraph

HEIGHT = 18


@dataclass(frozen=True)
class Scale:
    """What the left and the right end of a bar stand for.

    Examples
    --------
    >>> Scale(0.4, 1.0).place(0.7)
    50.0
    """

    low: float
    high: float

    def place(self, value: float) -> float:
        """Return the position in percent of the width, inside the box."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    @classmethod
    def around(cls, values: Iterable[float], *, low: float, high: float, step: float) -> Scale:
        """Return ends at whole steps that hold all values, at least from ``low`` to ``high``.

        Examples
        --------
        >>> Scale.around([0.62, 0.31, float("nan")], low=0.4, high=1.0, step=0.1)
        Scale(low=0.3, high=1.0)
        """
        known = [v for v in values if math.isfinite(v)]
        down = math.floor(min([low, *known]) / step + 1e-9) * step
        up = math.ceil(max([high, *known]) / step - 1e-9) * step
        return cls(round(down, 6), round(up, 6))


def bar(
    scale: Scale,
    estimate: float,
    low: float,
    high: float,
    *,
    marks: Sequence[tuple[float, str]] = (),
    kind: str = "",
) -> str:
    """Return a point with its interval; ``marks`` are upright lines (value, CSS class).

    A point off the scale is drawn as an arrow head at that end.
    """
    if not math.isfinite(estimate):
        return ""
    parts = [
        f'<line class="{name}" x1="{scale.place(v)}%" x2="{scale.place(v)}%" y1="0" y2="{HEIGHT}"/>'
        for v, name in marks
        if math.isfinite(v)
    ]
    middle = HEIGHT / 2
    if math.isfinite(low) and math.isfinite(high):
        parts.append(
            f'<line class="reach" x1="{scale.place(low)}%" x2="{scale.place(high)}%" '
            f'y1="{middle}" y2="{middle}"/>'
        )
    beyond = int(estimate > scale.high) - int(estimate < scale.low)
    if beyond:  # off the scale: an arrow head at the end it lies beyond
        tip, back = (0, 7) if beyond < 0 else (-0.5, -7.5)
        shape = f'<path d="M{tip} {middle} L{back} 4 L{back} {HEIGHT - 4} Z"/>'
        at = "0%" if beyond < 0 else "100%"
        parts.append(f'<svg x="{at}" overflow="visible">{shape}</svg>')
    else:
        parts.append(f'<circle cx="{scale.place(estimate)}%" cy="{middle}" r="4.2"/>')
    return _svg(HEIGHT, f"bar {kind}".strip(), "".join(parts))


def axis(scale: Scale, ticks: Sequence[float]) -> str:
    """Return the axis under the bars of a block."""
    parts = ['<line class="base" x1="0%" x2="100%" y1="0.5" y2="0.5"/>']
    for tick in ticks:
        x = scale.place(tick)
        anchor = "start" if x < 3 else "end" if x > 97 else "middle"
        parts.append(f'<line class="base" x1="{x}%" x2="{x}%" y1="0" y2="4"/>')
        parts.append(f'<text x="{x}%" y="15" text-anchor="{anchor}">{tick:g}</text>')
    return _svg(18, "axis", "".join(parts))


def ticks_of(scale: Scale) -> list[float]:
    """Return two to six round numbers between the ends."""
    span = scale.high - scale.low
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1e9)
                if span / s <= 5.01)  # fmt: skip
    first = math.ceil(scale.low / step - 1e-9)
    return [round(k * step, 6) for k in range(first, math.floor(scale.high / step + 1e-9) + 1)]


def graph_svg(graph: CausalGraph, deleted: Sequence[str], salt: str) -> str:
    """Return the drawn graph as an ``<svg>`` element, the arrows to be deleted dashed.

    ``salt`` keeps the inner names of several drawings on one page apart.
    """
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure = graph.draw(deleted=deleted)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # matplotlib fixes the size in points; the page decides, up to that size.
    width = re.search(r'width="([\d.]+)pt"', text)
    style = f'style="width:{width[1]}pt"' if width else ""
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg", f"<svg {style}", 1)


def _svg(height: int, name: str, body: str) -> str:
    return f'<svg class="{name}" width="100%" height="{height}" aria-hidden="true">{body}</svg>'
