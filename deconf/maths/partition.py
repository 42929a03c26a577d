"""Dealing unequal groups into parts of equal load: found by a seeded search, proved by a solver.

Minimises Σₖ ‖nₖ − N/K‖², nₖ the load of part k and N the load of all: the objective that Howard et
al. gave to a commercial quadratic solver to keep whole hospitals in one fold.  Two steps:

1. An iterated local search: the largest group first into the part it burdens least; then the best
   move of a group or swap of two until none helps; then a few groups thrown about and again.
2. Outer approximation (Duran & Grossmann 1986, https://doi.org/10.1007/BF02592064): squares are
   replaced by tangents, which turns the problem into a linear one over whole numbers, solved by
   HiGHS.  Its optimum bounds the true one from below; tangents are added where it touches until
   the bound meets the best division known, which is then proved.

HiGHS is stopped by a number of nodes, never by a clock: a busy machine must not change the answer.

Howard et al., "The impact of site-specific digital histology signatures on deep learning model
accuracy and bias", Nature Communications 2021, https://doi.org/10.1038/s41467-021-24698-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

from deconf.errors import SettingsError

KICKS = 1000  # times that a few groups are thrown about in vain before the search ends
WORK = 1_000_000  # nodes of a round of the solver, times the numbers that describe a node
ROUNDS = 6
TANGENTS = (0.03, 0.3)  # first ones at these distances from an equal share, relative
ROUNDING = 1e-9  # of the sum of squared loads


@dataclass(frozen=True, eq=False)
class Partition:
    """Groups dealt into parts.

    Attributes
    ----------
    part : (g,) int
        0 to K - 1; no part is empty where every two groups share a kind of load.
    excess : float
        Σₖ ‖nₖ − N/K‖²: 0 when all parts carry the same.
    bound : float
        No division has less than this, to the 1e-4 of the solver.
    """

    part: Int[np.ndarray, " g"]
    excess: float
    bound: float

    @property
    def is_proved(self) -> bool:
        """Whether no other division is more even, to within 0.1 % of the excess."""
        return self.bound >= self.excess * 0.999


def even_partition(
    loads: Real[np.ndarray, "g v"], parts: int, *, grain: Any = 0.0, seed: int = 0
) -> Partition:
    """Deal groups into parts so that every part carries as nearly as possible the same.

    Parameters
    ----------
    loads : (g, v) array, not negative
        What each group brings of each of v kinds.
    parts : int
        K, at least two and at most g.
    grain : float or (v,) array
        Where no part is off an equal share by as much as this in any kind, no proof is sought.
    seed : int

    Raises
    ------
    SettingsError
        Fewer than two parts, or fewer groups than parts.

    Examples
    --------
    >>> even_partition(np.array([[5, 1], [4, 2], [3, 3], [2, 4]]), 2).part
    array([0, 1, 1, 0])
    """
    loads = np.asarray(loads, dtype=np.float64)
    if not 2 <= parts <= len(loads):
        raise SettingsError(f"{len(loads)} groups cannot be dealt into {parts} parts.")
    part = _searched(loads, parts, np.random.default_rng(seed))
    off = np.abs(_carried(loads, part, parts) - loads.sum(axis=0) / parts)
    if (off < grain).all():
        return Partition(part, _excess(loads, part, parts), bound=0.0)
    return _proved(loads, part, parts)


def _carried(
    loads: Float[np.ndarray, "g v"], part: Int[np.ndarray, " g"], parts: int
) -> Float[np.ndarray, "k v"]:
    carried = np.zeros((parts, loads.shape[1]))
    np.add.at(carried, part, loads)
    return carried


def _excess(loads: Float[np.ndarray, "g v"], part: Int[np.ndarray, " g"], parts: int) -> float:
    return float(((_carried(loads, part, parts) - loads.sum(axis=0) / parts) ** 2).sum())


def _searched(
    loads: Float[np.ndarray, "g v"], parts: int, rng: np.random.Generator
) -> Int[np.ndarray, " g"]:
    """Return the most even division that a local search with random kicks comes to."""
    part = np.zeros(len(loads), dtype=np.int64)
    carried = np.zeros((parts, loads.shape[1]))
    for g in np.argsort(-(loads**2).sum(axis=1), kind="stable"):
        part[g] = np.argmin(carried @ loads[g])  # least growth of Σ ‖nₖ‖²
        carried[part[g]] += loads[g]
    best = _descended(loads, part, parts)
    least = _excess(loads, best, parts)
    tolerance = ROUNDING * float((loads**2).sum())
    in_vain = 0
    while in_vain < KICKS and least > tolerance:
        kicked = best.copy()
        thrown = rng.choice(len(loads), min(len(loads), int(rng.integers(2, 9))), replace=False)
        kicked[thrown] = rng.integers(parts, size=len(thrown))
        kicked = _descended(loads, kicked, parts)
        excess = _excess(loads, kicked, parts)
        in_vain += 1
        if excess < least - tolerance:
            best, least, in_vain = kicked, excess, 0
    return best


def _descended(
    loads: Float[np.ndarray, "g v"], part: Int[np.ndarray, " g"], parts: int
) -> Int[np.ndarray, " g"]:
    """Return a division that no single move and no swap of two groups makes more even."""
    part, carried = part.copy(), _carried(loads, part, parts)
    every = np.arange(len(loads))
    gram = loads @ loads.T
    square = gram.diagonal()
    apart = square[:, None] + square[None] - 2 * gram  # ‖a_g − a_h‖²
    tolerance = ROUNDING * float(square.sum())
    while True:
        with_part = loads @ carried.T  # a_g · n_k
        own = with_part[every, part]
        # g from its part into k:  ½ Δ Σ‖n‖² = a_g·n_k − a_g·n_own + ‖a_g‖²
        move = with_part - own[:, None] + square[:, None]
        move[every, part] = np.inf
        # g and h change places:  with d = a_h − a_g,  ½ Δ Σ‖n‖² = d·(n_g − n_h) + ‖d‖²
        across = with_part[:, part]  # [h, g]: a_h · n of g's part
        swap = across.T + across - own[:, None] - own[None] + apart
        swap[part[:, None] == part[None]] = np.inf
        moved = np.unravel_index(move.argmin(), move.shape)
        swapped = np.unravel_index(swap.argmin(), swap.shape)
        if min(move[moved], swap[swapped]) >= -tolerance:
            return part
        if move[moved] <= swap[swapped]:
            part[moved[0]] = moved[1]
        else:
            part[list(swapped)] = part[list(swapped[::-1])]
        carried = _carried(loads, part, parts)


def _proved(loads: Float[np.ndarray, "g v"], part: Int[np.ndarray, " g"], parts: int) -> Partition:
    """Return the division, or a more even one, with a lower bound for all others."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array, csr_array, hstack, kron, vstack

    groups, kinds = loads.shape
    best, excess, bound = part, _excess(loads, part, parts), 0.0
    if excess <= ROUNDING * float((loads**2).sum()):
        return Partition(best, excess, bound=excess)
    loads = loads / np.sqrt(unit := excess)  # the optimum near 1, far from the solver's 1e-6
    excess = 1.0
    # Unknowns: x[g, k], whether group g is in part k; e[k, v], at least (n_kv − N_v/K)².
    order = np.argsort(-(loads**2).sum(axis=1), kind="stable")
    sorted_loads, share = loads[order], loads.sum(axis=0) / parts
    upper = np.ones((groups, parts))
    # Parts have no names: of all relabellings only the one where the largest group is in part 0,
    # the next in part 0 or 1, and so on.
    upper[:parts][np.triu_indices(parts, 1)] = 0
    bounds = Bounds(0, np.r_[upper.ravel(), np.full(parts * kinds, np.inf)])
    cost = np.r_[np.zeros(groups * parts), np.ones(parts * kinds)]
    in_one_part = csr_array(kron(csr_array(np.eye(groups)), np.ones((1, parts))))
    in_one_part = hstack([in_one_part, csr_array((groups, parts * kinds))]).tocsr()
    # e − 2 (t − s) n  ≥  −(t − s)² − 2 (t − s) s : the tangent of (n − s)² at t, in δ = t − s.
    carried = csr_array(kron(csr_array(sorted_loads.T), np.eye(parts)))  # row (v, k): n_kv
    place = coo_array(np.eye(parts * kinds)).tocsr()
    tangents, least = [], []

    def touch(at: Float[np.ndarray, "v k"]) -> None:
        delta = (at - share[:, None]).ravel()
        slope = csr_array(np.diag(-2 * delta)) @ carried
        tangents.append(hstack([slope, place]).tocsr())
        least.append(-(delta**2) - 2 * delta * np.repeat(share, parts))

    for distance in TANGENTS:
        for sign in (1, -1):
            touch(np.repeat(share[:, None] * (1 + sign * distance), parts, axis=1))
    for known in _carried(loads, part, parts):
        touch(np.repeat(known[:, None], parts, axis=1))
    nodes = max(WORK // (groups * parts * kinds), 100)
    for _ in range(ROUNDS):
        found = milp(
            cost,
            integrality=np.r_[np.ones(groups * parts), np.zeros(parts * kinds)],
            bounds=bounds,
            constraints=[
                LinearConstraint(in_one_part, 1, 1),
                LinearConstraint(vstack(tangents).tocsr(), np.concatenate(least), np.inf),
            ],
            options={"node_limit": nodes, "mip_rel_gap": 1e-4},
        )
        if found.mip_dual_bound is not None:
            bound = max(bound, float(found.mip_dual_bound))
        if found.x is None:
            break
        dealt = np.empty(groups, dtype=np.int64)
        dealt[order] = found.x[: groups * parts].reshape(groups, parts).argmax(axis=1)
        touch(_carried(loads, dealt, parts).T)
        dealt = _descended(loads, dealt, parts)
        if _excess(loads, dealt, parts) < excess - ROUNDING:
            best, excess = dealt, _excess(loads, dealt, parts)
        if found.status != 0 or bound >= excess * 0.999:
            break
    return Partition(best, excess * unit, bound * unit)
