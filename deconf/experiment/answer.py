"""What a kind of experiment is handed, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from deconf.cohort.cohort import Cohort
from deconf.experiment.config import Config


@dataclass(frozen=True)
class Job:
    """A config, the cohort it names (None where it names none), and how to go about it.

    Attributes
    ----------
    notes : list of str
        What reading the cohort had to say.
    quick : bool
        Little of everything: to see that it works, not to believe.
    progress : callable
        Told one line at a time what is being done.
    """

    config: Config
    cohort: Cohort | None = None
    notes: list[str] = field(default_factory=list)
    quick: bool = False
    progress: Callable[[str], object] = str

    @property
    def films(self) -> Cohort:
        """The cohort of a kind that cannot do without one."""
        if self.cohort is None:
            raise ValueError(f"kind {self.config.kind!r} needs [data]")  # the config was checked
        return self.cohort


@dataclass(frozen=True)
class Found:
    """A tidy table, text for people, and what is to be saved beside them.

    Attributes
    ----------
    saves : mapping of file name to a function of its path
        A figure, a report.
    """

    table: pd.DataFrame
    text: str
    saves: dict[str, Callable[[Path], object]] = field(default_factory=dict)
