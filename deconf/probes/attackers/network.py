"""An attacker for whatever is smooth: a network with one hidden layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from deconf.probes.attackers.protocol import Probe, attackers, probe
from deconf.probes.coordinates import View, compressed
from deconf.probes.target import is_number, loss, votes
from deconf.probes.tuning import grouped_folds

# Epochs without a better validation loss before a network stops.
PATIENCE = 8


@attackers.register("mlp", "whatever smooth functions the others miss")
@dataclass(frozen=True)
class Network:
    """One hidden layer, stopped early on held-out training patients.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the layer.  With one, a single network learns on two thirds of the patients and
        is stopped on the rest.  With several, every width is tried on every third in turn, and the
        three networks of the best width are averaged: nothing new to fit, and all rows are used.
    components : int
        Principal components it looks at.
    epochs : int
        At most.
    """

    reads_numbers: ClassVar[bool] = True

    hidden: tuple[int, ...] = (128,)
    components: int = 128
    epochs: int = 60

    def fit(
        self,
        z: np.ndarray,
        target: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit on training rows."""
        view = compressed(z, self.components, whiten=True, seed=seed)
        x = view(z)
        everything = np.arange(len(x))
        folds = grouped_folds(target, patients, seed) or [(everything, everything)]
        if len(self.hidden) == 1:
            folds = folds[:1]
        tried = [
            [_stopped(x, target, *fold, width, self.epochs, seed) for fold in folds]
            for width in self.hidden
        ]
        networks = min(tried, key=lambda several: sum(loss for _, loss in several))

        def read(new: np.ndarray) -> np.ndarray:
            return np.mean([decide(view(new)) for decide, _ in networks], axis=0)

        return probe(z, target, read)


def _stopped(
    x: np.ndarray,
    target: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    width: int,
    epochs: int,
    seed: int,
) -> tuple[View, float]:
    """Train a network; keep the epoch best on held-out patients, and its loss there.

    scikit-learn's own early stopping holds out rows, which may be films of a training patient.

    Returns
    -------
    Function from (m, p) rows to (m, L) log-probabilities or (m, 1) expected numbers, and the loss.
    """
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    settings: dict[str, Any] = {
        "hidden_layer_sizes": (width,), "alpha": 1e-3, "learning_rate_init": 3e-3,
        "random_state": seed,
    }  # fmt: skip
    network: Any
    if is_number(target):
        network, extra = MLPRegressor(**settings), {}
        reading = network.predict
    else:
        network, extra = MLPClassifier(**settings), {"classes": np.arange(votes(target).shape[1])}
        reading = network.predict_proba
    best, kept, since = np.inf, None, 0
    for _ in range(epochs):
        network.partial_fit(x[train], target[train], **extra)
        now = loss(reading(x[test]), target[test])
        if now < best:
            best, since = now, 0
            kept = [w.copy() for w in network.coefs_], [b.copy() for b in network.intercepts_]
        elif (since := since + 1) >= PATIENCE:
            break
    if kept is not None:
        network.coefs_, network.intercepts_ = kept
    if is_number(target):
        return lambda new: network.predict(new)[:, None], best
    return lambda new: np.log(np.clip(network.predict_proba(new), 1e-12, None)), best
