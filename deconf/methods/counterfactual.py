"""The counterfactual embedding: what each film would have been on the reference device.

A structural model of the embedding, affine in its noise, read in three steps: abduction of the
noise from the film and its recorded level, action  do(c = reference),  prediction.  `deconf.scm`
fits such models of whole tables; here the map of one action is all that is kept, in plain tensors.

Pawlowski, Castro & Glocker, "Deep structural causal models for tractable counterfactual inference",
NeurIPS 2020, https://arxiv.org/abs/2006.06485; Pearl, "Causality", 2009, section 7.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import chi2

from deconf.maths.maps.counterfactual import CounterfactualMap
from deconf.maths.moments import Given
from deconf.maths.shrinkage import root, shrunk
from deconf.methods.base import Method, MethodCard, as_arrays, methods
from deconf.methods.leace import LEACE
from deconf.methods.levels import LevelMoments
from deconf.methods.spikes import spikes

CHANCE = 0.01  # below which a trace that differs between strata is taken for one


@methods.register(
    "counterfactual",
    MethodCard(
        guarantee="means and spiked covariances agree with the reference level's, within strata",
        laws=("recoding", "null"),
        needs=("levels",),
        second_moments=True,
        needs_confounders=True,
        cost="n d^2 + L d^3",
        source="Pawlowski et al. 2020",
    ),
)
@dataclass(frozen=True)
class Counterfactual(Method):
    """Carry every film to the level that most patients have, its noise kept.

    Parameters
    ----------
    rank : "significant" or "full"
        "significant" moves films only along what chance cannot explain: the rest would be *added*
        to every film of a level, and a fresh probe reads it back.  "full" is the plain map.

    Warnings
    --------
    Right if the graph is and if the embedding is affine in noise of its own; no data can check the
    second.  A wrong record moves the film the wrong way.
    """

    rank: Literal["significant", "full"] = "significant"

    def fit(
        self,
        z: Any,
        c: Any,
        *,
        given: Given | None = None,
        outcome: Any = None,
        weights: Any = None,
        patients: Any = None,
        seed: int = 0,
    ) -> CounterfactualMap:
        """Fit on training rows; see `Method.fit`."""
        del outcome
        z, c, given = as_arrays(z, c, given)
        m = LevelMoments.of(z, c, given, weights, patients, "counterfactual")
        reference = int(m.weight.sum(axis=1).argmax())
        inverse = root(_within(m))[1]
        keep = None
        if self.rank == "significant":  # b -> Q b, with Q = L R of the erasure
            eraser = LEACE().fit(z, c, given=given, weights=weights, patients=patients, seed=seed)
            keep = eraser.right.numpy().T @ eraser.left.numpy().T
        shift = _shifts(m, reference, inverse, keep)
        left, right = _factors(m, reference)
        told = (m.mean - m.mean[:, :1]) @ inverse.T @ inverse
        share = m.weight.sum(axis=0)
        away = np.einsum("lsd,lsd->ls", told, m.mean - m.mean[:, :1])
        with np.errstate(divide="ignore"):  # a stratum that does not occur has no share
            prior = np.log(share / share.sum()) - away / 2
        return CounterfactualMap(m.mean, shift, told, prior, left, right, m.design)


def _within(m: LevelMoments) -> Float[ndarray, "d d"]:
    """Return the covariance within cells, shrunk, by which a film tells its stratum."""
    level = m.weight.sum(axis=1)
    sigma = np.einsum("l,lij->ij", level / level.sum(), m.covariances())
    return shrunk(sigma, "oas", m.cells.effective_size)


def _shifts(
    m: LevelMoments, reference: int, inverse: ndarray, keep: ndarray | None
) -> Float[ndarray, "L S d"]:
    """Return what carries the mean of each cell to that of the reference level in its stratum.

    One shift for all strata of a level, unless they differ by more than chance: a shift for each
    cell knows less, and its noise is written into every film of the cell.
    """
    square = m.weight**2
    size = square / np.where(square > 0, m.cells.weight2.reshape(square.shape), 1.0)
    away = m.mean[reference] - m.mean
    # Patients in each pair of cells, as a difference of two means counts them.
    known = size * size[reference] / np.maximum(size + size[reference], 1.0)
    known[known.sum(axis=1) == 0] = 1.0  # never met together: all cells were filled in
    share = known / known.sum(axis=1, keepdims=True)
    common = np.einsum("ls,lsd->ld", share, away)[:, None]
    rest = away - common
    if keep is not None:
        common, rest = common @ keep, rest @ keep
    free = np.linalg.matrix_rank(keep) if keep is not None else inverse.shape[0]
    found = np.einsum("ls,lsr->l", known, (rest @ inverse.T) ** 2)
    count = free * np.maximum((size * size[reference] > 0).sum(axis=1) - 1, 0)
    differs = found > chi2.ppf(1 - CHANCE, np.maximum(count, 1))
    shift: ndarray = common + rest * (differs & (count > 0))[:, None, None]
    shift[reference] = 0.0
    return shift * (m.weight.sum(axis=1) > 0)[:, None, None]


def _factors(m: LevelMoments, reference: int) -> tuple[ndarray, ndarray]:
    """Return thin L, R of each level with  I - L R  its root over that of the reference.

    Roots are symmetric where the common covariance is the identity, and differ from it by spikes
    alone: what chance can explain of a covariance is left as it is.
    """
    levels, d = m.design.shape[0], m.cells.width
    lower, inverse, found = spikes(m.covariances(), m.sizes(), m.totals())
    rank = lower.shape[1]

    def powered(level: int, power: float) -> ndarray:
        v = found[level].directions
        out: ndarray = np.eye(rank) + (v * (found[level].values ** power - 1)) @ v.T
        return out

    pairs = []
    for level in range(levels):
        change = np.zeros((rank, rank))
        if rank and level != reference:
            change = np.eye(rank) - powered(reference, 0.5) @ powered(level, -0.5)
        u, size, w = np.linalg.svd(change)
        kept = size > 1e-8  # of one
        pairs.append((lower @ (u[:, kept] * size[kept]), w[kept] @ inverse))
    most = max(a.shape[1] for a, _ in pairs)
    left, right = np.zeros((levels, d, most)), np.zeros((levels, most, d))
    for level, (a, b) in enumerate(pairs):
        left[level, :, : a.shape[1]], right[level, : b.shape[0]] = a, b
    return left, right
