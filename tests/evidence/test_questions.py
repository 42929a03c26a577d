"""Read, used, unequal: three answers that may differ, in worlds where each is known."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from deconf.causal.plan import make_plan
from deconf.cohort.cohort import Cohort
from deconf.cohort.splits import patient_folds
from deconf.evidence import inspection
from deconf.evidence.compare import compare
from deconf.evidence.leakage import audit
from deconf.evidence.questions import COLUMNS, Questions, ask
from deconf.evidence.report import Report
from deconf.evidence.tasks import Scores, Task
from deconf.maths.intervals import patient_weights
from deconf.maths.multiplicity import holm
from deconf.probes.cells import levels_of
from deconf.probes.head import fit_head

N = 6000


def world(story: str, n: int = N, seed: int = 0) -> tuple[Cohort, str]:
    """A cohort of which the three answers are known, and the graph that says what is held."""
    rng = np.random.default_rng(seed)
    c = rng.integers(2, size=n)
    graph = "ill -> image; portable -> image; portable <-> ill"
    z = rng.standard_normal((n, 6)).astype(np.float32)
    table = {"portable": c}
    if story == "encoded, not used":  # it is in the embedding, and says nothing about illness
        ill = rng.integers(2, size=n)
        z[:, 1] += 3 * c
    elif story == "used":  # it goes with illness, and the head learns so
        ill = (rng.random(n) < np.where(c, 0.8, 0.2)).astype(int)
        z[:, 1] += 3 * c
    elif (
        story == "prevalence"
    ):  # it is nowhere in the embedding; portable patients are ill more often
        ill = (rng.random(n) < np.where(c, 0.65, 0.3)).astype(int)
    else:  # "spectrum": portable patients who are ill are gravely ill, and easier to see
        mild, grave = ([0, 0, 0, 0, 0, *([k] * 4), 3 - k] for k in (1, 2))
        grade = np.where(c, rng.choice(grave, size=n), rng.choice(mild, size=n))
        ill = (grade > 0).astype(int)
        z[:, 0] += 1.2 * grade
        table["grade"] = grade
        graph = "grade -> image; grade -> ill; grade <-> portable; portable -> image"
    if story != "spectrum":
        z[:, 0] += 2 * ill
    return Cohort.from_arrays(z, pd.DataFrame(table | {"ill": ill}), outcome="ill"), graph


def asked(cohort: Cohort, graph: str | None, *confounders: str) -> Questions:
    """The three questions of the stored embedding, its heads fitted crosswise on two halves."""
    table, z = cohort.table, np.asarray(cohort.embeddings)
    plan = make_plan(table, list(confounders), outcome=cohort.outcomes, graph=graph)
    found = audit("stored", cohort, list(confounders), graph=graph, attackers=["logistic"])
    parts = patient_folds(cohort.patients, 2)
    tasks, scores = [], {}
    for name in cohort.outcomes:
        y, fold = table[name].to_numpy(dtype=float), np.zeros(len(table), dtype=int)
        logit, base = np.zeros(len(y)), np.zeros(len(y))
        for k, (train, test) in enumerate(parts):
            fold[test] = k
            logit[test] = fit_head(z[train], y[train], strength=0.1).score(z[test])
            base[test] = np.log(y[train].mean() / (1 - y[train].mean()))
        scores[name] = {"raw": Scores(logit, base)}
        tasks.append(
            Task(name, y, fold, ("fold 1", "fold 2"), [train for train, _ in parts],
                 {c: levels_of(table[c]) for c in confounders}, cohort.patients)
        )  # fmt: skip
    w = np.vstack([np.ones((1, len(table))), patient_weights(cohort.patients, 300, 0)])
    return ask(
        tasks, scores, table, {("raw", c): found.verdict[c] for c in confounders}, w,
        plans={}, layers=[plan.invariances], effort="quick", seed=0,
    )  # fmt: skip


STORIES = {
    "encoded, not used": ("yes", "no", "no"),
    "used": ("yes", "yes", "yes"),
    "prevalence": ("no", "no", "yes"),
    "spectrum": ("no", "no", "yes"),
}


@pytest.fixture(scope="module")
def known() -> dict[str, Questions]:
    return {story: asked(*world(story), "portable") for story in STORIES}


def answer(found: Questions, name: str = "raw") -> pd.Series:
    frame = found.to_frame()
    return frame[frame["representation"] == name].iloc[0]


# ------------------------------------------------------------------ what is known comes out


@pytest.mark.parametrize("story", STORIES)
def test_the_three_answers_are_those_of_the_world(known, story):
    found = answer(known[story])
    assert (found.encoding, found.dependence, found.disparity) == STORIES[story]


def test_a_prevalence_that_differs_shows_in_calibration_alone(known):
    gaps = known["prevalence"].differences().set_index("metric")
    assert answer(known["prevalence"]).disparity_metric == "observed less stated risk"
    assert (gaps["p"].drop("observed less stated risk") > 0.05).all()


def test_graver_illness_shows_in_sensitivity_though_nothing_is_used(known):
    gaps = known["spectrum"].differences().set_index("metric")
    assert answer(known["spectrum"]).given == "grade"
    assert abs(gaps.loc["sensitivity", "difference"]) > 0.1
    assert abs(gaps.loc["specificity", "difference"]) < 0.05


# ------------------------------------------------------------------ words


def test_the_sentences_say_the_answers_and_their_figures(known):
    told = {story: known[story].sentences()[0] for story in STORIES}
    assert told["encoded, not used"].startswith("raw / ill / portable: it can be read (AUROC 0.9")
    assert "the prediction does not use it (within ill AUROC 0.5" in told["encoded, not used"]
    assert "performance is alike within 0.05 (at most " in told["encoded, not used"]
    assert "above 0.0" in told["encoded, not used"]  # what would have been found
    assert "the score runs higher at portable=1: AUROC 0." in told["used"]
    assert "performance differs (" in told["used"]
    assert "no attacker reads it by 0.05 above luck" in told["prevalence"]
    assert "observed less stated risk at portable=" in told["prevalence"]


def test_few_films_are_undecided_and_say_what_would_have_been_found():
    cohort, graph = world("encoded, not used", n=240)
    few = asked(cohort, graph, "portable")
    found, said = answer(few), few.sentences()[0]
    assert (found.dependence, found.disparity) == ("undecided", "undecided")
    assert found.disparity_detectable > 0.05
    assert "whether the prediction uses it is undecided (within ill AUROC" in said
    assert "no difference of performance is shown, nor its absence (" in said
    assert f"above {found.disparity_detectable:.2f} it would have been found with 80 %" in said


# ------------------------------------------------------------------ several, and missing


def test_every_task_and_confounder_has_one_row_and_holm_runs_over_confounders():
    rng = np.random.default_rng(0)
    n = 600
    table = pd.DataFrame({"ill": rng.integers(2, size=n), "fever": rng.integers(2, size=n)})
    table["site"] = rng.integers(3, size=n).astype(float)
    table["age"] = rng.normal(60, 10, n)
    table.loc[:50, "site"] = np.nan
    z = rng.standard_normal((n, 4)).astype(np.float32)
    found = asked(Cohort.from_arrays(z, table, outcome=["ill", "fever"]), None, "site", "age")
    frame = found.to_frame()
    assert list(frame.columns) == list(COLUMNS)
    where = [("ill", "site"), ("ill", "age"), ("fever", "site"), ("fever", "age")]
    assert list(zip(frame["task"], frame["confounder"], strict=True)) == where
    for task in ("ill", "fever"):
        some = [a for a in found.answers if a.task == task]
        bare = holm(np.array([p for a in some for p in (a.reliance.p, a.reliance.hsic_p)]))
        assert [p for a in some for p in (a.p, a.hsic_p)] == bare.tolist()
    assert frame["n"].tolist() == [n - 51, n, n - 51, n]
    levels = found.differences().groupby("confounder")["level"].nunique()
    assert (levels == 2).all()  # three levels, or thirds of a number: one is the reference


# ------------------------------------------------------------------ the report


def compared(cohort: Cohort, graph: str) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
        return compare(
            {"raw": "stored"}, cohort, confounders="portable", graph=graph, folds=2, pictures=False
        )


@pytest.fixture(scope="module")
def report() -> Report:
    return compared(*world("used", n=1200))


def test_a_comparison_asks_them_of_everybody_and_metadata_are_not_attacked(report):
    frame = report.questions.to_frame()
    assert tuple(frame["representation"]) == report.names
    found = answer(report.questions, "metadata only")
    assert (found.encoding, found.dependence, found.disparity) == ("not asked", "yes", "yes")
    assert np.isnan(found.encoding_auroc)
    assert "whether it can be read was not asked" in str(report.questions)


def test_what_is_read_is_the_verdict_of_the_report(report):
    found, verdict = answer(report.questions), report.verdict["raw", "portable"]
    assert (found.encoding, str(verdict)) == ("yes", "leaks")
    assert found.encoding_auroc == verdict.estimate.estimate
    assert found.encoding_floor == verdict.floor


def test_the_answers_are_in_the_text_and_in_the_json(report):
    assert "THREE QUESTIONS, ill" in str(report)
    found = json.loads(report.to_json())
    frame = report.questions.to_frame()
    assert [row["dependence"] for row in found["questions"]] == frame["dependence"].tolist()
    assert len(found["differences"]) == len(report.questions.differences())
    shares = {row["kind"]: row["share"] for row in found["pairs"] if row["representation"] == "raw"}
    assert set(shares) == {"aligned", "crossed", "same level", "all"}


def test_an_open_path_leaves_dependence_undecided_and_disparity_answered():
    graph = "hidden -> ill; hidden -> portable; hidden -> image; ill -> image; portable -> image"
    found = answer(compared(world("used", n=600)[0], graph).questions)
    assert (found.encoding, found.dependence, found.disparity) == ("undecided", "undecided", "yes")
    assert "hidden" in found.reason


def test_where_the_graph_has_nothing_to_remove_two_questions_are_not_asked():
    graph = "ill -> image; portable <-> ill"
    found = answer(compared(world("used", n=600)[0], graph).questions)
    assert (found.encoding, found.dependence, found.disparity) == ("not asked", "not asked", "yes")


def test_a_report_without_answers_still_speaks(report):
    bare = replace(report, questions=Questions())
    assert "THREE QUESTIONS" not in str(bare)
    assert json.loads(bare.to_json())["questions"] == []
    assert bare.questions.to_frame().empty
    assert str(bare.questions) == ""
