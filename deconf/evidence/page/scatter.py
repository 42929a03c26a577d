"""The map of the films as small multiples: raw beside clean, coloured by one column after another.

SVG circles, half transparent, in an order drawn by chance so that no level hides another.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from deconf.evidence.pictures.atlas import PLACES

if TYPE_CHECKING:
    from deconf.evidence.report import Report

# Okabe & Ito 2008; the first two, blue and orange, are the pair easiest to tell apart.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8a7a00")
REST = "#b9c2ca"  # not recorded, or one of the rarer levels
SIDE, EDGE = 220, 7


def maps(report: Report) -> list[dict[str, object]]:
    """Return a row of pictures for each column: title, legend, one SVG per representation."""
    frame = report.atlas
    if frame.empty:
        return []
    rows: list[dict[str, object]] = []
    confounders = set(report.confounders)
    for column in (c for c in frame.columns if c not in PLACES):
        colour = palette(frame[column])
        first = frame["representation"].iloc[0]
        rows.append(
            {
                "title": column,
                "role": "confounder" if column in confounders else "outcome",
                "legend": [
                    {"level": level, "colour": tint, "n": int(n)}
                    for level, tint, n in _legend(
                        frame.loc[frame["representation"] == first, column], colour
                    )
                ],
                "maps": [
                    {"name": name, "svg": dots(own, column, colour)}
                    for name, own in frame.groupby("representation", sort=False)
                ],
            }
        )
    return rows


def palette(column: pd.Series) -> dict[str, str]:
    """Return a colour for each level, the most frequent seven told apart.

    Examples
    --------
    >>> palette(pd.Series(["AP", "PA", None, "PA"]))
    {'AP': '#0072B2', 'PA': '#E69F00'}
    """
    counts = column.value_counts()
    shown = sorted(counts.index[: len(PALETTE)], key=str)
    return {str(level): tint for level, tint in zip(shown, PALETTE, strict=False)}


def dots(frame: pd.DataFrame, column: str, colour: dict[str, str]) -> str:
    """Return one map; the scale is its own, for distances in it mean nothing."""
    place = frame[["x", "y"]].to_numpy(dtype=float)
    place = place - place.min(axis=0)
    place = place / max(float(place.max()), 1e-30)
    place += (1 - place.max(axis=0)) / 2  # in the middle of the square
    at = EDGE + place * (SIDE - 2 * EDGE)
    tints = [colour.get(str(level), REST) for level in frame[column]]
    order = np.random.default_rng(0).permutation(len(at))
    body = "".join(
        f'<circle cx="{at[i, 0]:.1f}" cy="{SIDE - at[i, 1]:.1f}" r="2.7" fill="{tints[i]}"/>'
        for i in order
    )
    label = f"map of {len(at)} films coloured by {escape(column, quote=True)}"
    return (
        f'<svg class="map" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{label}">{body}</svg>'
    )


def _legend(column: pd.Series, colour: dict[str, str]) -> list[tuple[str, str, int]]:
    counts = column.value_counts()
    named = [(level, tint, int(counts.get(level, 0))) for level, tint in colour.items()]
    rarer = int(sum(n for level, n in counts.items() if str(level) not in colour))
    missing = int(column.isna().sum())
    named += [("rarer levels", REST, rarer)] if rarer else []
    return named + ([("not recorded", REST, missing)] if missing else [])
