"""Worlds drawn by shape, seed and difficulty; arrays are built from these, never drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from numpy import ndarray

from deconf.maths.moments import Given


@dataclass(frozen=True)
class World:
    """Embeddings (n, d), one-hot confounder (n, k), levels (n,), strata (n,), row weights (n,)."""

    z: ndarray
    c: ndarray
    levels: ndarray
    strata: ndarray
    weights: ndarray

    @property
    def given(self) -> Given:
        return Given(self.strata)


def world(
    seed: int,
    *,
    n: int = 400,
    d: int = 8,
    k: int = 3,
    strata: int = 2,
    trace: float = 1.5,
    disease: float = 2.0,
    rarest: float = 0.2,
    condition: float = 5.0,
    follows: float = 0.6,
) -> World:
    """Return levels that follow the strata, both moving the mean of a correlated embedding.

    Parameters
    ----------
    rarest : float
        Share of the last level.
    condition : float
        Of the matrix that mixes the noise; its square is that of the covariance.
    follows : float in [0, 1]
        How strongly the level depends on the stratum.
    """
    rng = np.random.default_rng(seed)
    s = rng.integers(strata, size=n)
    usual = np.full(k, (1 - rarest) / max(k - 1, 1))
    usual[-1] = rarest if k > 1 else 1.0
    chance = np.array([usual if j % 2 else usual[::-1] for j in range(strata)])
    chance = follows * chance + (1 - follows) * usual
    levels = (rng.random((n, 1)) > np.cumsum(chance, axis=1)[s][:, :-1]).sum(axis=1)
    levels[:k] = np.arange(k)[: len(levels)]  # every level occurs
    mixing = invertible(rng, d, condition)
    z = rng.normal(size=(n, d)) @ mixing
    z += trace * rng.normal(size=(k, d))[levels] + disease * rng.normal(size=(strata, d))[s]
    weights = rng.integers(1, 4, size=n).astype(float)
    return World(z, np.eye(k)[levels], levels, s, weights)


def invertible(rng: np.random.Generator, size: int, condition: float) -> ndarray:
    """Return a square matrix of the given condition number, in a random basis on both sides."""
    left, right = (np.linalg.qr(rng.normal(size=(size, size)))[0] for _ in range(2))
    return left * np.geomspace(1.0, 1 / condition, size) @ right


@st.composite
def worlds(draw, most_rows: int = 400, least_strata: int = 1):
    """Worlds of any shape with more rows than columns, rare levels included."""
    d = draw(st.integers(2, 12))
    return world(
        draw(st.integers(0, 2**32 - 1)),
        n=draw(st.integers(60, most_rows)),
        d=d,
        k=draw(st.integers(2, 5)),
        strata=draw(st.integers(least_strata, 3)),
        trace=draw(st.sampled_from([0.0, 0.3, 3.0])),
        rarest=draw(st.sampled_from([0.02, 0.2])),
        condition=draw(st.sampled_from([1.0, 30.0])),
    )


def apply(fitted, z: ndarray, c: ndarray | None = None) -> ndarray:
    """Return the mapped array; ``c`` is handed over where the map reads it."""
    z = torch.from_numpy(np.array(z))
    read = (torch.from_numpy(np.array(c)),) if fitted.needs_confounders else ()
    return fitted(z, *read).numpy()


def gap(z: ndarray, levels: ndarray, strata: ndarray, weights: ndarray | None = None) -> float:
    """Return how far levels lie apart within strata, in pooled standard deviations.

    The largest, over strata and levels, distance of the mean of a cell from that of its stratum.
    """
    z = np.asarray(z, dtype=np.float64)
    w = np.ones(len(z)) if weights is None else weights
    sd = np.sqrt(np.mean([z[strata == s].var(axis=0).sum() for s in np.unique(strata)]))
    far = [
        np.linalg.norm(
            np.average(z[(strata == s) & (levels == level)], axis=0,
                       weights=w[(strata == s) & (levels == level)])
            - np.average(z[strata == s], axis=0, weights=w[strata == s])
        )
        for s in np.unique(strata)
        for level in np.unique(levels[strata == s])
    ]  # fmt: skip
    return float(max(far) / sd)
