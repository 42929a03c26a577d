"""How large a dependence the conditional tests find, and how often they cry wolf.

    python -m benchmarks.independence             minutes of processor time; draws a picture
    python -m benchmarks.independence --runs 2    a smoke test, which writes nothing

Writes benchmarks/results/independence.json and docs/img/independence.svg: rejections at 5 % of each
test by the size of a shift or of a spread, one score or an embedding of 20 columns, 300 patients,
a number held.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from matplotlib.figure import Figure

from deconf.cohort.cohort import Cohort
from deconf.hypotheses.independence import TESTS, independence

HERE = Path(__file__).resolve().parent
PATIENTS, RUNS = 300, 100
SIZES = {"shift": (0.0, 0.2, 0.4, 0.6, 0.8), "spread": (0.0, 0.25, 0.5, 0.75, 1.0)}
COLUMNS = (1, 20)


def world(seed: int, columns: int, form: str, size: float) -> tuple[np.ndarray, Cohort]:
    """Return an embedding that follows s, and the confounder beyond it by ``size``."""
    rng = np.random.default_rng(seed)
    s = rng.standard_normal(PATIENTS)
    c = (rng.random(PATIENTS) < 1 / (1 + np.exp(-1.5 * s))).astype(float)
    z = rng.standard_normal((PATIENTS, columns))
    z[:, 0] = z[:, 0] + size * c if form == "shift" else z[:, 0] * (1 + size * c)
    return z + s[:, None], Cohort.read(pd.DataFrame({"c": c, "s": s}))


def rejected(seed: int, columns: int, form: str, size: float) -> list[bool]:
    z, cohort = world(seed, columns, form, size)
    found = independence(z, "c", "s", cohort, permutations=99, seed=seed)
    return list(found.table["p"] <= 0.05)


def measured(runs: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for form, sizes in SIZES.items():
        for columns in COLUMNS:
            for size in sizes:
                one = delayed(rejected)
                done = Parallel(n_jobs=-1)(one(k, columns, form, size) for k in range(runs))
                rates = np.mean(np.array(done, dtype=float), axis=0)
                what = {"form": form, "columns": columns, "size": size, "runs": runs}
                rows.append(what | dict(zip(TESTS, rates.round(3).tolist(), strict=True)))
                print(rows[-1], flush=True)
    return rows


def drawn(rows: list[dict[str, object]]) -> Figure:
    frame = pd.DataFrame(rows)
    fig = Figure(figsize=(9, 5), layout="constrained")
    axes = fig.subplots(2, 2, sharey=True)
    for row, form in zip(axes, SIZES, strict=True):
        for ax, columns in zip(row, COLUMNS, strict=True):
            part = frame[(frame["form"] == form) & (frame["columns"] == columns)]
            for test in TESTS:
                ax.plot(part["size"], part[test], "o-", ms=4, label=test)
            ax.axhline(0.05, color="0.6", lw=0.8, ls=":")
            ax.set(title=f"{form}, {columns} column{'s' * (columns > 1)}", ylim=(0, 1.02))
            ax.spines[["top", "right"]].set_visible(False)
    axes[1, 0].set(xlabel="size, in sd of the noise", ylabel="rejected at 5 %")
    axes[0, 0].legend(frameon=False)
    return fig


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    rows = measured(runs)
    if runs == RUNS:
        text = json.dumps({"patients": PATIENTS, "rows": rows}, indent=1)
        (HERE / "results" / "independence.json").write_text(text + "\n")
        drawn(rows).savefig(HERE.parent / "docs" / "img" / "independence.svg")


if __name__ == "__main__":
    main()
