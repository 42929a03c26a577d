"""Several outcomes: what erasing for one disease does to another, where the answer is known."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from deconf.cohort.cohort import Cohort
from deconf.errors import ReadError
from deconf.experiment.config import Labels, Outcomes, read_config
from deconf.experiment.data import load_cohort
from deconf.experiment.labels import with_findings
from deconf.experiment.outcomes import (
    ALONE,
    FINDINGS,
    JOINTLY,
    MEAN,
    NOTHING,
    RAW,
    figure,
    judge_outcomes,
)
from deconf.resources import packaged

ASKED = Outcomes(confounder="view", alone="pneumonia", folds=3, repeats=1)


def tied(n: int, seed: int) -> Cohort:
    """Edema goes with view and pneumonia does not: erased for pneumonia, edema goes too.

    The trace of view lies beside the direction of edema, and is no larger than what edema adds.
    """
    rng = np.random.default_rng(seed)
    pneumonia, view = rng.integers(2, size=(2, n))
    edema = (rng.random(n) < np.where(view == 1, 0.8, 0.2)).astype(int)
    z = rng.standard_normal((n, 12)).astype(np.float32)
    z[:, 0] += 1.5 * pneumonia
    z[:, 1] += 1.5 * edema
    z[:, 2] += 0.3 * view
    rare = (np.arange(n) < 12).astype(int)
    table = pd.DataFrame(
        {"view": np.where(view, "AP", "PA"), "pneumonia": pneumonia, "edema": edema, "rare": rare,
         "patient": [f"p{k // 2}" for k in range(n)], "unasked": pneumonia}
    )  # fmt: skip
    return Cohort.from_arrays(z, table, patient="patient", outcome="unasked")


@pytest.fixture(scope="module")
def judged():
    return judge_outcomes(tied(1200, 0), ASKED, ["pneumonia", "edema", "rare"], repeats=1)


def test_erasing_for_one_disease_erases_the_other_and_holding_both_keeps_it(judged):
    table, text = judged
    auroc = table.set_index(["finding", "embedding"])["auroc"]
    alone = ALONE.format("pneumonia")
    assert auroc["edema", RAW] > 0.8
    assert auroc["edema", alone] < auroc["edema", RAW] - 0.1
    assert auroc["edema", JOINTLY] > auroc["edema", RAW] - 0.02
    assert auroc["pneumonia", alone] > auroc["pneumonia", RAW] - 0.02
    gap = table.set_index(["finding", "embedding"]).loc[(MEAN, JOINTLY)]
    assert gap["minus_alone_low"] > 0
    assert "keeps more of the others than pneumonia alone" in text
    assert "q < 0.05): edema +" in text


def test_held_jointly_the_confounder_is_told_as_far_as_the_findings_tell_it(judged):
    auroc = judged[0].set_index(["finding", "embedding"])["auroc"]["view"]
    assert auroc[FINDINGS] == pytest.approx(0.8, abs=0.04)  # edema in 80 % of one view, 20 %
    assert 0.6 < auroc[JOINTLY] < auroc[FINDINGS] + 0.02
    assert auroc[ALONE.format("pneumonia")] < 0.55


def test_a_finding_with_too_few_patients_is_listed_and_carries_no_figure(judged):
    table, text = judged
    rare = table[table["finding"] == "rare"]
    assert len(rare) == 1
    assert rare["auroc"].isna().all()
    assert "REFUSED: too few: 6 patients, fewer than 20" in text


def test_what_can_be_detected_shrinks_with_the_root_of_n():
    small, large = (
        judge_outcomes(tied(n, 1), ASKED, ["pneumonia", "edema"], repeats=1)[0]
        .set_index(["finding", "embedding"])
        .loc[("edema", JOINTLY), "minus_alone_detectable"]
        for n in (400, 1600)
    )
    assert 1.4 < small / large < 2.9  # twice, and the noise of two standard errors


def test_the_answer_is_drawn_and_names_no_patient(judged, tmp_path):
    table, text = judged
    figure(table, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert "p17" not in text + table.to_csv()
    shown = {RAW, JOINTLY, ALONE.format("pneumonia"), NOTHING, FINDINGS}
    assert set(table["embedding"].dropna()) == shown


def test_labels_are_met_by_the_name_of_the_film(tmp_path):
    source = pd.DataFrame({"image": ["1.png", "2.png"], "labels": ["Edema|Mass", "No Finding"]})
    source.to_csv(tmp_path / "labels.csv", index=False)
    kept = {"table": "labels.csv", "image": "image", "pattern": r"nih_(\d+)\.jpg$",
            "name": "{}.png", "column": "labels", "findings": ["Edema", "Mass"]}  # fmt: skip
    films = pd.DataFrame({"image": ["a/nih_2.jpg", "a/nih_1.jpg", "a/nih_1.jpg"]})
    found = with_findings(films, Labels(**kept), tmp_path)
    assert found["Edema"].tolist() == [0, 1, 1]
    with pytest.raises(ReadError, match=r"1 of 1 films are not in labels.csv, first 'a/nih_3"):
        with_findings(pd.DataFrame({"image": ["a/nih_3.jpg"]}), Labels(**kept), tmp_path)
    with pytest.raises(ReadError, match=r"never mentions Odema\. It knows: Edema"):
        with_findings(films, Labels(**(kept | {"findings": ["Odema"]})), tmp_path)


@pytest.mark.skipif("DECONF_DATA" not in os.environ, reason="no real films: set DECONF_DATA")
def test_the_real_labels_are_those_of_the_nih_table():
    config = read_config(packaged("experiments/configs") / "several_outcomes.toml")
    table = load_cohort(config.data)[0].table
    counts = table[config.data.labels.findings].sum()
    assert len(table) == 949
    assert (counts["Pneumonia"], counts["Edema"], counts["Hernia"]) == (301, 65, 13)
    assert pd.crosstab(table["view"], table["Edema"]).loc["AP", 1] == 55
