"""Linear erasure beside `concept-erasure`: seconds, memory, and what is left far from zero.

    python -m benchmarks.erasure            about two minutes on two cores
    python -m benchmarks.erasure --quick    a smoke test
    python -m benchmarks.erasure --out erasure.json

Both packages get the same float32 embeddings and one-hot classes and the same task: plain LEACE
(Belrose et al. 2023), nothing shrunk, every direction erased.  The peer runs in whichever way is
faster for it, and is spared what it can be spared: ``shrinkage=False`` and
``constrain_cov_trace=False`` (less work than its defaults); ``svd_tol=1e-6``, since at the default
0.01 it leaves rare classes partly readable.  Runs are interleaved, so that a busy machine is busy
for both, and medians are compared.  Nothing is written unless ``--out`` is given.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy import ndarray

from deconf.maths.maps import AffineMap
from deconf.maths.moments import CellMoments, cell_moments
from deconf.methods import LEACE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations of torch inside the other package
    from concept_erasure import LeaceEraser, LeaceFitter

BARE = LEACE(shrinkage=0.0, rank="full")
SHARDS = 10
PEER = {"shrinkage": False, "constrain_cov_trace": False, "svd_tol": 1e-6}


def films(n: int, d: int, classes: int, *, away: float = 0.0) -> tuple[ndarray, ndarray, ndarray]:
    """Return embeddings (n, d) float32 with a trace of each class, one-hot classes, and codes.

    ``away`` is how many standard deviations the features lie from zero.
    """
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, d), dtype=np.float32)
    codes = rng.integers(classes, size=n)
    trace = rng.standard_normal((classes, d), dtype=np.float32) / 2 + np.float32(away)
    for start in range(0, n, 8192):  # in place: the high-water mark of memory is measured later
        z[start : start + 8192] += trace[codes[start : start + 8192]]
    return z, np.eye(classes, dtype=np.float32)[codes], codes


def ours(z: ndarray, c: ndarray) -> AffineMap:
    return BARE.fit(z, c)


def ours_streamed(z: ndarray, c: ndarray) -> AffineMap:
    shards = zip(np.array_split(z, SHARDS), np.array_split(c, SHARDS), strict=True)
    parts = (cell_moments(a, b) for a, b in shards)
    return BARE.fit_moments(reduce(CellMoments.merge, parts))


def theirs(z: ndarray, c: ndarray) -> LeaceEraser:
    return LeaceFitter.fit(torch.from_numpy(z), torch.from_numpy(c), **PEER).eraser


def theirs_streamed(z: ndarray, c: ndarray) -> LeaceEraser:
    fitter = LeaceFitter(z.shape[1], c.shape[1], dtype=torch.float32, **PEER)
    for a, b in zip(np.array_split(z, SHARDS), np.array_split(c, SHARDS), strict=True):
        fitter.update(torch.from_numpy(a), torch.from_numpy(b))
    return fitter.eraser


FITS = {
    "ours": ours,
    "ours, shards": ours_streamed,
    "peer": theirs,
    "peer, shards": theirs_streamed,
}


def seconds(runs: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Return the median time of each run, the runs taking turns."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(times):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in took.items()}


def timed(n: int, d: int, classes: int, times: int) -> dict[str, float]:
    """Return seconds and ratios for one shape."""
    z, c, _ = films(n, d, classes)
    for fit in FITS.values():
        fit(z[:2000], c[:2000])  # libraries loaded, threads started
    took = seconds({name: partial(fit, z, c) for name, fit in FITS.items()}, times)
    peer = min(took["peer"], took["peer, shards"])
    mine, other, x = ours(z, c), theirs(z, c), torch.from_numpy(z)
    with torch.no_grad():
        applied = seconds({"ours": lambda: mine(x), "peer": lambda: other(x)}, times)
        differ = float((mine(x) - other(x)).abs().max())
    return {
        "n": n,
        "d": d,
        "classes": classes,
        "fit_ours": took["ours"],
        "fit_peer": peer,
        "fit_ratio": peer / took["ours"],
        "shards_ours": took["ours, shards"],
        "shards_peer": took["peer, shards"],
        "shards_ratio": peer / took["ours, shards"],
        "apply_ours": applied["ours"],
        "apply_peer": applied["peer"],
        "apply_ratio": applied["peer"] / applied["ours"],
        "differ": differ,
    }


def left(n: int, d: int, classes: int, away: float) -> dict[str, float]:
    """Return the largest distance between a class and the whole after erasure, in deviations."""
    z, c, codes = films(n, d, classes, away=away)
    x = torch.from_numpy(z)
    found = {"before": readable(z, codes)}
    with torch.no_grad():
        for name, fit in FITS.items():
            found[name] = readable(fit(z, c)(x).numpy(), codes)
    return found


def readable(z: ndarray, codes: ndarray) -> float:
    mean = z.mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(np.mean((z - mean) ** 2))
    gaps = [z[codes == k].mean(axis=0, dtype=np.float64) - mean for k in np.unique(codes)]
    return float(np.abs(gaps).max() / deviation)


def peak(name: str, n: int, d: int, classes: int) -> float:
    """Return MB of memory a fit needs beside its data, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.erasure", "--peak", name]
    shape = ["--shape", str(n), str(d), str(classes)]
    return float(subprocess.run([*command, *shape], capture_output=True, check=True).stdout)


