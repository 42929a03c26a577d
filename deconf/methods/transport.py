"""Gaussian-mixture transport: every cell of level and stratum is carried onto a common one.

A map by level alone (`aligned`) makes the levels agree on the average over strata.  Where the
device changes ill and healthy films in different ways (noise buries an opacity and leaves clear
lungs as they were) each stratum still tells the level.  Here a cell (level l, stratum s) is a
Gaussian and is carried onto the reference of its stratum by optimal transport; a new film, whose
level and stratum nobody knows, gets the mixture of these maps by what its embedding says of both.

Delon & Desolneux, "A Wasserstein-type distance in the space of Gaussian mixture models", SIAM
Journal on Imaging Sciences 2020, https://arxiv.org/abs/1907.05254 (the mixture of maps, eq. 5.3);
Knott & Smith, "On the optimal mapping of distributions", 1984 (the map between Gaussians).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.errors import CohortError, SettingsError
from deconf.maths.maps import AffineMap, CellMap, Chain, EmbeddingMap, MixtureMap
from deconf.maths.moments import Given
from deconf.maths.shrinkage import SINGULAR, power
from deconf.methods.aligned import Aligned, membership
from deconf.methods.base import Method, MethodCard, as_arrays, methods, tensor
from deconf.methods.leace import LEACE
from deconf.methods.levels import LevelMoments

FEWEST = 4  # coordinates below which nothing worth the name of an embedding is left
WISHED = 16  # coordinates for which levels are merged, down to two groups of them


@methods.register(
    "transport",
    MethodCard(
        guarantee="means and covariances agree within strata, in the coordinates kept",
        needs=("levels",),
        second_moments=True,
        cost="n d^2 + d^3 + L S r^3",
        source="Delon & Desolneux 2020",
    ),
)
@dataclass(frozen=True)
class Transport(Method):
    """Carry every cell onto the reference of its stratum, in the leading coordinates.

    Parameters
    ----------
    crowding : float in (0, 1)
        Coordinates kept for each patient of the smallest cell.  A covariance of n patients in r
        coordinates is known to about r/n, and that error is written into every film of the cell
        for a fresh probe to read; fewer coordinates are less to read, and less to work with.
    read : "image" or "record"
        Whether the level of a new image is inferred from the image, or read from the table;
        "record" needs ``at_inference=True``.

    Warnings
    --------
    What lies beside the leading coordinates is dropped: quiet directions, in which devices differ
    most and which no cell has the patients to match.  The direction that tells the strata apart is
    kept.  `compare` shows what else was lost.

    Levels too thin to be carried each by itself (site and scanner together) are carried in groups
    of the most alike; inside a group only the means are matched, by `LEACE`.  Where the smallest
    cell cannot bear four coordinates `Aligned` is fitted instead, and the reasons say so.
    """

    crowding: float = 0.1
    read: Literal["image", "record"] = "image"

    def __post_init__(self) -> None:
        if not 0 < self.crowding < 1:
            raise SettingsError(f"crowding is {self.crowding!r}: a share, above 0 and below 1.")

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
        """Fit on training rows; see `Method.fit`.

        Raises
        ------
        CohortError
            The adjustment set is held additively: there are no strata.
        SettingsError
            The confounder is continuous.
        """
        del outcome
        z, c, given = as_arrays(z, c, given)
        keep = {"given": given, "weights": weights, "patients": patients, "seed": seed}
        cells = carried(
            z, c, given, weights, patients, self.crowding, self.read, self.registered_name
        )
        if cells is None:
            return stand_in(self.registered_name, self.crowding, self.read, z, c, keep)
        return evened(cells.mixture, z, c, **keep)


def coordinates(m: LevelMoments, crowding: float) -> int:
    """Return how many coordinates the smallest cell of (merged) levels can bear."""
    return min(int(crowding * _smallest(m)), m.cells.width)


@dataclass(frozen=True)
class Cells:
    """The mixture of Gaussian maps, and which of its cells each training row belongs to.

    Attributes
    ----------
    mixture : MixtureMap
    level, stratum : (n,) int
        Place of each row among the (merged) levels and the strata of the fit.
    group : (L,) int
        Which of these levels each level of the map is: several, where it reads the record.
    common : (S, r, r)
        Covariance of the reference of each stratum.
    """

    mixture: MixtureMap
    level: Int[ndarray, " n"]
    stratum: Int[ndarray, " n"]
    group: Int[ndarray, " L"]
    common: Float[ndarray, "S r r"]


def stand_in(
    name: str, crowding: float, read: Any, z: ndarray, c: ndarray, keep: dict[str, Any]
) -> EmbeddingMap:
    """Fit `Aligned` where cells are too thin, and say so."""
    fitted = Aligned(read=read).fit(z, c, **keep)
    m = LevelMoments.of(z, c, keep["given"], keep["weights"], keep["patients"], name)
    m = merged(m, WISHED / crowding)
    told = (
        f"'aligned' was fitted instead of {name!r}, which wants two levels with "
        f"{int(np.ceil(FEWEST / crowding))} patients in every cell of confounder and adjustment "
        f"set: the smallest holds {_smallest(m):.0f}"
    )
    fitted.remarks = (told, *fitted.remarks)
    return fitted


def carried(
    z: Float[ndarray, "n d"],
    c: Float[ndarray, "n k"],
    given: Given,
    weights: Any,
    patients: Any,
    crowding: float,
    read: str,
    name: str,
) -> Cells | None:
    """Carry every cell by the map between Gaussians; None where cells are too thin.

    Raises
    ------
    CohortError
        The adjustment set is held additively: there are no strata.
    SettingsError
        The confounder is continuous.
    """
    if given.basis is not None:
        raise CohortError(
            f"{name} holds strata, and this adjustment set is held additively, as numbers, several "
            "outcomes at once and strata of few films are: bin numbers, name one outcome, or use "
            "'aligned' or 'leace'."
        )
    m = LevelMoments.of(z, c, given, weights, patients, name)
    every, m = m, merged(m, WISHED / crowding)
    rank = coordinates(m, crowding)
    here, strata = _met(m)
    if rank < FEWEST or len(here) < 2:
        return None
    span = _span(m, rank)
    centre, weight = m.cells.centre, m.weight[np.ix_(here, strata)]
    source = (m.mean[np.ix_(here, strata)] - centre) @ span
    scatter = m.cells.scatter.reshape(*m.weight.shape, *m.cells.scatter.shape[1:])
    own = span.T @ (scatter[np.ix_(here, strata)] / weight[:, :, None, None]) @ span
    share = weight.sum(axis=1) / weight.sum()
    common = np.einsum("l,lsqr->sqr", share, own)
    carry = [[monge(a, b) for a, b in zip(level, common, strict=True)] for level in own]
    told, prior = _strata(source, own, weight)
    slope, bias = np.zeros((len(m.design), len(centre))), np.zeros(len(m.design))
    if read == "image":
        slope, bias = membership(z, m, given, weights, span.T, centre)
        bias = bias + slope[:, : len(centre)] @ centre
    # A recorded level finds its group; one read from the image is a group already.
    group = np.arange(len(here))
    if read == "record":
        recorded = [np.unique(m.levels[every.levels == k]) for k in _met(every)[0]]
        group = np.array([np.flatnonzero(here == g)[0] for g in np.concatenate(recorded)])
    mixture = MixtureMap(
        span=span,
        centre=centre,
        source=source[group],
        target=np.einsum("l,lsr->sr", share, source),
        carry=np.array(carry)[group],
        told=told[group],
        prior=prior[group],
        slope=slope[here][group],
        bias=bias[here][group],
        stretch=span.T,
        design=every.design[_met(every)[0]] if read == "record" else m.design[here],
        reads=read == "record",
    )
    places = np.searchsorted(here, m.levels), np.searchsorted(strata, given.codes)
    return Cells(mixture, *places, group, common)


def evened(mixture: CellMap, z: ndarray, c: ndarray, **keep: Any) -> EmbeddingMap:
    """Return the map and, after it, `LEACE` in its coordinates, where that finds anything left."""
    span, centre = mixture.span.numpy(), mixture.centre.numpy()
    mapped = mixture(tensor(z), tensor(c)).numpy()
    rest = LEACE().fit((mapped - centre) @ span, c, **keep)
    if rest.is_identity:
        return mixture
    lifted = AffineMap(
        span @ rest.left.numpy(), rest.right.numpy() @ span.T, centre + span @ rest.centre.numpy()
    )
    return Chain(mixture, lifted)


def merged(m: LevelMoments, patients: float) -> LevelMoments:
    """Return levels in groups, the most alike first, until every cell has its patients.

    Never fewer than two groups.  Alike are levels whose means, at the common shares of the strata,
    lie near one another on the scale of what varies within cells.

    Parameters
    ----------
    patients : float
        Wanted in the smallest cell, by Kish's size.
    """
    here, strata = _met(m)
    groups = [[level] for level in here]
    weight, weight2 = m.weight[:, strata], m.cells.weight2.reshape(m.weight.shape)[:, strata]
    within = m.cells.scatter.sum(axis=0) / m.cells.weight.sum()
    shrunk = 0.99 * within + 0.01 * np.trace(within) / len(within) * np.eye(len(within))
    mean, total = m.effects()[0] @ power(shrunk, -0.5), m.weight.sum(axis=1)

    def smallest() -> float:
        kish = [weight[g].sum(axis=0) ** 2 / weight2[g].sum(axis=0).clip(1e-300) for g in groups]
        return float(np.min(kish))

    while len(groups) > 2 and smallest() < patients:
        centres = np.array([np.average(mean[g], axis=0, weights=total[g]) for g in groups])
        gaps = ((centres[:, None] - centres) ** 2).sum(axis=2)
        gaps[np.tril_indices(len(groups))] = np.inf
        first, second = np.unravel_index(np.argmin(gaps), gaps.shape)
        groups[first] = groups[first] + groups.pop(int(second))
    if len(groups) == len(here):
        return m
    of_level = np.zeros(len(m.design), dtype=np.int64)
    for number, group in enumerate(groups):
        of_level[group] = number
    cells = (of_level[:, None] * m.strata + np.arange(m.strata)).ravel()
    return LevelMoments(of_level[m.levels], np.eye(len(groups)), m.cells.pool(cells), m.strata)


def monge(sigma: Float[ndarray, "r r"], reference: Float[ndarray, "r r"]) -> Float[ndarray, "r r"]:
    """Return the symmetric A with  A sigma A = reference  that moves a Gaussian the least.

    A = S^-1 (S reference S)^1/2 S^-1,  S = sigma^1/2.
    """
    root, inverse = power(sigma, 0.5), power(sigma, -0.5)
    out: ndarray = inverse @ power(root @ reference @ root, 0.5) @ inverse
    return out


def _met(m: LevelMoments) -> tuple[Int[ndarray, " l"], Int[ndarray, " s"]]:
    """Return the levels and the strata in which any row weighs something."""
    met = m.weight > 0
    return np.flatnonzero(met.any(axis=1)), np.flatnonzero(met.any(axis=0))


def _smallest(m: LevelMoments) -> float:
    """Return Kish's size, in patients, of the smallest cell of the levels and strata met."""
    weight2 = m.cells.weight2
    sizes = m.cells.weight**2 / np.where(weight2 > 0, weight2, 1.0)
    return float(sizes.reshape(m.weight.shape)[np.ix_(*_met(m))].min())


