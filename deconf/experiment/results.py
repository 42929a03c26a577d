"""A result folder: the config as run, the numbers, the text, a figure, the environment."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import deconf
from deconf.cohort.cohort import Cohort
from deconf.experiment.config import Config

PACKAGES = ("numpy", "scipy", "pandas", "torch", "timm", "scikit-learn", "networkx", "pyro-ppl")


def write_results(
    folder: Path,
    config: Config,
    source: Path,
    cohort: Cohort | None,
    table: pd.DataFrame,
    text: str,
    report: Any = None,
) -> None:
    """Write config.toml, report.json, table.csv, summary.txt, figure.png and environment.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_bytes(source.read_bytes())
    (folder / "summary.txt").write_text(text + "\n")
    table.to_csv(folder / "table.csv", index=False, float_format="%.4f")
    records = json.loads(table.to_json(orient="records", double_precision=6))
    body = {"config": config.model_dump(), "table": records, "text": text.splitlines()}
    (folder / "report.json").write_text(json.dumps(body, indent=1) + "\n")
    if report is not None:
        report.save(folder / "report.html")
    elif "setting" in table:
        figure(table, folder / "figure.png")
    environment: dict[str, Any] = {
        "deconf": deconf.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {p: importlib.metadata.version(p) for p in PACKAGES},
    }
    if cohort is not None:
        environment["cohort"] = {
            "sha256": cohort.digest,
            "rows": len(cohort),
            "patients": len(np.unique(cohort.patients)),
        }
    (folder / "environment.json").write_text(json.dumps(environment, indent=1) + "\n")


def figure(table: pd.DataFrame, path: Path) -> None:
    """Draw aligned and crossed AUROC of every method: a pair that meets is a shortcut unlearnt."""
    from matplotlib.figure import Figure

    settings = list(dict.fromkeys(table["setting"]))
    methods = list(dict.fromkeys(table["method"]))
    fig = Figure(figsize=(5.2 * len(settings), 0.42 * len(methods) + 1.2), layout="constrained")
    axes = np.atleast_1d(fig.subplots(1, len(settings), sharey=True))
    colours = {"aligned": "#c8553d", "crossed": "#2a6f97", "within": "#6c757d"}
    for ax, setting in zip(axes, settings, strict=True):
        part = table[table["setting"] == setting]
        for metric, shift in (("aligned", -0.22), ("within", 0.0), ("crossed", 0.22)):
            rows = part[part["metric"] == metric].set_index("method").loc[methods]
            y = np.arange(len(methods)) + shift
            ax.hlines(y, rows["low"], rows["high"], color=colours[metric], lw=1.6, alpha=0.6)
            ax.plot(rows["estimate"], y, "o", ms=4.5, color=colours[metric], label=metric)
        ax.axvline(0.5, color="0.6", lw=0.8, ls=":")
        ax.set(xlim=(0, 1), xlabel="AUROC of disease on test patients", title=setting)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(left=False)
    axes[0].set_yticks(np.arange(len(methods)), methods)
    axes[0].invert_yaxis()
    axes[-1].legend(frameon=False, loc="lower left", fontsize=8)
    fig.savefig(path, dpi=130)
