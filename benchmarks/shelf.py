"""Every method of the shelf on two worlds whose truth is known: what leaks, what it costs.

    python -m benchmarks.shelf                       25 minutes of processor time on one core
    python -m benchmarks.shelf --world linear --methods leace cdann
    python -m benchmarks.shelf --films 600           a smoke test

Linear: 4,000 films, gain and rotation (`worlds.linear(trace="rotation+gain")`).  Phantom: 2,000
simulated radiographs through ``zoo:phantom``.  For each method: AUROC of the strongest fresh
attacker on new patients, and of each; AUROC of disease in the worst of three environments
(aligned, balanced, reversed) and within levels of the confounder; seconds of the processor for
the fit.  *Gap closed*: share of the way from raw to the oracle, which never saw a scanner, in the
worst environment.  Methods with a head of their own are judged by it.  ``paired`` has the patients
whom a world happened to film on both devices.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import deconf
from deconf.errors import DeconfError, OverlapWarning
from deconf.maths.intervals import interval, patient_weights, weighted_aurocs
from deconf.maths.maps import Adapter
from deconf.methods.base import methods, resolve
from deconf.methods.invariant import InvariantRisk
from deconf.probes.head import choose_strength, fit_head

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = ("aligned", "balanced", "reversed")
SEED = 11
Films = dict[str, deconf.Cohort]


def worlds(kind: str, films: int, new: int) -> tuple[str, Films, Films]:
    """Return the graph, the films of "train" and of every environment, and the same unscanned."""
    if kind == "linear":
        world = deconf.worlds.linear(n=films, d=32, trace="rotation+gain", seed=SEED)
        draws = {"train": world.train(), **{e: world.test(e, n=new) for e in ENVIRONMENTS}}
        return (
            world.graph,
            {k: d.cohort for k, d in draws.items()},
            {k: d.oracle_cohort() for k, d in draws.items()},
        )
    encoder = deconf.load_encoder("zoo:phantom")
    shot = deconf.worlds.radiograph(n=films, size=128, sites=1, seed=SEED)
    plates = {"train": shot.train(), **{e: shot.test(e, new) for e in ENVIRONMENTS}}
    return (
        shot.graph,
        {k: d.cohort.with_embeddings(encoder.embed(d.images)) for k, d in plates.items()},
        {k: d.cohort.with_embeddings(encoder.embed(d.oracle)) for k, d in plates.items()},
    )


def called(name: str) -> str:
    """Return a method with what a reader of a table must know of it."""
    if name not in methods:
        return name
    method = resolve(name)
    if isinstance(method, InvariantRisk):
        return f"{name} (selection: {method.selection})"
    return f"{name} (reads the record)" if methods.card(name).needs_confounders else name


def judged(name: str, graph: str, films: Films) -> tuple[dict, np.ndarray]:
    """Fit one method; return its row, and draws of its AUROC in the worst environment."""
    row: dict[str, object] = {"method": called(name)}
    train, new = films["train"], {e: films[e] for e in ENVIRONMENTS}
    raw, y = train.embeddings, train.table[train.outcomes[0]].to_numpy()
    clean, weights, own = None, None, None
    started = time.process_time()
    if name in methods:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OverlapWarning)
            reads = methods.card(name).needs_confounders
            clean = deconf.deconfound(
                "stored", "portable", graph=graph, method=name, at_inference=reads
            ).fit(train)
        weights = clean.weights
        own = clean.map if isinstance(clean.map, Adapter) and len(clean.map.coefficients) else None
        own = own if isinstance(resolve(name), InvariantRisk) else None
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
    return row, worst


def compared(kind: str, names: list[str], films: int) -> list[dict]:
    """Return the rows of one world, raw and the oracle first."""
    graph, scanned, unscanned = worlds(kind, films, films // 2)
    rows, raw, oracle = [], np.nan, np.nan
    for name in ["raw", "oracle", *names]:
        try:
            row, worst = judged(name, graph, unscanned if name == "oracle" else scanned)
        except DeconfError as refusal:
            rows.append({"method": called(name), "refused": str(refusal)})
            continue
        raw, oracle = (worst if name == "raw" else raw), (worst if name == "oracle" else oracle)
        closed = (worst - raw) / (oracle - raw)
        if name in methods:
            found = interval(closed[1:], float(closed[0]))
            row |= {"closed": found.estimate, "closed_low": found.low, "closed_high": found.high}
        rows.append(row)
        print(kind, json.dumps(row), flush=True)
    return rows


def told(rows: list[dict]) -> str:
    """Return the rows as a table of the docs."""
    by = list(rows[0]["by"])
    lines = [
        "| method | leak | "
        + " | ".join(by)
        + " | worst environment | gap closed | within levels | s |",
        "|---|---|" + "---:|" * len(by) + "---|---|---|---:|",
    ]

    def cell(row: dict, what: str) -> str:
        if what not in row:
            return ""
        return f"{row[what]:.2f} [{row[f'{what}_low']:.2f}, {row[f'{what}_high']:.2f}]"

    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['method']} | refused |" + " |" * (len(by) + 4))
            continue
        read = " | ".join(f"{row['by'].get(a, np.nan):.2f}" for a in by)
        told = [cell(row, what) for what in ("worst", "closed", "within")]
        lines.append(
            f"| {row['method']} | {cell(row, 'leak')} | {read} | {' | '.join(told)} | "
            f"{row['seconds']:.0f} |"
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
    out: dict[str, object] = {}
    for kind in [asked.world] if asked.world else ["linear", "phantom"]:
        films = asked.films or (4000 if kind == "linear" else 2000)
        out[kind] = compared(kind, asked.methods or deconf.methods.names(), films)
        print(f"\n{told(out[kind])}\n", flush=True)
        if asked.out:
            asked.out.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
