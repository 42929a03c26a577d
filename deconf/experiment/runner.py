"""Read a config, run what it asks, write the answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from deconf.cohort.cohort import Cohort
from deconf.errors import SettingsError, did_you_mean, listing
from deconf.experiment.config import Config, Data, Images, read_config
from deconf.experiment.labels import with_findings
from deconf.experiment.results import write_results
from deconf.resources import development_data, packaged

if TYPE_CHECKING:
    from deconf.encoders.base import Encoder


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
    cohort, report, picture = None, None, None
    notes: list[str] = []
    if config.data is not None:
        cohort, notes = load_cohort(
            config.data,
            cache=folder / "embedded",
            embed=config.kind != "interventions",
            progress=progress,
        )
    if config.kind == "shortcut":
        from deconf.experiment.shortcut import run_shortcut

        shortcut = config.shortcut
        if quick and shortcut is not None:
            shortcut = shortcut.model_copy(update={"splits": 2})
        table, told = run_shortcut(cohort, shortcut, seed=config.seed, progress=progress)  # type: ignore[arg-type]
        text = _shortcut_text(config, cohort, table, [*notes, *told])  # type: ignore[arg-type]
    elif config.kind == "sites":
        from deconf.experiment.sites import run_sites

        table, text, report = run_sites(cohort, config, quick=quick, progress=progress)  # type: ignore[arg-type]
    elif config.kind == "outcomes":
        from deconf.experiment.outcomes import run_outcomes

        table, text = run_outcomes(cohort, config, quick=quick, progress=progress)  # type: ignore[arg-type]
    elif config.kind == "colored_mnist":
        from deconf.experiment.digits import run_colored_mnist, text_of

        digits = config.colored_mnist
        if quick and digits is not None:
            digits = digits.model_copy(update={"splits": 2})
        table, told = run_colored_mnist(digits, seed=config.seed, progress=progress)  # type: ignore[arg-type]
        text = text_of(digits, config.title, table, told)  # type: ignore[arg-type]
    elif config.kind == "morpho":
        from deconf.experiment.morpho import run_morpho

        table, text = run_morpho(config, quick=quick, progress=progress)
    elif config.kind == "structural":
        from deconf.experiment.structural import run_structural

        table, text = run_structural(config, quick=quick, progress=progress)
    elif config.kind == "effects":
        from deconf.experiment.effects import run_effects

        table, text = run_effects(cohort, config, quick=quick, progress=progress)  # type: ignore[arg-type]
    elif config.kind == "interventions":
        from deconf.experiment.interventions import run_interventions

        table, text, picture = run_interventions(
            cohort,  # type: ignore[arg-type]
            config,
            encoder_of(config.data.images),  # type: ignore[union-attr, arg-type]
            quick=quick,
            progress=progress,
        )
    else:
        from deconf.experiment.phantom import run_phantom

        table, text = run_phantom(config, quick=quick, progress=progress)
    write_results(folder, config, path, cohort, table, text, report, picture)
    return Answer(config, table, text, folder)


def load_cohort(
    data: Data,
    *,
    cache: Path | None = None,
    embed: bool = True,
    progress: Callable[[str], object] = str,
) -> tuple[Cohort, list[str]]:
    """Read the cohort of a config from the folder named by ``DECONF_DATA``; and what to say of it.

    Parameters
    ----------
    cache : folder, optional
        Keeps the embeddings of films, by their content.
    embed : bool
        Whether films are embedded anew where embeddings are stored; if not, the stored ones stay.
    """
    folder = development_data()
    roles: dict[str, Any] = {"patient": data.patient, "site": data.site, "outcome": data.outcome}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pickled text and is not read")  # its README
        cohort = Cohort.read(                                      # says: rows in the same order
            folder / data.table,
            embedding=None if data.embedding is None else folder / data.embedding,
            **roles,
        )  # fmt: skip
    table = cohort.table
    for column, change in data.recode.items():
        table[column] = table[column].replace(change)
    keep = np.ones(len(table), dtype=bool)
    for column, values in data.only.items():
        keep &= table[column].astype(str).isin(values).to_numpy()
    table = table[keep].reset_index(drop=True)
    if data.labels is not None:
        table = with_findings(table, data.labels, folder)
    stored = None if cohort.embeddings is None else cohort.embeddings[keep]
    if data.images is None:
        if stored is None:
            return Cohort.read(table, **roles), []
        return Cohort.from_arrays(stored, table, **roles), []
    films = Cohort.read(
        table, image=data.images.column, folder=folder / data.images.folder, **roles
    )
    if not embed and stored is not None:
        return films.with_embeddings(stored), []
    encoder = encoder_of(data.images)
    progress(f"embedding {len(films):,} films with {encoder!r}")
    z = encoder.embed(films, cache=cache)
    note = "Embedded from the films themselves."
    if stored is not None:
        note += f" Largest difference to the stored embeddings: {np.abs(z - stored).max():.1e}."
    return films.with_embeddings(z), [note]


def encoder_of(images: Images) -> Encoder:
    """Load the encoder of a config, its weights from the folder named by ``DECONF_DATA``."""
    from deconf.encoders.base import load_encoder
    from deconf.encoders.preprocess import Preprocess

    return load_encoder(
        images.encoder,
        weights=None if images.weights is None else development_data() / images.weights,
        pad_type=images.pad_type,
        preprocess=None if images.preprocess is None else Preprocess.from_spec(images.preprocess),
    )


def _shortcut_text(config: Config, cohort: Cohort, table: pd.DataFrame, notes: list[str]) -> str:
    lines = [
        config.title,
        f"{len(cohort):,} films of {len(np.unique(cohort.patients)):,} patients; encoder: "
        f"{config.encoder}.",
        "AUROC of disease on test patients, mean over splits [95 % over patients]; the last column "
        "is how well the disease score tells the confounder among films alike in disease.",
    ]
    for setting, part in table.groupby("setting", sort=False):
        lines += ["", f"{setting} training films per kind"]
        width = max(len(m) for m in part["method"])
        metrics = list(dict.fromkeys(part["metric"]))
        lines.append(" " * (width + 2) + "".join(f"{m:>19}" for m in metrics))
        for method, rows in part.groupby("method", sort=False):
            cells = [f"{r.estimate:.3f} [{r.low:.2f}, {r.high:.2f}]" for r in rows.itertuples()]
            lines.append(f"{method:<{width + 2}}" + "".join(f"{c:>19}" for c in cells))
    return "\n".join([*lines, "", *notes])