def _span(m: LevelMoments, rank: int) -> Float[ndarray, "d r"]:
    """Return an orthonormal basis of the coordinates that are kept.

    What tells the strata apart (Fisher's discriminant and the differences of their means, at most
    half of the room), and the leading principal axes within cells.
    """
    within = m.cells.scatter.sum(axis=0) / m.cells.weight.sum()
    share = m.weight.sum(axis=1) / m.weight.sum()
    means = np.einsum("l,lsd->sd", share, m.mean)[_met(m)[1]]
    apart = means[1:] - means[0]
    values, axes = np.linalg.eigh(within)
    floor = SINGULAR * max(values[-1], np.finfo(float).tiny)
    fisher = axes @ ((axes.T @ apart.T) / np.maximum(values, floor)[:, None])
    telling = np.hstack([fisher, apart.T])
    norms = np.linalg.norm(telling, axis=0)
    telling = (telling / np.where(norms > 0, norms, 1.0))[:, : rank // 2]
    basis = np.linalg.qr(np.hstack([telling, axes[:, ::-1][:, : rank - telling.shape[1]]]))[0]
    return basis


def _strata(
    source: Float[ndarray, "L S r"], own: Float[ndarray, "L S r r"], weight: Float[ndarray, "L S"]
) -> tuple[Float[ndarray, "L S r"], Float[ndarray, "L S"]]:
    """Return the linear discriminants of the strata within each level.

    The prior is that of all levels together: a level in which disease is frequent must not make its
    films look ill.
    """
    share = weight.sum(axis=0) / weight.sum()
    told, prior = np.zeros_like(source), np.zeros(weight.shape)
    for level in range(len(source)):
        pooled = np.einsum("s,sqr->qr", weight[level] / weight[level].sum(), own[level])
        told[level] = source[level] @ power(pooled, -1.0)
        prior[level] = np.log(share) - 0.5 * np.einsum("sr,sr->s", told[level], source[level])
    return told, prior
