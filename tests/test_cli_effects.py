"""``deconf effect`` on files: the paragraph, the table, and what it refuses."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from deconf.cli import app
from tests.reference.effect_worlds import GRAPH, curved

ASKED = ["--cause", "portable", "--effect", "score", "--patient", "patient", "--graph", GRAPH]


@pytest.fixture
def deconf_in(tmp_path, monkeypatch):
    curved(120, 97).table.to_csv(tmp_path / "films.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    return lambda *words: CliRunner().invoke(app, ["effect", "films.csv", *words])


def test_effect_prints_the_verdict_its_tests_and_saves_the_designs(deconf_in, tmp_path):
    answer = deconf_in(*ASKED, "--negative-outcome", "rib_count", "-o", "out.csv")
    assert answer.exit_code == 0, answer.output
    for said in (
        "FOUND, IF THE GRAPH IS RIGHT: no negative control could have contradicted",  # 120 patients
        "Estimand: Σ_s",
        "placebo cause",
        "portable -> rib_count",
    ):
        assert said in answer.output
    saved = pd.read_csv(tmp_path / "out.csv")
    assert list(saved["design"][:2]) == ["adjusted", "crude"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "out.xlsx"], "saved as .csv"),
        (["--out", "nowhere/out.csv"], "there is no folder 'nowhere'"),
        (["--given", "severity", "--given", "score"], "'score' is the effect that is asked about"),
        (["--within-patient", "--not-through", "severity"], "leave --not-through out"),
        (["--negative-outcome", "rib_count=luck"], "confounding, detection"),
        (["--reference", "9"], "no level '9'"),
    ],
)
def test_effect_refuses_what_it_cannot_mean(deconf_in, words, said):
    answer = deconf_in(*ASKED, *words)
    assert answer.exit_code != 0
    assert said in answer.output + str(answer.exception)


def test_within_patient_needs_the_patients(deconf_in):
    words = [w for w in ASKED if w not in ("--patient", "patient")]
    answer = deconf_in(*words, "--within-patient")
    assert "needs --patient" in answer.output + str(answer.exception)