def high_water() -> float:
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


HEAD = (
    f"{'':16}{'fit, s':^26}{'10 shards, s':^26}{'apply, s':^26}\n"
    f"{'d':>6}{'classes':>9} " + f"{'deconf':>8}{'peer':>8}{'ratio':>9} " * 3
)


def line(row: dict[str, float]) -> str:
    """Return the times of one shape as text."""
    out = f"{row['d']:>6}{row['classes']:>9} "
    for what in ("fit", "shards", "apply"):
        mine, ratio = row[f"{what}_ours"], row[f"{what}_ratio"]
        out += f"{mine:>8.3f}{mine * ratio:>8.3f}{ratio:>8.1f}x "
    return out


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes: a smoke test")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--peak", choices=list(FITS), help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        z, c, _ = films(*asked.shape)
        FITS[asked.peak](z[:2000], c[:2000])  # load the libraries before the mark is taken
        before = high_water()
        FITS[asked.peak](z, c)
        print(high_water() - before)
        return

    n, widths, times = (4000, (48, 96), 2) if asked.quick else (100_000, (384, 768), 5)
    print(f"n = {n:,}, float32, {torch.get_num_threads()} threads, median of {times}; the peer in")
    print("its faster way (one batch or shards), nothing shrunk, every direction erased.\n")
    # First: a process inherits the high-water mark of the one that starts it.
    memory = {name: peak(name, n, widths[-1], 20) for name in FITS}
    print(f"memory beside the data (d = {widths[-1]}, data {n * widths[-1] * 4 / 1e6:.0f} MB): ")
    print("  " + "   ".join(f"{name} {size:.0f} MB" for name, size in memory.items()), end="\n\n")
    print(HEAD)
    rows = []
    for d in widths:
        for classes in (2, 20):
            rows.append(timed(n, d, classes, times))
            print(line(rows[-1]), flush=True)
    print(f"\nlargest difference between the two results: {max(r['differ'] for r in rows):.1e}")

    far = left(n // 5, widths[0], 2, 1000.0)
    print("\nclasses apart, in standard deviations, features 1,000 deviations from zero:")
    print("  " + "   ".join(f"{name} {gap:.1e}" for name, gap in far.items()))
    if asked.out:
        machine = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "threads": torch.get_num_threads(),
        }
        figures = {"machine": machine, "times": rows, "memory_mb": memory, "far_from_zero": far}
        asked.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
