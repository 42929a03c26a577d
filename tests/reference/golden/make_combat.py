"""Run neuroCombat on the films of `combat_films` and write what they say.

    uv pip install --target away "numpy==1.23.5" "scipy<1.14" "pandas<2.2" \
        neuroCombat==0.2.12
    PYTHONPATH=away python tests/reference/golden/make_combat.py

numpy is that old because neuroCombat with a reference site asks for ``np.int``.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
CASES = {
    "plain": {},
    "covariates": {"categorical_cols": ["disease"], "continuous_cols": ["age"]},
    "reference": {"ref_batch": 1, "categorical_cols": ["disease"], "continuous_cols": ["age"]},
    "plain reference": {"ref_batch": 1},
    "not shrunk": {"eb": False, "categorical_cols": ["disease"]},
}
SHOWN = slice(None, None, 5)  # every fifth film


def at_new_sites(fitted: dict) -> list:
    """Return the new sites after neuroCombat's own steps, from the standardisation of a fit.

    What neuroHarmonize means to do for sites it has not met (2.5.2 fails there, on ``ref_level``).
    """
    from combat_films import new_sites

    steps = import_module("neuroCombat.neuroCombat")
    new, site = new_sites()
    info = {
        "n_batch": 3,
        "n_sample": len(new),
        "sample_per_batch": np.bincount(site)[7:],
        "batch_info": [list(np.flatnonzero(site == s)) for s in (7, 8, 9)],
        "ref_level": None,
    }
    design = np.eye(3)[site - 7]
    mean, variance = fitted["stand.mean"][:, :1] * np.ones(len(new)), fitted["var.pooled"]
    z = (new.T - mean) / np.sqrt(variance)
    found = steps.fit_LS_model_and_find_priors(z, design, info, False)
    gamma, delta = steps.find_parametric_adjustments(z, found, info, False)
    out = steps.adjust_data_final(z, design, gamma, delta, mean, 0, variance, info, new.T)
    return out.T[SHOWN].tolist()


def main() -> None:
    from combat_films import films
    from neuroCombat.neuroCombat import neuroCombat

    z, site, disease, age = films()
    table = pd.DataFrame({"site": site, "disease": disease, "age": age})
    found: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for name, how in CASES.items():
            fitted = neuroCombat(z.T.copy(), table, "site", **how)
            found[name] = fitted["data"].T[SHOWN].tolist()
        found["new sites"] = at_new_sites(neuroCombat(z.T.copy(), table, "site")["estimates"])
    made = {
        "python": sys.version.split()[0],
        **{p: version(p) for p in ("neuroCombat", "numpy", "scipy", "pandas")},
    }
    text = json.dumps({"made_with": made, **found}, indent=1)
    (HERE / "combat.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
