"""How large a leak an audit finds: six kinds of leak, planted in noise, at two numbers of films.

    python -m benchmarks.power                  10 minutes of processor time; draws pictures
    python -m benchmarks.power --runs 2         a smoke test, which draws nothing

Writes benchmarks/results/power.json, docs/img/power.svg (how often the verdict is "leaks") and
docs/img/power_attackers.svg (what each attacker reads).  The embedding is 16 numbers, noise but for
the leak; half of the films train the attackers.
"""

# ruff: noqa: ARG001  (leaks share one signature)
from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from matplotlib import rcParams
from matplotlib.figure import Figure

from deconf.evidence.verdict import judge
from deconf.probes.attackers import FULL
from deconf.probes.leakage import leakage

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "docs" / "img"
D, FILMS, RUNS, SITES = 16, (300, 1200), 15, 4
Leak = Callable[[np.ndarray, np.ndarray, np.ndarray, float, np.random.Generator], None]


def mean(z: np.ndarray, c: np.ndarray, site: np.ndarray, size: float, rng: object) -> None:
    z[:, 0] += size * c


def variance(z: np.ndarray, c: np.ndarray, site: np.ndarray, size: float, rng: object) -> None:
    z[:, 0] *= 1 + size * c


def rotation(z: np.ndarray, c: np.ndarray, site: np.ndarray, size: float, rng: object) -> None:
    z[:, 1] = (2 * c - 1) * size * z[:, 0] + np.sqrt(1 - size**2) * z[:, 1]


def xor(
    z: np.ndarray, c: np.ndarray, site: np.ndarray, size: float, rng: np.random.Generator
) -> None:
    obeys = rng.random(len(c)) < size
    agree = (z[:, 0] > 0) == (z[:, 1] > 0)
    z[:, 1] *= np.where(obeys & (agree == (c == 1)), -1, 1)


def tail(
    z: np.ndarray, c: np.ndarray, site: np.ndarray, size: float, rng: np.random.Generator
) -> None:
    obeys, far = rng.random(len(c)) < size, rng.random(len(c)) < 0.1
    odd = np.where(far, 2.8 * rng.choice([-1, 1], len(c)), 0.5 * rng.standard_normal(len(c)))
    odd /= np.sqrt(0.1 * 2.8**2 + 0.9 * 0.25)  # mean 0 and variance 1, as the others
    z[:, 0] = np.where((c == 1) & obeys, odd, z[:, 0])


def one_site(z: np.ndarray, c: np.ndarray, site: np.ndarray, size: float, rng: object) -> None:
    z[:, 0] += size * c * (site == 0)


LEAKS: dict[str, tuple[Leak, str, tuple[float, ...]]] = {
    "mean": (mean, "shift, in sd", (0.25, 0.5, 0.75, 1.0)),
    "variance": (variance, "sd, more by", (0.25, 0.5, 1.0, 1.5)),
    "rotation": (rotation, "correlation, + and −", (0.2, 0.4, 0.6, 0.8)),
    "xor": (xor, "share of films that obey", (0.25, 0.5, 0.75, 1.0)),
    "tail": (tail, "share of films that obey", (0.25, 0.5, 0.75, 1.0)),
    "one site of four": (one_site, "shift there, in sd", (0.5, 1.0, 1.5, 2.0)),
}


def one(kind: str, size: float, n: int, seed: int) -> dict[str, float | str]:
    """Return the verdict on one draw, and what each attacker read."""
    rng = np.random.default_rng([seed, n])
    c, site, z = rng.integers(2, size=n), rng.integers(SITES, size=n), rng.standard_normal((n, D))
    LEAKS[kind][0](z, c, site, size, rng)
    if kind != "tail":  # a tail lies in one coordinate; the others in any direction
        z = z @ np.linalg.qr(rng.standard_normal((D, D)))[0]
    held = site if kind == "one site of four" else None
    found = leakage(z, c, held, attackers=FULL, permutations=99, bootstraps=10, seed=seed)
    read = {name: [v.estimate for fit, v in found.intervals.items() if fit.split(",")[0] == name]
            for name in FULL}  # fmt: skip
    return {
        "kind": kind, "size": size, "n": n, "leaks": float(str(judge(found, found.p)) == "leaks"),
        "floor": found.floor, **{name: max(values) for name, values in read.items()},
        **{f"p {name}": found.alone[name] for name in FULL},
    }  # fmt: skip


def drawn(frame: pd.DataFrame) -> tuple[Figure, Figure]:
    """Return the two pictures."""
    rcParams.update({"svg.hashsalt": "deconf", "svg.fonttype": "none", "font.size": 8})
    power, read = Figure((7.2, 4.2)), Figure((7.2, 4.6))
    for figure in (power, read):
        figure.set_layout_engine("constrained")
    many = max(FILMS)
    colours = dict(zip(FULL, ("#22303c", "#c0392b", "#8a97a3", "#2e8b57", "#b8860b", "#4169a1"),
                       strict=True))  # fmt: skip
    for place, (kind, (_, unit, _)) in enumerate(LEAKS.items(), start=1):
        part = frame[frame["kind"] == kind]
        ax = power.add_subplot(2, 3, place)
        for n, style in zip(FILMS, (":", "-"), strict=True):
            some = part[part["n"] == n].groupby("size")
            ax.plot(some["leaks"].mean(), style, color="#22303c", label=f"leaks, {n:,} films")
            linear = some["p logistic"].agg(lambda p: (p <= 0.05).mean())
            ax.plot(linear, style, color="#c0392b", lw=1, label=f"linear alone, {n:,}")
        ax.set_ylim(-0.03, 1.03)
        ax.set_title(kind, loc="left")
        ax.set_xlabel(unit)
        beside = read.add_subplot(2, 3, place)
        some = part[part["n"] == many].groupby("size")
        for name, colour in colours.items():
            beside.plot(some[name].mean(), color=colour, lw=1.3, label=name)
        beside.plot(some["floor"].mean(), ":", color="#8a97a3", label="floor")
        beside.set_ylim(0.45, 1.02)
        beside.set_title(kind, loc="left")
        beside.set_xlabel(unit)
    for figure, columns in ((power, 4), (read, 7)):
        for ax in figure.axes:
            ax.spines[["top", "right"]].set_visible(False)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return power, read


def main() -> None:
    """Simulate, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    asked = parser.parse_args()
    jobs = [
        delayed(one)(kind, size, n, seed)
        for kind, (_, _, sizes) in LEAKS.items()
        for size in (0.0, *sizes)
        for n in FILMS
        for seed in range(asked.runs)
    ]
    frame = pd.DataFrame(Parallel(n_jobs=-1, batch_size=5)(jobs))
    found = frame.groupby(["kind", "size", "n"], sort=False).mean().round(3)
    print(found.drop(columns=[c for c in found if c.startswith("p ")]).to_string())
    if asked.runs < RUNS:
        return
    rows = found.reset_index().to_dict("records")
    (HERE / "results" / "power.json").write_text(json.dumps(rows, indent=1) + "\n")
    for figure, name in zip(drawn(frame), ("power", "power_attackers"), strict=True):
        figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
