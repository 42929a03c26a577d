"""Negative controls: outcomes the cause cannot touch, exposures that cannot touch the outcome.

A control that is not null says what the analysis let through.  Which kind of fault it can see
depends on the control, and is said by whoever names it: *confounding* (a finding that shares the
causes of the real one but not the exposure's effect) or *detection* (a finding that does not
change with the exposure but is read from the same film, so that a difference is one of seeing or
reporting).

Lipsitch, Tchetgen Tchetgen & Cohen, "Negative controls: a tool for detecting confounding and bias
in observational studies", Epidemiology 2010.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import networkx as nx
import pandas as pd

from deconf.causal.adjustment import Adjustment
from deconf.causal.graph import CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.errors import GraphError, SettingsError, did_you_mean
from deconf.hypotheses.contrasts import Contrast, adjusted, se_of, spread, within
from deconf.hypotheses.reading import Cause, Outcome, complete_rows, read_cause, read_column

CATCHES = ("confounding", "detection")
LEVEL = 0.05
Named = Mapping[str, str] | Sequence[str]


@dataclass(frozen=True)
class Controls:
    """Negative controls by name, and what each can catch."""

    outcomes: Mapping[str, str]
    exposures: Mapping[str, str]

    @classmethod
    def of(cls, outcomes: Named, exposures: Named) -> Controls:
        """Read lists (which catch confounding) or mappings of name to what it catches.

        Raises
        ------
        SettingsError
            A control catches something unknown.
        """
        return cls(_labelled(outcomes), _labelled(exposures))

    def check(self, graph: CausalGraph | None, cause: str, effect: str) -> None:
        """Raise ``GraphError`` for the cause or the effect itself, or what is drawn as affected.

        A control of detection may be read from the image that the cause reaches: that is its use.
        """
        for name in (*self.outcomes, *self.exposures):
            if name in (cause, effect):
                raise GraphError(
                    f"{name!r} is the {'cause' if name == cause else 'effect'} itself and no "
                    "negative control: name a column that the question is not about."
                )
        if graph is None:
            return
        digraph = graph.to_networkx()
        for name, catches in self.outcomes.items():
            is_drawn = name in digraph and name in nx.descendants(digraph, cause)
            if is_drawn and catches == "confounding":
                path = " -> ".join(nx.shortest_path(digraph, cause, name))
                raise GraphError(
                    f"{name!r} is no negative control of confounding: the graph draws {path}. Name "
                    "another, or say that it catches detection."
                )
        for name in self.exposures:
            if name in digraph and effect in nx.descendants(digraph, name):
                path = " -> ".join(nx.shortest_path(digraph, name, effect))
                raise GraphError(
                    f"{name!r} is no negative control exposure: the graph draws {path}."
                )


@dataclass(frozen=True)
class Reach:
    """How large a bias would matter: the effect itself, or the margin where that is larger.

    Attributes
    ----------
    log_ratio : float
        Of a yes-or-no outcome; NaN where the effect has no ratio.
    sds : float
        In standard deviations of the outcome, for one of the cause where it is a number.
    """

    log_ratio: float
    sds: float

    def room(self, one: Contrast, y: Outcome, cause: Cause) -> bool:
        """Whether the interval of a control rules out a bias of that size."""
        if not se_of(one.difference) > 0:
            return False  # nothing varies
        is_ratio = one.ratio is not None and not math.isnan(self.log_ratio)
        found = one.scaled(spread(y, cause)) if is_ratio else one.in_sds(spread(y, cause))
        largest = max(abs(found.low), abs(found.high))
        return largest < (self.log_ratio if is_ratio else self.sds)  # False where nan


def unrelated(graph: CausalGraph | None, name: str, other: str) -> bool:
    """Whether the graph draws a control as sharing nothing with what it is to be null with.

    Where such a one is not null, the graph is wrong; where it is, nothing was tested: it would be
    null whatever had been left out.
    """
    return (
        graph is not None and name in graph.nodes and graph.d_separated(name, other, graph.selected)
    )


def run_controls(
    controls: Controls,
    cohort: Cohort,
    cause: str,
    outcome: Outcome,
    found: Adjustment,
    graph: CausalGraph | None,
    *,
    reference: Any,
    level: str,
    reach: Reach,
    by_patient: bool,
    trim: float,
    seed: int,
    progress: Callable[[str], object] = str,
) -> pd.DataFrame:
    """Estimate every control in the design of the question.

    One passes where it is null at 5 % and its interval leaves no room for a bias as large as
    ``reach``; null without that, or where the graph draws nothing that could make it otherwise, it
    is uninformative.  No correction for their number: controls
    that show nothing must not shield one that does.

    Raises
    ------
    SettingsError
        A control is held, or an exposure is asked about where the front door answers.
    """
    for name in (*controls.outcomes, *controls.exposures):
        if name in found.given:
            raise SettingsError(
                f"{name!r} is held and cannot be a negative control as well: within what is held "
                "it does not vary. Take it out of one."
            )
    if controls.exposures and found.kind == "front door":
        raise SettingsError(
            "the front door has no place for a negative control exposure: name a negative control "
            "outcome, or record what closes the back doors."
        )
    told, contrasts, reached = [], [], []
    for name, catches in controls.outcomes.items():
        progress(f"negative control: {name}")
        c = read_cause(cohort.table, cause, reference)
        y = read_column(cohort.table, name, "negative control outcome")
        one = _contrast(cohort, c, y, found, level, by_patient, trim, seed)
        told.append((f"{cause} -> {name}", catches))
        contrasts.append(one)
        reached.append(reach.room(one, y, c) and not unrelated(graph, name, cause))
    for name, catches in controls.exposures.items():
        progress(f"negative control: {name}")
        c = read_cause(cohort.table, name, None, "negative control exposure")
        held = replace(found, given=(*(g for g in found.given if g != name), cause))
        one = _contrast(cohort, c, outcome, held, None, by_patient, trim, seed)
        told.append((f"{name} -> {outcome.name}", catches))
        contrasts.append(one)
        reached.append(reach.room(one, outcome, c) and not unrelated(graph, name, outcome.name))
    if not contrasts:
        return pd.DataFrame()
    ps = [_p_value(c) for c in contrasts]
    return pd.DataFrame(
        [
            {
                "refuter": name,
                "kind": "negative control",
                "asks": "there is no effect",
                "catches": catches,
                "refuted": c.difference.estimate,
                "low": c.difference.low,
                "high": c.difference.high,
                "ratio": c.ratio.estimate if c.ratio else math.nan,
                "p": p,
                "result": ("failed" if p < LEVEL else "passed" if is_tight else "uninformative"),
            }
            for (name, catches), c, p, is_tight in zip(told, contrasts, ps, reached, strict=True)
        ]
    )


def _contrast(
    cohort: Cohort,
    cause: Cause,
    y: Outcome,
    found: Adjustment,
    level: str | None,
    by_patient: bool,
    trim: float,
    seed: int,
) -> Contrast:
    rows = complete_rows(cohort, cause, y, () if by_patient else found.given)
    if by_patient:
        contrasts = within(rows)
    else:
        contrasts = list(adjusted(rows, found, trim=trim, seed=seed).contrasts)
    return next((c for c in contrasts if c.level == level), contrasts[0])


def _p_value(c: Contrast) -> float:
    """Two-sided p of no difference, from the interval; 1 where nothing varies."""
    se = se_of(c.difference)
    if math.isnan(se) or se <= 0:
        return 1.0
    return math.erfc(abs(c.difference.estimate) / se / math.sqrt(2))


def _labelled(named: Named) -> dict[str, str]:
    pairs = dict(named) if isinstance(named, Mapping) else dict.fromkeys(named, CATCHES[0])
    for name, catches in pairs.items():
        if catches not in CATCHES:
            raise SettingsError(
                f"negative control {name!r} catches {catches!r}?{did_you_mean(catches, CATCHES)} "
                f"Say one of {', '.join(CATCHES)}."
            )
    return pairs
