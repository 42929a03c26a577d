"""An attacker that asks the nearest training films."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deconf.maths.intervals import multilevel_auroc
from deconf.probes.attackers.protocol import Probe, attackers, probe
from deconf.probes.coordinates import compressed
from deconf.probes.target import is_number, loss, votes


@attackers.register("knn", "clusters and near-duplicates")
@dataclass(frozen=True)
class Neighbours:
    """Vote of the k nearest training rows, in standardised principal coordinates.

    For a number: their mean.

    Parameters
    ----------
    k : tuple of int
        Patients left out in turn choose one.
    tuning_rows : int
        On at most so many rows: distances cost rows squared.
    """

    reads_numbers: ClassVar[bool] = True

    k: tuple[int, ...] = (5, 15, 50)
    tuning_rows: int = 1500

    def fit(
        self,
        z: np.ndarray,
        target: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit; k is chosen by leaving each patient out in turn."""
        from sklearn.neighbors import NearestNeighbors

        view = compressed(z, 64, whiten=False, seed=seed)
        x = view(z)
        patient = np.arange(len(z)) if patients is None else np.asarray(patients)
        said = votes(target)
        index = NearestNeighbors(algorithm="brute").fit(x)

        # Look further by a patient's films, then strike out their own.
        some = np.random.default_rng(seed).permutation(len(x))[: self.tuning_rows]
        films = int(np.unique(patient, return_counts=True)[1].max())
        reach = min(len(x), max(self.k) + films)
        near = index.kneighbors(x[some], reach, return_distance=False)
        foreign = patient[near] != patient[some][:, None]
        counted = [foreign & (np.cumsum(foreign, axis=1) <= k) for k in self.k]
        quality = [_quality(said[near], who, target[some]) for who in counted]
        best = min(self.k[int(np.argmax(np.nan_to_num(quality, nan=-np.inf)))], len(x))

        def read(new: np.ndarray) -> np.ndarray:
            return said[index.kneighbors(view(new), best, return_distance=False)].mean(1)

        return probe(z, target, read)


def _quality(said: np.ndarray, counted: np.ndarray, target: np.ndarray) -> float:
    """Return how well the neighbours that count foretell the target."""
    share = (said * counted[:, :, None]).sum(1) / np.maximum(counted.sum(1), 1)[:, None]
    return -loss(share, target) if is_number(target) else multilevel_auroc(share, target)
