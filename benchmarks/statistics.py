"""The bootstrap of AUROCs beside scikit-learn, and the HSIC test beside hyppo.

    python -m benchmarks.statistics            about a minute on one core (without hyppo: 20 s)
    python -m benchmarks.statistics --quick    a smoke test
    python -m benchmarks.statistics --out statistics.json

Bootstrap: two scores on the same films, whole patients drawn; the peer is the plain loop,
`roc_auc_score` on the rows of each draw.  Both get the same draws, and every area must agree.

HSIC: an embedding (and a single number) against a two-level and against a continuous confounder,
one core each.  hyppo gives both variables the width of the first, so its second is scaled to the
same median distance, and its two levels are dummies handed over as a ready kernel; its biased
statistic is the root of the normalised one.

The peers take minutes for what is asked of them, so each runs a share of the draws, and its time
is continued in a straight line: hyppo's from two shares, so that what it does once counts once.
The loop is handed the draws for nothing.  Runs take turns, so that a busy machine is busy for
both, and medians are compared.  A peer that is not installed is skipped and named.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
from numpy import ndarray

from deconf.maths.dependence import dependence
from deconf.maths.intervals import patient_counts
from deconf.maths.kernels import Kernel, categories, gaussian, median_distance
from deconf.maths.paired import paired_aurocs

Rows = list[dict[str, float | str]]


def seconds(runs: Mapping[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Return the median time of each run, the runs taking turns."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(times):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in took.items()}


# --- bootstrap -----------------------------------------------------------------------------


def films(n: int, patients: int) -> tuple[ndarray, ndarray, ndarray]:
    """Return two scores (n, 2), the second with ties, labels, and patients."""
    rng = np.random.default_rng(0)
    label = rng.random(n) < 0.3
    score = rng.normal(size=n) + label
    tied = (score + 0.5 * rng.normal(size=n)).round(1)
    return np.column_stack([score, tied]), label, rng.permutation(np.arange(n) % patients)


def loop(scores: ndarray, label: ndarray, codes: ndarray, counts: ndarray) -> ndarray:
    """Return the same areas by the plain loop."""
    from sklearn.metrics import roc_auc_score

    areas = np.empty((len(counts), scores.shape[1]))
    for b, count in enumerate(counts):
        rows = np.repeat(np.arange(len(label)), count[codes])
        areas[b] = [roc_auc_score(label[rows], score[rows]) for score in scores.T]
    return areas


def bootstrap(n: int, patients: int, draws: int, share: int, times: int) -> Rows:
    """Return seconds and ratio; the loop runs one draw in ``share``."""
    if find_spec("sklearn") is None:
        print("scikit-learn is not installed: the bootstrap has no peer and is skipped.")
        return []
    scores, label, who = films(n, patients)
    codes, counts = patient_counts(who, draws, seed=0)
    few = counts[: draws // share]
    took = seconds(
        {
            "ours": lambda: paired_aurocs(scores, label, who, draws=draws, seed=0),
            "peer": lambda: loop(scores, label, codes, few),
        },
        times,
    )
    ours = paired_aurocs(scores, label, who, draws=draws, seed=0)
    differ = float(np.abs(ours[: len(few)] - loop(scores, label, codes, few)).max())
    return [
        row(f"{draws:,} draws, n = {n:,}, 2 scores", took["ours"], took["peer"] * share, differ)
    ]


# --- HSIC ----------------------------------------------------------------------------------


def row(what: str, ours: float, peer: float, differ: float) -> dict[str, float | str]:
    return {"what": what, "ours": ours, "peer": peer, "ratio": peer / ours, "differ": differ}


def independence(n: int, d: int, permutations: int, share: int, times: int) -> Rows:
    """Return seconds and ratios; hyppo runs a share of the permutations."""
    if find_spec("hyppo") is None:
        print("hyppo is not installed (pip install hyppo): the HSIC test is timed alone.")
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, d))
    number = z[:, :1]
    age = rng.normal(size=(n, 1)) + 0.3 * number**2
    portable = (rng.random(n) < 1 / (1 + np.exp(-number[:, 0]))).astype(float)
    rows: Rows = []
    for name, x in ((f"d = {d}", z), ("d = 1", number)):
        same_width = age * (median_distance(x) / median_distance(age))
        kernels: dict[str, tuple[Callable[[], Kernel], Callable[[], Kernel]]] = {
            "two levels": (lambda x=x: gaussian(x), lambda: categories(portable)),
            "continuous": (lambda x=x: gaussian(x), lambda y=same_width: gaussian(y)),
        }
        for kind, (k, l) in kernels.items():
            runs = {"ours": lambda k=k, l=l: dependence(k(), l(), permutations=permutations)}
            if find_spec("hyppo") is not None:
                peer = theirs(x, same_width if kind == "continuous" else portable)
                peer(3)  # compiled
                few = permutations // share
                runs["few"] = lambda peer=peer, few=few: peer(few)
                runs["more"] = lambda peer=peer, few=few: peer(3 * few)
            took = seconds(runs, times)
            statistic = dependence(k(), l(), permutations=1).correlation
            differ = their_time = float("nan")
            if "few" in took:
                each = (took["more"] - took["few"]) / (2 * few)
                their_time = took["few"] + each * (permutations - few)
                differ = abs(statistic - peer(3) ** 2)
            what = f"{permutations:,} permutations, n = {n:,}, {name}, {kind}"
            rows.append(row(what, took["ours"], their_time, differ))
    return rows


def theirs(x: ndarray, y: ndarray) -> Callable[[int], float]:
    """Return hyppo's permutation test of so many permutations, as a function of their number."""
    from hyppo.independence import Hsic

    def run(permutations: int) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few permutations
            if y.ndim == 2:
                found = Hsic(bias=True).test(x, y, reps=permutations, auto=False)
            else:
                ready = gaussian(x).matrix, categories(y).matrix
                found = Hsic(None, bias=True).test(*ready, reps=permutations, auto=False)
        return float(found[0])

    return run


def table(rows: Rows) -> str:
    out = [f"{'':54}{'deconf, s':>10}{'peer, s':>10}{'ratio':>9}{'differ':>10}"]
    for r in rows:
        peer = f"{r['peer']:>10.1f}{r['ratio']:>8.0f}x{r['differ']:>10.0e}"
        alone = f"{'-':>10}{'-':>9}{'-':>10}"
        out.append(f"{r['what']:54}{r['ours']:>10.3f}{alone if 'nan' in peer else peer}")
    return "\n".join(out)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes: a smoke test")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    asked = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    if asked.quick:
        rows = bootstrap(1000, 500, 200, 10, 3) + independence(200, 16, 100, 10, 1)
    else:
        rows = bootstrap(10_000, 5000, 2000, 20, 5) + independence(1000, 64, 1000, 50, 3)
    print(f"medians of interleaved runs; OMP_NUM_THREADS: {threads}\n")
    print(table(rows))
    if asked.out:
        machine = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "threads": threads,
        }
        asked.out.write_text(json.dumps({"machine": machine, "times": rows}, indent=1))


if __name__ == "__main__":
    main()
