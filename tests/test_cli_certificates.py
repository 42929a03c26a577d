from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import deconf
from deconf.cli import app
from deconf.worlds import linear

COLUMNS = ["--patient", "patient_id", "-y", "pneumonia"]
FIT = ["fit", "train.csv", "-e", "train.npy", "-c", "portable", *COLUMNS, "-m", "leace"]
HERE = {"PYTHONPATH": str(Path(deconf.__file__).parents[1])}  # the code under test, from anywhere
PAGE = Path(__file__).parents[1] / "docs" / "ideas" / "certificate.md"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with films as files and a cleaner of them with its certificate."""
    home = tmp_path_factory.mktemp("films")
    world = linear(trace="shift", n=300, d=24)
    for name, draw in {"train": world.train(), "new": world.test("aligned", 400)}.items():
        draw.cohort.table.to_csv(home / f"{name}.csv", index=False)
        np.save(home / f"{name}.npy", draw.cohort.embeddings)
    words = [str(home / word) if word.startswith("train.") else word for word in FIT]
    ended = CliRunner().invoke(app, [*words, "-o", str(home / "clean"), "--certify"])
    assert ended.exit_code == 0, ended.output
    (home / "said.txt").write_text(ended.stdout)
    return home


@pytest.fixture
def deconf_in(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Return ``deconf(*words)`` as typed in a copy of the folder."""
    home = shutil.copytree(films, tmp_path / "films")
    monkeypatch.chdir(home)
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *words: CliRunner().invoke(app, [*map(str, words)])


def in_a_process(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    code = "from deconf.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=folder, env=os.environ | HERE, capture_output=True, text=True, check=False,
    )  # fmt: skip


def refused(result: object, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in " ".join(result.stderr.split()), word


def test_a_fit_writes_the_certificate_it_prints_and_only_if_asked(
    films: Path, deconf_in: Callable
) -> None:
    said = " ".join((films / "said.txt").read_text().split())
    certificate = deconf.load(films / "clean").certificate
    assert " ".join(str(certificate).split()) in said
    assert f"deconf verify {films / 'clean'} {films / 'train.csv'}" in said
    assert deconf_in(*FIT, "-o", "plain").exit_code == 0
    assert not Path("plain/certificate.json").exists()
    refused(deconf_in("verify", "plain", "train.csv", "-e", "train.npy"), "deconf fit --certify")


def test_verified_is_status_0_and_another_embedding_status_1_in_a_real_process(
    films: Path, tmp_path: Path
) -> None:
    ended = in_a_process(films, "verify", "clean", "train.csv", "-e", "train.npy", "--tolerance", 0)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("Verified: every figure comes out bit for bit.\n")
    z = np.load(films / "train.npy")
    z[11, 3] += 1e-4
    np.save(tmp_path / "z.npy", z)
    ended = in_a_process(films, "verify", "clean", "train.csv", "-e", tmp_path / "z.npy")
    assert ended.returncode == 1
    assert ended.stderr == ""
    assert ended.stdout.endswith("Not verified: cohort, figures.\n")


def test_the_columns_come_from_the_certificate_and_the_embeddings_are_asked_for(
    deconf_in: Callable,
) -> None:
    refused(deconf_in("verify", "clean", "train.csv"), "--embedding FILE")
    other = deconf_in("verify", "clean", "new.csv", "-e", "new.npy")
    assert other.exit_code == 1
    assert "DIFFERS  cohort: 400 films" in other.stdout
    assert "no --patient" not in other.stderr


def test_an_altered_certificate_and_a_folder_without_a_map_are_refused(deconf_in: Callable) -> None:
    path = Path("clean/certificate.json")
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    refused(
        deconf_in("verify", "clean", "train.csv", "-e", "train.npy"), "certificate.json was alt"
    )
    refused(deconf_in("verify", "nowhere", "train.csv", "-e", "train.npy"), "holds no deconf.json")


# --- the gate of a model repository ----------------------------------------------------------


def test_the_workflow_of_the_docs_fails_on_a_leak_and_keeps_the_report(
    films: Path, tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml")
    text = re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    steps = yaml.safe_load(text[1])["jobs"]["leaks"]["steps"]
    (gate,) = (step for step in steps if "deconf audit" in step.get("run", ""))
    assert gate["shell"] == "bash"  # which is what makes the runner add pipefail
    (tmp_path / "audit").mkdir()
    for kind in ("csv", "npy"):
        name = {"csv": "films.csv", "npy": "z.npy"}[kind]
        (tmp_path / "audit" / name).write_bytes((films / f"new.{kind}").read_bytes())
    table = linear(trace="shift", n=300, d=24).train().cohort.table
    useless = table.assign(portable=np.random.default_rng(0).permutation(table["portable"]))
    cohort = deconf.Cohort.from_arrays(
        np.load(films / "train.npy"), useless, patient="patient_id", outcome="pneumonia"
    )
    deconf.deconfound("stored", "portable", method="leace").fit(cohort).save(tmp_path / "clean")
    command = tmp_path / "bin" / "deconf"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom deconf.cli import main\nmain()\n")
    command.chmod(0o755)
    paths = HERE | {"PATH": f"{command.parent}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", gate["run"]],
        cwd=tmp_path, env=os.environ | paths, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert ended.stdout.endswith("Failed: portable leaks\n")
    (kept,) = (step["with"]["path"] for step in steps if "upload" in step.get("uses", ""))
    assert (tmp_path / kept).read_text() == ended.stdout
