"""Fresh attackers: probes that try to read a confounder from an embedding.

Each is a frozen setting; ``fit`` sees training rows only and returns a :class:`Probe`.  They
are chosen to fail differently: a linear probe sees means, the quadratic one variances and
products, neighbours and kernels see clusters, trees see steps, the network the rest.  All are
deterministic given a seed and tune themselves on training patients only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deconf.errors import CohortError
from deconf.maths.intervals import multilevel_auroc
from deconf.probes.coordinates import (
    View,
    compressed,
    median_distance,
    row_span,
    second_order,
    standardise,
    with_telling_coordinates,
)
from deconf.probes.tuning import best_epoch, columns, tuned_logistic
from deconf.registry import Registry

attackers = Registry("attacker")


@dataclass(frozen=True)
class Probe:
    """A fitted attacker: rows of an embedding in, one score per level out.

    Attributes
    ----------
    levels : int
        Number of levels L, the columns of the scores.
    width : int
        Number of coordinates d of the embedding it was fitted on.
    read : callable
        From (m, d) rows to (m, L) scores; ``scores`` checks its input first.
    """

    levels: int
    width: int
    read: Callable[[np.ndarray], np.ndarray]

    def scores(self, z: np.ndarray) -> np.ndarray:
        """Return (m, L) scores of (m, d) rows; higher means more like that level.

        Raises
        ------
        CohortError
            When the rows have another width than those the probe was fitted on.
        """
        z = np.asarray(z)
        if z.ndim != 2 or z.shape[1] != self.width:
            raise CohortError(
                f"the probe was fitted on embeddings of width {self.width} and was given an array "
                f"of shape {z.shape}: pass (n, {self.width}) rows of the same encoder."
            )
        return self.read(z)


class Attacker(Protocol):
    """What an audit asks of an attacker: settings that can be fitted."""

    registered_name: str

    def fit(
        self,
        z: np.ndarray,
        codes: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit on (n, d) rows with levels 0..L-1 in (n,) ``codes``, each present.

        ``patients`` (n,) stay together while the attacker tunes itself; default: one row each.
        """
        ...


@attackers.register("logistic", "differences of means: what a linear head could use")
@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression on standardised coordinates, L2 strength tuned.

    Parameters
    ----------
    strengths : tuple of float
        scikit-learn's C (inverse penalty on the summed loss), the strongest penalty first:
        1e-4 suits a thousand coordinates, 1 a handful.
    """

    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

    def fit(
        self,
        z: np.ndarray,
        codes: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit; in the span of the rows when d > n, where an L2 fit is exact."""
        view = standardise(z)
        span = row_span(view(z))
        decide = tuned_logistic(span(view(z)), codes, patients, self.strengths, seed=seed)
        return _probe(z, codes, lambda new: decide(span(view(new))))


