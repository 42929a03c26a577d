"""A comparison never judges on what it fitted, refuses what it cannot know, and finds the truth."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from torch import nn

from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, LeakageError, SettingsError
from deconf.evidence import inspection
from deconf.evidence.compare import compare
from deconf.evidence.leakage import audit
from deconf.evidence.report import Report
from deconf.worlds.linear import LinearWorld
from tests.evidence.small_world import SmallCleaner

WORST = ("AUROC", "worst environment")
WORLD = LinearWorld(n=1600, d=24, seed=1)


@pytest.fixture(autouse=True)
def _one_cheap_attacker(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = partial(audit, attackers=["logistic"])
    monkeypatch.setattr(inspection, "audit", cheap)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return WORLD.train().cohort


@pytest.fixture(scope="module")
def cleaner() -> SmallCleaner:
    return SmallCleaner(graph=WORLD.graph)


@pytest.fixture(scope="module")
def report(cohort: Cohort, cleaner: SmallCleaner) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
        marginal = SmallCleaner(given=())
        return compare({"raw": "stored", "marginal": marginal, "clean": cleaner}, cohort, folds=3)


def row(report: Report, name: str, metric: str, environment: str) -> pd.Series:
    t = report.to_frame()
    found = t[(t.representation == name) & (t.metric == metric) & (t.environment == environment)]
    assert len(found) == 1, (name, metric, environment)
    return found.iloc[0]


# ------------------------------------------------------------------ the truth of a known world


def test_the_right_erasure_wins_the_worst_environment_and_pays_where_the_shortcut_holds(report):
    raw, marginal, clean = (row(report, n, *WORST) for n in ("raw", "marginal", "clean"))
    assert clean.difference_low > 0.1
    assert clean.estimate > marginal.estimate + 0.04
    assert raw.estimate < marginal.estimate
    for name in ("marginal", "clean"):
        assert row(report, name, "AUROC", "pooled").difference_high < 0


def test_erasing_too_much_wins_the_crossed_pairs_and_loses_the_aligned_ones(report):
    def pair(name: str, kind: str) -> float:
        return row(report, name, "AUROC", f"portable: {kind} pairs").estimate

    assert pair("marginal", "crossed") > pair("clean", "crossed") > pair("raw", "crossed")
    assert pair("marginal", "aligned") < pair("clean", "aligned") < pair("raw", "aligned")


def test_inside_a_level_the_shortcut_is_constant_and_metadata_know_nothing(report):
    within = row(report, "metadata only", "AUROC", "portable: within levels")
    assert within.estimate == pytest.approx(0.5)
    assert row(report, "metadata only", "AUROC", "portable: crossed pairs").estimate < 0.05
    assert row(report, "metadata only", "AUROC", "pooled").estimate > 0.7


def test_a_random_projection_of_equal_rank_gains_nothing(report):
    raw, random = (row(report, n, *WORST) for n in ("raw", "random projection"))
    assert abs(raw.estimate - random.estimate) < 0.03


def test_reweighting_helps_the_head_and_is_not_attacked(report):
    assert row(report, "reweighting", *WORST).difference_low > 0
    assert ("reweighting", "portable") not in report.verdict
    assert any("reweighting are not attacked" in reason for reason in report.reasons)


def test_raw_leaks_and_each_is_held_to_every_invariance_under_its_own_name(report):
    assert str(report.verdict["raw", "portable"]) == "leaks"
    assert str(report.verdict["clean", "portable"]) != "leaks"
    assert str(report.verdict["clean", "z ⊥ portable"]) == "leaks"  # it knows the disease
    assert ("marginal", "z ⊥ portable | pneumonia") in report.verdict
    assert set(report.leakage.statement) == {"z ⊥ portable", "z ⊥ portable | pneumonia"}


def test_the_headline_is_the_lowest_of_the_sweep_and_names_it(report):
    for name in report.names:
        sweep = [
            row(report, name, "AUROC", f"portable: {e}").estimate
            for e in ("as in training", "independent", "reversed")
        ]
        worst = row(report, name, *WORST)
        assert worst.estimate == pytest.approx(min(sweep))
        assert "the worst is portable: " in worst.reason


def test_a_difference_is_paired_and_so_narrower_than_its_two_intervals(report):
    raw, random = (row(report, n, "AUROC", "pooled") for n in ("raw", "random projection"))
    assert random.difference_high - random.difference_low < 0.6 * (raw.high - raw.low)
    assert random.difference == pytest.approx(random.estimate - raw.estimate)


# ------------------------------------------------------------------ nobody is judged on training


def test_no_fold_meets_a_patient_it_was_fitted_on_and_all_are_judged(report, cleaner, cohort):
    del report  # has run
    for seen, judged in zip(cleaner.seen, cleaner.judged, strict=True):
        assert not seen & judged
    everyone = frozenset(cohort.patients)
    assert frozenset().union(*cleaner.judged[:3]) == everyone
    assert len(cleaner.seen) == 4  # three folds, and the half on which leakage is measured


def test_a_fitted_cleaner_that_has_seen_a_patient_is_turned_away(cohort):
    train, _ = cohort.split(seed=0)
    fitted = SmallCleaner().fit(train)
    with pytest.raises(LeakageError, match="fitted on these patients"):
        compare({"clean": fitted}, cohort, confounders="portable")


def test_a_fitted_cleaner_is_judged_on_strangers_as_it_is(cohort):
    train, test = cohort.split(0.5, seed=0)
    fitted = SmallCleaner(graph=WORLD.graph).fit(train)
    report = compare({"raw": "stored", "clean": fitted}, test, folds=2)
    assert report.confounders == ("portable",)  # from its plan
    assert row(report, "clean", *WORST).difference_low > 0


def test_the_same_seed_gives_the_same_numbers_and_another_seed_does_not(cohort):
    small = cohort.subset(slice(0, 240))

    def run(seed: int) -> str:
        return compare(
            {"clean": SmallCleaner(graph=WORLD.graph)}, small, folds=2, seed=seed
        ).to_json()

    first = run(0)
    assert first == run(0)
    assert first != run(1)


# ------------------------------------------------------------------ refusals


def sites(seed: int = 0) -> Cohort:
    """Three sites; at the last every film shows disease."""
    rng = np.random.default_rng(seed)
    n = 600
    ill = rng.integers(2, size=n)
    site = rng.choice(["A", "B", "hannover"], size=n, p=[0.425, 0.425, 0.15])
    who = np.arange(n) // 2
    site = site[2 * who]  # both films of a patient are of one site
    ill[site == "hannover"] = 1
    z = rng.standard_normal((n, 6))
    z[:, 0] += 1.5 * ill
    z[:, 1] += site == "A"
    table = pd.DataFrame({"who": who, "site": site, "ill": ill, "age": z[:, 2]})
    return Cohort.from_arrays(
        z.astype(np.float32), table, patient="who", site="site", outcome="ill"
    )


@pytest.fixture(scope="module")
def held_out() -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
        return compare({"clean": SmallCleaner(("site",))}, sites(), hold_out="site")


def test_a_site_with_one_class_is_refused_by_name_and_carries_no_figure(held_out):
    cell = row(held_out, "clean", "AUROC", "held out: site=hannover")
    assert cell.status == "REFUSED"
    assert cell.reason == "hannover holds only ill=1: site cannot be told from ill there"
    assert np.isnan(cell[["estimate", "low", "high", "difference"]].astype(float)).all()
    assert "hannover holds only ill=1" in str(held_out)


def test_a_refused_site_is_averaged_into_nothing(held_out):
    pooled = row(held_out, "raw", "AUROC", "pooled")
    parts = [row(held_out, "raw", "AUROC", f"held out: site={s}") for s in "AB"]
    mean = np.average([p.estimate for p in parts], weights=[p.n for p in parts])
    assert pooled.estimate == pytest.approx(mean)


def test_within_a_held_out_site_there_is_no_pair_of_two_sites(held_out):
    for kind in ("aligned pairs", "crossed pairs", "reversed"):
        cell = row(held_out, "raw", "AUROC", f"site: {kind}")
        assert cell.status == "REFUSED", kind
        assert cell.reason.startswith(("each test part holds one", "no two films of one test part"))


def test_where_sites_are_held_out_they_are_the_environments(held_out):
    worst = row(held_out, "raw", *WORST)
    parts = [row(held_out, "raw", "AUROC", f"held out: site={s}").estimate for s in "AB"]
    assert worst.estimate == min(parts)
    assert "each test part holds one level of site" in worst.reason


def test_the_span_of_a_held_out_site_is_told_for_each_site(held_out):
    assert list(held_out.out_of_span["held out"]) == ["site=A", "site=B", "site=hannover"]
    assert held_out.out_of_span["share"].between(0, 1).all()


def test_where_the_graph_identifies_nothing_the_cell_is_refused_with_the_reason(cohort):
    graph = "hidden -> pneumonia; hidden -> portable; hidden -> image; pneumonia -> image;" \
        "portable -> image"  # fmt: skip
    report = compare({"clean": SmallCleaner(graph=graph)}, cohort.subset(slice(0, 500)), folds=2)
    clean = report.to_frame().query("representation == 'clean'")
    assert (clean.status == "REFUSED").all()
    assert clean.reason.str.contains("portable").all()
    assert clean[["estimate", "difference"]].isna().all(axis=None)
    assert row(report, "raw", "AUROC", "pooled").status == "ok"
    assert str(report.verdict["clean", "portable"]) == "undecided"
    assert row(report, "reweighting", "AUROC", "pooled").status == "REFUSED"


def test_levels_without_overlap_leave_the_sweep_by_name():
    rng = np.random.default_rng(0)
    n = 500
    ill = rng.integers(2, size=n)
    site = np.array(["A", "B"])[rng.integers(2, size=n)]
    site[:40], ill[:40] = "C", 1
    table = pd.DataFrame({"site": site, "ill": ill})
    z = rng.standard_normal((n, 4)).astype(np.float32)
    report = compare({"z": z}, Cohort.from_arrays(z, table, outcome="ill"), confounders="site",
                     folds=2)  # fmt: skip
    cell = row(report, "z", "AUROC", "site: reversed")
    assert cell.status == "ok"
    assert "no site=C patients with ill=0" in cell.reason
    assert cell.n < n


# ------------------------------------------------------------------ what can be passed


def test_outcomes_may_be_missing_and_still_help_to_fit(cohort):
    table = cohort.table.iloc[:600]
    table["pneumonia"] = table["pneumonia"].where(np.arange(600) % 3 > 0)
    some = Cohort.from_arrays(
        np.asarray(cohort.embeddings)[:600], table, patient="patient_id", outcome="pneumonia"
    )
    cleaner = SmallCleaner(graph=WORLD.graph)
    report = compare({"clean": cleaner}, some, folds=2)
    assert row(report, "clean", "AUROC", "pooled").n == 400
    assert len(cleaner.seen[0] | cleaner.judged[0]) == some.table.patient_id.nunique()


def test_an_encoder_runs_once_however_many_folds_and_cleaners_read_it(cohort):
    calls = []

    class Slow:
        def embed(self, some: Cohort) -> np.ndarray:
            calls.append(len(some))
            return np.asarray(some.embeddings)

    compare({"raw": Slow()}, cohort.subset(slice(0, 300)), confounders="portable", folds=3)
    assert calls == [300]


def test_a_torch_module_is_taken_for_an_encoder(cohort):
    report = compare(
        {"half": nn.Linear(24, 12)}, cohort.subset(slice(0, 300)), confounders="portable", folds=2
    )
    assert report.reference == "raw"  # the stored one, which nobody passed
    assert row(report, "half", "AUROC", "pooled").status == "ok"


def test_without_any_raw_embedding_differences_are_taken_to_the_first(cohort):
    table = cohort.table.iloc[:300]
    bare = Cohort.read(table, patient="patient_id", outcome="pneumonia")
    z = np.asarray(cohort.embeddings)[:300]
    report = compare({"a": z, "b": z[:, :3]}, bare, confounders="portable", folds=2)
    assert report.reference == "a"
    assert "differences are taken to 'a'" in str(report)


def test_head_weights_of_a_cleaner_reach_its_head(cohort):
    some = cohort.subset(slice(0, 800))
    plain, weighed = (SmallCleaner(graph=WORLD.graph, weigh=w) for w in (False, True))
    report = compare({"plain": plain, "weighed": weighed}, some, folds=2)
    a, b = (row(report, n, "AUROC", "pooled").estimate for n in ("plain", "weighed"))
    assert a != b
    frozen = [row(report, n, "AUROC", "pooled, head of raw").estimate for n in ("plain", "weighed")]
    assert frozen[0] == frozen[1]


# ------------------------------------------------------------------ errors, before any work


def broken(**changes: object) -> dict[str, object]:
    return {"representations": {"raw": "stored"}, "confounders": "portable", **changes}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"representations": {}}, SettingsError, "a mapping of names to representations"),
        ({"confounders": None}, SettingsError, "Pass confounders="),
        ({"tasks": "pnuemonia"}, SettingsError, "Did you mean 'pneumonia'"),
        ({"tasks": "severity"}, SettingsError, r"'severity' has 4 different values \(0, 1, 2, 3\)"),
        ({"tasks": "portable"}, SettingsError, "'portable' is both task and confounder"),
        ({"confounders": "protable"}, CohortError, "Did you mean 'portable'"),
        ({"folds": 1}, SettingsError, "folds is 1"),
        ({"folds": 10_000}, CohortError, "cannot be dealt into 10000 folds"),
        ({"effort": "heroic"}, SettingsError, "expected 'quick' or 'full'"),
        ({"hold_out": "portabel"}, CohortError, "Did you mean 'portable'"),
        ({"representations": {"reweighting": "stored"}}, SettingsError, "name of a baseline"),
        ({"representations": {"raw": "store"}}, SettingsError, "Did you mean 'stored'"),
        ({"representations": {"raw": np.zeros((3, 2))}}, CohortError, "3 embeddings but 300 rows"),
    ],
)
def test_a_wrong_request_is_refused_before_work_begins(cohort, changes, error, words):
    with pytest.raises(error, match=words):
        compare(cohort=cohort.subset(slice(0, 300)), **broken(**changes))


def test_a_cohort_without_outcome_is_told_to_name_a_task(cohort):
    table = cohort.table
    bare = Cohort.from_arrays(np.asarray(cohort.embeddings), table, patient="patient_id")
    with pytest.raises(SettingsError, match=r"Pass tasks="):
        compare({"raw": "stored"}, bare, confounders="portable")


def test_a_number_cannot_be_held_out():
    with pytest.raises(CohortError, match="'age', a number"):
        compare({"raw": "stored"}, sites(), confounders="site", hold_out="age")
