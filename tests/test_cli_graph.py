"""``deconf graph``: asked, told, drawn, written, tested."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from deconf.causal.graph import CausalGraph
from deconf.cli import app

TYPED = "pneumonia\ncause\nportable\nreferral\nage\n\n"


@pytest.fixture
def studies(tmp_path):
    rng = np.random.default_rng(0)
    ill = rng.integers(0, 2, 120)
    frame = pd.DataFrame(
        {"pneumonia": ill, "portable": ill ^ (rng.random(120) < 0.1), "age": rng.random(120)}
    )
    frame.to_csv(tmp_path / "studies.csv", index=False)
    return tmp_path / "studies.csv"


def test_six_answers_make_a_graph_on_disk_that_plan_reads(studies, tmp_path):
    out = tmp_path / "graph.txt"
    picture = tmp_path / "graph.png"
    typed = ["graph", "-t", str(studies), "-o", str(out), "--draw", str(picture)]
    done = CliRunner().invoke(app, typed, input=TYPED)
    assert done.exit_code == 0, done.output
    assert "portable leaves a trace in the image" in done.output
    graph = CausalGraph.parse(out.read_text())
    assert str(graph.invariance("portable", "pneumonia")) == "z ⊥ portable | pneumonia, age"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_graph_is_told_and_tested(studies):
    text = "pneumonia -> image; portable -> image; age -> image"
    typed = ["graph", "-g", text, "-t", str(studies), "--falsify", "-c", "portable"]
    done = CliRunner().invoke(app, typed)
    assert done.exit_code == 0, done.output
    assert "The data contradict the graph" in done.output
    assert "pneumonia and portable are unrelated, and they are not" in " ".join(done.output.split())


def test_falsify_without_a_table_names_the_option():
    done = CliRunner().invoke(app, ["graph", "-g", "a -> image", "--falsify"])
    assert done.exit_code == 2
    assert "--table" in done.output
