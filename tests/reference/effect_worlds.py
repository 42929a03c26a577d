"""Worlds whose effects are known, because they are written down here.

A portable film moves a score by ``DIRECT``, and through the exposure it calls for by
``THROUGH_EXPOSURE`` more.  Severity brings both the portable film and, along a curve, a higher
score; films of a patient share severity and a habit of scoring.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from deconf.cohort.cohort import Cohort

TRUTH = 0.5
DIRECT, THROUGH_EXPOSURE = 0.3, 0.2
GRAPH = "severity -> portable; severity -> score; portable -> score"
WITH_EXPOSURE = GRAPH + "; portable -> exposure -> score; severity -> exposure"
RIGHT_CONTROLS = {"rib_count": "confounding"}


def curved(patients: int, seed: int, *, truth: float = TRUTH, films: int = 2) -> Cohort:
    """Severity acts through a curve: naive 0.95 and linear 0.61 where the truth is 0.50."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), films)
    severity = rng.gamma(2.0, 1.0, size=patients)[who]
    habit = 0.4 * rng.normal(size=patients)[who]
    bend = 1 / (1 + np.exp(-3.0 * (severity - 2.2)))
    portable = rng.random(len(who)) < 0.15 + 0.6 * bend
    score = truth * portable + 1.15 * bend + habit + 0.6 * rng.normal(size=len(who))
    return _cohort(rng, who, severity, portable, score, bend)


def through_exposure(patients: int, seed: int) -> Cohort:
    """Part of the effect passes through the exposure, which severity moves too."""
    rng = np.random.default_rng(seed)
    who = np.arange(patients)
    severity = rng.normal(size=patients)
    portable = rng.random(patients) < 1 / (1 + np.exp(-severity))
    exposure = portable + 0.5 * severity + rng.normal(size=patients)
    score = DIRECT * portable + THROUGH_EXPOSURE * exposure + 0.5 * severity
    score = score + 0.5 * rng.normal(size=patients)
    return _cohort(rng, who, severity, portable, score, severity, exposure=exposure)


def flipped(patients: int, seed: int) -> Cohort:
    """The portable film lowers the score by 0.4, and sicker patients make it look a rise."""
    return curved(patients, seed, truth=-0.3)


def binary(patients: int, seed: int) -> tuple[Cohort, float, float]:
    """Return a cohort with a finding, its risk difference and its risk ratio."""
    rng = np.random.default_rng(seed)
    severity = rng.integers(0, 3, size=patients)
    portable = rng.random(patients) < np.array([0.2, 0.5, 0.8])[severity]
    base = np.array([0.05, 0.15, 0.40])[severity]
    ill = rng.random(patients) < base * (1 + 0.5 * portable)
    table = pd.DataFrame({"severity": severity, "portable": portable.astype(int), "ill": ill + 0})
    mean = np.mean([0.05, 0.15, 0.40])
    return Cohort.read(table), 0.5 * mean, 1.5


def front(patients: int, seed: int) -> Cohort:
    """An unrecorded cause of both; the whole effect, 0.6 of 1.0, passes through a trace."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=patients)
    portable = rng.random(patients) < 1 / (1 + np.exp(-1.5 * hidden))
    trace = (rng.random(patients) < np.where(portable, 0.8, 0.2)).astype(int)
    score = 1.0 * trace + 1.0 * hidden + 0.5 * rng.normal(size=patients)
    table = pd.DataFrame({"portable": portable.astype(int), "trace": trace, "score": score})
    return Cohort.read(table)


def _cohort(rng, who, severity, portable, score, bend, **more) -> Cohort:
    table = pd.DataFrame(
        {
            "patient": who,
            "severity": severity,
            "portable": portable.astype(int),
            "score": score,
            # what no device can touch: one depends on severity, the other on nothing
            "effusion": (rng.random(len(who)) < 0.1 + 0.25 * np.clip(bend, 0, 1)).astype(int),
            "rib_count": rng.normal(size=len(who)),
            **more,
        }
    )
    return Cohort.read(table, patient="patient")
