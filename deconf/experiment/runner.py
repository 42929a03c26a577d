"""Read a config, run what it asks, write the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pandas as pd

from deconf.cohort.cohort import Cohort
from deconf.errors import SettingsError, did_you_mean, listing
from deconf.experiment.answer import Found, Job
from deconf.experiment.config import Config, read_config
from deconf.experiment.data import load_cohort
from deconf.experiment.results import write_results
from deconf.resources import packaged

# The file that answers each kind, by `answered(Job) -> Found`.
HOMES = {
    "shortcut": "shortcut",
    "sites": "sites",
    "phantom": "phantom",
    "outcomes": "outcomes",
    "colored_mnist": "digits",
    "morpho": "morpho",
    "structural": "structural",
    "effects": "effects",
    "interventions": "interventions",
}


@dataclass(frozen=True)
class Answer:
    """What an experiment found: a tidy table, text for people, and where it was written."""

    config: Config
    table: pd.DataFrame
    text: str
    folder: Path | None

    def __str__(self) -> str:
        return self.text


def names() -> list[str]:
    """Return the experiments that come with deconf."""
    return sorted(p.stem for p in packaged("experiments/configs").glob("*.toml"))


def run(
    name: str | Path,
    *,
    out: str | Path | None = None,
    quick: bool = False,
    progress: Callable[[str], object] = str,
) -> Answer:
    """Run an experiment by name or from a TOML file.

    Parameters
    ----------
    name : name or path
    out : folder, optional
        Where to write the answer; default ``runs/<name>``.
    quick : bool
        Two splits instead of all: to see that it works, not to believe.
    progress : callable
        Told one line at a time what is being done.

    Raises
    ------
    SettingsError
        No such experiment, or its file says something unknown.
    ReadError
        ``DECONF_DATA`` is not set or lacks a file.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in names():
            raise SettingsError(
                f"no experiment is called {str(name)!r}.{did_you_mean(str(name), names())} "
                f"Known: {listing(names())}; or pass the path of a .toml file."
            )
        path = packaged("experiments/configs") / f"{name}.toml"
    config = read_config(path)
    folder = Path(out) if out is not None else Path("runs") / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    cohort: Cohort | None = None
    notes: list[str] = []
    if config.data is not None:
        cohort, notes = load_cohort(
            config.data,
            cache=folder / "embedded",
            embed=config.kind != "interventions",
            progress=progress,
        )
    kind = import_module(f"deconf.experiment.{HOMES[config.kind]}")
    found: Found = kind.answered(Job(config, cohort, notes, quick, progress))
    write_results(folder, config, path, cohort, found)
    return Answer(config, found.table, found.text, folder)
