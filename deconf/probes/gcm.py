"""Is anything left between what attackers say and the confounder, once numbers are out of both.

A number that is held fixed is cut into cells, and cells are wide: inside one, a film's severity
still tells a little of its view, and the embedding tells severity.  The generalised covariance
measure takes the number out of both sides by regression and asks whether the residuals still go
together; its level rests on the *product* of the two errors of regression, so that either may be
rough (Shah & Peters, "The hardness of conditional independence testing and the generalised
covariance measure", Annals of Statistics 2020, theorems 6 and 9).

It has no power where the conditional covariance is nil; there the attackers' own test speaks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deconf.maths.intervals import BLOCK, factorised
from deconf.probes.held_out import without
from deconf.probes.target import votes


def gcm(
    scores: Mapping[str, np.ndarray],
    codes: np.ndarray,
    strata: np.ndarray,
    patients: np.ndarray,
    numbers: np.ndarray,
    *,
    values: np.ndarray,
    draws: int = 500,
    seed: int,
) -> float:
    """Return the p-value of the largest covariance of residuals over attackers and levels.

    With R_pj the sum over the films of patient p of (residual of the score of attacker and level
    j) x (residual of that level), T_j = Σ_p R_pj / √(Σ_p R_pj²) is about standard normal; the
    maximum |T_j| is compared with that of Σ_p e_p R_pj / √(Σ_p R_pj²), e_p standard normal
    (multiplier bootstrap, section 3.2 of the paper; sums by patient since films of one are not
    independent).

    Parameters
    ----------
    scores : mapping of attacker to (m, L) or (m, 1) array
        Of held-out rows.
    codes, strata, patients : (m,) arrays
    numbers : (m, k) array
        What is held fixed beside the strata; regressed on in a straight line and a parabola
        inside each stratum.
    values : (m,) array
        What scores of one column are to be compared with.
    """
    own = np.arange(len(codes))
    level = without(votes(codes), numbers, strata, own, centre=True)
    value = without(values[:, None], numbers, strata, own, centre=True)
    products = []
    for score in scores.values():
        residual = without(score, numbers, strata, own, centre=True)
        products.append(residual * (level if score.shape[1] > 1 else value))
    per_patient = np.zeros((len(np.unique(patients)), sum(p.shape[1] for p in products)))
    np.add.at(per_patient, factorised(patients), np.hstack(products))
    size = np.sqrt((per_patient**2).sum(0))
    standard = per_patient[:, size > 0] / size[size > 0]
    observed = np.abs(standard.sum(0)).max(initial=0.0)
    rng, reached = np.random.default_rng(seed), 0
    step = max(1, BLOCK // len(standard))
    for first in range(0, draws, step):
        e = rng.standard_normal((min(step, draws - first), len(standard)))
        reached += int((np.abs(e @ standard).max(axis=1, initial=0.0) >= observed).sum())
    return (1 + reached) / (draws + 1)
