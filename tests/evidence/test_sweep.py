"""The sweep agrees with the task table, its association is Cramér's, and a shortcut shows in it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from deconf.cohort.cohort import Cohort
from deconf.evidence import inspection
from deconf.evidence.compare import compare
from deconf.evidence.leakage import audit
from deconf.evidence.report import Report
from deconf.evidence.sweep import COLUMNS, POWERS, association, shift_sweep
from deconf.evidence.tasks import Scores, Task
from deconf.maths.intervals import patient_weights, stratified_aurocs
from deconf.probes.cells import Levels

NAMES = {0.0: "as in training", 1.0: "independent", 2.0: "reversed"}


def cohort_of(n: int = 500, sites: int = 3, seed: int = 0) -> Cohort:
    """Disease and site go together; the embedding shows both, the site more loudly."""
    rng = np.random.default_rng(seed)
    who = np.arange(n) // 2
    site = rng.integers(sites, size=n)[2 * (who // 2)]
    ill = (rng.random(n) < np.linspace(0.25, 0.75, sites)[site]).astype(int)
    z = rng.standard_normal((n, 6)).astype(np.float32)
    z[:, 0] += 0.8 * ill
    z[:, 1] += 2.5 * site / (sites - 1)
    table = pd.DataFrame({"who": who, "site": [f"S{s}" for s in site], "ill": ill})
    table["half"] = rng.choice(["left", "right"], size=n)[2 * (who // 2)]
    table["halved"] = np.where(table["half"] == "left", table["site"], "S0")
    return Cohort.from_arrays(z, table, patient="who", outcome="ill")


def run(cohort: Cohort, **options: object) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
        names = {"raw": "stored", "blind": np.asarray(cohort.embeddings)[:, [0, 2, 3]]}
        return compare(names, cohort, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def report() -> Report:
    return run(cohort_of(), confounders=["site"], folds=3)


@pytest.fixture(scope="module")
def held_out() -> Report:
    return run(cohort_of(700, 2, 1), confounders=["site"], hold_out="half")


# ------------------------------------------------------------------ agreement with the table


@pytest.mark.parametrize("fixture", ["report", "held_out"])
def test_at_0_1_and_2_the_sweep_is_the_task_table_to_the_last_limit(fixture, request):
    report = request.getfixturevalue(fixture)
    sweep, table = report.sweep, report.to_frame()
    seen = 0
    for row in sweep[sweep["power"].isin(NAMES)].itertuples():
        where = f"{row.confounder}: {NAMES[row.power]}"
        (other,) = table[
            (table.representation == row.representation) & (table.environment == where)
        ].itertuples()
        assert other.status == "ok"
        assert row.n == other.n
        for name in ("estimate", "low", "high", "difference", "difference_low", "difference_high"):
            assert getattr(row, name) == pytest.approx(
                getattr(other, name), abs=1e-6, nan_ok=True
            ), (name, where)
        seen += 1
    assert seen == 3 * len(report.names)


def test_every_power_is_there_once_for_every_representation(report):
    assert list(report.sweep.columns) == list(COLUMNS)
    counts = report.sweep.groupby("representation")["power"].apply(tuple)
    assert set(counts) == {POWERS}
    assert set(counts.index) == set(report.names)


def test_between_the_known_points_it_agrees_with_weighting_every_film(report):
    """Counting pairs by cells is a shortcut; the long way is one weighted AUROC."""
    rng = np.random.default_rng(3)
    n = 300
    y, codes, fold = (rng.integers(k, size=n) for k in (2, 3, 2))
    logit = rng.normal(size=n) + y + codes
    task = Task(
        name="ill",
        y=y.astype(float),
        fold=fold,
        fold_names=("a", "b"),
        trains=[np.flatnonzero(fold != k) for k in (0, 1)],
        levels={"site": Levels(codes, ("A", "B", "C"))},
        patients=np.arange(n),
    )
    drawn = np.vstack([np.ones((1, n), np.float32), patient_weights(np.arange(n), 20, 0)])
    found = shift_sweep(task, {"z": Scores(logit, np.zeros(n))}, drawn, reference="z")
    joint = np.array([[np.mean((codes == c) & (y == v)) for v in (0, 1)] for c in range(3)])
    w = (joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True) / joint)[codes, y]
    for row in found.itertuples():
        long = stratified_aurocs(logit, y, fold, drawn * w**row.power)
        assert row.estimate == pytest.approx(long[0], abs=1e-9)
        assert row.low == pytest.approx(np.quantile(long[1:], 0.025), abs=1e-9)


# ------------------------------------------------------------------ what it shows


def test_what_lives_on_the_shortcut_falls_and_what_is_blind_to_it_stays(report):
    ends = report.sweep[report.sweep["power"].isin([0.0, 2.0])]
    fall = ends.pivot(index="representation", columns="power", values="estimate")
    assert fall.loc["raw", 0.0] - fall.loc["raw", 2.0] > 0.1
    assert fall.loc["metadata only", 0.0] - fall.loc["metadata only", 2.0] > 0.25
    assert abs(fall.loc["blind", 0.0] - fall.loc["blind", 2.0]) < 0.06


def test_the_association_falls_through_none_to_its_reverse(report, held_out):
    for one in (report, held_out):
        tie = one.sweep[one.sweep["representation"] == "raw"]["correlation"].to_numpy()
        assert (np.diff(tie) < 0).all()
        assert tie[0] > 0.2
        assert tie[len(POWERS) // 2] == pytest.approx(0, abs=1e-9)
        assert tie[-1] < -0.2


def test_unweighted_the_association_is_cramers_v_and_does_not_mind_the_order_of_levels():
    rng = np.random.default_rng(0)
    y, c = rng.integers(2, size=200), rng.integers(4, size=200)
    seen = pd.crosstab(y, c).to_numpy().astype(float)
    awaited = seen.sum(1, keepdims=True) * seen.sum(0, keepdims=True) / seen.sum()
    v = np.sqrt(((seen - awaited) ** 2 / awaited).sum() / seen.sum())
    one, together = np.ones((1, 200)), np.zeros(200, dtype=int)
    assert association(y, c, together, one)[0] == pytest.approx(v)
    assert association(y, 3 - c, together, one)[0] == pytest.approx(v)
    assert association(y, 0 * c, together, one)[0] == 0.0


def test_the_tie_is_measured_inside_groups_only():
    y = np.array([0, 1, 0, 1, 1, 1, 1, 0])
    group = np.repeat([0, 1], 4)
    c = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    alone = association(y[4:], c[4:], group[4:], np.ones((1, 4)))[0]
    both = association(y, c, group, np.ones((1, 8)))[0]
    assert 0 < both < alone  # the first group has no tie, and adds its films


# ------------------------------------------------------------------ refusals


def test_refused_weights_leave_no_rows_and_the_page_says_why(tmp_path):
    cohort = cohort_of(400, 2, 2)
    report = run(cohort, confounders=["site"], hold_out="site", pictures=False)
    assert report.sweep.empty
    assert list(report.sweep.columns) == list(COLUMNS)
    html = report.save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no curve. each test part holds one level of site" in html


def test_a_fold_without_scores_is_compared_on_the_films_of_both():
    rng = np.random.default_rng(5)
    n = 240
    y, codes, fold = (rng.integers(2, size=n) for _ in range(3))
    raw = rng.normal(size=n) + y
    half = np.where(fold == 0, raw, np.nan)
    task = Task("ill", y.astype(float), fold, ("a", "b"), [], {"c": Levels(codes, ("A", "B"))},
                np.arange(n))  # fmt: skip
    drawn = np.vstack([np.ones((1, n)), patient_weights(np.arange(n), 30, 0)])
    scores = {"raw": Scores(raw, 0 * raw), "half": Scores(half, 0 * raw)}
    found = shift_sweep(task, scores, drawn, reference="raw").query("representation == 'half'")
    assert (found["n"] == (fold == 0).sum()).all()
    assert np.allclose(found[["difference", "difference_low", "difference_high"]], 0)
