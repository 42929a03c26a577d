"""Run scib-metrics on the films of `neighbour_films` and write what it says.

    uv venv away && uv pip install --python away/bin/python scib-metrics==0.5.10
    away/bin/python tests/reference/golden/make_neighbours_scib.py

Neighbours are handed to it: sorted by float64 distance, ties by row, the row itself first.  The
default of jax is float32; both precisions are written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
COLUMNS = 30
SHOWN = 60  # rows whose own figures are kept


def outputs() -> dict[str, dict[str, object]]:
    import scib_metrics
    from neighbour_films import films
    from scib_metrics.nearest_neighbors import NeighborsResults

    found: dict[str, dict[str, object]] = {}
    for name in ("plain", "copies"):
        z, site, biology, _ = films(copies=name == "copies")
        distance = np.sqrt(((z[:, None] - z[None]) ** 2).sum(2))
        np.fill_diagonal(distance, -1)
        index = np.argsort(distance, axis=1, kind="stable")[:, :COLUMNS]
        np.fill_diagonal(distance, 0)
        near = NeighborsResults(index, np.take_along_axis(distance, index, 1))
        accepted, statistic, p = scib_metrics.kbet(near, site)
        found[name] = {
            "lisi_site": np.asarray(scib_metrics.lisi_knn(near, site), float)[:SHOWN].tolist(),
            "ilisi": float(scib_metrics.ilisi_knn(near, site)),
            "clisi": float(scib_metrics.clisi_knn(near, biology)),
            "kbet": float(accepted),
            "kbet_statistic": np.asarray(statistic, float)[:SHOWN].tolist(),
            "kbet_p": np.asarray(p, float)[:SHOWN].tolist(),
        }
        for metric in ("euclidean", "cosine"):
            found[name][f"silhouette_label_{metric}"] = float(
                scib_metrics.silhouette_label(z, biology, metric=metric)
            )
            found[name][f"silhouette_batch_{metric}"] = float(
                scib_metrics.silhouette_batch(z, biology, site, metric=metric)
            )
    return found


def main() -> None:
    if "JAX_ENABLE_X64" in os.environ:
        print(json.dumps(outputs()))
        return
    runs = {}
    for precision, flag in (("float64", "1"), ("float32", "0")):
        run = subprocess.run(
            [sys.executable, __file__],
            env={**os.environ, "JAX_ENABLE_X64": flag},
            capture_output=True,
            check=True,
            text=True,
        )
        runs[precision] = json.loads(run.stdout.splitlines()[-1])
    about = {"package": "scib-metrics", "version": version("scib-metrics"), "jax": version("jax")}
    golden = {"made by": about, "columns": COLUMNS, **runs}
    (HERE / "neighbours_scib.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
