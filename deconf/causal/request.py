"""What a plan is asked, once every name has been checked and put in its place."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from deconf.causal.graph import CausalGraph
from deconf.causal.overlap import overlap_table
from deconf.causal.question import Set


@dataclass(frozen=True)
class Asked:
    """What was asked, with every name in its place."""

    table: pd.DataFrame
    confounders: Set
    outcome: Set
    graph: CausalGraph
    is_default: bool
    given: Set | None
    patient: str | None
    width: int | None

    def overlap(self, confounders: Set, given: Set) -> pd.DataFrame:
        """Return the overlap table of a candidate set."""
        return overlap_table(self.table, confounders, given, patient=self.patient, width=self.width)

    @property
    def erases_disease(self) -> bool:
        """Whether nothing at all says what is to be kept."""
        return self.is_default and not self.outcome and self.given is None
