"""``--set``: what is said becomes the settings of a method, and what cannot be meant is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deconf.cli import app
from deconf.cli.settings import method_from
from deconf.errors import SettingsError
from deconf.methods import DANN, IBIRM, IRM, LEACE, Aligned, ComBat, VREx
from deconf.methods.base import methods, resolve
from deconf.methods.described import offered
from deconf.methods.game import Rounds
from deconf.worlds import linear

TRAINING = "selection=training"


@pytest.mark.parametrize(
    ("name", "said", "meant"),
    [
        (
            "irm",
            ["penalty=10", "selection=held_out_site"],
            IRM(penalty=10.0, selection="held_out_site"),
        ),
        ("vrex", ["penalty=[1, 1e2]", TRAINING], VREx(penalty=(1.0, 100.0), selection="training")),
        ("ib_irm", ["epochs = 1_000", TRAINING], IBIRM(epochs=1000, selection="training")),
        ("leace", ["shrinkage=oas", 'rank="full"'], LEACE(shrinkage="oas", rank="full")),
        ("leace", ["shrinkage=0.5", "rank='full'"], LEACE(shrinkage=0.5, rank="full")),
        ("combat", ["shrink=false", "reference=2"], ComBat(shrink=False, reference=2)),
        ("combat", ["reference=null"], ComBat()),
        ("dann", ["widths=[8]", "start=identity"], DANN(widths=(8,), start="identity")),
        ("dann", ['rounds={"count": 2}'], DANN(rounds=Rounds(count=2))),
        ("dann", ['start={name = "aligned"}'], DANN(start=Aligned())),
        ("dann", ["rounds={count = 2}"], DANN(rounds=Rounds(count=2))),
    ],
)
def test_what_is_said_is_the_settings_that_python_would_be_given(name, said, meant):
    found = method_from(name, said)
    assert found == meant
    assert method_from(name, []) == name


@pytest.mark.parametrize(
    ("name", "said", "error"),
    [
        ("irm", ["epoch=10"], "no setting 'epoch'. Did you mean 'epochs'.*Settings: sel"),
        ("reweight", ["penalty=10"], "It has none"),
        ("irm", ["penalty=strong", TRAINING], "penalty is a number or a tuple.*not 'strong'"),
        ("irm", ["epochs=1.5", TRAINING], "epochs is a whole number, not 1.5"),
        ("irm", ["epochs=true", TRAINING], "epochs is a whole number, not True"),
        ("combat", ["shrink=1"], "true or false"),
        ("irm", ["selection=test"], "'training', 'held_out_site' or 'oracle'"),
        ("irm", ["selection=oracle"], "oracle=TestEnvironment"),
        ("irm", ["oracle=rows", TRAINING], "TestEnvironment"),
        ("irm", ["penalty=10"], "'irm' needs selection: 'training', 'held_out_site' or 'oracle'"),
        ("irm", ["penalty"], "write NAME=VALUE"),
        ("irm", ["penalty="], "write NAME=VALUE"),
        ("irm", ["penalty=1", "penalty=2"], "said twice"),
        ("irn", ["penalty=1"], "'irm'"),
    ],
)
def test_what_cannot_be_meant_is_named(name, said, error):
    with pytest.raises(SettingsError, match=error):
        method_from(name, said)


@pytest.mark.parametrize("name", list(methods))
def test_what_a_card_prints_as_defaults_can_be_said_and_changes_nothing(name):
    shown = CliRunner().invoke(app, ["methods", name]).output
    said = []
    for setting, _, default in offered(name):
        said.append(f"{setting}={default or 'training'}")
        assert f"    {setting:<16}" in shown
    assert resolve(method_from(name, said)) == resolve(name)


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Return ``deconf(*words)`` in a folder with films, and what all commands are told of them."""
    films = linear(n=500, d=24, trace="shift").train().cohort
    films.table.to_csv(tmp_path / "films.csv", index=False)
    np.save(tmp_path / "films.npy", films.embeddings)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    words = ["films.csv", "-e", "films.npy", "-c", "portable", "-y", "pneumonia"]
    words += ["--patient", "patient_id"]
    return lambda verb, *more: CliRunner().invoke(app, [verb, *words, *more])


def test_a_fit_takes_them_says_what_was_asked_for_and_what_the_method_promises(typed):
    brief = ["--set", "epochs=4", "--set", "hidden=4", "--set", "selection=training"]
    result = typed("fit", "-m", "irm", *brief, "-o", "out")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    asked = lines.index("Asked for (an audit says what holds)")
    assert lines[asked + 1] == "  z ⊥ portable | pneumonia"
    assert lines[asked + 2].startswith("  irm promises: none for new environments")
    assert "selection 'training': penalty 100" in result.output
    result = typed("fit", "-m", "irm", "--set", "epoch=4", "-o", "other")
    assert result.exit_code == 2
    assert "Did you mean 'epochs'?" in result.output


def test_a_comparison_and_a_plan_take_them(typed):
    brief = ["-m", "vrex", "--set", "epochs=4", "--set", "hidden=4", "--set", TRAINING]
    assert typed("plan", *brief).exit_code == 0
    result = typed("compare", *brief, "--folds", "2", "-o", "report.json")
    assert result.exit_code == 0, result.output
    rows = json.loads(Path("report.json").read_text())["task"]
    assert {r["selection"] for r in rows if r["representation"] == "clean"} == {"training"}
    assert typed("compare", "-m", "vrex", "--set", "epochs=x").exit_code == 2


def test_a_method_that_reads_the_record_names_the_option(typed):
    result = typed("fit", "-m", "combat", "-o", "out")
    assert result.exit_code == 2
    assert "--at-inference" in result.output
    assert "at_inference=True" not in result.output
