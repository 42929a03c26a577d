"""Print the table of docs/ideas/neighbours.md: ours, theirs and the difference on one set of films.

``python -m tests.reference.golden.equality_table``.  What others gave is read from the golden files
beside this one, which name the package, its version and the command; ours is computed now.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

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

HERE = Path(__file__).parent


def golden(package: str) -> dict:
    return json.loads((HERE / f"neighbours_{package}.json").read_text())


def rows() -> Iterator[tuple[str, str, float, float]]:
    """Yield package, function, our value and theirs."""
    z, site, biology, patients = films(copies=False)
    patho, croma, scib = golden("pathorob"), golden("croma"), golden("scib")
    near = nearest(z, 250, metric="cosine", patients=patients)
    yield (
        "PathoROB",
        "robustness_index",
        robustness_index(near, site, biology).index,
        patho["plain"]["all"]["index"],
    )
    paired = paired_robustness_index(z, site, biology, patients=patients)
    yield "PathoROB", "paired_robustness_index", paired.index, patho["plain"]["paired"]["index"]
    score = clustering_score(z, site, biology, trials=3).score
    yield "PathoROB", "clustering_score", score, patho["plain"]["clustering"]["score"]
    a, b, c, slide = slides()
    plans = training_plans(2, 2, step=7, home=(1, 0))
    swept = shortcut_sweep(a, b, c, patients=slide, plans=plans, repetitions=3)
    drop = average_performance_drop(swept.accuracy)
    yield "PathoROB", "average_performance_drop", drop, patho["sweep"]["apd"]

    kinds, theirs = pd.factorize(biology)[0], croma["plain"]
    near = nearest(z, 31, metric="cosine", patients=patients)
    ours = robustness_index(near, site, kinds)
    yield "croma", "robustness_index", ours.index, theirs["ri"]
    yield "croma", "weighted_index", weighted_index(near, site, kinds, k=ours.k)[0], theirs["mari"]
    margin = robustness_margin(z, site, kinds, patients=patients)
    yield "croma", "robustness_margin, median", margin.median, theirs["croma"]
    yield "croma", "robustness_margin, site nearer", margin.site_nearer, theirs["f0"]
    lost = integrated_degradation(swept.accuracy, swept.association, classes=2)
    yield "croma", "integrated_degradation", lost, croma["sweep"]["nipd"]

    theirs = scib["float64"]["plain"]
    near = nearest(z, scib["columns"], with_self=True)
    yield "scib-metrics", "site_mixing (iLISI)", site_mixing(near, site), theirs["ilisi"]
    yield "scib-metrics", "biology_kept (cLISI)", biology_kept(near, biology), theirs["clisi"]
    first = float(lisi(near, site)[0])
    yield "scib-metrics", "lisi, first film", first, theirs["lisi_site"][0]
    yield "scib-metrics", "kbet", kbet(near, site).accepted, theirs["kbet"]
    for metric in ("euclidean", "cosine"):
        ours = biology_silhouette(z, biology, metric=metric)
        yield (
            "scib-metrics",
            f"biology_silhouette, {metric}",
            ours,
            theirs[f"silhouette_label_{metric}"],
        )
        ours = site_silhouette(z, site, biology, metric=metric)
        yield (
            "scib-metrics",
            f"site_silhouette, {metric}",
            ours,
            theirs[f"silhouette_batch_{metric}"],
        )


def table() -> str:
    """Return the rows as Markdown; a difference is rounded up to a power of ten."""
    lines = ["| package | function | deconf | package | difference |", "|---|---|---:|---:|---:|"]
    for package, function, ours, theirs in rows():
        gap = abs(float(ours) - float(theirs))
        said = "0" if gap == 0 else f"< 1e{max(math.floor(math.log10(gap)) + 1, -15)}"
        lines.append(f"| {package} | `{function}` | {ours:.6f} | {theirs:.6f} | {said} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
