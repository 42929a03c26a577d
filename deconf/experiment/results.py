"""A result folder: the config as run, the numbers, the text, a figure, the environment."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

import deconf
from deconf.cohort.cohort import Cohort
from deconf.experiment.answer import Found
from deconf.experiment.config import Config

PACKAGES = (
    "numpy", "scipy", "pandas", "torch", "timm", "scikit-learn", "networkx", "dowhy", "pyro-ppl",
)  # fmt: skip


def write_results(
    folder: Path,
    config: Config,
    source: Path,
    cohort: Cohort | None,
    found: Found,
) -> None:
    """Write the config, report.json, table.csv, summary.txt, environment.json and what is saved."""
    table, text = found.table, found.text
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_bytes(source.read_bytes())
    (folder / "summary.txt").write_text(text + "\n")
    table.to_csv(folder / "table.csv", index=False, float_format="%.4f")
    records = json.loads(table.to_json(orient="records", double_precision=6))
    body = {"config": config.model_dump(), "table": records, "text": text.splitlines()}
    (folder / "report.json").write_text(json.dumps(body, indent=1) + "\n")
    for name, save in found.saves.items():
        save(folder / name)
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
