"""Kernel erasure: every image is carried to where kernel readers of the confounder are undecided.

`LEACE` moves an image along a straight direction until a linear reader says what it says of
everybody.  Here the reader is a kernel ridge regression, its surfaces bend, and the image is moved
along the reader's slope at its own place; then the next reader is fitted to what that left, until
one is at chance on held-out patients.  A leak in variances, or in an exclusive or of two features,
which no linear reader sees, is seen and flattened.

Ravfogel, Vargas, Goldberg & Cotterell, "Adversarial concept erasure in kernel space", EMNLP 2022,
https://arxiv.org/abs/2201.12191, for erasure in a feature space with Nystroem features.  They
erase among the features and look for an embedding with such features afterwards; the step here,
Newton's onto a level set, is ours, and needs no such search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.spatial.distance import cdist
from scipy.stats import norm

from deconf.cohort.splits import patient_folds
from deconf.errors import SettingsError
from deconf.maths.kernels import median_distance
from deconf.maths.maps import Chain, EmbeddingMap, KernelMap
from deconf.maths.maps.kernel import read
from deconf.maths.moments import Given, cell_moments
from deconf.maths.threads import one_thread
from deconf.methods.base import Method, MethodCard, as_arrays, methods, tensor
from deconf.methods.leace import LEACE

CHANCE = 0.975  # quantile of what luck reads on held-out patients
ROWS = 20  # of training, for each coordinate in which a kernel reads
SMALLEST = 1e-8  # variance of a coordinate, relative to the largest, that is worth reading


@methods.register(
    "kernel",
    MethodCard(
        guarantee="a kernel reader on held-out patients is near chance; 'leace' before and after",
        laws=("null",),
        cost="n d^2 + rounds n p^2",
        source="Ravfogel et al. 2022; the pre-image is ours",
    ),
)
@dataclass(frozen=True)
class Kernel(Method):
    """Flatten what Gaussian-kernel readers find, one after the other.

    Parameters
    ----------
    rounds : int
        Readers at most.
    landmarks : int
        Images whose kernels are a reader's features (Nystroem).
    coordinates : int
        Leading principal coordinates, whitened, in which is read; the rest is left as it is.
    ridge : float
        Of the readers, for each training row.

    Warnings
    --------
    At chance for these readers is no guarantee against others: look at the whole audit.  A leak in
    quiet coordinates beyond the leading ones is not seen.
    """

    rounds: int = 8
    landmarks: int = 200
    coordinates: int = 24
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("rounds", "landmarks", "coordinates", "ridge"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)!r}: it must be above zero.")

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
    ) -> EmbeddingMap:
        """Fit on training rows; see `Method.fit`."""
        del outcome
        z, c, given = as_arrays(z, c, given)
        keep = {"given": given, "weights": weights, "patients": patients, "seed": seed}
        first = LEACE().fit(z, c, **keep)
        mapped = first(tensor(z)).numpy()
        with one_thread(z.size):
            fitted = self._flattened(mapped, c, given, weights, patients, seed)
        if fitted.is_identity:
            return first
        last = LEACE().fit(fitted(tensor(mapped)).numpy(), c, **keep)
        chain = Chain(first, fitted, last)
        chain.remarks = fitted.remarks
        return chain

    def _flattened(
        self, z: ndarray, c: ndarray, given: Given, weights: Any, patients: Any, seed: int
    ) -> KernelMap:
        n = len(z)
        w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
        who = np.arange(n) if patients is None else np.asarray(patients)
        centre, into, out = _coordinates(z, w, min(self.coordinates, n // ROWS))
        told = _beyond(c, given, w)
        empty = KernelMap(
            centre, into, out, np.zeros((0, 1, into.shape[1])), np.zeros((0, 1, told.shape[1])),
            np.zeros((0, told.shape[1])), np.zeros(0), np.zeros(0),
        )  # fmt: skip
        live = np.flatnonzero(w > 0)
        if 0 in (into.shape[1], told.shape[1]) or len(np.unique(who[live])) < 2 * ROWS:
            return empty
        rng = np.random.default_rng(seed)
        x = (z.astype(np.float64) - centre) @ into
        readers: list[dict[str, ndarray]] = []
        for turn in range(self.rounds + 1):
            halves = patient_folds(who[live], 2, strata=given.codes[live], seed=seed + turn)
            reads = [
                _tells(self._reader(x, told, w, live[a], rng), x, told, w, live[b], who)
                for a, b in halves
            ]
            if max(np.mean(reads, axis=0)) <= norm.ppf(1 - (1 - CHANCE) / told.shape[1]):
                break
            if turn == self.rounds:
                empty.remarks = (
                    f"after {turn} kernel readers another still reads held-out patients",
                )
                break
            readers.append(self._reader(x, told, w, live, rng))
            step = _map_of(empty, readers[-1:])
            x = step.carried(torch.from_numpy(x), 0).numpy()
        fitted = _map_of(empty, readers) if readers else empty
        fitted.remarks = empty.remarks
        return fitted

    def _reader(
        self, x: ndarray, told: ndarray, w: ndarray, rows: ndarray, rng: np.random.Generator
    ) -> dict[str, ndarray]:
        """Fit kernel ridge on Nystroem landmarks: f = K_nm a."""
        marks = x[rng.choice(rows, min(self.landmarks, len(rows)), replace=False)]
        width = median_distance(marks)
        near = np.exp(-0.5 * cdist(x[rows], marks, "sqeuclidean") / width**2)
        among = np.exp(-0.5 * cdist(marks, marks, "sqeuclidean") / width**2)
        heavy = w[rows, None] / w[rows].mean()
        level = np.average(told[rows], axis=0, weights=w[rows])
        gram = near.T @ (heavy * near) + self.ridge * len(rows) * among
        gram[np.diag_indices_from(gram)] += 1e-8 * np.trace(gram) / len(gram)
        a = np.linalg.solve(gram, near.T @ (heavy * (told[rows] - level)))
        films, there, weigh = (torch.from_numpy(v) for v in (x[rows], marks, a))
        said, slope = read(films, there, weigh, torch.tensor(width))
        steep = (slope**2).sum(dim=2).mean()
        return {
            "landmarks": marks, "coefficients": a, "widths": np.array(width),
            "level": np.average(said.numpy(), axis=0, weights=w[rows]), "slopes": steep.numpy(),
        }  # fmt: skip


def _coordinates(
    z: Float[ndarray, "n d"], w: Float[ndarray, " n"], most: int
) -> tuple[Float[ndarray, " d"], Float[ndarray, "d r"], Float[ndarray, "r d"]]:
    """Return the mean, the leading principal coordinates, whitened, and the way back."""
    m = cell_moments(z, weights=w)
    values, axes = np.linalg.eigh(m.scatter[0] / m.weight[0])
    values, axes = values[::-1][:most], axes[:, ::-1][:, :most]
    good = values > SMALLEST * max(values.max(initial=0.0), np.finfo(float).tiny)
    spread = np.sqrt(values[good])
    return m.centre, axes[:, good] / spread, (axes[:, good] * spread).T


def _beyond(
    c: Float[ndarray, "n k"], given: Given, w: Float[ndarray, " n"]
) -> Float[ndarray, "n q"]:
    """Return what the design says beyond the adjustment set, standardised; constant columns go."""
    known = np.eye(int(given.codes.max()) + 1)[given.codes]
    known = known if given.basis is None else np.hstack([known, given.basis])
    root = np.sqrt(w)[:, None]
    left = c - known @ np.linalg.lstsq(root * known, root * c, rcond=None)[0]
    spread = np.sqrt(np.average(left**2, axis=0, weights=w))
    told = spread > 1e-6 * np.maximum(np.abs(c).max(axis=0), np.finfo(float).tiny)
    out: ndarray = left[:, told] / spread[told]
    return out


def _tells(
    reader: dict[str, ndarray], x: ndarray, told: ndarray, w: ndarray, rows: ndarray, who: ndarray
) -> Float[ndarray, " q"]:
    """Return how far above luck a reader is on rows it has not seen, in standard errors."""
    near = np.exp(-0.5 * cdist(x[rows], reader["landmarks"], "sqeuclidean") / reader["widths"] ** 2)
    said = near @ reader["coefficients"]
    said = said - np.average(said, axis=0, weights=w[rows])
    agree = w[rows, None] * said * told[rows]
    person = np.unique(who[rows], return_inverse=True)[1]
    by_patient = np.stack([np.bincount(person, a) for a in agree.T], axis=1)
    error = np.sqrt((by_patient**2).sum(axis=0))
    out: ndarray = by_patient.sum(axis=0) / np.where(error > 0, error, 1.0)
    return out


def _map_of(empty: KernelMap, readers: list[dict[str, ndarray]]) -> KernelMap:
    parts = {name: np.stack([r[name] for r in readers]) for name in readers[0]}
    return KernelMap(empty.centre, empty.into, empty.out, **parts)
