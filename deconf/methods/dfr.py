"""Deep feature reweighting (DFR): the last layer re-trained on group-balanced rows.

Plain training learns the useful features beside the spurious ones; it is the last layer that leans
on the latter.  So it is fitted again, on rows in which outcome and confounder are independent.

Kirichenko, Izmailov & Wilson, "Last layer re-training is sufficient for robustness to spurious
correlations", ICLR 2023, https://arxiv.org/abs/2204.02937.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from deconf.cohort.splits import patient_split
from deconf.errors import CohortError, SettingsError
from deconf.methods.base import MethodCard, methods
from deconf.methods.environments import Batch, Environments, Predictor, Watch, trained
from deconf.methods.invariant import InvariantRisk
from deconf.probes.head import fit_head


@methods.register(
    "dfr",
    MethodCard(
        guarantee="the head was fitted where c is independent of the outcome; c stays readable",
        needs=("outcome", "levels"),
        head_weights=True,
        dear=True,
        cost="epochs x n d h + draws x n d^2",
        source="Kirichenko et al. 2023",
    ),
)
@dataclass(frozen=True)
class DFR(InvariantRisk):
    """Train by the mean risk, then fit the head anew on balanced rows that were held out.

    Parameters
    ----------
    strength : float or tuple of float
        Ridge of the new head per row, on a unit mean variance; `selection` chooses of several.
    draws : int
        Balanced draws over which the head is averaged: as many rows of every cell of outcome and
        confounder as the smallest has.
    share : float in (0, 1)
        Of the patients, held out from the first stage for the second.
    selection, oracle, hidden, epochs, batch, learning_rate, weight_decay
        See `InvariantRisk`.

    Raises
    ------
    CohortError
        A cell of outcome and confounder is empty among the held-out rows.

    Warnings
    --------
    Needs every cell of outcome and confounder, as the confounder itself and not as environments in
    which it varies; the smallest cell decides how many rows the head sees.
    """

    strength: float | tuple[float, ...] = (0.01, 0.1, 1.0)
    draws: int = 10
    share: float = 0.3

    searched: ClassVar[str] = "strength"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (isinstance(self.draws, int) and self.draws > 0):
            raise SettingsError(f"draws is a number above zero, not {self.draws!r}.")
        if not 0 < self.share < 1:
            raise SettingsError(f"share is between 0 and 1, not {self.share!r}.")
        if not min(self.values()) > 0:
            raise SettingsError("strength is a ridge above zero.")

    @property
    def compares_environments(self) -> bool:
        """Never: the cells of outcome and shortcut are balanced."""
        return False

    def learn(self, data: Environments, watch: Watch, *, seed: int) -> Predictor:
        """Train both stages with one ridge; the epoch of the first stage is always its last."""
        (strength,) = self.values()
        cells = (2 * data.codes + data.y.long()).cpu().numpy()
        first, second = patient_split(data.patients, self.share, strata=cells, seed=seed)
        _require_every_cell(cells[second], data.count)
        net = trained(
            data.rows(first), self.fitting(), Batch.average, seed=seed, watch=lambda *_: None
        )
        with torch.inference_mode():
            features = net(data.x[torch.from_numpy(second).to(data.x.device)])[0].cpu().numpy()
        coefficients, intercept = self._balanced_head(
            features, data.y.cpu().numpy()[second], cells[second], strength, 2 * data.count, seed
        )
        with torch.no_grad():
            net.head.weight.copy_(torch.from_numpy(coefficients)[None])
            net.head.bias.fill_(intercept)
        watch(net, self.epochs)
        return net

    def _balanced_head(
        self,
        features: np.ndarray,
        y: np.ndarray,
        cells: np.ndarray,
        strength: float,
        count: int,
        seed: int,
    ) -> tuple[np.ndarray, float]:
        """Return coefficients and intercept, averaged over draws with equal cells."""
        sizes = np.bincount(cells, minlength=count)
        heads = []
        for draw in range(self.draws):
            rng = np.random.default_rng([seed, draw])
            rows = np.concatenate(
                [
                    rng.choice(np.flatnonzero(cells == cell), sizes.min(), replace=False)
                    for cell in range(count)
                ]
            )
            heads.append(fit_head(features[rows], y[rows], strength=strength))
        coefficients: np.ndarray = np.mean([h.coefficients for h in heads], axis=0)
        return coefficients, float(np.mean([h.intercept for h in heads]))


def _require_every_cell(cells: np.ndarray, levels: int) -> None:
    sizes = np.bincount(cells, minlength=2 * levels).reshape(levels, 2)
    if not sizes.all():
        level, outcome = np.argwhere(sizes == 0)[0].tolist()
        raise CohortError(
            f"dfr balances the {2 * levels} cells of outcome and confounder, and one level, with "
            f"{sizes[level].sum():,} of the {len(cells):,} held-out rows, has none of outcome "
            f"{outcome}: leave that level out, or raise share."
        )
