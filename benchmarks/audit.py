"""How long an audit takes, beside the estimate that the command line prints first.

    python -m benchmarks.audit                 quick: 6 sizes, some 3 minutes; full: 3, some 10
    python -m benchmarks.audit --effort quick --only 5000x1280
    python -m benchmarks.audit --out benchmarks/results/audit.json

An embedding with correlated coordinates and a weak trace, a confounder of two levels within a
disease of two, and one that is a number.  Seconds of processor time and of the clock: on a machine
that does nothing else they agree, since small audits run on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd

import deconf
from deconf.cli.estimate import audit_seconds

SIZES = {
    "quick": ["1000x64", "1000x1280", "5000x64", "5000x512", "5000x1280", "20000x64"],
    "full": ["1000x64", "1000x1280", "5000x64"],
}


def films(rows: int, width: int) -> deconf.Cohort:
    """Return a cohort whose embedding knows the disease well and the view a little."""
    rng = np.random.default_rng(0)
    ill = rng.integers(2, size=rows)
    view = (rng.random(rows) < 0.3 + 0.4 * ill).astype(int)
    age = rng.normal(60 + 5 * ill, 9)
    mixing = rng.standard_normal((width, width)) * np.linspace(0.2, 2, width) / np.sqrt(width)
    z = rng.standard_normal((rows, width)) @ mixing
    z[:, 0] += ill
    z[:, 1] += 0.3 * view
    table = pd.DataFrame({"ill": ill, "view": np.where(view, "AP", "PA"), "age": age})
    return deconf.Cohort.from_arrays(z.astype(np.float32), table, outcome="ill")


def measured(size: str, effort: str, confounder: str) -> dict[str, float | str]:
    rows, width = (int(part) for part in size.split("x"))
    cohort = films(rows, width)
    wall, used = time.perf_counter(), time.process_time()
    found = deconf.audit("stored", cohort, confounder, given="ill", effort=effort)
    return {
        "size": size,
        "effort": effort,
        "confounder": confounder,
        "processor_s": round(time.process_time() - used, 1),
        "clock_s": round(time.perf_counter() - wall, 1),
        "estimate_s": round(audit_seconds(rows, width, 1, effort, numbers=confounder == "age"), 1),
        "attackers": len(found.leakages[confounder, "conditional"].intervals),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--effort", choices=list(SIZES), action="append")
    parser.add_argument("--only", metavar="ROWSxWIDTH")
    parser.add_argument("--confounder", choices=["view", "age"], action="append")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    measured("400x8", "quick", "view")  # imports
    found = []
    for effort in asked.effort or SIZES:
        for size in [asked.only] if asked.only else SIZES[effort]:
            for confounder in asked.confounder or ["view", "age"]:
                found.append(measured(size, effort, confounder))
                print(
                    *(f"{key} {value}" for key, value in found[-1].items()), sep="   ", flush=True
                )
    if asked.out:
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        asked.out.write_text(json.dumps({"machine": machine, "audits": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
