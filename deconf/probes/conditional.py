"""Permutations that keep what a confounder owes to the adjustment set.

A plain permutation breaks the bond of confounder C and adjustment set S along with that of C and
the image, so it tests the wrong null.  Where S is a set of strata, permuting within them is exact.
Where S holds numbers, C is permuted with probability proportional to ``Π q(c_π(i) | s_i)``, q a
model of the assignment: if q is right the test is exact, if it is nearly right its level is off by
no more than the distance of q from the truth (Berrett, Wang, Barber & Samworth, "The conditional
permutation test for independence while controlling for confounders", JRSS B 2020).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.maths.moments import Given
from deconf.maths.permutation import permutations_within
from deconf.probes.target import is_number

STEPS = 50
"""Rounds of the pairwise sampler, as in the paper's section 3.2."""
RIDGE = 1.0
"""Scikit-learn's C of the assignment model, on standardised columns."""
Gain = Callable[[ndarray, ndarray, ndarray, ndarray], ndarray]


def conditional_permutations(
    target: Int[ndarray, " n"] | Float[ndarray, " n"],
    given: Given,
    *,
    times: int,
    seed: int,
) -> Int[ndarray, "times n"]:
    """Return index arrays such that ``target[index]`` is a draw from ``C | S`` on the same values.

    Parameters
    ----------
    target : (n,) int levels, or (n,) float
        The confounder, one row for each patient.  Levels are modelled by multinomial logistic
        regression on strata and basis, numbers by least squares with normal errors.
    given : Given
        Strata alone: permuted within them, exactly.
    times : int
    seed : int

    Examples
    --------
    >>> strata = Given(np.array([0, 0, 1, 1]))
    >>> index = conditional_permutations(np.array([0, 1, 0, 1]), strata, times=3, seed=0)
    >>> bool((strata.codes[index] == strata.codes).all())
    True
    """
    if given.basis is None:
        return np.stack(list(permutations_within(given.codes, times=times, seed=seed)))
    gain = _gain(target, _columns(given))
    rng = np.random.default_rng(seed)
    n = len(target)
    rounds = [rng.permutation(n)[: n - n % 2].reshape(2, -1) for _ in range(STEPS)]
    # From the data back to a hub, then forward from the hub to every copy: given the hub and the
    # pairings, the data are as any copy (the paper's parallelised sampler).
    hub = np.arange(n)[None]
    for pairs in reversed(rounds):
        _swap(hub, pairs, target, gain, rng)
    copies = np.repeat(hub, times, axis=0)
    for pairs in rounds:
        _swap(copies, pairs, target, gain, rng)
    return copies


def _swap(
    index: Int[ndarray, "b n"],
    pairs: ndarray,
    target: ndarray,
    gain: Gain,
    rng: np.random.Generator,
) -> None:
    """Exchange the values of each pair of rows with the odds of the exchanged state, in place."""
    i, j = pairs
    a, b = index[:, i], index[:, j]
    odds = gain(target[a], target[b], i, j)
    swapped = rng.random(odds.shape) < 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
    index[:, i], index[:, j] = np.where(swapped, b, a), np.where(swapped, a, b)


def _gain(target: ndarray, x: Float[ndarray, "n p"]) -> Gain:
    """Return log q of the exchanged pair less log q of the pair as it is."""
    if is_number(target):
        design = np.hstack([np.ones((len(x), 1)), x])
        mean = design @ np.linalg.lstsq(design, target, rcond=None)[0]
        variance = max(float(((target - mean) ** 2).mean()), 1e-12)
        return lambda a, b, i, j: -(a - b) * (mean[i] - mean[j]) / variance
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=RIDGE, max_iter=1000).fit(x, target)
    log_q = np.full((len(x), int(target.max()) + 1), -50.0)
    log_q[:, model.classes_] = model.predict_log_proba(x)
    return lambda a, b, i, j: log_q[i, b] + log_q[j, a] - log_q[i, a] - log_q[j, b]


def _columns(given: Given) -> Float[ndarray, "n p"]:
    """Return strata and basis as standardised columns."""
    hot = np.eye(int(given.codes.max(initial=0)) + 1)[given.codes][:, 1:]
    x = np.hstack([hot, given.basis]) if given.basis is not None else hot
    scale = x.std(axis=0)
    return (x - x.mean(axis=0))[:, scale > 0] / scale[scale > 0]
