"""An attacker that looks for steps: gradient-boosted trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from deconf.probes.attackers.protocol import Probe, attackers, probe
from deconf.probes.coordinates import View, with_telling_coordinates
from deconf.probes.target import is_number, loss, parted, spread_out
from deconf.probes.tuning import columns, grouped_folds


@attackers.register("boosted", "steps and interactions")
@dataclass(frozen=True)
class Boosted:
    """Gradient-boosted shallow trees on principal components and single coordinates.

    Parameters
    ----------
    components : int
        Principal components beside the coordinates that differ most.
    trees, leaves : tuple of int
        How many trees of how many leaves.  One of each is taken as it is; of several the pair is
        chosen by patient-grouped folds (a fit of many trees shows what fewer would do).
    """

    reads_numbers: ClassVar[bool] = True

    components: int = 48
    trees: tuple[int, ...] = (80,)
    leaves: tuple[int, ...] = (8,)

    def fit(
        self,
        z: np.ndarray,
        target: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit on training rows."""
        pairs = [(count, size) for size in self.leaves for count in self.trees]
        if len(pairs) > 1:
            total = np.zeros(len(pairs))
            for train, test in grouped_folds(target, patients, seed):
                total += self._curve(z[train], target[train], z[test], target[test], seed)
            pairs = [pairs[int(np.argmin(total))]]
        ((count, size),) = pairs
        view, model = self._grown(z, target, count, size, seed)
        if is_number(target):
            return probe(z, target, lambda new: model.predict(view(new))[:, None])
        return probe(z, target, lambda new: columns(model.decision_function(view(new))))

    def _grown(
        self, z: np.ndarray, target: np.ndarray, count: int, size: int, seed: int
    ) -> tuple[View, Any]:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        view = with_telling_coordinates(z, parted(target), self.components, seed=seed)
        kind = HistGradientBoostingClassifier
        if is_number(target):
            kind = HistGradientBoostingRegressor
        model = kind(
            max_iter=count,
            max_leaf_nodes=size,
            min_samples_leaf=int(np.clip(len(z) // 20, 2, 20)),
            l2_regularization=1.0,
            early_stopping=False,  # its validation split would cut patients in two
            random_state=seed,
        )
        return view, model.fit(view(z), target)

    def _curve(
        self, z: np.ndarray, target: np.ndarray, held_out: np.ndarray, truth: np.ndarray, seed: int
    ) -> np.ndarray:
        """Return the held-out loss of each pair of trees and leaves."""
        curve: list[float] = []
        for size in self.leaves:
            readings = self._stages(z, target, held_out, truth, size, seed)
            losses = [loss(reading, truth) for reading in readings]
            curve += [losses[count - 1] for count in self.trees]
        return np.array(curve)

    def _stages(
        self,
        z: np.ndarray,
        target: np.ndarray,
        held_out: np.ndarray,
        truth: np.ndarray,
        size: int,
        seed: int,
    ) -> Iterator[np.ndarray]:
        """Yield the reading after one tree, two trees, ... up to the most."""
        if is_number(target):
            view, model = self._grown(z, target, max(self.trees), size, seed)
            yield from model.staged_predict(view(held_out))
            return
        seen, inner = np.unique(target, return_inverse=True)
        levels = int(max(target.max(), truth.max())) + 1
        view, model = self._grown(z, inner, max(self.trees), size, seed)
        for p in model.staged_predict_proba(view(held_out)):
            yield spread_out(p, seen, levels)
