"""Methods whose answer is the head that was trained with the map: judged by that head.

An invariant-risk method takes nothing out of the embedding; what it learnt is which head to put on
it.  A fresh head would find again whatever the map left, and would say nothing of the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from deconf.maths.kinds import levels
from deconf.maths.maps import Adapter
from deconf.methods.base import methods
from deconf.methods.dfr import DFR
from deconf.methods.invariant import InvariantRisk
from deconf.methods.selection import read


@dataclass(frozen=True)
class OwnHead:
    """Log-odds of one outcome from a mapped embedding, as a method trained them.

    Attributes
    ----------
    outcome : str
    coefficients, intercept : (d,), float
    share : float or None
        Of the outcome in the rows that the head was balanced to; None for as they are.
    """

    outcome: str
    coefficients: Float[ndarray, " d"]
    intercept: float
    share: float | None = None

    def score(self, z: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        """Return the log-odds (n,) of mapped embeddings."""
        found: ndarray = z.astype(np.float64) @ self.coefficients + self.intercept
        return found


def own_head(fitted: Any, table: pd.DataFrame) -> OwnHead | None:
    """Return the head of a fitted cleaner; None where its method has none, or trained none.

    Parameters
    ----------
    fitted : DeconfoundedEncoder
    table : DataFrame
        Tells which outcome of the plan has two levels, for the head is that of the first.  A
        cleaner that was loaded does not know its outcomes, and gives None.
    """
    kind = risk_of(fitted)
    if kind is None:
        return None
    outcomes = [
        name
        for name in getattr(fitted.plan, "outcome", ())
        if name in table.columns and len(levels(table[name])) == 2
    ]
    links = getattr(fitted.map, "maps", None)  # each was fitted on what those before it left
    last = fitted.map if links is None else list(links)[-1]
    if not outcomes or not isinstance(last, Adapter) or not len(last.coefficients):
        return None
    return OwnHead(
        outcomes[0],
        last.coefficients[0].detach().cpu().double().numpy(),
        float(last.intercept[0]),
        0.5 if issubclass(kind, DFR) else None,
    )


def risk_of(cleaner: Any) -> type[InvariantRisk] | None:
    """Return the invariant-risk method of a cleaner, fitted or not; None for any other."""
    method = getattr(cleaner, "method", None)
    if isinstance(method, str):  # of a fitted one: its name, several joined by "then"
        name = method.split(" then ")[-1]
        if name not in methods:  # "identity", "auto: leace"
            return None
        return methods[name] if issubclass(methods[name], InvariantRisk) else None
    return type(method) if isinstance(method, InvariantRisk) else None


def selection_of(cleaner: Any) -> str:
    """Return who chose penalty and epoch of an invariant-risk method; empty for any other."""
    if risk_of(cleaner) is None:
        return ""
    if isinstance(cleaner.method, str):
        return read(cleaner.reasons)
    return str(cleaner.method.selection)
