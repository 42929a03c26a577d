"""An invariant-risk method is judged by its own head, and who chose it stands on every table."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

import deconf
from deconf.evidence import inspection, tradeoff
from deconf.evidence.folds import folds_of
from deconf.evidence.leakage import audit
from deconf.evidence.own_head import own_head, selection_of
from deconf.evidence.scoring import Ledger, score_fold
from deconf.evidence.sources import Sources
from deconf.evidence.tasks import Task
from deconf.methods import DFR, IRM, VREx
from deconf.probes.leakage import leakage

pytestmark = pytest.mark.filterwarnings("ignore::deconf.errors.OverlapWarning")  # a small world

WORLD = deconf.worlds.linear(n=400, d=24, sites=3, seed=97)
BRIEF = {"selection": "training", "hidden": 4, "epochs": 4, "batch": 128}
RULES = {"irm": "training", "vrex": "training", "leace": "", "raw": ""}


def cleaner(method):
    return deconf.deconfound("stored", "portable", graph=WORLD.graph, method=method)


@pytest.fixture(autouse=True)
def _one_cheap_attacker(monkeypatch):
    monkeypatch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
    monkeypatch.setattr(tradeoff, "leakage", partial(leakage, attackers=["logistic"]))


@pytest.fixture(scope="module")
def cohort():
    films = WORLD.train().cohort
    table = films.table.assign(coin=np.arange(len(films)) % 2)
    return deconf.Cohort.from_arrays(
        films.embeddings, table, patient="patient_id", outcome="pneumonia"
    )


@pytest.fixture(scope="module")
def cleaners():
    vrex = VREx(**BRIEF)
    return {"irm": cleaner(IRM(**BRIEF)), "vrex": cleaner(vrex), "leace": cleaner("leace")}


def test_the_scores_of_a_fold_are_those_of_the_head_that_was_trained_with_the_map(cohort):
    part = folds_of(cohort, None, 2, 0)[0]
    y = cohort.table["pneumonia"].to_numpy(float)
    fold = np.full(len(cohort), -1)
    fold[part.test] = 0
    task = Task("pneumonia", y, fold, (part.name,), [part.train], {}, cohort.patients)
    every = {"irm": cleaner(IRM(**BRIEF)), "dfr": cleaner(DFR(**BRIEF)), "leace": cleaner("leace")}
    contenders = {n: Sources(cohort).contender(c) for n, c in every.items()}
    ledger = Ledger(len(cohort))
    score_fold(ledger, contenders, [task], 0, part, reference="irm", fallback_rank=1, seed=0)
    new = torch.tensor(cohort.embeddings[part.test])
    for name in ("irm", "dfr"):
        theirs = every[name].fit(cohort.subset(part.train)).map.score(new)[:, 0].numpy()
        ours = ledger.scores["pneumonia"][name]
        np.testing.assert_allclose(ours.logit[part.test], theirs, atol=1e-4)
    base = {name: page.base[part.test[0]] for name, page in ledger.scores["pneumonia"].items()}
    share = y[part.train].mean()
    assert base["dfr"] == 0  # its head was balanced
    assert base["irm"] == base["leace"] == np.log(share / (1 - share))
    assert ledger.own == {n: {"pneumonia": [n != "leace"]} for n in every}


def test_a_comparison_names_the_rule_and_the_heads(cleaners, cohort, tmp_path):
    report = deconf.compare(cleaners, cohort, folds=2, tasks=["pneumonia", "coin"], pictures=False)
    by = report.table.groupby("representation")["selection"].agg(set)
    assert all(by[name] == {rule} for name, rule in RULES.items())
    said = " ".join(str(report).split())
    assert "irm: pneumonia is judged by the head that was trained with the map" in said
    assert "irm: coin is judged by a fresh head, since its own is not for this task" in said
    assert "finds again what the map left; selection training" in said
    assert not any(reason.startswith("leace") and "head" in reason for reason in report.reasons)
    first = next(line for line in str(report).splitlines() if line.startswith("  irm  "))
    assert first.endswith("training")
    html = report.save(tmp_path / "report.html").read_text()
    assert "(selection: training)" in html
    assert "<th>selection</th>" in html


def test_a_comparison_without_such_methods_has_no_word_of_it(cohort):
    report = deconf.compare({"leace": cleaner("leace")}, cohort, folds=2, pictures=False)
    assert "selection" not in str(report)
    assert set(report.table["selection"]) == {""}


def test_a_cell_that_is_empty_in_a_fold_is_refused_there_and_leaves_the_others_alone(cohort):
    table = cohort.table
    ill = table["pneumonia"] == 1
    south = ~ill & (table["coin"] == 1)
    table = table.assign(ward=np.where(south, "south", "north"))
    films = deconf.Cohort.from_arrays(
        cohort.embeddings, table, patient="patient_id", outcome="pneumonia"
    )
    contenders = {
        "dfr": deconf.deconfound("stored", "ward", method=DFR(**BRIEF)),
        "leace": deconf.deconfound("stored", "ward", method="leace"),
    }
    report = deconf.compare(contenders, films, folds=2)
    by = report.table.groupby("representation")["estimate"].apply(lambda e: e.notna().any())
    assert not by["dfr"]
    assert by["leace"]
    assert "has none of outcome 1: leave that level out" in " ".join(str(report).split())


def test_a_trade_off_names_it_for_each_of_a_family_and_judges_half_a_map_by_its_head(cohort):
    graph = WORLD.graph
    several = [VREx(**BRIEF), VREx(**BRIEF | {"penalty": 1.0})]
    found = deconf.tradeoff(
        {"irm": IRM(**BRIEF), "vrex": several, "leace": "leace"}, cohort, "portable", graph=graph,
        strengths=[0.5, 1.0], folds=2,
    )  # fmt: skip
    frame = found.to_frame()
    by = frame.groupby("family", sort=False)["selection"].agg(list)
    assert by["irm"] == [RULES["irm"]] * 2
    assert by["vrex"] == ["training", "training"]
    assert set(by["leace"]) == set(by["raw"]) == {""}
    assert any("irm: pneumonia is judged by the head" in reason for reason in found.reasons)
    assert "training" in str(found)
    labels = [t.get_text() for t in found.figure().legends[0].get_texts()]
    assert "irm (selection: training)" in labels
    assert "leace" in labels


def test_what_was_fitted_tells_the_rule_and_its_head_and_what_was_loaded_the_rule(cohort, tmp_path):
    clean = cleaner(IRM(**BRIEF)).fit(cohort)
    assert selection_of(clean) == RULES["irm"]
    head = own_head(clean, cohort.table)
    assert head.outcome == "pneumonia"
    raw = clean.map.score(torch.tensor(cohort.embeddings))[:, 0].numpy()
    np.testing.assert_allclose(head.score(clean.embed(cohort)), raw, atol=1e-4)
    clean.save(tmp_path / "irm")
    loaded = deconf.load(tmp_path / "irm")
    assert selection_of(loaded) == RULES["irm"]
    assert own_head(loaded, cohort.table) is None  # it does not know for which outcome
    assert selection_of(cleaner("leace").fit(cohort)) == ""
