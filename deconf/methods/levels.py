"""Moments of each level of the confounder inside each stratum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.errors import SettingsError, listing
from deconf.maths.design import levels_of
from deconf.maths.kinds import is_categorical
from deconf.maths.moments import CellMoments, Given, cell_moments, without_basis

MOST_MAPPED = 64  # levels, joint ones included, that get a map each


def require_levels(method: str, table: pd.DataFrame, confounders: Sequence[str]) -> None:
    """Refuse, by their names, confounders that are numbers.

    Raises
    ------
    SettingsError
        With the remedy.
    """
    if numbers := [name for name in confounders if not is_categorical(table[name])]:
        raise SettingsError(
            f"{method} needs confounders with levels, and {listing(numbers)} "
            f"{'are' if numbers[1:] else 'is'} continuous: bin {'them' if numbers[1:] else 'it'}, "
            "say with pandas.qcut, or use 'leace'."
        )


@dataclass(frozen=True)
class LevelMoments:
    """What the level-wise methods know: moments of each (level, stratum) cell.

    Continuous columns of the adjustment set are held by regression, with one slope for all cells.

    Attributes
    ----------
    levels : (n,) int
        Level of each row.
    design : (L, k)
        The design row of each level.
    cells : CellMoments
        Cell ``level * S + stratum``.
    strata : int
        S.
    """

    levels: Int[ndarray, " n"]
    design: Float[ndarray, "L k"]
    cells: CellMoments
    strata: int

    @classmethod
    def of(
        cls,
        z: Float[ndarray, "n d"],
        c: Float[ndarray, "n k"],
        given: Given,
        weights: ndarray | None,
        patients: ndarray | None,
        name: str,
    ) -> LevelMoments:
        """Compute them; a continuous design is refused by the name of the method."""
        levels = levels_of(c)
        if levels is None:
            raise SettingsError(
                f"{name} needs confounders with levels, and this one is continuous: "
                "bin it, or use 'leace'."
            )
        design = np.unique(c, axis=0)
        if len(design) > MOST_MAPPED:
            raise SettingsError(
                f"{name} makes a map for each level, and these are {len(design):,}, joint ones "
                f"included: at most {MOST_MAPPED}. Pool the rarest, fit several confounders one "
                "after the other, or use 'combat' or 'leace', which take any number."
            )
        strata = int(given.codes.max()) + 1
        cell = levels * strata + given.codes
        m = cell_moments(
            z,
            given=Given(cell, given.basis),
            weights=weights,
            patients=patients,
            cells=len(design) * strata,
        )
        return cls(levels, design, m, strata)

    @property
    def weight(self) -> Float[ndarray, "L S"]:
        """Sum of weights of each cell."""
        return self.cells.weight.reshape(-1, self.strata)

    @property
    def mean(self) -> Float[ndarray, "L S d"]:
        """Mean of each cell, at the common mean of the basis.

        An empty cell gets level plus stratum, by least squares over the others: the trace is
        taken to be the same in every stratum, which the data cannot check there.
        """
        d, weight = self.cells.width, self.cells.weight
        mean, basis = self.cells.mean[:, :d], self.cells.mean[:, d:]
        if basis.shape[1]:
            scatter = self.cells.scatter.sum(axis=0)
            slope = np.linalg.pinv(scatter[d:, d:], rcond=1e-10, hermitian=True) @ scatter[d:, :d]
            mean = mean - (basis - weight @ basis / weight.sum()) @ slope
        full = weight > 0
        if not full.all():
            levels = np.repeat(np.eye(len(self.design)), self.strata, axis=0)
            design = np.hstack([levels, np.tile(np.eye(self.strata), (len(self.design), 1))])
            root = np.sqrt(weight[full])[:, None]
            fitted = np.linalg.lstsq(root * design[full], root * mean[full], rcond=None)[0]
            mean = np.where(full[:, None], mean, design @ fitted)
        return mean.reshape(len(self.design), self.strata, d)

    def covariances(self) -> Float[ndarray, "L d d"]:
        """Covariance of each level, pooled within its strata; zero for a level without weight."""
        scatter = self.cells.scatter.reshape(*self.weight.shape, *self.cells.scatter.shape[1:])
        total = self.weight.sum(axis=1)
        pooled = scatter.sum(axis=1) / np.where(total > 0, total, 1.0)[:, None, None]
        return np.stack([without_basis(sigma, self.cells.width) for sigma in pooled])

    def totals(self) -> Float[ndarray, "L d d"]:
        """Covariance of each level, strata and basis left in; zero for a level without weight."""
        m = self.cells.pool(np.repeat(np.arange(len(self.design)), self.strata))
        weight = np.where(m.weight > 0, m.weight, 1.0)[:, None, None]
        out: ndarray = m.scatter[:, : m.width, : m.width] / weight
        return out

    def sizes(self) -> Float[ndarray, " L"]:
        """Kish's size of each level in patients, less one for each stratum mean; at least one."""
        weight2 = self.cells.weight2.reshape(-1, self.strata).sum(axis=1)
        kish = self.weight.sum(axis=1) ** 2 / np.where(weight2 > 0, weight2, 1.0)
        out: ndarray = np.maximum(kish - (self.weight > 0).sum(axis=1), 1)
        return out

    def effects(self) -> tuple[Float[ndarray, "L d"], Float[ndarray, "L d"]]:
        """Return the mean of each level and its reference (the same for all levels with weight).

        Both take the strata in their common shares P(s), so that a level with more disease is not
        taken for a level with another scanner.  A level without weight is its own reference.
        """
        total = self.weight.sum()
        here = np.einsum("s,lsd->ld", self.weight.sum(axis=0) / total, self.mean)
        level_share = self.weight.sum(axis=1) / total
        reference = np.broadcast_to(level_share @ here, here.shape)
        return here, np.where(level_share[:, None] > 0, reference, here)

    def balancing(self, given: Given) -> Float[ndarray, " n"]:
        """Return P(l) / P(l | s) for each row: a classifier of levels trained so reads no disease.

        Shares of the cells; with a basis, a logistic regression on strata and basis.
        """
        share = self.weight.sum(axis=1) / self.weight.sum()
        if given.basis is None:
            return balance(self.weight)[self.levels, given.codes]
        from sklearn.linear_model import LogisticRegression

        basis = given.basis / (given.basis.std(axis=0) + np.finfo(float).tiny)
        known = np.hstack([np.eye(self.strata)[given.codes], basis])
        model = LogisticRegression(max_iter=1000).fit(known, self.levels)
        chance = model.predict_proba(known)[np.arange(len(known)), self.levels]
        weights: ndarray = share[self.levels] / np.clip(chance, 0.01, None)
        return weights


def balance(weight: Float[ndarray, "L S"]) -> Float[ndarray, "L S"]:
    """Return P(l) / P(l | s) for each cell: a classifier of levels trained so reads no disease."""
    level = weight.sum(axis=1, keepdims=True) / weight.sum()
    product = level * weight.sum(axis=0)
    return np.divide(product, weight, out=np.zeros_like(weight), where=weight > 0)
