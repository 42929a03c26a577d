"""Run PathoROB on the films of `neighbour_films` and write what it says.

    git clone https://github.com/bifold-pathomics/PathoROB original
    git -C original checkout 46594e9269e35acee105de3a0668bc9291bf7df5
    uv venv away
    uv pip install --python away/bin/python numpy pandas scipy scikit-learn matplotlib tqdm
    away/bin/python tests/reference/golden/make_neighbours_pathorob.py original

It is not on the package index.  Its own commands run on a folder of features written here in its
format; only three things are stood in for.  The two models it wraps (downloads) are not imported.
The list of slides per cell in its drop in performance is ours, its loader being tied to three
cohorts.  The paired design, which it holds for TCGA only, is given our table of subsets.  With
copies k is set to 7: there k = 1 votes best, on which the original stops with a TypeError.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import types
import warnings
from importlib.metadata import version
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
COMMIT = "46594e9269e35acee105de3a0668bc9291bf7df5"
TRIALS, REPETITIONS = 3, 3


def table(site: np.ndarray, biology: np.ndarray, patient: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subset": "ID",
            "slide_id": [f"case{p:04d}" for p in patient],
            "patch_id": [f"patch{i}" for i in range(len(site))],
            "biological_class": [f"b{y}" for y in biology],
            "medical_center": [f"s{s}" for s in site],
        }
    )


def pairs(films: pd.DataFrame) -> pd.DataFrame:
    """Return the films of every complete design of two classes by two sites, one after another."""
    found = []
    classes, sites = (sorted(films[c].unique()) for c in ("biological_class", "medical_center"))
    for ys, ss in product(combinations(classes, 2), combinations(sites, 2)):
        rows = films[films["biological_class"].isin(ys) & films["medical_center"].isin(ss)]
        if len(rows.groupby(["biological_class", "medical_center"])) == 4:
            found.append(rows.assign(subset="-".join([*ys, *ss])))
    return pd.concat(found, ignore_index=True)


def outputs(copies: bool, k: int) -> dict[str, object]:
    from neighbour_films import films
    from pathorob.clustering_score import clustering_score
    from pathorob.features.data_manager import FeatureDataManager
    from pathorob.robustness_index import robustness_index as index

    z, site, biology, patient = films(copies)
    meta = table(site, biology, patient)
    Path("data/metadata").mkdir(parents=True, exist_ok=True)
    for name in ("camelyon", "camelyon_reduced", "tcga_4x4"):
        meta.to_csv(f"data/metadata/{name}.csv", index=False)
    pairs(meta).to_csv("data/metadata/tcga_2x2.csv", index=False)
    manager = FeatureDataManager()
    found: dict[str, object] = {}
    for dataset, paired in (("camelyon", False), ("tcga", True)):
        manager.save_features("m", dataset, z, meta)
        rows = index.get_meta(manager, dataset, paired)
        folder = Path(f"out/{dataset}")
        folder.mkdir(parents=True, exist_ok=True)
        _, metrics = index.calc_rob_index_model(
            *(paired, manager, "m", dataset, rows, folder, folder),
            num_workers=1,
            k_opt_param=k,
            plot_graphs=False,
        )
        accuracy = pd.read_csv(folder / "balanced-accuracies-bio.csv")
        stats = metrics["m"]
        best = int(stats["k_opt"])
        found["paired" if paired else "all"] = {
            "k": best,
            "index": float(stats["robustness_index"][list(stats["k"]).index(best)]),
            "curve": np.asarray(stats["robustness_index"])[:60].tolist(),
            "accuracy": float(accuracy["bal_acc"].max()),
        }
    summary = clustering_score.compute("m", "camelyon", num_trials=TRIALS, overwrite_results=True)
    trials = pd.read_csv("results/clustering_score/m/camelyon/aris.csv")
    chosen = pd.read_csv("results/clustering_score/m/camelyon/silhouette_scores.csv")
    winners = chosen.loc[chosen.groupby("combination", sort=False)["silhouette_score"].idxmax()]
    found["clustering"] = {
        "score": summary["clustering_score_mean"],
        "spread": summary["clustering_score_mean_std"],
        "clusters": winners["K"].tolist(),
        "biology": trials["ari_bio"].tolist(),
        "site": trials["ari_mc"].tolist(),
    }
    return found


def drop() -> dict[str, object]:
    from neighbour_films import slides
    from pathorob.apd import apd

    z, site, biology, slide = slides()
    cells = [
        [
            [(z[i], s, y, slide[i]) for i in np.flatnonzero((site == s) & (biology == y))]
            for y in (0, 1)
        ]
        for s in (0, 1)
    ]
    outside = [(z[i], 0, biology[i], slide[i]) for i in range(len(z))]
    apd.load_data = lambda *_: (["s0", "s1"], ["b0", "b1"], cells, outside, 8, 17, 4, None)
    apd.compute("m", "camelyon", iterations=REPETITIONS)
    raw = json.loads(Path("results/apd/m/camelyon_raw.json").read_text())
    summary = json.loads(Path("results/apd/m/camelyon_summary.json").read_text())
    return {"accuracy": raw["ID_test_accuracies"], "apd": summary["apd_id"]}


def main() -> None:
    original = Path(sys.argv[1]).resolve()
    sys.path[:0] = [str(original), str(HERE)]
    for module, model in (("uni", "UNI2hModelWrapper"), ("phikon", "Phikonv2ModelWrapper")):
        stand_in = types.ModuleType(f"pathorob.models.{module}")
        setattr(stand_in, model, None)
        sys.modules[stand_in.__name__] = stand_in
    warnings.simplefilter("ignore")
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        try:
            golden = {
                "made by": {
                    "package": "https://github.com/bifold-pathomics/PathoROB",
                    "commit": COMMIT,
                    "scikit-learn": version("scikit-learn"),
                },
                "plain": outputs(copies=False, k=-1),
                "copies": outputs(copies=True, k=7),
                "sweep": drop(),
            }
        finally:
            os.chdir(home)
    (HERE / "neighbours_pathorob.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
