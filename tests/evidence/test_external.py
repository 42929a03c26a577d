"""What is foretold of a site comes from the other sites alone, holds it, and is refused for two."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest

from deconf.cohort.cohort import Cohort
from deconf.evidence import external as module
from deconf.evidence import inspection, scoring
from deconf.evidence.compare import compare
from deconf.evidence.contenders import Fixed
from deconf.evidence.external import Site, both_left_out, external, foretold, site_figure
from deconf.evidence.folds import folds_of
from deconf.evidence.leakage import audit
from deconf.evidence.scoring import Ledger, score_fold
from deconf.evidence.tasks import Scores, Task
from deconf.maths.intervals import Interval, auroc
from deconf.probes.cells import levels_of
from deconf.worlds.linear import LinearWorld


def hospitals(sites: int, n: int = 150, seed: int = 0, spread: float = 1.0) -> Cohort:
    """Hospitals at which the disease is easier or harder to see; two films a patient."""
    rng = np.random.default_rng(seed)
    who = np.arange(sites * n) // 2
    site = who // (n // 2)
    ill, side = who % 2, rng.integers(2, size=len(who))
    z = rng.standard_normal((len(who), 3)).astype(np.float32)
    z[:, 0] += (1.2 + spread * rng.uniform(-1, 1, sites))[site] * ill
    names = [f"S{s}" for s in site]
    table = pd.DataFrame({"who": who, "site": names, "ill": ill, "side": side})
    return Cohort.from_arrays(z, table, patient="who", site="site", outcome="ill")


def estimated(
    cohort: Cohort, effort: str = "quick", *, is_chosen: bool = False
) -> tuple[pd.DataFrame, list[int]]:
    """The frame of the raw embedding, and how many films each fit trained on.

    Without choosing the ridge of the heads by cross-validation it is five times as fast.
    """
    contender = {"raw": Fixed(np.asarray(cohort.embeddings), "stored")}
    parts = folds_of(cohort, "site", 5, 0)
    fold = np.full(len(cohort), -1)
    for k, part in enumerate(parts):
        fold[part.test] = k
    y = cohort.table["ill"].to_numpy(dtype=float)
    task = Task("ill", y, fold, tuple(p.name for p in parts), [p.train for p in parts],
                {"side": levels_of(cohort.table["side"])}, cohort.patients, True)  # fmt: skip
    settings = {"reference": "raw", "fallback_rank": 1, "seed": 0}
    ledger, fits = Ledger(len(cohort)), []

    def counted(*given: object, **more: object) -> None:
        fits.append(len(given[4].train))
        score_fold(*given, **more)

    with pytest.MonkeyPatch.context() as patch:
        if not is_chosen:
            patch.setattr(scoring, "choose_strength", lambda *_, **__: 0.1)
        for k, part in enumerate(parts):
            score_fold(ledger, contender, [task], k, part, **settings)
        patch.setattr(module, "score_fold", counted)
        found = external(contender, [task], parts, ledger, effort=effort, **settings)
    return found.set_index("held out"), fits


# ------------------------------------------------------------------ the others alone


def test_the_outcomes_of_a_site_change_what_is_seen_there_and_not_what_is_foretold():
    cohort = hospitals(4)
    table = cohort.table
    at = (table["site"] == "S1").to_numpy()
    table.loc[at, "ill"] = np.random.default_rng(9).permutation(table.loc[at, "ill"])
    other = Cohort.from_arrays(
        np.asarray(cohort.embeddings), table, patient="who", site="site", outcome="ill"
    )
    before, after = estimated(cohort)[0], estimated(other)[0]
    names = ["estimate", "low", "high", "sites"]
    assert (before.loc["site=S1", names] == after.loc["site=S1", names]).all()
    assert before.loc["site=S1", "observed"] != after.loc["site=S1", "observed"]
    assert before.loc["site=S0", "estimate"] != after.loc["site=S0", "estimate"]


def test_every_pair_is_left_out_once_and_trains_on_the_rest():
    frame, fits = estimated(hospitals(5, n=100))
    assert fits == [300] * 10
    assert frame["sites"].tolist() == [5, 4, 4, 4, 4, 4]
    assert (frame["status"] == "ok").all()


def test_films_that_its_own_patients_have_elsewhere_foretell_nothing_of_a_site():
    cohort = hospitals(4)
    table = cohort.table
    moved = table["who"].isin(range(20)) & (np.arange(len(table)) % 2 == 1)
    table.loc[moved, "site"] = "S1"  # twenty patients of S0 have their second film at S1
    turned = table.assign(ill=table["ill"].where(~moved, 1 - table["ill"]))
    z = np.asarray(cohort.embeddings)
    before, after = (
        estimated(Cohort.from_arrays(z, t, patient="who", site="site", outcome="ill"))[0]
        for t in (table, turned)
    )
    assert before.loc["site=S0", "estimate"] == after.loc["site=S0", "estimate"]
    assert before.loc["site=S2", "estimate"] != after.loc["site=S2", "estimate"]


def test_patients_of_either_site_leave_training_with_all_their_films():
    rng = np.random.default_rng(0)
    who = np.r_[np.arange(300), np.arange(40)]  # forty patients of S0 have a film at S1 too
    site = np.r_[np.repeat(["S0", "S1", "S2"], 100), np.repeat("S1", 40)]
    table = pd.DataFrame({"who": who, "site": site, "ill": rng.integers(2, size=340)})
    cohort = Cohort.from_arrays(
        rng.standard_normal((340, 2)).astype(np.float32), table, patient="who", outcome="ill"
    )
    first, second, third = folds_of(cohort, "site", 5, 0)
    both = both_left_out(first, third)
    assert sorted(both.test) == sorted([*first.test, *third.test])
    assert both.train.tolist() == list(range(100, 200))
    assert both_left_out(second, third).train.tolist() == list(range(40, 100))


# ------------------------------------------------------------------ the figures


def test_a_site_has_its_auroc_on_log_odds_with_the_error_of_its_patients():
    cohort = hospitals(1, n=300)
    y, z = cohort.table["ill"].to_numpy(dtype=float), np.asarray(cohort.embeddings)[:, 0]
    task = Task("ill", y, np.zeros(300, int), ("site=S0",), [], {}, cohort.patients)
    scores = Scores(z.astype(float), np.zeros(300))
    found = site_figure("site=S0", task, scores, np.arange(300))
    area = auroc(z, y)
    assert 1 / (1 + math.exp(-found.logit)) == pytest.approx(area)
    assert found.interval.estimate == pytest.approx(area)
    half = (found.interval.high - found.interval.low) / 2
    assert found.error == pytest.approx(half / 1.96 / (area * (1 - area)), rel=1e-3)
    assert site_figure("few", task, scores, np.arange(60)) is None  # 15 patients of a class
    flat = Scores(np.zeros(300), np.zeros(300))
    assert site_figure("flat", task, flat, np.arange(300)).error == 0


def test_where_sites_differ_the_interval_is_wider_than_chance_and_more_films_do_not_help():
    def width(spread: float, n: int) -> float:
        cohort = hospitals(7, n, spread=spread)
        place = np.arange(7 * n) // n
        y, score = cohort.table["ill"].to_numpy(dtype=float), np.asarray(cohort.embeddings)[:, 0]
        task = Task("ill", y, place, tuple("ABCDEFG"), [], {}, cohort.patients)
        scores = Scores(score.astype(float), np.zeros(7 * n))
        rows = [np.flatnonzero(place == k) for k in range(7)]
        limits = foretold([site_figure("a", task, scores, r) for r in rows], "site").another()
        return limits.high - limits.low

    assert width(1.2, 300) > 2 * width(0.0, 300)
    assert width(0.0, 1200) < 0.7 * width(0.0, 300)
    assert width(1.2, 1200) > 0.7 * width(1.2, 300)


# ------------------------------------------------------------------ what cannot be estimated


def site(name: str, error: float = 0.1) -> Site:
    return Site(name, Interval(0.8, 0.7, 0.9), 1.4, error)


@pytest.mark.parametrize(
    ("sites", "words"),
    [
        ([], "no levels of site have 20 patients of each class"),
        ([site("A", 0.0)], "1 level of site (A) has 20"),
        ([site("A"), site("B")], "2 levels of site (A, B) have 20 patients of each class, and "
         "from fewer than 3 nobody can tell how much they differ"),
        ([site("A"), site("B"), site("C", 0.0)], "at C the score is constant or separates"),
    ],
)  # fmt: skip
def test_few_sites_or_one_without_a_variance_are_told_that_it_cannot_be_estimated(sites, words):
    said = foretold(sites, "site")
    assert said.startswith("cannot be estimated: ")
    assert words in said


def test_three_sites_give_an_estimate_that_cannot_be_put_to_the_test():
    frame, fits = estimated(hospitals(3))
    assert frame.index.tolist() == ["another site"]
    assert frame.iloc[0]["status"] == "ok"
    assert "not put to the test" in frame.iloc[0]["reason"]
    assert frame.iloc[0]["high"] - frame.iloc[0]["low"] > 0.2  # three say little of a fourth
    assert not fits


def test_too_many_pairs_wait_for_full_effort(monkeypatch):
    assert math.comb(6, 2) <= module.MOST_PAIRS["quick"] < math.comb(7, 2)
    monkeypatch.setattr(module, "MOST_PAIRS", {"quick": 5, "full": 6})
    quick, fits = estimated(hospitals(4))
    assert not fits
    assert "effort='full'" in quick.iloc[0]["reason"]
    full, fits = estimated(hospitals(4), "full")
    assert len(fits) == 6
    assert len(full) == 5
    assert quick.iloc[0]["estimate"] == full.iloc[0]["estimate"]


def test_two_hospitals_read_refused_in_text_frame_and_json():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
        report = compare({"raw": "stored"}, hospitals(2), confounders="side", hold_out="site",
                         pictures=False)  # fmt: skip
        bare = compare({"raw": "stored"}, hospitals(2), confounders="side", folds=2,
                       pictures=False)  # fmt: skip
    why = "cannot be estimated: 2 levels of site (S0, S1) have 20 patients of each class"
    raw = report.external.set_index("representation").loc["raw"]
    assert raw["status"] == "REFUSED"
    assert raw["reason"].startswith(why)
    assert raw[["estimate", "low", "high"]].isna().all()
    assert why in " ".join(str(report).split())
    assert '"is_inside": null' in report.to_json()
    assert bare.external.empty


# ------------------------------------------------------------------ does it hold


def of_world(seed: int, sites: int, films: int, spread: float) -> Cohort:
    """Hospitals of one linear world; with a spread, each ties portable to severity as it likes."""
    if not spread:
        cohort = LinearWorld(n=sites * films, d=24, sites=sites, seed=seed).train().cohort
        table = cohort.table
        z = np.asarray(cohort.embeddings)
    else:
        rng = np.random.default_rng([seed, 7])
        draws = []
        for s in range(sites):
            tie = float(np.clip(rng.normal(0.3, spread), -1, 1))
            # Another number of films is another draw of the same world.
            draws.append(LinearWorld(n=films + s, d=24, seed=seed, association=tie).train().cohort)
        z = np.vstack([np.asarray(d.embeddings) for d in draws])
        table = pd.concat([
            d.table.assign(site=f"S{s}", patient_id=f"{s}-" + d.table["patient_id"])
            for s, d in enumerate(draws)
        ], ignore_index=True)  # fmt: skip
    table = table.assign(ill=table["pneumonia"], side=table["portable"])
    return Cohort.from_arrays(z, table, patient="patient_id", site="site", outcome="ill")


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.6])
@pytest.mark.parametrize("sites", [4, 6])
def test_the_interval_holds_the_site_that_was_locked_away(sites, spread):
    """Sites of one seed share films, so the seeds are the sample: 40 of them."""
    inside, by_chance = [], []
    for seed in range(40):
        frame = estimated(of_world(seed, sites, 400, spread), is_chosen=True)[0].iloc[1:]
        inside.append(frame["is_inside"].astype(float).mean())
        between = frame["estimate"].between(frame["observed_low"], frame["observed_high"])
        by_chance.append(between.mean())
    assert np.mean(inside) >= 0.93
    if spread:  # the sampling error of the site alone does not explain it
        assert np.mean(by_chance) < 0.75
