"""The interval holds the truth as often as it says: 500 worlds."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from deconf.causal.adjustment import own_adjustment
from deconf.hypotheses.contrasts import adjusted
from deconf.hypotheses.reading import complete_rows, read_cause, read_outcome
from tests.reference.effect_worlds import TRUTH, curved

SEEDS = 500


def covers(seed: int) -> bool:
    cohort = curved(400, 10_000 + seed)
    rows = complete_rows(
        cohort, read_cause(cohort.table, "portable"), read_outcome(cohort, "score"), ["severity"]
    )
    found = own_adjustment(None, "portable", "score", ("severity",))
    interval = adjusted(rows, found, trim=0.01, seed=seed).contrasts[0].difference
    return interval.low <= TRUTH <= interval.high


@pytest.mark.slow
def test_the_99_percent_interval_of_the_coverage_contains_95_percent():
    held = sum(covers(seed) for seed in range(SEEDS))
    reach = binomtest(held, SEEDS).proportion_ci(confidence_level=0.99)
    assert reach.low <= 0.95 <= reach.high, f"{held} of {SEEDS} intervals hold the truth"
