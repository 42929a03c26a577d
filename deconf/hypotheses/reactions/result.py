"""What an experiment on pixels found: numbers first, then one paragraph and one figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from deconf.errors import SettingsError
from deconf.hypotheses.reactions.estimates import (
    AFTER,
    BEFORE,
    CROSSED,
    EMBEDDING,
    MOVES,
    SHIFTS,
    TOWARDS,
)
from deconf.maths.intervals import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATIO = {MOVES: "score moves, relative", EMBEDDING: "embedding moves, relative"}
METRICS = (MOVES, SHIFTS, EMBEDDING, TOWARDS, BEFORE, AFTER, CROSSED, *RATIO.values())
REACTS, IGNORES, UNDECIDED, UNTRIED = "reacts", "ignores", "undecided", "no film was changed"
PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Study:
    """What was asked.

    Attributes
    ----------
    films, patients : int
    score : str
        In words; "" where the embedding alone was looked at.
    outcome : str
        Column whose AUROC is reported, or "".
    margin : float
    seed : int
    encoders : tuple of str
    """

    films: int
    patients: int
    score: str
    outcome: str
    margin: float
    seed: int
    encoders: tuple[str, ...]

    @property
    def ranked(self) -> str:
        """The figure that edits are ranked by."""
        return MOVES if self.score else EMBEDDING

    @property
    def unit(self) -> str:
        """Its unit, in words."""
        return "sd of the score between patients" if self.score else "spread of the embedding"

    def verdict(self, moves: Interval, was_tried: bool) -> str:
        """Return "reacts", "ignores" or "undecided": the interval against the margin."""
        if not was_tried:
            return UNTRIED
        if moves.low > self.margin:
            return REACTS
        return IGNORES if moves.high < self.margin else UNDECIDED


@dataclass(frozen=True, eq=False)
class Reactions:
    """How much each edit moves what an encoder says; made by `deconf.intervene`.

    Attributes
    ----------
    table : DataFrame
        One row for each representation, intervention, dose and metric, with ``estimate``, ``low``,
        ``high``, ``films`` and ``patients``.  Metrics: "score moves" E|s' - s| and "score shifts"
        E(s' - s), both in standard deviations of the score between patients; "embedding moves"
        E||z' - z|| / sqrt(tr cov z); "towards", the shift over the distance from healthy to ill;
        the AUROC before, after, and where healthy films alone are edited; "relative", a ratio to
        the first representation.
    ranking : DataFrame
        The edits at the largest dose, those that move most first.  ``first`` is the share of
        bootstrap draws in which an edit moves most of all; ``verdict`` holds the interval against
        the margin.
    study : Study
    """

    table: pd.DataFrame
    ranking: pd.DataFrame
    study: Study

    @property
    def names(self) -> list[str]:
        """The representations."""
        return list(dict.fromkeys(self.ranking["representation"]))

    @property
    def interventions(self) -> list[str]:
        """The interventions, those that move the first representation most first."""
        first = self.ranking["representation"] == self.names[0]
        return list(self.ranking[first].sort_values("rank")["intervention"])

    @property
    def dose(self) -> float:
        """The dose that is ranked."""
        return float(self.table["dose"].max())

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def effect(
        self,
        intervention: str,
        metric: str = MOVES,
        *,
        representation: str | None = None,
        dose: float | None = None,
    ) -> Interval:
        """Return one figure with its interval.

        Parameters
        ----------
        intervention, metric : str
            As in `table`.
        representation, dose : optional
            Default: the first, and the largest.

        Raises
        ------
        SettingsError
            There is no such row.
        """
        wanted = {
            "representation": self.names[0] if representation is None else representation,
            "intervention": intervention,
            "dose": self.dose if dose is None else dose,
            "metric": metric,
        }
        part = self.table
        for column, value in wanted.items():
            left = part[part[column] == value]
            if left.empty:
                raise SettingsError(
                    f"no {column} {value!r} here. Known: {sorted(set(part[column]), key=str)}."
                )
            part = left
        row = part.iloc[0]
        return Interval(*(float(row[name]) for name in ("estimate", "low", "high", "level")))

    def figure(self) -> Figure:
        """Return a figure: score, its direction and embedding, edit by edit, all doses."""
        from deconf.hypotheses.reactions.picture import drawn

        return drawn(self)

    def save(self, path: str | Path) -> Path:
        """Write the figure (.png, .svg, .pdf), the table (.csv) or the paragraph (.txt).

        Raises
        ------
        SettingsError
            Another kind of file.
        """
        path = Path(path)
        if path.suffix in PICTURES:
            self.figure().savefig(path, dpi=130)
        elif path.suffix == ".csv":
            self.table.to_csv(path, index=False, float_format="%.6g")
        elif path.suffix == ".txt":
            path.write_text(f"{self}\n", encoding="utf-8")
        else:
            raise SettingsError(
                f"{path.name!r}: a figure is .png, .svg or .pdf, the table .csv, the text .txt."
            )
        return path

    def __str__(self) -> str:
        """Return one paragraph."""
        from deconf.hypotheses.reactions.narrative import told

        return told(self)
