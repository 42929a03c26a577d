from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import deconf
from deconf.worlds import linear

HEAVY = (
    "torch", "pandas", "sklearn", "scipy", "pyro", "dowhy", "timm", "transformers", "torchvision",
    "pydicom", "matplotlib", "networkx",
)  # fmt: skip


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter whose warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False, env=os.environ | env, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("module", ["deconf", "deconf.errors", "deconf.cli"])
def test_importing_loads_nothing_heavy(module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not part of this version")
    done = run(f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert not loaded & set(HEAVY)


def test_every_public_name_is_there_and_a_wrong_one_is_not():
    for name in deconf.__all__:
        assert getattr(deconf, name) is not None
    assert set(deconf.__all__) <= set(dir(deconf))
    with pytest.raises(AttributeError, match="no attribute 'deconfuse'"):
        _ = deconf.deconfuse


def test_the_functions_of_the_door_are_no_modules_whatever_was_imported_before():
    for path in Path(deconf.__file__).parent.iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            importlib.import_module(f"deconf.{path.name}")
    for name in ("audit", "compare", "deconfound", "load", "load_encoder", "tradeoff"):
        assert inspect.isfunction(getattr(deconf, name)), name


BLOCKED = """
import sys
class Absent:
    names = {"timm", "torchvision", "pydicom", "pyro", "dowhy", "transformers", "PIL", "openslide"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
try:
    import timm
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the block does not block")
import numpy as np, pandas as pd, deconf
rng = np.random.default_rng(0)
ill = rng.integers(2, size=200)
site = np.where(rng.random(200) < 0.3 + 0.4 * ill, "A", "B")
z = rng.normal(size=(200, 8))
z[:, 0] += ill
z[:, 1] += 2 * (site == "A")
cohort = deconf.Cohort.from_arrays(z, pd.DataFrame({"site": site, "ill": ill}), outcome="ill")
clean = deconf.deconfound("stored", ["site"]).fit(cohort)
out = clean.embed(cohort)
assert out.shape == (200, 8) and out.dtype == np.float32
gap = lambda x: abs(x[site == "A", 1].mean() - x[site == "B", 1].mean())
assert gap(out) < 0.3 * gap(z), clean.method
"""


def test_embeddings_on_disk_need_no_imaging_package():
    done = run(BLOCKED)
    assert done.returncode == 0, done.stderr


def test_a_whole_run_changes_nothing_in_the_process_and_writes_no_file(tmp_path, monkeypatch):
    # The first import of scikit-learn draws a random name and sets two variables: not ours.
    for module in ("sklearn.linear_model", "sklearn.ensemble", "sklearn.neural_network"):
        importlib.import_module(module)
    monkeypatch.chdir(tmp_path)
    world = linear(n=200, d=24)
    data, other = world.train().cohort, world.test("aligned", 200).cohort
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  the global state is what is watched here
    torch.manual_seed(1)
    before = state()
    clean = deconf.deconfound("stored", "portable", given=()).fit(data)
    clean.embed(other)
    deconf.audit(clean, other, "portable", attackers=["logistic", "boosted", "mlp"])
    assert state() == before
    assert not list(tmp_path.iterdir())


def state() -> dict[str, object]:
    return {
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "warnings": [str(f) for f in warnings.filters],
        "printing": str(np.get_printoptions()),
        "errors": str(np.geterr()),
        "grad": torch.is_grad_enabled(),
        "dtype": str(torch.get_default_dtype()),
        "threads": torch.get_num_threads(),
        "environment": dict(os.environ),
    }


def test_importing_changes_no_global_state():
    done = run(
        "import os, sys, random, warnings, logging\n"
        "def state():\n"
        "    return (random.getstate(), list(map(str, warnings.filters)), dict(os.environ),\n"
        "            logging.getLogger().handlers[:], sys.path[:], os.listdir())\n"
        "before = state()\n"
        "import deconf\n"
        "assert state() == before\n"
        "import torch, numpy as np, pandas, sklearn.ensemble, scipy.stats, networkx\n"
        "def more():\n"
        "    return (*state(), torch.get_rng_state().tolist(), str(np.random.get_state()),\n"
        "            torch.get_default_dtype(), torch.get_num_threads(), str(np.geterr()))\n"
        "before = more()\n"
        "deconf.deconfound, deconf.compare, deconf.methods.names(), deconf.worlds.names()\n"
        "assert more() == before\n"
        "assert not logging.getLogger('deconf').handlers\n",
    )
    assert done.returncode == 0, done.stderr
