"""Under the null every attacker, and the best of all, is significant as often as it says.

Minutes: marked slow.  Seeds run in chunks, on as many cores as there are (fewer where the
environment says so: LOKY_MAX_CPU_COUNT).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed
from scipy.stats import binom

from deconf.evidence.verdict import judge
from deconf.probes.attackers import attackers
from deconf.probes.leakage import leakage

pytestmark = pytest.mark.slow

SEEDS, CHUNK = 500, 25
N, D = 400, 32
LEAKS = "verdict leaks"


def null_world(seed: int, *, in_order: bool):
    """Return an embedding that tells the stratum, and a confounder that goes with it; no more."""
    rng = np.random.default_rng(seed)
    s = rng.integers(2, size=N)
    z = rng.standard_normal((N, D)) + 2 * np.outer(s, rng.standard_normal(D))
    if in_order:
        age = rng.normal(60 + 6 * s, 9)
        return z, np.digitize(age, np.quantile(age, [1 / 3, 2 / 3])), s, age
    return z, (rng.random(N) < 0.3 + 0.4 * s).astype(int), s, None


def chunk(seeds: range, in_order: bool) -> list[dict[str, float]]:
    """Return the p-value of every attacker, of the best, and whether it was called a leak."""
    rows = []
    for seed in seeds:
        z, c, s, values = null_world(seed, in_order=in_order)
        found = leakage(
            z, c, s, values=values, attackers=attackers.names(), permutations=199, bootstraps=20,
            seed=seed,
        )  # fmt: skip
        leaks = float(str(judge(found, found.p)) == "leaks")
        rows.append({**found.alone, "the best of all": found.p, LEAKS: leaks})
    return rows


def drawn(seeds: int, *, in_order: bool) -> pd.DataFrame:
    chunks = [range(k, min(k + CHUNK, seeds)) for k in range(0, seeds, CHUNK)]
    done = Parallel(n_jobs=-1)(delayed(chunk)(part, in_order) for part in chunks)
    return pd.DataFrame([row for rows in done for row in rows])


@pytest.mark.parametrize(("in_order", "seeds"), [(False, SEEDS), (True, SEEDS // 2)])
def test_the_level_is_kept_by_every_attacker_by_the_maximum_and_by_the_verdict(in_order, seeds):
    found = drawn(seeds, in_order=in_order)
    p = found.drop(columns=LEAKS)
    hits = (p <= 0.05 + 1e-9).sum()
    low, high = binom.interval(0.99, seeds, 0.05)
    print(f"\n{seeds} seeds, p <= 0.05: {low:.0f} to {high:.0f} expected\n{hits / seeds}")
    print(f"called a leak: {found[LEAKS].mean():.3f}")
    assert len(p.columns) == 7
    assert hits.between(low, high).all(), hits
    assert found[LEAKS].mean() <= 0.065
