"""A map of the films in the plane, raw beside clean: a picture, not evidence.

Embeddings are laid out by t-SNE (van der Maaten & Hinton, "Visualizing data using t-SNE", JMLR
2008), which keeps neighbours and nothing else: distances between clouds and their sizes mean
nothing, and a map without clouds does not show that an attacker finds nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deconf.maths.threads import one_thread
from deconf.probes.cells import levels_of

MOST_FILMS = 600
MOST_MAPS = 4  # the raw embedding and three others: a layout takes two to three seconds
FEWEST = 50  # below, neighbours are chance and the principal components do
COMPONENTS = 30
STEPS = 500  # half the wait of the usual 1,000 for a divergence under 1 % higher
PLACES = ("representation", "x", "y")


@dataclass(frozen=True)
class Points:
    """Held-out films on their principal components, and what they are coloured by.

    Attributes
    ----------
    components : mapping of representation to (n, at most 30) float32
        The same films in the same order for all.
    colours : DataFrame of n rows
        Level of each confounder and outcome in words, None where it is not recorded.  No patient,
        no file.
    seed : int
    """

    components: Mapping[str, np.ndarray]
    colours: pd.DataFrame
    seed: int


def points_of(
    embeddings: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    seed: int,
) -> Points:
    """Draw at most 600 of the films and reduce each embedding to 30 principal components.

    Parameters
    ----------
    embeddings : mapping of representation to (n, d)
        Of films that none of them was fitted on.
    table : DataFrame of n rows
    columns : names of confounders and outcomes
    """
    drawn = np.random.default_rng(seed).permutation(len(table))[:MOST_FILMS]
    shown = list(embeddings)[:MOST_MAPS]
    return Points(
        {name: principal(np.asarray(embeddings[name])[drawn], COMPONENTS) for name in shown},
        pd.DataFrame(
            {_title(c): _words(table[c])[drawn] for c in dict.fromkeys(columns)}, dtype=object
        ),
        seed,
    )


def atlas(points: Points) -> pd.DataFrame:
    """Return one row per representation and film: ``x``, ``y`` and a column for each colour."""
    frames = []
    for name, components in points.components.items():
        place = layout(components, seed=points.seed)
        frame = pd.DataFrame({"representation": name, "x": place[:, 0], "y": place[:, 1]})
        frames.append(pd.concat([frame, points.colours], axis=1))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(PLACES))


def principal(z: np.ndarray, count: int) -> np.ndarray:
    """Return the scores of (n, d) embeddings on their first principal components, float32.

    The sign of each is set by its largest entry, so that the same films give the same map.
    """
    a = np.asarray(z, dtype=np.float64)
    a = a - a.mean(axis=0)
    is_wide = a.shape[1] > len(a)
    value, vector = np.linalg.eigh(a @ a.T if is_wide else a.T @ a)
    order = np.argsort(-value)[:count]
    scores = (
        vector[:, order] * np.sqrt(np.maximum(value[order], 0))
        if is_wide
        else (a @ vector[:, order])
    )
    ends = np.take_along_axis(scores, np.abs(scores).argmax(axis=0)[np.newaxis], axis=0)
    return (scores * np.where(ends < 0, -1.0, 1.0)).astype(np.float32)


def layout(components: np.ndarray, *, seed: int) -> np.ndarray:
    """Return places (n, 2): t-SNE from the first two components; those alone below 50 films."""
    plane = np.zeros((len(components), 2), dtype=np.float32)
    plane[:, : components.shape[1]] = components[:, :2]
    if len(components) < FEWEST or not components.any():
        return plane
    from sklearn.manifold import TSNE

    # As sklearn's init="pca" would: a first axis of standard deviation 1e-4.
    start = plane / max(float(plane[:, 0].std()), 1e-30) * 1e-4
    perplexity = min(30.0, len(components) / 4)
    with one_thread(0), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a film twice in the table
        fitted = TSNE(
            perplexity=perplexity, init=start, max_iter=STEPS, random_state=seed, n_jobs=1
        )
        return np.asarray(fitted.fit_transform(components))


def _title(column: str) -> str:
    """Return the name of a colour: a column called x is not the place x."""
    return f"{column} (column)" if column in PLACES else column


def _words(column: pd.Series) -> np.ndarray:
    """Return levels in words; None where nothing is recorded."""
    levels = levels_of(column)
    head = f"{column.name}="
    names = np.array([*(name.removeprefix(head) for name in levels.names), None], dtype=object)
    return names[levels.codes]
