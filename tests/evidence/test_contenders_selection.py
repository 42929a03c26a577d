"""Who chose the settings of an invariant-risk method stands on every table it is on."""

from __future__ import annotations

import pytest

import deconf
from deconf.methods import IRM, VREx

WORLD = deconf.worlds.linear(n=400, d=24, sites=3, seed=97)
BRIEF = {"hidden": 4, "epochs": 4, "batch": 128}


@pytest.fixture(scope="module")
def cleaners():
    return {
        name: deconf.deconfound("stored", "portable", graph=WORLD.graph, method=method)
        for name, method in (("irm", IRM(**BRIEF)), ("leace", "leace"))
    }


def test_a_comparison_names_the_rule_and_that_the_head_is_another(cleaners):
    cohort = WORLD.train().cohort
    report = deconf.compare(cleaners, cohort, confounders="portable", folds=2, pictures=False)
    by = report.table.groupby("representation")["selection"].agg(set)
    assert by["irm"] == {"training"}
    assert by["leace"] == by["raw"] == {""}
    assert "irm: its settings are chosen by selection 'training'" in " ".join(str(report).split())
    assert not any(reason.startswith("leace") and "head" in reason for reason in report.reasons)


def test_a_trade_off_names_it_too(cleaners):
    cohort = WORLD.train().cohort
    found = deconf.tradeoff(
        {"irm": VREx(**BRIEF), "leace": "leace"}, cohort, "portable", graph=WORLD.graph,
        strengths=[1.0], folds=2,
    )  # fmt: skip
    by = found.to_frame().groupby("family")["selection"].agg(set)
    assert by["irm"] == {"training"}
    assert by["leace"] == {""}
    assert any("the head is not its own" in reason for reason in found.reasons)
