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
import numpy as np
import pandas as pd

from deconf.causal.adjustment import Adjustment
from deconf.causal.graph import CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.errors import GraphError, SettingsError, did_you_mean
from deconf.hypotheses.contrasts import Contrast, adjusted, se_of, within
from deconf.hypotheses.reading import Outcome, complete_rows, read_cause, read_column
from deconf.maths.multiplicity import holm

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
        """Raise ``GraphError`` for a control that the graph draws as affected.

        A control of detection may be read from the image that the cause reaches: that is its use.
        """
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


def run_controls(
    controls: Controls,
    cohort: Cohort,
    cause: str,
    outcome: Outcome,
    found: Adjustment,
    *,
    reference: Any,
    level: str,
    by_patient: bool,
    trim: float,
    seed: int,
    progress: Callable[[str], object] = str,
) -> pd.DataFrame:
    """Estimate every control in the design of the question; null after Holm passes."""
    told, contrasts = [], []
    for name, catches in controls.outcomes.items():
        progress(f"negative control: {name}")
        c = read_cause(cohort.table, cause, reference)
        y = read_column(cohort.table, name, "negative control outcome")
        one = _contrast(cohort, c, y, found, level, by_patient, trim, seed)
        told.append((f"{cause} -> {name}", catches))
        contrasts.append(one)
    for name, catches in controls.exposures.items():
        progress(f"negative control: {name}")
        c = read_cause(cohort.table, name, None, "negative control exposure")
        held = replace(found, given=(*(g for g in found.given if g != name), cause))
        one = _contrast(cohort, c, outcome, held, None, by_patient, trim, seed)
        told.append((f"{name} -> {outcome.name}", catches))
        contrasts.append(one)
    if not contrasts:
        return pd.DataFrame()
    ps = holm(np.array([_p_value(c) for c in contrasts]))
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
                "result": "passed" if p >= LEVEL else "failed",
            }
            for (name, catches), c, p in zip(told, contrasts, ps, strict=True)
        ]
    )


def _contrast(
    cohort: Cohort,
    cause: Any,
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
    """Two-sided p of no difference, from the interval."""
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
