"""Films as training sees them: on one device, in batches that hold every cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from deconf.errors import SettingsError, listing
from deconf.maths.design import confounders_in, levels_of
from deconf.maths.moments import Given
from deconf.methods.levels import MOST_MAPPED
from deconf.training import Order

FEWEST = 32  # films of a cell in a batch, where it has as many: below, a penalty is noise
MOST_JOINT = 24  # levels that several confounders make together
LARGEST = 2048  # films of a batch that many cells may make of a smaller one


@dataclass(frozen=True)
class Films:
    """Embeddings and what is known of them.

    Attributes
    ----------
    x : (n, d) float32
        Standardised embeddings.
    level, stratum : (n,) int
        Of the confounder (thirds, where it is a number) and of the adjustment set.
    design : (n, k) float32
        Design of the confounder, standardised.
    basis : (n, m) float32
        Continuous columns of the adjustment set, standardised; m = 0 where there are none.
    outcome : (n, q) float32
        0, 1 or nan where not recorded; q = 0 where there is none.
    weight : (n,) float32
    levels, strata : int
    is_number : bool
        Whether to train by the design: a confounder is continuous, or joint levels are many.
    """

    x: Float[Tensor, "n d"]
    level: Int[Tensor, " n"]
    stratum: Int[Tensor, " n"]
    design: Float[Tensor, "n k"]
    basis: Float[Tensor, "n m"]
    outcome: Float[Tensor, "n q"]
    weight: Float[Tensor, " n"]
    levels: int
    strata: int
    is_number: bool

    def __len__(self) -> int:
        """Return the number of films."""
        return len(self.x)

    def take(self, rows: Int[ndarray, " m"]) -> Films:
        """Return some of the films."""
        index = torch.from_numpy(rows).to(self.x.device)
        names = ("x", "level", "stratum", "design", "basis", "outcome", "weight")
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    def marginal(self) -> Films:
        """Return the same films with nothing held."""
        nothing = self.basis[:, :0]
        return replace(self, stratum=torch.zeros_like(self.stratum), basis=nothing, strata=1)

    @cached_property
    def cell(self) -> Int[Tensor, " n"]:
        """Level and stratum as one number."""
        return self.level * self.strata + self.stratum

    @cached_property
    def balanced(self) -> Float[Tensor, " n"]:
        """Weights that sum to one, under which every stratum holds its levels in equal shares.

        The weighted confounder is then independent of the stratum: a head trained so has no reason
        to use what is left of it, and an adversary none to guess from the stratum.
        """
        cells = self.levels * self.strata
        total = self.weight.new_zeros(cells).index_add_(0, self.cell, self.weight)
        met = (total > 0).view(self.levels, self.strata)
        share = total.view(self.levels, self.strata).sum(dim=0)
        each = (met * share / met.sum(dim=0).clamp_min(1)).flatten()
        per = each / total.clamp_min(torch.finfo(total.dtype).tiny)
        out: Tensor = self.weight * per[self.cell] / share.sum()
        return out


def films_of(
    x: Float[ndarray, "n d"],
    c: Float[ndarray, "n k"],
    given: Given,
    outcome: Any,
    weights: ndarray | None,
    device: torch.device,
) -> Films:
    """Return the films of an adapter's training; x is standardised already.

    Raises
    ------
    SettingsError
        An outcome is something else than 0, 1 or missing.
    """
    n = len(x)
    level, is_number = levels_in(c)
    stratum = np.unique(given.codes, return_inverse=True)[1].ravel()
    basis = np.zeros((n, 0)) if given.basis is None else given.basis
    return Films(
        x=torch.as_tensor(np.ascontiguousarray(x, dtype=np.float32), device=device),
        level=torch.as_tensor(level, device=device),
        stratum=torch.as_tensor(stratum, device=device),
        design=_standard(c, device),
        basis=_standard(basis, device),
        outcome=torch.as_tensor(outcomes(outcome, n), dtype=torch.float32, device=device),
        weight=torch.as_tensor(
            np.ones(n) if weights is None else weights, dtype=torch.float32, device=device
        ),
        levels=int(level.max()) + 1,
        strata=int(stratum.max()) + 1,
        is_number=is_number,
    )


def levels_in(c: Float[ndarray, "n k"]) -> tuple[Int[ndarray, " n"], bool]:
    """Return the level of each row, and whether the design, not the level, is what to train by.

    It is where a number is part of it, or categories have too many joint levels.  A number counts
    by its thirds; levels of several confounders are then joint for as long as they are few.
    """
    levels = levels_of(c)
    if levels is not None and (levels.max() < MOST_MAPPED or len(confounders_in(c)) == 1):
        return levels, False
    joint, *more = (one.codes for one in confounders_in(c))
    for codes in more:
        both = np.unique(np.stack([joint, codes]), axis=1, return_inverse=True)[1].ravel()
        if both.max() >= MOST_JOINT:
            break
        joint = both
    return joint, True


def outcomes(outcome: Any, n: int) -> Float[ndarray, "n q"]:
    """Return outcomes as columns of 0, 1 and nan.

    Raises
    ------
    SettingsError
        One holds something else.
    """
    if outcome is None:
        return np.zeros((n, 0))
    table = np.asarray(outcome).reshape(n, -1)
    try:
        y = table.astype(np.float64)
    except ValueError:
        y = np.full(table.shape, np.inf)
    other = ~(np.isin(y, (0, 1)) | np.isnan(y))
    if other.any():
        raise SettingsError(
            "training keeps outcomes of 0, 1 or missing (NaN), and these hold "
            f"{listing(np.unique(table[other]), 3)}: recode them, or choose a method in closed "
            "form such as 'leace'."
        )
    return y


def stratified(cell: Int[ndarray, " n"], batch: int, steps: int) -> tuple[Order, int]:
    """Return an order of rows in which every batch holds every cell, and the size of a batch.

    A cell gives an equal share of the batch, or all that it has; 32 films at least, as long as the
    batch stays below 2,048.  Inside a batch no film occurs twice; through the batches a cell goes
    round its films, each as often as the others.

    Examples
    --------
    >>> order, size = stratified(np.repeat([0, 1], [40, 900]), batch=128, steps=2)
    >>> size, (order(np.random.default_rng(0)).reshape(2, size) < 40).sum(axis=1).tolist()
    (104, [40, 40])
    """
    members = [np.flatnonzero(cell == k) for k in np.unique(cell)]
    wanted = max(batch // len(members), min(FEWEST, LARGEST // len(members)), 1)
    quotas = [min(wanted, len(rows)) for rows in members]

    def order(rng: np.random.Generator) -> ndarray:
        parts = []
        for rows, quota in zip(members, quotas, strict=True):
            whole = len(rows) // quota  # batches that one shuffle of the cell serves
            turns = [
                rng.permutation(rows)[: whole * quota].reshape(whole, quota)
                for _ in range(-(-steps // whole))
            ]
            parts.append(np.concatenate(turns)[:steps])
        return np.hstack(parts).ravel()

    return order, sum(quotas)


def _standard(x: ndarray, device: torch.device) -> Tensor:
    spread = x.std(axis=0)
    out = (x - x.mean(axis=0)) / np.where(spread > 1e-9 * np.abs(x).max(initial=1.0), spread, 1.0)
    return torch.as_tensor(out, dtype=torch.float32, device=device)
