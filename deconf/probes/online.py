"""Bits left: how much shorter a confounder can be told by somebody who holds the embedding.

Alice has films and their levels, Bob the films and their strata.  She sends the levels block by
block, each block twice as long as all before it; before each block both fit the same probe to
what has been sent, and the better it foretells the block, the fewer bits that takes.  Beside it
stands the code of somebody who knows the strata only.  The difference per film is what the
embedding still tells *and is easy to get at*: a probe that needs many films to learn pays for
them (Voita & Titov, "Information-theoretic probing with minimum description length", EMNLP 2020,
section 2.2.2).

The probe starts from the code of the strata, as an offset, and is penalised towards it, so that
what the strata tell is never counted, and an embedding that tells nothing costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy.linalg import helmert
from scipy.optimize import minimize
from scipy.special import log_softmax

from deconf.maths.intervals import Interval, bootstrap, factorised
from deconf.probes.coordinates import (
    RELATIVE_ZERO,
    View,
    exact_directions,
    second_order,
    standardise,
)
from deconf.probes.held_out import without
from deconf.probes.tuning import HOPELESS, grouped_folds

BLOCKS = 8
# Fewer rows than this are no training set; their successors are told by the strata alone.
FEWEST_ROWS = 16
# As scikit-learn's C, the strongest penalty first; 0 keeps to the strata.
STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)

Coder = Literal["linear", "quadratic"]
Tell = Callable[
    [np.ndarray, np.ndarray], np.ndarray
]  # rows and offsets to (m, L) log-probabilities


@dataclass(frozen=True)
class CodeLength:
    """What an embedding saves in telling the levels.

    Attributes
    ----------
    bits : Interval
        Bits saved per film, 95 % by bootstrap over patients with the coders as they are.
        Negative: the embedding misled more than it told.
    strata_bits : float
        Bits per film that the code of the strata takes; ``bits`` cannot be more.
    coder : str
        Which features told most; for the choice log2(coders) bits are paid.
    blocks : tuple of (int, float)
        Films of each block, and bits saved per film in it.
    """

    bits: Interval
    strata_bits: float
    coder: str
    blocks: tuple[tuple[int, float], ...]


def code_length(
    z: np.ndarray,
    codes: np.ndarray,
    strata: np.ndarray,
    patients: np.ndarray,
    *,
    coders: tuple[Coder, ...] = ("linear",),
    numbers: np.ndarray | None = None,
    draws: int = 500,
    seed: int,
) -> CodeLength:
    """Return the bits per film that an embedding saves beyond the strata.

    Patients come in random order and whole; the films of one are all in one block.

    Parameters
    ----------
    z : (n, d) array
    codes : (n,) array of int, levels 0..L-1
    strata, patients : (n,) arrays
    coders : tuple
        "linear": coordinates; "quadratic": the features of the attacker of that name.
    numbers : (n, m) array, optional
        Continuous columns of the adjustment set, taken out of the embedding within strata.
    draws : int
        Of the bootstrap.

    Examples
    --------
    Two levels as likely as each other take one bit; an embedding that shows them saves nearly
    all of it, but for the films it takes to learn.

    >>> c = np.random.default_rng(0).integers(2, size=800)
    >>> z = 4.0 * c[:, None] + np.random.default_rng(1).standard_normal((800, 2))
    >>> found = code_length(z, c, np.zeros(800), np.arange(800), seed=0)
    >>> print(found.bits)
    0.85 [0.83, 0.87]
    """
    stratum = factorised(strata)
    order = np.random.default_rng(seed).permutation(len(np.unique(patients)))
    place = order[factorised(patients)]
    plain = np.empty(len(codes))
    saved = {coder: np.zeros(len(codes)) for coder in coders}
    blocks = list(_blocks(place))
    for before, here in blocks:
        prior = _prior(codes, stratum, before)
        plain[here] = -np.log2(prior[stratum[here], codes[here]])
        if len(before) < FEWEST_ROWS or len(np.unique(codes[before])) < 2:
            continue
        told = here[np.isin(stratum[here], stratum[before])]
        x = without(z, numbers, stratum, before, centre=True)
        for coder in coders:
            p = _foretold(coder, x, codes, np.log(prior)[stratum], patients, before, told, seed)
            saved[coder][told] = plain[told] + p[np.arange(len(told)), codes[told]] / np.log(2)
    best = max(coders, key=lambda coder: saved[coder].sum())
    price = np.log2(len(coders)) / len(codes)
    found = bootstrap(
        lambda w: w @ saved[best] / w.sum(1) - price, patients, draws=draws, seed=seed
    )
    return CodeLength(
        bits=found,
        strata_bits=float(plain.mean()),
        coder=best,
        blocks=tuple((len(here), float(saved[best][here].mean())) for _, here in blocks),
    )


def _blocks(place: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows told so far, and those of the next block, patient by patient."""
    count = int(place.max()) + 1
    ends = np.unique(np.round(count / 2.0 ** np.arange(BLOCKS - 1, -1, -1)).astype(int))
    begin = 0
    for end in ends[ends > 0]:
        yield np.flatnonzero(place < begin), np.flatnonzero((place >= begin) & (place < end))
        begin = end


