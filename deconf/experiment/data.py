"""The cohort and the encoder that a config names, from the folder of ``DECONF_DATA``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deconf.cohort.cohort import Cohort
from deconf.experiment.config import Data, Images
from deconf.experiment.labels import with_findings
from deconf.resources import development_data

if TYPE_CHECKING:
    from deconf.encoders.base import Encoder


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