@attackers.register("quadratic", "differences of variances and of products")
@dataclass(frozen=True)
class Quadratic:
    """Logistic regression on squares and products of the directions whose variance differs.

    The directions are chosen anew inside every tuning fold: chosen once on all training rows
    they look telling on the very rows that chose them, and too weak a penalty would win.
    """

    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)

    def fit(
        self,
        z: np.ndarray,
        codes: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit on training rows."""
        view = standardise(z)

        def features(x: np.ndarray, codes: np.ndarray) -> View:
            pairs = second_order(x, codes, seed=seed)
            scale = standardise(pairs(x))
            return lambda new: scale(pairs(new))

        decide = tuned_logistic(
            view(z), codes, patients, self.strengths, features=features, seed=seed
        )
        return _probe(z, codes, lambda new: decide(view(new)))


@attackers.register("knn", "clusters and near-duplicates")
@dataclass(frozen=True)
class Neighbours:
    """Vote of the k nearest training rows, in standardised principal coordinates."""

    k: tuple[int, ...] = (5, 15, 50)
    tuning_rows: int = 1500  # distances cost rows squared

    def fit(
        self,
        z: np.ndarray,
        codes: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit; k is chosen by leaving each patient out in turn."""
        from sklearn.neighbors import NearestNeighbors

        view = compressed(z, 64, whiten=False, seed=seed)
        x = view(z)
        patient = np.arange(len(z)) if patients is None else np.asarray(patients)
        votes = np.eye(int(codes.max()) + 1)[codes]
        index = NearestNeighbors(algorithm="brute").fit(x)

        # Look further by a patient's films, then strike out their own.
        some = np.random.default_rng(seed).permutation(len(x))[: self.tuning_rows]
        films = int(np.unique(patient, return_counts=True)[1].max())
        reach = min(len(x), max(self.k) + films)
        near = index.kneighbors(x[some], reach, return_distance=False)
        foreign = patient[near] != patient[some][:, None]
        counted = [foreign & (np.cumsum(foreign, axis=1) <= k) for k in self.k]
        quality = [
            multilevel_auroc((votes[near] * who[:, :, None]).sum(1), codes[some]) for who in counted
        ]
        best = min(self.k[int(np.argmax(np.nan_to_num(quality)))], len(x))

        def read(new: np.ndarray) -> np.ndarray:
            return votes[index.kneighbors(view(new), best, return_distance=False)].mean(1)

        return _probe(z, codes, read)


@attackers.register("boosted", "steps and interactions")
@dataclass(frozen=True)
class Boosted:
    """Gradient-boosted shallow trees on principal components and single coordinates."""

    components: int = 48
    trees: int = 80
    leaves: int = 8

    def fit(
        self,
        z: np.ndarray,
        codes: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,  # noqa: ARG002 (nothing is tuned)
    ) -> Probe:
        """Fit on training rows."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        view = with_telling_coordinates(z, codes, self.components, seed=seed)
        trees = HistGradientBoostingClassifier(
            max_iter=self.trees,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=int(np.clip(len(z) // 20, 2, 20)),
            l2_regularization=1.0,
            early_stopping=False,  # its validation split would cut patients in two
            random_state=seed,
        ).fit(view(z), codes)
        return _probe(z, codes, lambda new: columns(trees.decision_function(view(new))))


@attackers.register("mlp", "whatever smooth functions the others miss")
@dataclass(frozen=True)
class Network:
    """One hidden layer, stopped early on held-out training patients."""

    hidden: int = 128
    components: int = 128
    epochs: int = 60

    def fit(
        self,
        z: np.ndarray,
        codes: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit on training rows."""
        view = compressed(z, self.components, whiten=True, seed=seed)
        decide = best_epoch(
            view(z), codes, patients, hidden=self.hidden, epochs=self.epochs, seed=seed
        )
        return _probe(z, codes, lambda new: decide(view(new)))


@attackers.register("rbf", "smooth clusters, by a kernel of two widths")
@dataclass(frozen=True)
class RadialBasis:
    """Logistic regression on random Fourier features (Rahimi & Recht 2007) of two widths."""

    components: int = 64
    features: int = 256
    widths: tuple[float, ...] = (0.5, 1.0)  # in units of the median distance
    strengths: tuple[float, ...] = (1e-2, 1e-1, 1.0)

    def fit(
        self,
        z: np.ndarray,
        codes: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit on training rows."""
        view = compressed(z, self.components, whiten=True, seed=seed)
        x = view(z)
        rng = np.random.default_rng(seed)
        typical = median_distance(x, rng)
        waves = [
            rng.standard_normal((x.shape[1], self.features)) / (width * typical)
            for width in self.widths
        ]
        W, phase = np.hstack(waves), rng.uniform(0, 2 * np.pi, self.features * len(waves))

        def waved(new: np.ndarray) -> np.ndarray:
            return np.cos(view(new) @ W + phase)

        decide = tuned_logistic(waved(z), codes, patients, self.strengths, seed=seed)
        return _probe(z, codes, lambda new: decide(waved(new)))


def _probe(z: np.ndarray, codes: np.ndarray, read: Callable[[np.ndarray], np.ndarray]) -> Probe:
    return Probe(levels=int(codes.max()) + 1, width=z.shape[1], read=read)
