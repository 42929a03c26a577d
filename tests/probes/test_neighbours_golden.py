"""Every neighbourhood measure gives what the package it comes from gives on the same films.

The scripts beside the golden figures made them; they name the package, the version and the command.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deconf.probes.neighbours import (
    average_performance_drop,
    biology_kept,
    biology_silhouette,
    clustering_score,
    integrated_degradation,
    kbet,
    lisi,
    nearest,
    paired_robustness_index,
    robustness_index,
    robustness_margin,
    shortcut_sweep,
    site_mixing,
    site_silhouette,
    training_plans,
    weighted_index,
)
from tests.reference.golden.neighbour_films import films, slides

GOLDEN = Path(__file__).parents[1] / "reference" / "golden"
CASES = ["plain", "copies"]
CLOSE = {"rel": 0, "abs": 1e-6}


def golden(package: str) -> dict:
    return json.loads((GOLDEN / f"neighbours_{package}.json").read_text())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("design", ["all", "paired"])
def test_the_robustness_index_is_that_of_pathorob(case, design):
    z, site, biology, patients = films(case == "copies")
    theirs = golden("pathorob")[case][design]
    k = theirs["k"] if case == "copies" else None
    if design == "all":
        near = nearest(z, 250, metric="cosine", patients=patients)
        ours = robustness_index(near, site, biology, k=k)
    else:
        ours = paired_robustness_index(z, site, biology, patients=patients, k=k)
    assert ours.k == theirs["k"]
    assert ours.index == pytest.approx(theirs["index"], **CLOSE)
    assert ours.accuracy == pytest.approx(theirs["accuracy"], **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_the_robustness_index_is_that_of_pathorob_at_every_number_of_neighbours(case):
    z, site, biology, patients = films(case == "copies")
    near = nearest(z, 60, metric="cosine", patients=patients)
    curve = golden("pathorob")[case]["all"]["curve"]
    ours = [robustness_index(near, site, biology, k=k).index for k in range(1, len(curve) + 1)]
    assert ours == pytest.approx(curve, **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_the_clustering_score_is_that_of_pathorob(case):
    z, site, biology, _ = films(case == "copies")
    theirs = golden("pathorob")[case]["clustering"]
    ours = clustering_score(z, site, biology, trials=3)
    assert list(ours.clusters) == theirs["clusters"]
    assert ours.score == pytest.approx(theirs["score"], **CLOSE)
    assert ours.spread == pytest.approx(theirs["spread"], **CLOSE)
    assert ours.biology.ravel() == pytest.approx(np.array(theirs["biology"]), **CLOSE)
    assert ours.site.ravel() == pytest.approx(np.array(theirs["site"]), **CLOSE)


@pytest.mark.parametrize("package", ["pathorob", "croma"])
def test_the_sweep_and_the_drop_in_performance_are_those_of_pathorob_and_croma(package):
    z, site, biology, slide = slides()
    theirs = golden(package)["sweep"]
    plans = training_plans(2, 2, step=7, home=(1, 0))
    ours = shortcut_sweep(z, site, biology, patients=slide, plans=plans, repetitions=3)
    assert ours.accuracy.ravel() == pytest.approx(np.array(theirs["accuracy"]).ravel(), **CLOSE)
    drop = average_performance_drop(ours.accuracy)
    assert drop == pytest.approx(theirs["apd"], **CLOSE)
    assert drop < -0.01  # else nothing was bent
    if package == "croma":
        lost = integrated_degradation(ours.accuracy, ours.association, classes=2)
        assert lost == pytest.approx(theirs["nipd"], **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_indices_and_margins_are_those_of_croma(case):
    """It numbers classes as they come, and an equal vote goes to the lowest number."""
    z, site, biology, patients = films(case == "copies")
    biology = pd.factorize(biology)[0]
    theirs = golden("croma")[case]
    near = nearest(z, 31, metric="cosine", patients=patients)
    ours = robustness_index(near, site, biology)
    assert (ours.k, ours.index) == pytest.approx((theirs["k"], theirs["ri"]), **CLOSE)
    weighted, temperature = weighted_index(near, site, biology, k=ours.k)
    assert (weighted, temperature) == pytest.approx((theirs["mari"], theirs["tau"]), **CLOSE)
    margins = robustness_margin(z, site, biology, patients=patients)
    assert margins.margins[: len(theirs["margins"])] == pytest.approx(theirs["margins"], **CLOSE)
    for name, key in (
        ("median", "croma"),
        ("site_nearer", "f0"),
        ("low", "q_alpha"),
        ("tail", "ltm_alpha"),
    ):
        assert getattr(margins, name) == pytest.approx(theirs[key], **CLOSE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-6), ("float32", 2e-4)])
def test_mixing_and_silhouettes_are_those_of_scib_metrics(case, precision, tolerance):
    """Its default is float32, where the bisection of LISI stops elsewhere: hence the looser one."""
    z, site, biology, _ = films(case == "copies")
    record = golden("scib")
    theirs = record[precision][case]
    near = nearest(z, record["columns"], with_self=True)
    test = kbet(near, site)
    ours = {
        "lisi_site": lisi(near, site)[: len(theirs["lisi_site"])],
        "ilisi": site_mixing(near, site),
        "clisi": biology_kept(near, biology),
        "kbet": test.accepted,
        "kbet_statistic": test.statistic[: len(theirs["kbet_statistic"])],
        "kbet_p": test.p[: len(theirs["kbet_p"])],
    }
    for metric in ("euclidean", "cosine"):
        ours[f"silhouette_label_{metric}"] = biology_silhouette(z, biology, metric=metric)
        ours[f"silhouette_batch_{metric}"] = site_silhouette(z, site, biology, metric=metric)
    assert set(ours) == set(theirs)
    for name, figure in ours.items():
        assert figure == pytest.approx(np.array(theirs[name]), rel=0, abs=tolerance), name
