"""The covariance of residuals: at its level where the number drives both, and strong elsewhere."""

from __future__ import annotations

import numpy as np
from scipy.stats import kstest

from deconf.probes.gcm import gcm


def driven(seed: int, *, trace: float = 0.0, n: int = 300):
    """Return scores of two attackers and levels, both driven by a number inside three cells."""
    rng = np.random.default_rng(seed)
    cell = rng.integers(3, size=n)
    severity = rng.standard_normal(n) + 2 * cell
    c = (rng.random(n) < 1 / (1 + np.exp(-1.5 * (severity - 2 * cell)))).astype(int)
    score = severity + 0.3 * severity**2 + 2 * rng.standard_normal(n) + trace * c
    other = severity + rng.standard_normal(n)
    scores = {"a": np.stack([-score, score], axis=1), "b": np.stack([-other, other], axis=1)}
    return scores, c, cell, severity


def p_value(scores, c, cell, severity, who=None, **options) -> float:
    who = np.arange(len(c)) if who is None else who
    values = options.pop("values", c.astype(float))
    return gcm(scores, c, cell, who, severity[:, None], values=values, draws=200, seed=0, **options)


def test_a_number_that_drives_both_leaves_p_uniform():
    p = [p_value(*driven(seed)) for seed in range(80)]
    assert kstest(p, "uniform").pvalue > 0.01
    scores, c, cell, severity = driven(0)
    assert p_value(scores, c, cell, np.zeros_like(severity)) < 0.01  # left in, it is no null


def test_a_trace_of_the_confounder_itself_is_found():
    assert max(p_value(*driven(seed, trace=2.0)) for seed in range(5)) < 0.05


def test_numbers_are_compared_with_scores_of_one_column():
    _, c, cell, severity = driven(0, n=500)
    rng = np.random.default_rng(0)
    age = severity + rng.standard_normal(500)
    blind, seeing = severity + rng.standard_normal((2, 500))
    ask = {"c": c, "cell": cell, "severity": severity, "values": age}
    assert p_value({"a": blind[:, None]}, **ask) > 0.05
    assert p_value({"a": (seeing + age)[:, None]}, **ask) < 0.05


def test_films_of_a_patient_count_as_one():
    flagged = {"patient": 0, "film": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(60), 8)
        c = rng.integers(2, size=60)[who]
        s = rng.standard_normal(60)[who] + 0.1 * rng.standard_normal(480)
        score = {"a": np.stack([-s, s], axis=1)}
        ask = (score, c, np.zeros(480), rng.standard_normal(480))
        flagged["patient"] += p_value(*ask, who=who) < 0.05
        flagged["film"] += p_value(*ask) < 0.05
    assert flagged["patient"] <= 6  # 15 %: exceeded once in 70 such tests
    assert flagged["film"] > 15
