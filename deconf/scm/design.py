"""How the causes of a node become numbers, and which combinations of causes were ever seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray

from deconf.causal.overlap import FEW
from deconf.maths import kinds
from deconf.maths.design import Encoding
from deconf.maths.intervals import factorised

TAIL = 0.005  # of a number's values at each end that do not count as seen


@dataclass(frozen=True)
class Causes:
    """The causes of one node: their encoding and their support.

    Attributes
    ----------
    encoding : Encoding
        One-hot levels with their pairwise products; numbers standardised, with their squares.
        To these `encode` adds the product of each number with each level: a device that magnifies
        magnifies what a dose does.
    seen : tuple of (cause, level, other cause, level)
        Pairs of levels with at least ten patients in training.
    reach : tuple of (cause, level or None, number, low, high)
        Range of each number, overall and within each level.
    """

    encoding: Encoding
    seen: tuple[tuple[str, Any, str, Any], ...]
    reach: tuple[tuple[str, Any, str, float, float], ...]

    @classmethod
    def of(cls, table: pd.DataFrame, names: Sequence[str], patients: ndarray) -> Causes:
        """Read the training table."""
        encoding = Encoding.of(table, names)
        who = factorised(patients)
        discrete = [c for c in encoding.columns if c.levels is not None]
        numeric = [c for c in encoding.columns if c.levels is None]
        seen, reach = [], []
        for i, first in enumerate(discrete):
            for second in discrete[i:]:
                pairs = pd.DataFrame(
                    {"a": table[first.name].tolist(), "b": table[second.name].tolist(), "who": who}
                )
                films = pairs.drop_duplicates().groupby(["a", "b"], observed=True).size()
                for level, other in films[films >= FEW].index.to_list():
                    seen.append((first.name, _plain(level), second.name, _plain(other)))
        for column in numeric:
            values = kinds.numbers(table[column.name])
            reach.append(("", None, column.name, *_range(values)))
            for other in discrete:
                level = table[other.name].tolist()
                for value in other.levels or ():
                    here = np.array([v == value for v in level])
                    if here.any():
                        reach.append((other.name, value, column.name, *_range(values[here])))
        return cls(encoding, tuple(seen), tuple(reach))

    @property
    def names(self) -> tuple[str, ...]:
        """The causes."""
        return tuple(column.name for column in self.encoding.columns)

    def encode(self, table: pd.DataFrame) -> Float[ndarray, "n q"]:
        """Return the design of the causes; no column where there is no cause."""
        if not self.encoding.columns:
            return np.zeros((len(table), 0))
        parts = [self.encoding.encode(table)[0]]
        each = [(column, column.encode(table[column.name])[0]) for column in self.encoding.columns]
        for number, values in each:
            if number.levels is None:
                parts += [
                    values[:, :1] * levels[:, 1:]
                    for other, levels in each
                    if other.levels is not None
                ]
        return np.hstack(parts)

    def unsupported(self, table: pd.DataFrame, changed: Collection[str]) -> list[str]:
        """Return for each row why its causes are beyond what was seen; empty where they are not.

        Only what a changed cause takes part in is looked at: a rare film is no reason to refuse
        a question about something else.
        """
        why = [""] * len(table)
        for column in self.encoding.columns:
            _note(why, ~column.encode(table[column.name])[1], f"{column.name} unknown or missing")
        discrete = [c for c in self.encoding.columns if c.levels is not None]
        values = {c.name: table[c.name].tolist() for c in self.encoding.columns}
        seen = set(self.seen)
        for i, first in enumerate(discrete):
            for second in discrete[i:]:
                if not {first.name, second.name} & set(changed):
                    continue
                pairs = list(zip(values[first.name], values[second.name], strict=True))
                rare = {
                    (a, b) for a, b in set(pairs) if (first.name, a, second.name, b) not in seen
                }
                for pair in rare:
                    here = np.array([p == pair for p in pairs])
                    said = f"{first.name}={kinds.said(pair[0])}"
                    if second is not first:
                        said += f", {second.name}={kinds.said(pair[1])}"
                    _note(why, here, f"{said}: fewer than {FEW} patients")
        for other, level, name, low, high in self.reach:
            if not {other, name} & set(changed):
                continue
            number = kinds.numbers(table[name])
            here = np.ones(len(table), bool)
            if other:
                here = np.array([v == level for v in values[other]])
            among = f" where {other}={kinds.said(level)}" if other else ""
            far = here & ((number < low) | (number > high))
            _note(why, far, f"{name} outside {low:.4g} to {high:.4g}{among}")
        return why


def _range(values: Float[ndarray, " n"]) -> tuple[float, float]:
    low, high = np.quantile(values, [TAIL, 1 - TAIL])
    return float(low), float(high)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _note(why: list[str], here: Bool[ndarray, " n"], what: str) -> None:
    for row in np.flatnonzero(here):
        why[row] = why[row] or what
