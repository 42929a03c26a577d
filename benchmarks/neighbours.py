"""Exact neighbours and the measures built on them, against scikit-learn and scib-metrics.

    python -m benchmarks.neighbours                # n = 20,000, d = 384: about two minutes
    python -m benchmarks.neighbours --quick        # a smoke test
    python -m benchmarks.neighbours --out benchmarks/results/neighbours.json

scikit-learn: `NearestNeighbors(algorithm="brute")`, whose products run in float64 also for float32
embeddings; a product alone in float32 would be twice as fast.  scib-metrics is compared where it is
installed (`pip install scib-metrics==0.5.10`), on the same neighbours for LISI and kBET; its first
call, which compiles, is not counted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy import ndarray
from threadpoolctl import threadpool_limits

from deconf.probes.neighbours import biology_silhouette, kbet, lisi, nearest


def films(n: int, d: int) -> tuple[ndarray, ndarray, ndarray]:
    """Return embeddings (n, d) float32 whose variances fall as those of encoders do, and codes."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, d), dtype=np.float32)
    z *= np.arange(1, d + 1, dtype=np.float32) ** -0.5
    site, biology = rng.integers(5, size=n), rng.integers(4, size=n)
    z[:, :5] += np.eye(5, dtype=np.float32)[site] / 2
    return z, site, biology


def theirs(z: ndarray, k: int) -> tuple[ndarray, ndarray]:
    from sklearn.neighbors import NearestNeighbors

    distance, index = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(z).kneighbors()
    return index, distance


def seconds(runs: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Return the median time of each run, the runs taking turns."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(times):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in took.items()}


def searched(n: int, d: int, k: int, times: int) -> dict[str, float]:
    """Return seconds of both searches, their ratio, and the share of equal neighbours."""
    z, _, _ = films(n, d)
    runs = {"ours": partial(nearest, z, k), "peer": partial(theirs, z, k)}
    for run in runs.values():
        run.func(z[:1000], k)  # libraries loaded, threads started
    took = seconds(runs, times)
    ours, (index, distance) = nearest(z, k), theirs(z, k)
    same = ours.index == index
    # Where they differ the peer's distances are rounded to float32: a tie for it, not for us.
    apart = np.abs(ours.distance - distance)[~same].max(initial=0.0)
    return {
        "n": n,
        "d": d,
        "k": k,
        "ours": took["ours"],
        "peer": took["peer"],
        "ratio": took["peer"] / took["ours"],
        "same": float(same.mean()),
        "apart": float(apart),
    }


def measured(n: int, d: int, times: int) -> dict[str, dict[str, float]]:
    """Return seconds of LISI, kBET and the silhouette here and in scib-metrics."""
    import scib_metrics
    from scib_metrics.nearest_neighbors import NeighborsResults

    z, site, biology = films(n, d)
    near = nearest(z, 90, with_self=True)
    given = NeighborsResults(near.index, near.distance)
    pairs: dict[str, dict[str, Callable[[], object]]] = {
        "LISI": {
            "ours": lambda: lisi(near, site),
            "peer": lambda: np.asarray(scib_metrics.lisi_knn(given, site)),
        },
        "kBET": {
            "ours": lambda: kbet(near, site),
            "peer": lambda: np.asarray(scib_metrics.kbet(given, site)[2]),
        },
        "silhouette": {
            "ours": lambda: biology_silhouette(z, biology),
            "peer": lambda: float(scib_metrics.silhouette_label(z, biology)),
        },
    }
    found = {}
    for name, runs in pairs.items():
        runs["peer"]()  # compiles
        took = seconds(runs, times)
        found[name] = {**took, "ratio": took["peer"] / took["ours"]}
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes: a smoke test")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of BLAS and OpenMP")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    asked = parser.parse_args()
    n, widths, times = (3000, (64,), 2) if asked.quick else (20_000, (384, 768), 3)
    print(f"n = {n:,}, float32, {asked.threads} threads, median of {times}, the two taking turns\n")
    print(
        f"{'d':>5}{'k':>5}{'deconf, s':>11}{'sklearn, s':>12}{'ratio':>8}{'same':>10}{'apart':>10}"
    )
    with threadpool_limits(limits=asked.threads):
        rows = []
        for d in widths:
            for k in (15, 90):
                row = searched(n, d, k, times)
                rows.append(row)
                print(
                    f"{d:>5}{k:>5}{row['ours']:>11.2f}{row['peer']:>12.2f}{row['ratio']:>7.2f}x"
                    f"{row['same']:>10.6f}{row['apart']:>10.1e}",
                    flush=True,
                )
        if importlib.util.find_spec("scib_metrics"):
            scib = measured(n // 4, 64, times)
            print(f"\nscib-metrics, n = {n // 4:,}, d = 64, 90 neighbours:")
            for name, took in scib.items():
                print(
                    f"  {name:<12}{took['ours']:>8.3f} s {took['peer']:>8.3f} s "
                    f"{took['ratio']:>6.1f}x"
                )
        else:
            scib = {}
            print("\nscib-metrics is not installed: LISI, kBET and silhouette are not compared.")
    if asked.out:
        machine = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "threads": asked.threads,
        }
        figures = {"machine": machine, "search": rows, "scib": scib}
        asked.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
