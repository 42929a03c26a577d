"""ComBat beside neuroCombat and neuroHarmonize: seconds to fit and to harmonise the same films.

    uv pip install --no-deps --target away neuroCombat==0.2.12 neuroHarmonize==2.5.2 \
        statsmodels patsy nibabel
    OMP_NUM_THREADS=1 PYTHONPATH=away python -m benchmarks.combat    about a minute
    PYTHONPATH=away python -m benchmarks.combat --quick              a smoke test

On one thread, which is what most of the peers' work uses.  All get the same float64 embeddings,
sites and one binary covariate, and return the harmonised embeddings.  Runs are interleaved, so that
a busy machine is busy for all, and medians are compared.
A package that cannot be imported has the row "not installed".  Nothing is written unless ``--out``
is given.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import platform
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from numpy import ndarray

from deconf.maths.moments import Given
from deconf.methods import ComBat

Run = Callable[[ndarray, ndarray, ndarray], ndarray]


def films(n: int, d: int, sites: int) -> tuple[ndarray, ndarray, ndarray]:
    """Return embeddings (n, d) float64, site, and a disease that goes with the site."""
    rng = np.random.default_rng(0)
    site = rng.integers(sites, size=n)
    disease = (rng.random(n) < 0.3 + 0.4 * site / sites).astype(int)
    z = rng.standard_normal((n, d)) * rng.uniform(0.7, 1.5, size=(sites, d))[site]
    z += rng.standard_normal((sites, d))[site] + rng.standard_normal(d) * disease[:, None]
    return z, site, disease


def ours(z: ndarray, site: ndarray, disease: ndarray) -> ndarray:
    c, given = np.eye(site.max() + 1)[site], Given(disease)
    fitted = ComBat().fit(z, c, given=given)
    return fitted.knowing(torch.from_numpy(z), torch.from_numpy(c), given).numpy()


def neurocombat(z: ndarray, site: ndarray, disease: ndarray) -> ndarray:
    from neuroCombat import neuroCombat

    table = pd.DataFrame({"site": site, "disease": disease})
    return neuroCombat(z.T, table, "site", categorical_cols=["disease"])["data"].T


def neuroharmonize(z: ndarray, site: ndarray, disease: ndarray) -> ndarray:
    from neuroHarmonize import harmonizationLearn

    return harmonizationLearn(z, pd.DataFrame({"SITE": site, "disease": disease}))[1]


PEERS: dict[str, Run] = {"neuroCombat": neurocombat, "neuroHarmonize": neuroharmonize}


def installed(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def timed(n: int, d: int, sites: int, times: int) -> dict[str, object]:
    """Return seconds of each package, how many times ours each takes, and by what they differ."""
    data = films(n, d, sites)
    runs = {"ours": ours, **{name: run for name, run in PEERS.items() if installed(name)}}
    took: dict[str, list[float]] = {name: [] for name in runs}
    out = {}
    for _ in range(times):
        for name, run in runs.items():
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                out[name] = run(*data)
            took[name].append(time.perf_counter() - start)
    row: dict[str, object] = {"n": n, "d": d, "sites": sites, "ours": median(took["ours"])}
    for name in PEERS:
        if name not in runs:
            row[name] = "not installed"
            continue
        row[name] = median(took[name])
        row[f"{name}_ratio"] = median(took[name]) / median(took["ours"])
        row[f"{name}_differ"] = float(np.abs(out[name] - out["ours"]).max())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="ComBat beside neuroCombat and neuroHarmonize.")
    parser.add_argument("--quick", action="store_true", help="2,000 films, once")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # deprecations inside the other packages
    timed(500, 32, 4, 1)  # libraries loaded, threads started
    shapes = [(2000, 128, 5)] if asked.quick else [(20_000, 768, 5), (20_000, 768, 20)]
    rows = [timed(*shape, times=1 if asked.quick else 3) for shape in shapes]
    for row in rows:
        print(row)
    if asked.out:
        machine = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "threads": torch.get_num_threads(),
            **{name: version(name) for name in PEERS if installed(name)},
        }
        asked.out.write_text(json.dumps({"machine": machine, "times": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