def _prior(codes: np.ndarray, stratum: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return (strata, L) probabilities: the shares so far, and half a film of each level.

    Krichevsky & Trofimov, "The performance of universal encoding", IEEE Trans. Inf. Theory 1981.
    """
    counts = np.full((stratum.max() + 1, codes.max() + 1), 0.5)
    np.add.at(counts, (stratum[before], codes[before]), 1)
    return counts / counts.sum(1, keepdims=True)


def _foretold(
    coder: Coder,
    x: np.ndarray,
    codes: np.ndarray,
    offset: np.ndarray,
    patients: np.ndarray,
    before: np.ndarray,
    told: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Return (told, L) log-probabilities from a probe fitted on the rows before."""
    rows, y, base = x[before], codes[before], offset[before]
    total = np.zeros(len(STRENGTHS))
    for train, test in grouped_folds(y, patients[before], seed):
        curve = np.full(len(STRENGTHS), np.inf)
        path = _path(coder, rows[train], y[train], base[train], STRENGTHS, seed)
        for i, tell in enumerate(path):
            curve[i] = -tell(rows[test], base[test])[np.arange(len(test)), y[test]].sum()
            if curve[i] > HOPELESS * curve[: i + 1].min():
                break
        total += curve
    (tell,) = _path(coder, rows, y, base, (STRENGTHS[int(np.argmin(total))],), seed)
    return tell(x[told], offset[told])


def _path(
    coder: Coder,
    x: np.ndarray,
    y: np.ndarray,
    offset: np.ndarray,
    strengths: tuple[float, ...],
    seed: int,
) -> Iterator[Tell]:
    """Yield the coder at each strength."""
    view = _features(coder, x, y, seed)
    for W in offset_logistic(view(x), y, offset, strengths):
        yield partial(_told, view, W)


def offset_logistic(
    x: np.ndarray, y: np.ndarray, offset: np.ndarray, strengths: tuple[float, ...]
) -> Iterator[np.ndarray]:
    """Yield W (p, L) of a multinomial logistic regression over an offset, strength by strength.

    min over W of ‖W‖² / 2 − C Σ_i log softmax(offset_i + x_i W)[y_i], by L-BFGS, each started from
    the one before.  scikit-learn's has no offset, and an indicator of the stratum in its place
    would be penalised.

    In principal coordinates, each divided by the root of its curvature 1 + C κ n sd² at W = 0,
    where κ is the mean of p (1 − p), the problem is about round and a few steps do.  Columns of W
    sum to zero at the optimum, so L − 1 contrasts of levels are all there is to find.

    Parameters
    ----------
    x : (n, p) array
    y : (n,) array of int
    offset : (n, L) array
        Log-probabilities to start from.
    strengths : tuple of float
        scikit-learn's C; 0 gives W = 0.
    """
    basis, sd = exact_directions(x)
    keep = sd > RELATIVE_ZERO * sd.max(initial=0.0)
    basis, f = basis[:, keep], x @ basis[:, keep]
    levels = offset.shape[1]
    contrasts = helmert(levels).T  # (L, L - 1), orthonormal
    prior = np.exp(log_softmax(offset, axis=1))
    curvature = len(x) * sd[keep] ** 2 * (prior * (1 - prior)).mean()
    target = np.eye(levels)[y]
    V = np.zeros((f.shape[1], levels - 1))

    def objective(flat: np.ndarray, strength: float, scale: np.ndarray) -> tuple[float, np.ndarray]:
        v = flat.reshape(V.shape) * scale
        log_p = log_softmax(offset + f @ v @ contrasts.T, axis=1)
        slope = v - strength * (f.T @ ((target - np.exp(log_p)) @ contrasts))
        return float((v**2).sum() / 2 - strength * (target * log_p).sum()), (slope * scale).ravel()

    for strength in strengths:
        if strength > 0:
            scale = 1 / np.sqrt(1 + strength * curvature)[:, None]
            found = minimize(
                objective,
                (V / scale).ravel(),
                args=(strength, scale),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": 100, "ftol": 1e-7},
            )
            V = found.x.reshape(V.shape) * scale
        yield basis @ V @ contrasts.T


def _told(view: View, W: np.ndarray, new: np.ndarray, base: np.ndarray) -> np.ndarray:
    p: np.ndarray = log_softmax(base + view(new) @ W, axis=1)
    return p


def _features(coder: Coder, x: np.ndarray, y: np.ndarray, seed: int) -> View:
    view = standardise(x)
    if coder == "linear":
        return view
    pairs = second_order(view(x), y, seed=seed)
    scale = standardise(pairs(view(x)))
    return lambda new: np.hstack([view(new), scale(pairs(view(new)))])
