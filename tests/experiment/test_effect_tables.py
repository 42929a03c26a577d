"""Experiments of kind effects: parts answer for themselves, a refusal is a row, configs whole."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from deconf.causal.graph import CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.errors import ReadError
from deconf.experiment.config import Asked, Config, Effects, read_config
from deconf.experiment.effects import prepared, run_effects
from deconf.experiment.runner import load_cohort
from deconf.maths.within import within_patient
from deconf.resources import packaged
from tests.reference import effect_worlds as worlds

NAMES = sorted(p.stem for p in packaged("experiments/configs").glob("effect_*.toml"))


def collections(n: int, seed: int) -> Cohort:
    """A ruler goes with malignancy in one collection and against it in the other."""
    rng = np.random.default_rng(seed)
    site = rng.choice(["atlas", "isic"], n)
    ruler = rng.integers(2, size=n)
    slope = np.where(site == "isic", 0.25, -0.25)
    malignant = rng.random(n) < 0.4 + slope * (ruler - 0.5)
    table = pd.DataFrame({"site": site, "ruler": ruler, "malignant": malignant.astype(int)})
    return Cohort.read(table.assign(words=np.where(ruler == 1, "Ruler|Ink", "None"), age=50.0))


def config(**effects) -> Config:
    asked = Asked(name="ruler", cause="ruler", effect="malignant", **effects.pop("asked", {}))
    graph = "habit -> ruler; habit -> malignant"
    return Config(
        title="Rulers", kind="effects", encoder="none",
        effects=Effects(graph=graph, questions=[asked], simulations=1, **effects),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def few_simulated_confounders(monkeypatch):
    monkeypatch.setattr("deconf.hypotheses.study.SIMULATED", (0.1,))


def test_collections_whose_sign_differs_are_not_pooled():
    cohort = collections(900, 0)
    table, text = run_effects(
        cohort, config(by="site", asked={"given": []}), quick=True, progress=str
    )
    assert "NO POOLED ESTIMATE: the parts differ in sign" in text
    estimates = table[(table["name"] == "adjusted") & (table["verdict"] == "not identified")]
    assert set(estimates["part"]) == {"atlas", "isic"}
    assert estimates.set_index("part")["ratio"]["isic"] > 1
    assert "all" not in set(table["part"])


def test_a_question_that_is_not_identified_is_a_row_without_a_figure():
    table, text = run_effects(collections(300, 0), config(), quick=True, progress=str)
    assert table["verdict"].tolist() == ["not identified"]
    assert "ruler <- habit -> malignant is open" in text


def test_columns_are_made_and_rows_kept_as_asked():
    cohort = collections(50, 0)
    effects = Effects(
        graph="a -> b", questions=[], contains={"ink": ["words", "Ink"]}, between={"age": [0, 100]}
    )
    made = prepared(cohort, effects).table
    assert (made["ink"] == made["ruler"]).all()
    with pytest.raises(ReadError, match="kvp"):
        prepared(cohort, Effects(graph="a -> b", questions=[], between={"kvp": [0, 1]}))


def test_log_odds_of_a_probability_of_nil_are_finite():
    table = pd.DataFrame({"p": [0.0, 0.5, 1.0]})
    made = prepared(Cohort.read(table), Effects(graph="a -> b", questions=[], log_odds=["p"])).table
    assert made["p (log-odds)"].tolist() == pytest.approx([-9.9035, 0, 9.9035], abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_config_states_question_expectation_and_rule_and_its_graph_is_one(name):
    path = packaged("experiments/configs") / f"{name}.toml"
    header = path.read_text().split("\nkind")[0]
    for word in ("# Question:", "# Expect:", "# Rule", "# Minutes:", "# Command:"):
        assert word in header
    asked = read_config(path).effects
    graph = CausalGraph.parse(asked.graph)
    for question in asked.questions:
        graph.require([question.cause, *(question.given or ())])


def test_without_the_line_of_negative_controls_a_config_gets_another_verdict(tmp_path):
    controls = 'negative_outcomes = { rib_count = "confounding" }'
    text = f"""
kind = "effects"
title = "Portable and score"
encoder = "none"
[effects]
graph = "{worlds.GRAPH}"
simulations = 1
[[effects.questions]]
name = "score"
cause = "portable"
effect = "score"
{controls}
"""
    cohort, found = worlds.curved(500, 97), {}
    for name, words in (("with", text), ("without", text.replace(controls, ""))):
        path = tmp_path / f"{name}.toml"
        path.write_text(words)
        table, _ = run_effects(cohort, read_config(path), quick=True, progress=str)
        found[name] = table[table["name"] == "adjusted"].iloc[0]
    assert found["with"]["verdict"] == "identified and found"
    assert found["without"]["verdict"] == "found, if the graph is right"
    assert found["with"]["difference"] == found["without"]["difference"]


@pytest.mark.skipif("DECONF_DATA" not in os.environ, reason="needs the development data")
def test_the_nih_table_holds_what_the_config_expects():
    config = read_config(packaged("experiments/configs") / "effect_nih_view.toml")
    cohort = prepared(load_cohort(config.data)[0], config.effects)
    table = cohort.table
    ap = (table["view"] == "AP").to_numpy()
    y = table["pneumonia"].to_numpy(float)
    assert y[ap].mean() / y[~ap].mean() == pytest.approx(1.91, abs=0.01)
    within = within_patient(y, ap, table["patient_id"].to_numpy())
    assert within.patients == 7123
    assert within.ratio.estimate == pytest.approx(1.15, abs=0.01)
    hernia = within_patient(table["hernia"].to_numpy(float), ap, table["patient_id"].to_numpy())
    assert hernia.ratio.high < 1
