"""The paragraph: which edit moves most, which are ignored, what cleaning changed, what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from deconf.errors import listing
from deconf.hypotheses.reactions.estimates import AFTER, BEFORE, CROSSED, SHIFTS, TOWARDS
from deconf.maths.intervals import Interval

if TYPE_CHECKING:
    from deconf.hypotheses.reactions.result import Reactions

NEXT = 2  # edits named after the first
NAMED = 3  # edits named with their ratio
SCOPE = (
    "Each film is compared with itself and only the edit differs, so that nothing had to be "
    "assumed or adjusted for: about these edits this experiment outranks any comparison of films "
    "taken differently. The ranks are those of the strengths chosen. It says nothing of what else "
    "comes with the step in a hospital (who is sent, how they lie), nor of how well the edit "
    "imitates it; each interval is for new patients and for itself."
)


def told(found: Reactions) -> str:
    """Return the paragraph of an experiment."""
    study = found.study
    what = f"score ({study.score})" if study.score else "embedding"
    count = len(found.interventions)
    sentences = [
        f"{study.films:,} films of {study.patients:,} patients, {count} "
        f"edit{'s' if count > 1 else ''} of each; moves of the {what} in {study.unit}, 95 % "
        "intervals over patients."
    ]
    sentences += [_of(found, name) for name in found.names]
    sentences += [_beside(found, name) for name in found.names[1:]]
    return " ".join([*(s for s in sentences if s), SCOPE])


def _of(found: Reactions, name: str) -> str:
    """Return what one representation reacts to."""
    part = found.ranking[found.ranking["representation"] == name].sort_values("rank")
    first = part.iloc[0]
    text = (
        f"{name!r} reacts most to {first['intervention']!r}: {_interval(first)}"
        f"{_direction(first)}{_towards(found, name, first['intervention'])}; it is first in "
        f"{100 * first['first']:.0f} % of the draws."
    )
    follow = [
        f"{r['intervention']!r} {_interval(r)}" for _, r in part.iloc[1 : 1 + NEXT].iterrows()
    ]
    text += f" Next: {', '.join(follow)}." if follow else ""
    margin = f"{found.study.margin:g}"
    for verdict, said in (("ignores", f"Ignored (below {margin})"), ("undecided", "Undecided")):
        names = [repr(n) for n in part.loc[part["verdict"] == verdict, "intervention"]]
        text += f" {said}: {listing(names)}." if names else ""
    nothing = part.loc[part["films"] == 0, "intervention"]
    text += f" No film was changed by {listing(map(repr, nothing))}." if len(nothing) else ""
    if found.study.outcome:
        edit, outcome = first["intervention"], found.study.outcome
        before, after, crossed = (
            found.effect(edit, m, representation=name).estimate for m in (BEFORE, AFTER, CROSSED)
        )
        text += (
            f" AUROC of {outcome!r} without it {before:.2f}, with it on every film {after:.2f}, "
            f"with it on the films without {outcome!r} alone {crossed:.2f}."
        )
    return text


def _beside(found: Reactions, name: str) -> str:
    """Return what one representation does of the moves of the first."""
    from deconf.hypotheses.reactions.result import RATIO

    metric = RATIO[found.study.ranked]
    less, more = [], []
    for edit in found.interventions:
        it = found.effect(edit, metric, representation=name)
        if it.high < 1:
            less.append(f"{edit!r} x{it}")
        elif it.low > 1:
            more.append(f"{edit!r} x{it}")
    text = f"Beside {found.names[0]!r}, {name!r} moves"
    parts = [f"less under {listing(less, NAMED)}"] if less else []
    parts += [f"more under {listing(more, NAMED)}"] if more else []
    if not parts:
        return f"{text} neither less nor more under any edit."
    rest = len(found.interventions) - len(less) - len(more)
    parts += [f"as much, as far as can be told, under {rest} others"] if rest else []
    return f"{text} {'; '.join(parts)}."


def _interval(row: pd.Series) -> str:
    return str(Interval(row["moves"], row["low"], row["high"]))


def _direction(row: pd.Series) -> str:
    if not row["shift_low"] > 0 and not row["shift_high"] < 0:
        return ", up in some films and down in others" if row["shift"] == row["shift"] else ""
    return f", {'up' if row['shift'] > 0 else 'down'} by {abs(row['shift']):.2f} on average"


def _towards(found: Reactions, name: str, edit: str) -> str:
    if not found.study.outcome:
        return ""
    share = found.effect(edit, TOWARDS, representation=name).estimate
    shift = found.effect(edit, SHIFTS, representation=name)
    if not (shift.low > 0 or shift.high < 0):
        return ""
    return f" ({100 * abs(share):.0f} % of the way between healthy and ill)"
