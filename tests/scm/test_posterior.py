"""Posteriors of an interventional contrast against closed forms and known effects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import deconf
from deconf.errors import CohortError, NotIdentified, SettingsError
from deconf.scm.posterior import posterior_contrast

GRAPH = "sick -> portable; sick -> dose; portable -> dose"
EFFECT = 0.7
SEEDS = 200


def table(n: int, seed: int) -> pd.DataFrame:
    """Return sick patients on the portable, and a dose that both raise."""
    rng = np.random.default_rng(seed)
    sick = rng.normal(size=n)
    portable = (rng.random(n) < 1 / (1 + np.exp(-1.5 * sick))).astype(int)
    dose = EFFECT * portable + sick + rng.normal(size=n)
    return pd.DataFrame({"sick": sick, "portable": portable, "dose": dose})


def cohort(n: int, seed: int) -> deconf.Cohort:
    return deconf.Cohort.read(table(n, seed))


def least_squares(t: pd.DataFrame) -> tuple[float, float]:
    x = np.column_stack([np.ones(len(t)), t["portable"], t["sick"]])
    beta, rss = np.linalg.lstsq(x, t["dose"], rcond=None)[:2]
    cov = rss[0] / (len(t) - 3) * np.linalg.inv(x.T @ x)
    return float(beta[1]), float(np.sqrt(cov[1, 1]))


@pytest.mark.parametrize(
    "way",
    [{"by": "nuts", "draws": 100, "chains": 1}, {"by": "svi", "steps": 120, "draws": 300}],
    ids=["nuts", "svi"],
)
def test_a_linear_contrast_agrees_with_least_squares(way):
    data = cohort(300, 0)
    found = posterior_contrast(data, GRAPH, "portable", "dose", **way)
    value, error = least_squares(data.table)
    assert abs(found.interval.estimate - value) < 0.6 * error
    width = (found.interval.high - found.interval.low) / (2 * 1.96)
    assert 0.7 * error < width < 1.5 * error
    crude = data.table.groupby("portable")["dose"].mean().diff().iloc[-1]
    assert crude > found.interval.high  # sick patients, not the portable
    assert found.given == ("sick",)


def test_a_chance_is_standardised_over_the_patients():
    rng = np.random.default_rng(1)
    sick = rng.integers(2, size=1500)
    portable = (rng.random(1500) < 0.2 + 0.6 * sick).astype(int)
    ill = (rng.random(1500) < 0.1 + 0.5 * sick + 0.2 * portable).astype(int)
    data = deconf.Cohort.read(pd.DataFrame({"sick": sick, "portable": portable, "ill": ill}))
    graph = "sick -> portable; sick -> ill; portable -> ill"
    found = posterior_contrast(data, graph, "portable", "ill", steps=150)
    assert found.interval.low < 0.2 < found.interval.high
    assert found.interval.high - found.interval.low < 0.2
    assert "ill under do(portable=1) less do(portable=0)" in str(found)


def test_films_of_one_patient_count_once():
    once = table(150, 2).assign(patient=np.arange(150))
    often = pd.concat([once] * 5, ignore_index=True)
    width = {}
    for name, data in (("once", once), ("often", often)):
        data = deconf.Cohort.read(data, patient="patient")
        found = posterior_contrast(data, GRAPH, "portable", "dose", steps=120, draws=300)
        width[name] = found.interval.high - found.interval.low
    assert abs(width["often"] / width["once"] - 1) < 0.15


def test_the_same_seed_gives_the_same_draws_and_no_trace_is_left_in_pyro():
    import pyro

    pyro.get_param_store()["mine"] = torch.ones(2)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    data = cohort(100, 3)
    first, again = (
        posterior_contrast(data, GRAPH, "portable", "dose", steps=20, draws=20, guide="normal")
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.draws, again.draws)
    assert list(pyro.get_param_store().keys()) == ["mine"]
    assert torch.equal(torch.get_rng_state(), state)
    pyro.clear_param_store()


def test_chains_that_have_not_met_are_said():
    found = posterior_contrast(
        cohort(60, 4), GRAPH, "portable", "dose", by="nuts", draws=4, chains=2
    )
    assert any("have not met" in note or "divergent" in note for note in found.notes)


@pytest.mark.parametrize(
    ("graph", "given", "error", "words"),
    [
        ("hidden -> portable; hidden -> dose; portable -> dose", {}, NotIdentified, "back door"),
        (GRAPH, {"by": "mcmc"}, SettingsError, "'svi' or 'nuts'.*'mcmc'"),
        (GRAPH, {"values": (0, 2)}, SettingsError, "portable is never 2"),
        ("portable -> dosage", {"effect": "dosage"}, SettingsError, "no column 'dosage'"),
    ],
)
def test_bad_questions_are_refused(graph, given, error, words):
    effect = given.pop("effect", "dose")
    with pytest.raises(error, match=words):
        posterior_contrast(cohort(50, 5), graph, "portable", effect, **given)


def test_an_effect_of_three_kinds_or_of_one_value_is_refused():
    data = table(60, 6).assign(kind=np.arange(60) % 3, flat=0.5)
    data["flat"] = np.linspace(1.0, 1.0, 60)
    with pytest.raises(CohortError, match=r"'kind' has 3 levels"):
        posterior_contrast(deconf.Cohort.read(data), "portable -> kind", "portable", "kind")
    with pytest.raises(CohortError, match=r"'flat' has 1 levels"):
        posterior_contrast(deconf.Cohort.read(data), "portable -> flat", "portable", "flat")
    with pytest.raises(SettingsError, match=r"'sick' has not two levels.*values=\(a, b\)"):
        posterior_contrast(deconf.Cohort.read(data), "sick -> dose", "sick", "dose")


@pytest.mark.slow
@pytest.mark.parametrize("by", ["svi", "nuts"])
def test_credible_intervals_cover_the_truth_as_often_as_they_say(by):
    way = {"by": by, "steps": 400, "draws": 200 if by == "svi" else 150, "chains": 1}
    held = 0
    for seed in range(SEEDS):
        own = posterior_contrast(cohort(200, seed), GRAPH, "portable", "dose", **way).interval
        held += own.low <= EFFECT <= own.high
    assert abs(held / SEEDS - 0.95) < 2.58 * np.sqrt(0.95 * 0.05 / SEEDS)
