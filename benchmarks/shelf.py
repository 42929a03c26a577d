"""Every method of the shelf on two worlds whose truth is known: what leaks, what it costs.

    python -m benchmarks.shelf                       25 minutes of processor time on one core
    python -m benchmarks.shelf --world linear --methods leace cdann
    python -m benchmarks.shelf --films 600           a smoke test

Linear: 4,000 films, gain and rotation (`worlds.linear(trace="rotation+gain")`).  Phantom: 2,000
simulated radiographs through ``zoo:phantom``.  For each method: AUROC of the strongest fresh
attacker on new patients, and of each; AUROC of disease in the worst of three environments
(aligned, balanced, reversed) and within levels of the confounder; seconds of the processor for
the fit.  Methods with a head of their own are judged by it.  ``paired`` needs pairs, which these
worlds do not hand out.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import deconf
from deconf.errors import OverlapWarning
from deconf.maths.intervals import interval, patient_weights, weighted_aurocs
from deconf.maths.maps import Adapter
from deconf.probes.head import choose_strength, fit_head

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = ("aligned", "balanced", "reversed")
SEED = 11
Part = tuple[deconf.Cohort, np.ndarray]


def worlds(kind: str, films: int, new: int) -> tuple[str, deconf.Cohort, dict[str, deconf.Cohort]]:
    """Return the graph, the training films, and new films of every environment, all embedded."""
    if kind == "linear":
        world = deconf.worlds.linear(n=films, d=32, trace="rotation+gain", seed=SEED)
        return world.graph, world.train().cohort, {
            e: world.test(e, n=new).cohort for e in ENVIRONMENTS
        }  # fmt: skip
    encoder = deconf.load_encoder("zoo:phantom")
    world = deconf.worlds.radiograph(n=films, size=128, sites=1, seed=SEED)
    draws = {"train": world.train(), **{e: world.test(e, new) for e in ENVIRONMENTS}}
    made = {k: d.cohort.with_embeddings(encoder.embed(d.images)) for k, d in draws.items()}
    return world.graph, made.pop("train"), made


def judged(name: str, graph: str, train: deconf.Cohort, new: dict[str, deconf.Cohort]) -> dict:
    """Fit one method and return its row."""
    row: dict[str, object] = {"method": name}
    raw, y = train.embeddings, train.table[train.outcomes[0]].to_numpy()
    clean, weights, own = None, None, None
    started = time.process_time()
    if name != "raw":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OverlapWarning)
            reads = deconf.methods.card(name).needs_confounders
            clean = deconf.deconfound(
                "stored", "portable", graph=graph, method=name, at_inference=reads
            ).fit(train)
        weights = clean.weights
        own = clean.map if isinstance(clean.map, Adapter) and len(clean.map.coefficients) else None
        family = type(deconf.methods.methods[name]()).__mro__
        own = own if any(c.__name__ == "InvariantRisk" for c in family) else None
        row["chose"], row["said"] = clean.method, list(clean.reasons)
    row["seconds"] = round(time.process_time() - started, 1)
    strength = choose_strength(raw, y, weights=weights, patients=train.patients)
    head = fit_head(
        raw if clean is None else clean.embed(train), y, weights=weights, strength=strength
    )
    worst, within = np.inf, []
    for cohort in new.values():
        z = cohort.embeddings if clean is None else clean.embed(cohort)
        score = head.score(z)
        if own is not None:
            with torch.inference_mode():
                score = own.score(torch.tensor(cohort.embeddings))[:, 0].numpy()
        ill = cohort.table[cohort.outcomes[0]].to_numpy() == 1
        portable = cohort.table["portable"].to_numpy() == 1
        drawn = np.vstack([np.ones(len(ill)), patient_weights(cohort.patients, 500, 0)])
        worst = np.minimum(worst, weighted_aurocs(score, ill, drawn))
        within.append(np.mean(
            [weighted_aurocs(score[s], ill[s], drawn[:, s]) for s in (portable, ~portable)], axis=0
        ))  # fmt: skip
    for what, values in (("worst", worst), ("within", np.mean(within, axis=0))):
        found = interval(values[1:], float(values[0]))
        row |= {what: found.estimate, f"{what}_low": found.low, f"{what}_high": found.high}
    found = deconf.audit(
        "stored" if clean is None else clean, new["aligned"], "portable", graph=graph
    )
    verdict = found.verdict["portable"]
    row |= {
        "leak": verdict.estimate.estimate,
        "leak_low": verdict.estimate.low,
        "leak_high": verdict.estimate.high,
        "floor": verdict.floor,
        "verdict": str(verdict),
    }
    frame = found.to_frame().query("kind == 'conditional'")
    family = frame["attacker"].str.split(",").str[0]
    row["by"] = frame.groupby(family, sort=False)["auroc"].max().round(3).to_dict()
    return row


def told(frame: pd.DataFrame) -> str:
    """Return the rows as a table of the docs."""
    by = list(frame["by"].iloc[0])
    lines = [
        "| method | leak | " + " | ".join(by) + " | worst environment | within levels | s |",
        "|---|---|" + "---:|" * len(by) + "---|---|---:|",
    ]
    for r in frame.itertuples():
        cells = " | ".join(f"{r.by.get(a, np.nan):.2f}" for a in by)
        lines.append(
            f"| {r.method} | {r.leak:.2f} [{r.leak_low:.2f}, {r.leak_high:.2f}] | {cells} | "
            f"{r.worst:.2f} [{r.worst_low:.2f}, {r.worst_high:.2f}] | "
            f"{r.within:.2f} [{r.within_low:.2f}, {r.within_high:.2f}] | {r.seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--world", choices=("linear", "phantom"))
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--films", type=int)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    names = [m for m in deconf.methods.names() if "pairs" not in deconf.methods.card(m).needs]
    out: dict[str, object] = {}
    for kind in [asked.world] if asked.world else ["linear", "phantom"]:
        films = asked.films or (4000 if kind == "linear" else 2000)
        graph, train, new = worlds(kind, films, films // 2)
        rows = []
        for name in ["raw", *(asked.methods or names)]:
            rows.append(judged(name, graph, train, new))
            print(kind, json.dumps(rows[-1]), flush=True)
        frame = pd.DataFrame(rows)
        print(f"\n{told(frame)}\n", flush=True)
        out[kind] = rows
        if asked.out:
            asked.out.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
