"""Erasure learnt from pairs: one patient on two devices, or an image and its edited copy.

What differs inside a pair is the device and chance; disease, age and anatomy are the same on both
sides, so nothing has to be held and no graph has to be believed.  The directions in which the
difference is more than chance are projected out, obliquely: the smallest edit of the films at hand
after which they are gone (as in `deconf.methods.leace`).

The rank rule has two looks.  *Means*: were there no trace, a patient's films could as well have
changed places, which turns the sign of the difference (Fisher, "The design of experiments", 1935;
with several films of a patient, Cameron, Gelbach & Miller, "Bootstrap-based improvements for
inference with clustered errors", 2008).  *Spread*: a direction in which the films of one patient
lie further apart than films of different patients do on one device (Johnstone 2008; see
`deconf.methods.spikes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.encoders.tune import Tune
from deconf.errors import CohortError, SettingsError
from deconf.maths.design import levels_of
from deconf.maths.maps import AffineMap
from deconf.maths.moments import Given, cell_moments
from deconf.maths.shrinkage import Shrinkage, inverse_root, root, shrunk
from deconf.methods.base import Method, MethodCard, as_arrays, methods, numbers
from deconf.methods.levels import LevelMoments
from deconf.methods.spikes import CROWDED, spikes

FEWEST_PAIRS = 7  # six pairs have 32 arrangements of signs: none is rarer than 1 in 40
DRAWS, LEVEL = 400, 0.975  # of the signs; each of the two looks at the means has 2.5 %
BLOCK = 1 << 22  # numbers of the signs held at a time


@methods.register(
    "paired",
    MethodCard(
        guarantee="films of one patient on two devices agree in the mean, on the fitting data",
        laws=("idempotent", "equivariant", "recoding", "duplicates", "null"),
        needs=("pairs",),
        cost="n d^2 + 400 n d",
        source="Fisher 1935; Johnstone 2008",
    ),
)
@dataclass(frozen=True)
class Paired(Method):
    """Erase what differs between the films of one patient at different levels.

    Two films are a pair where they show one patient, alike in the adjustment set, at different
    levels of the confounder.  The design identifies the trace, also where the graph cannot.

    Parameters
    ----------
    shrinkage : float in [0, 1] or "oas"
        Pull of the embedding covariance towards a multiple of the identity.
    rank : "significant" or "full"
        Which directions go.  "significant" keeps what chance could explain; "full" takes every
        mean difference, of a single pair if need be, and looks at no spread.
    tune : "none", "lora", "full" or Tune
        Whether `deconf.deconfound` first trains the encoder on the pairs, see
        `deconf.encoders.tune.Tune`; the erasure is then fitted to what it says.

    Warnings
    --------
    If patients change between their films (the portable one taken when they are worst), the change
    is erased with the device: pair films taken close in time.  A device that turns or stretches
    the embedding without moving its mean, by less than patients differ, is left: see `Aligned`.
    """

    shrinkage: Shrinkage = "oas"
    rank: Literal["significant", "full"] = "significant"
    tune: Literal["none", "lora", "full"] | Tune = "none"

    def __post_init__(self) -> None:
        Tune.of(self.tune)
        if self.shrinkage != "oas" and (
            isinstance(self.shrinkage, str) or not 0 <= self.shrinkage <= 1
        ):
            raise SettingsError(f"shrinkage is 'oas' or in [0, 1], not {self.shrinkage!r}.")

    def fit_pairs(self, z_a: Any, z_b: Any, *, seed: int = 0) -> AffineMap:
        """Fit on pairs by themselves: row i of both shows the same patient, or tissue, or image.

        Parameters
        ----------
        z_a, z_b : (n, d)
            On one device and on the other; as it is and edited.

        Raises
        ------
        SettingsError
            The two differ in shape, or hold words.
        CohortError
            Fewer than 7 pairs at ``rank="significant"``.
        """
        a, b = numbers(z_a, "z_a"), numbers(z_b, "z_b")
        if a.shape != b.shape or a.ndim != 2:
            raise SettingsError(
                f"pairs are two arrays (n, d) whose rows belong together; got {a.shape} and "
                f"{b.shape}."
            )
        device, pair = np.divmod(np.arange(2 * len(a)), max(len(a), 1))
        return self.fit(np.concatenate([a, b]), device, patients=pair, seed=seed)

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
    ) -> AffineMap:
        """Fit on training rows; see `Method.fit`.

        Raises
        ------
        CohortError
            Fewer than 7 patients with films at two levels, or none at ``rank="full"``.
        """
        del outcome
        z, c, given = as_arrays(z, c, given)
        who = np.arange(len(z)) if patients is None else np.asarray(patients)
        m = cell_moments(z, weights=weights, patients=who)  # also names what is not finite
        pairs = Pairs.of(z, c, given, weights, who)
        needed = FEWEST_PAIRS if self.rank == "significant" else 1
        if pairs.count < needed:
            raise CohortError(too_few(pairs.count, needed))
        span = np.eye(z.shape[1])
        if z.shape[1] > len(z):  # everything this method needs lives in the span of the rows
            span = np.linalg.qr((z - m.centre).T.astype(np.float64))[0]
        apart, spread = pairs.z @ span, span.T @ m.within()[0].zz @ span
        sigma = shrunk(spread, self.shrinkage, m.effective_size, ambient=z.shape[1])
        lower, inverse = root(sigma)
        whitened = apart @ inverse.T
        if self.rank == "full":
            u = _range(pairs.mean(whitened))
        else:
            u = _significant(pairs, whitened, apart, seed)
            if levels_of(c) is not None and pairs.count >= z.shape[1] / CROWDED:
                levels = LevelMoments.of(z, c, Given.nothing(len(z)), weights, who, "paired")
                u = _range(np.hstack([u, inverse @ _further(pairs, levels)]))
        # T(z) = z − L U Uᵀ L⁻¹ (z − μ) with Σ = L Lᵀ
        fitted = AffineMap(span @ lower @ u, u.T @ inverse @ span.T, m.centre)
        fitted.remarks = (
            f"{pairs.count:,} patients with films at several levels; directions in which these "
            f"differ by more than chance: {u.shape[1]}",
        )
        return fitted


@dataclass(frozen=True)
class Pairs:
    """Films of patients who were seen at several levels, about the middle of each patient.

    Films of one patient, level and stratum are averaged first: they tell nothing of the device.

    Attributes
    ----------
    z, c : (m, d) and (m, k)
        Deviations; c is whitened, so that its coding does not matter.
    weight : (m,)
    block, patient : (m,) int
        Patient and stratum, within which deviations are taken; patient, whose signs turn together.
    """

    z: Float[ndarray, "m d"]
    c: Float[ndarray, "m k"]
    weight: Float[ndarray, " m"]
    block: Int[ndarray, " m"]
    patient: Int[ndarray, " m"]

    @classmethod
    def of(
        cls, z: ndarray, c: ndarray, given: Given, weights: ndarray | None, patients: ndarray
    ) -> Pairs:
        """Find them among all films."""
        w = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
        patient = np.unique(patients, return_inverse=True)[1].ravel()
        basis = np.zeros((len(z), 0)) if given.basis is None else given.basis
        keys = np.column_stack([patient, given.codes, c])[w > 0]
        known, film = np.unique(keys, axis=0, return_inverse=True)
        film = film.ravel()
        weight = np.bincount(film, w[w > 0])
        every = np.hstack([z, c, basis]).astype(np.float64)[w > 0]
        mean = _sums(every * w[w > 0, None], film, len(known)) / weight[:, None]
        block = np.unique(known[:, :2], axis=0, return_inverse=True)[1].ravel()
        several = np.bincount(block)[block] > 1
        mean, weight = mean[several], weight[several]
        block = np.unique(block[several], return_inverse=True)[1].ravel()
        size = int(block.max(initial=-1)) + 1
        middle = _sums(mean * weight[:, None], block, size)
        middle /= np.bincount(block, weight, size)[:, None]
        away = mean - middle[block]
        d, k = z.shape[1], c.shape[1]
        if basis.shape[1]:  # what goes with the continuous columns inside a patient
            half = np.sqrt(weight)[:, None]
            slope = np.linalg.lstsq(half * away[:, d + k :], half * away[:, : d + k], rcond=1e-10)
            away = away[:, : d + k] - away[:, d + k :] @ slope[0]
        design = away[:, d : d + k]
        cc = (design * weight[:, None]).T @ design / max(weight.sum(), np.finfo(float).tiny)
        patient = np.unique(known[several, 0], return_inverse=True)[1].ravel()
        return cls(away[:, :d], design @ inverse_root(cc), weight, block, patient)

    @property
    def count(self) -> int:
        """Patients with films at several levels."""
        return int(self.patient.max(initial=-1)) + 1

    def mean(self, z: Float[ndarray, "m r"]) -> Float[ndarray, "r q"]:
        """Return the differences inside patients: the cross-covariance with the design."""
        out: ndarray = (z * self.weight[:, None]).T @ self.c / self.weight.sum()
        return out

    def null(self, z: Float[ndarray, "m r"], seed: int) -> float:
        """Return what the largest singular value of `mean` stays below when signs are chance."""
        rng = np.random.default_rng(seed)
        own = z * self.weight[:, None] / self.weight.sum()
        step = max(1, BLOCK // max(len(z), 1))
        tops: list[float] = []
        while len(tops) < DRAWS:
            signs = rng.choice([-1.0, 1.0], size=(min(step, DRAWS - len(tops)), self.count))
            turned = signs[:, self.patient]
            means = np.stack([(turned * column) @ own for column in self.c.T], axis=2)
            gram = np.swapaxes(means, 1, 2) @ means  # (draws, q, q): q is small
            tops += np.sqrt(np.linalg.eigvalsh(gram)[:, -1].clip(0)).tolist()
        return float(np.quantile(tops, LEVEL))


def too_few(count: int, needed: int = FEWEST_PAIRS) -> str:
    """Return what to say where pairs are wanting."""
    has = f"{count:,} patients have" if count != 1 else "1 patient has"
    return (
        f"{has} films at two levels of the confounder, alike in what is held, and 'paired' needs "
        f"{needed}. Name the patient column (patient=), bring films of the same patients on "
        "another device, or edited copies (Paired().fit_pairs), or use method='leace', which needs "
        "no pairs but a graph."
    )


def _significant(
    pairs: Pairs, whitened: Float[ndarray, "m r"], plain: Float[ndarray, "m e"], seed: int
) -> Float[ndarray, "r j"]:
    """Return the whitened directions in which means differ by more than turned signs explain.

    Two looks, as in `deconf.methods.leace.significant`: whitened, where a trace in a quiet
    direction stands out, and as they are, which sees where d is near or above n.
    """
    target, edge = pairs.mean(whitened), 1 + 1e-9  # of an edge: the signs as they are, rounded
    if 0 in target.shape:
        return np.zeros((len(target), 0))
    u, size, _ = np.linalg.svd(target, full_matrices=False)
    rank = int(np.sum(size > edge * pairs.null(whitened, seed)))
    _, size, v = np.linalg.svd(pairs.mean(plain), full_matrices=False)
    more = int(np.sum(size > edge * pairs.null(plain, seed)))
    out: ndarray = _range(target @ v[:more].T) if more > rank else u[:, :rank]
    return out


def _further(pairs: Pairs, levels: LevelMoments) -> Float[ndarray, "d j"]:
    """Return how films of a patient differ where they lie further apart than patients do.

    The yardstick is each level by itself: in the levels together the trace is part of it.  What is
    returned are differences (D a, for every functional a in which D is too large), so that levels
    whose covariances differ name one space and not one each.  A level counts, and pairs do, from
    ten patients for each column: below, covariances are too noisy to compare
    (`deconf.methods.spikes`).
    """
    found = [np.zeros((pairs.z.shape[1], 0))]
    half = np.sqrt(pairs.weight)[:, None]
    slope = np.linalg.lstsq(half * pairs.c, half * pairs.z, rcond=1e-10)[0]
    rest = pairs.z - pairs.c @ slope  # means are the business of the other look
    free = 1 - 1 / np.bincount(pairs.block)[pairs.block]  # of a film: one half, in a pair
    own = (rest * pairs.weight[:, None]).T @ rest / (pairs.weight @ free)
    for sigma, size in zip(levels.covariances(), levels.sizes(), strict=True):
        _, inverse, both = spikes(np.stack([own, sigma]), np.array([pairs.count, size]))
        if len(inverse):
            found.append(own @ inverse.T @ both[0].directions[:, both[0].values > 1])
    out: ndarray = np.hstack(found)
    return out


def _range(columns: Float[ndarray, "r q"]) -> Float[ndarray, "r j"]:
    """Return an orthonormal basis of columns, without those of rounding (1e-10 of the largest)."""
    if 0 in columns.shape:
        return np.zeros((len(columns), 0))
    u, size, _ = np.linalg.svd(columns, full_matrices=False)
    out: ndarray = u[:, size > max(1e-10 * size.max(), np.finfo(float).tiny)]
    return out


def _sums(x: Float[ndarray, "n p"], group: Int[ndarray, " n"], size: int) -> Float[ndarray, "s p"]:
    """Return the sums of the rows of each group."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(size))
    out: ndarray = np.add.reduceat(x[order], starts, axis=0) if size else np.zeros((0, x.shape[1]))
    return out
