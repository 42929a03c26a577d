"""Entropic transport: cells of level and stratum agree in shape, not in mean and covariance alone.

`transport` takes every cell for a Gaussian.  A cell that is none (a banana, two clumps where the
others have one) is matched in mean and covariance, and trees read the shape.  Here the points that
the Gaussian map has carried are carried on, by the entropic map between a few hundred landmarks
of the cell and of its reference, less the map of the cell onto itself: the penalty blurs both
alike, and draws what is blurred inwards.

Pooladian & Niles-Weed, "Entropic estimation of optimal transport maps", 2021,
https://arxiv.org/abs/2109.12004 (the map of potentials fitted on landmarks to new points);
Pooladian, Cuturi & Niles-Weed, "Debiaser beware: pitfalls of centering regularized transport
maps", ICML 2022, https://arxiv.org/abs/2202.08919 (what is taken off again, and when it hurts).
The Gaussian map before and the moments matched after are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.errors import SettingsError
from deconf.maths.maps import EmbeddingMap, EntropicMap
from deconf.maths.maps.entropic import debiased
from deconf.maths.moments import cell_moments
from deconf.maths.shrinkage import power
from deconf.maths.threads import one_thread
from deconf.methods.base import Method, MethodCard, as_arrays, methods, tensor
from deconf.methods.transport import Cells, Transport, carried, evened, stand_in

ITERATIONS = 300  # of Sinkhorn's, at most
TOLERANCE = 1e-5  # of the marginals, in the Euclidean norm
CELL = "own", "pull", "own_pull", "middle", "settle"


@methods.register(
    "sinkhorn",
    MethodCard(
        guarantee="as 'transport', and shapes agree as far as some hundred landmarks show them",
        needs=("levels",),
        second_moments=True,
        cost="as 'transport', and L S m^2 iterations; m r for every image and cell",
        source="Pooladian & Niles-Weed 2021",
    ),
)
@dataclass(frozen=True)
class Sinkhorn(Method):
    """Carry every cell onto the reference of its stratum by the debiased entropic map.

    Parameters
    ----------
    blur : float
        The entropic penalty, for each coordinate and in units of the variance of the reference.
        Small follows the landmarks and their luck; large is `Transport`.
    landmarks : int
        Of a cell, and of a reference, at most.
    crowding, read
        As in `Transport`.

    Warnings
    --------
    The reference of a stratum are the points of all its levels after the Gaussian map, in their
    common shares: where one level has two clumps and the other one, it is a compromise of both.
    Shapes are estimated from landmarks, and in many coordinates poorly: there the map is nearly
    the Gaussian one.  All that `Transport` warns of holds too.
    """

    blur: float = 0.1
    landmarks: int = 400
    crowding: float = 0.1
    read: Literal["image", "record"] = "image"

    def __post_init__(self) -> None:
        Transport(self.crowding, self.read)  # refuses bad settings
        if not self.blur > 0:
            raise SettingsError(f"blur is {self.blur!r}: it must be above zero.")
        if not self.landmarks >= 2:
            raise SettingsError(f"landmarks is {self.landmarks!r}: two or more.")

    def fit(
        self,
        z: Any,
        c: Any,
        *,
        given: Any = None,
        outcome: Any = None,
        weights: Any = None,
        patients: Any = None,
        seed: int = 0,
    ) -> EmbeddingMap:
        """Fit on training rows; see `Method.fit`.

        Raises
        ------
        SettingsError
            The confounder or the adjustment set is continuous.
        """
        del outcome
        z, c, given = as_arrays(z, c, given)
        keep = {"given": given, "weights": weights, "patients": patients, "seed": seed}
        cells = carried(
            z, c, given, weights, patients, self.crowding, self.read, self.registered_name
        )
        if cells is None:
            return stand_in(self.registered_name, self.crowding, self.read, z, c, keep)
        with one_thread(z.size):
            fitted = self._entropic(cells, z, weights, patients, seed)
        return evened(fitted, z, c, **keep)

    def _entropic(
        self, cells: Cells, z: ndarray, weights: Any, patients: Any, seed: int
    ) -> EntropicMap:
        w = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
        gauss = {name: t.numpy() for name, t in cells.mixture.state_dict().items()}
        x = (z.astype(np.float64) - gauss["centre"]) @ gauss["span"]
        first = np.unique(cells.group, return_index=True)[1]  # one level of the map for each group
        rng, blur = np.random.default_rng(seed), self.blur * x.shape[1]
        into, back = (
            np.stack([power(sigma, way) for sigma in cells.common]) for way in (-0.5, 0.5)
        )
        carry = into @ gauss["carry"]
        share = np.bincount(cells.level[w > 0], w[w > 0], minlength=len(first)) / w.sum()
        kept: dict[str, list[list[ndarray]]] = {name: [[] for _ in first] for name in CELL}
        references = []
        for s in range(len(into)):
            inside = (cells.stratum == s) & (w > 0)
            rows = [
                _by_patient(np.flatnonzero(inside & (cells.level == k)), patients, rng)
                for k in range(len(first))
            ]
            v = [
                (x[r] - gauss["source"][k, s]) @ carry[k, s].T
                for k, r in zip(first, rows, strict=True)
            ]
            points, mass = self._reference(v, [w[r] for r in rows], share)
            references.append(self._filled(points, 0.0))
            for k, u in enumerate(v):
                own, weigh = u[: self._half(u)], w[rows[k]][: self._half(u)]
                weigh = weigh / weigh.sum()
                pull, _ = pulls(own, weigh, points, mass, blur)
                own_pull = np.mean(pulls(own, weigh, own, weigh, blur), axis=0)
                ours, theirs = (tensor(own), tensor(own_pull)), (tensor(points), tensor(pull))
                moved = debiased(tensor(u), *theirs, *ours, torch.tensor(blur)).numpy()
                m = cell_moments(moved, weights=w[rows[k]])
                settle = back[s] @ power(m.scatter[0] / m.weight[0], -0.5)
                own, pull, own_pull = (
                    self._filled(part, fill)
                    for part, fill in ((own, 0.0), (pull, -np.inf), (own_pull, -np.inf))
                )
                for name, part in zip(CELL, (own, pull, own_pull, m.centre, settle), strict=True):
                    kept[name][k].append(part)
        fitted = {name: np.array(parts)[cells.group] for name, parts in kept.items()}
        return EntropicMap(
            **{**gauss, "carry": carry}, **fitted, reference=np.stack(references), blur=blur
        )

    def _half(self, rows: ndarray, among: int = 1) -> int:
        """Return how many landmarks of a cell: the rest of its rows is left to the reference."""
        return min(self.landmarks // among, len(rows) // 2)

    def _filled(self, part: ndarray, fill: float) -> ndarray:
        """Return the landmarks and, behind them, what stands where there are fewer."""
        more = [(0, self.landmarks - len(part)), *[(0, 0)] * (part.ndim - 1)]
        return np.pad(part, more, constant_values=fill)

    def _reference(
        self, v: list[ndarray], w: list[ndarray], share: Float[ndarray, " L"]
    ) -> tuple[Float[ndarray, "m r"], Float[ndarray, " m"]]:
        """Return landmarks of all levels and their masses, in the common shares of the levels.

        Other patients than the landmarks of the cells: a cell would find itself in the reference,
        and stay where it is.
        """
        points, mass = [], []
        for u, weigh, part in zip(v, w, share, strict=True):
            count = self._half(u, len(v))
            points.append(u[len(u) - count :])
            mass.append(part * weigh[len(u) - count :] / weigh[len(u) - count :].sum())
        return np.concatenate(points), np.concatenate(mass)


def _by_patient(
    rows: Int[ndarray, " m"], patients: Any, rng: np.random.Generator
) -> Int[ndarray, " m"]:
    """Return rows in an order drawn by patient, the films of one behind one another."""
    if patients is None:
        return rng.permutation(rows)
    person = np.unique(np.asarray(patients)[rows], return_inverse=True)[1].ravel()
    place = rng.permutation(person.max(initial=-1) + 1)[person]
    return rows[np.argsort(place, kind="stable")]


def pulls(
    source: Float[ndarray, "k r"],
    a: Float[ndarray, " k"],
    target: Float[ndarray, "m r"],
    b: Float[ndarray, " m"],
    blur: float,
) -> tuple[Float[ndarray, " m"], Float[ndarray, " k"]]:
    """Return what each point of target and of source pulls, for `EntropicMap`.

    The plan is P_ij = exp(f_i + g_j - |x_i - y_j|^2 / (2 blur)), and
    pull_j = g_j - |y_j|^2 / (2 blur).
    """
    import ot

    log = ot.bregman.sinkhorn_log(
        tensor(a),
        tensor(b),
        tensor(0.5 * ot.dist(source, target)),
        blur,
        numItermax=ITERATIONS,
        stopThr=TOLERANCE,
        log=True,
        warn=False,  # what is not quite met is matched in its moments afterwards
    )[1]
    return (
        log["log_v"].numpy() - 0.5 * (target**2).sum(axis=1) / blur,
        log["log_u"].numpy() - 0.5 * (source**2).sum(axis=1) / blur,
    )
