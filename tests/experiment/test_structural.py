"""The experiment on pairs, in the linear world, whose pairs cost nothing."""

from __future__ import annotations

import pytest

import deconf
from deconf.experiment import structural
from deconf.experiment.config import Structural
from deconf.scm import flows


@pytest.fixture(scope="module")
def found():
    world = deconf.worlds.linear(n=3000, d=24, seed=98)
    draw = world.test("aligned", 500)
    table = draw.cohort.table
    sides = [
        deconf.Cohort.from_arrays(
            draw.do_portable[p], table.assign(portable=p), patient="patient_id", outcome="pneumonia"
        )
        for p in (0, 1)
    ]
    asked = Structural(
        encoder="none", seeds=[98], columns=["pneumonia", "portable"], methods=["leace"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows, "STEPS", 30)
        pairs = structural.Pairs(draw.cohort, (sides[0], sides[1]))
        rows, told = structural.compared(world.graph, world.train().cohort, pairs, asked, seed=0)
    return {(r["metric"], r["representation"]): r for r in rows}, told


def test_counterfactuals_agree_and_are_the_film_not_taken(found):
    figures, told = found
    apart = "inconsistency of the embedding, share of raw"
    assert figures[apart, "raw"]["estimate"] == 1.0
    for name in ("counterfactual", "structural model, affine"):
        assert figures[apart, name]["high"] < 0.3
        error = figures["error of the film made fixed, share of the distance", name]
        assert error["high"] < 0.3
    assert any("affine: counterfactuals of portable" in line for line in told)


def test_every_figure_has_an_interval_and_counts_its_films(found):
    for row in found[0].values():
        assert row["low"] <= row["estimate"] <= row["high"]
        assert row["n"] + row["refused"] == 500
    names = {name for _, name in found[0]}
    assert {"raw", "leace", "regression on true pairs"} <= names


def test_an_eraser_has_no_error_against_a_film_it_does_not_make(found):
    errors = {name for metric, name in found[0] if metric.startswith("error of the film")}
    assert not errors & {"raw", "leace"}


def test_a_model_that_reads_the_diagnosis_is_not_scored_for_finding_it(found):
    scored = {name for metric, name in found[0] if metric == "AUROC within levels"}
    assert scored == {"raw", "leace", "counterfactual"}


def test_raw_films_do_lie_apart(found):
    # The twin: else there would be nothing to bring together.
    assert found[0]["inconsistency of the embedding", "raw"]["low"] > 0.2
