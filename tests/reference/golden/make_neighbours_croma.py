"""Run croma on the films of `neighbour_films` and write what it says.

uv venv away && uv pip install --python away/bin/python croma==1.0.1
away/bin/python tests/reference/golden/make_neighbours_croma.py
"""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
CANDIDATES = [1, 3, 5, 7, 9, 11, 21, 31]
REPETITIONS = 3
SHOWN = 60  # rows whose own figures are kept


def outputs(copies: bool) -> dict[str, object]:
    from croma import RI, CRoMa, MaRI
    from neighbour_films import films

    z, site, biology, patient = films(copies)
    manifest = pd.DataFrame(
        {
            "sample_id": np.arange(len(z)).astype(str),
            "image_path": "none",
            "label": [f"b{y}" for y in biology],
            "site": [f"s{s}" for s in site],
            "group_id": patient.astype(str),
        }
    )
    ri = RI.compute(z, manifest, confounder_column="site", k_candidates=CANDIDATES)
    mari = MaRI.compute(z, manifest, confounder_column="site", k_candidates=CANDIDATES)
    margin = CRoMa.compute(z, manifest, confounder_column="site")
    return {
        "k": ri.k,
        "ri": ri.value,
        "curve": RI.compute_curve(z, manifest, confounder_column="site", k_values=CANDIDATES),
        "mari": mari.value,
        "tau": mari.tau,
        "croma": margin.value,
        "q_alpha": margin.q_alpha,
        "ltm_alpha": margin.ltm_alpha,
        "f0": margin.f0,
        "margins": margin.sample_values[:SHOWN].tolist(),
    }


def sweep() -> dict[str, object]:
    from croma import apd, nipd, probe_sweep
    from croma.downstream.probe import pathorob_schedule
    from neighbour_films import slides

    z, site, biology, _ = slides()
    schedule = pathorob_schedule("camelyon", rows_per_slide=4)
    accuracy = probe_sweep(
        z, site, biology, schedule=schedule, rows_per_slide=4, iterations=REPETITIONS
    )
    v = np.arange(8) / 7
    return {"accuracy": accuracy.tolist(), "apd": apd(accuracy), "nipd": nipd(accuracy, v, 0.5)}


def main() -> None:
    warnings.simplefilter("ignore")
    about = {
        "package": "croma",
        "version": version("croma"),
        "scikit-learn": version("scikit-learn"),
    }
    golden = {
        "made by": about,
        "plain": outputs(copies=False),
        "copies": outputs(copies=True),
        "sweep": sweep(),
    }
    (HERE / "neighbours_croma.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
