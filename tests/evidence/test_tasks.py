"""The figures of a task: pairs, worlds, calibration, each against an obvious slow version."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.cohort.cohort import Cohort
from deconf.evidence.calibration import calibration_error, calibration_slope
from deconf.evidence.environments import discordant_aurocs, sweep, training_risk
from deconf.evidence.folds import folds_of, half_split
from deconf.evidence.judged import WORST, judged
from deconf.evidence.lost import effective_rank, lost, outside_span, unasked
from deconf.evidence.tasks import Measure, Scores, Task, measures
from deconf.maths.intervals import patient_weights
from deconf.probes.cells import Levels

seeds = st.integers(0, 10_000)


def task(seed: int, n: int = 240, levels: int = 2, folds: int = 2) -> Task:
    """A confounder that goes with the outcome, random folds, two films a patient."""
    rng = np.random.default_rng(seed)
    patients = np.arange(n) // 2
    y = rng.integers(2, size=n).astype(float)
    codes = np.clip((levels * (0.3 * y + 0.7 * rng.random(n))).astype(int), 0, levels - 1)
    fold = rng.integers(folds, size=patients.max() + 1)[patients]
    names = tuple(f"c={k}" for k in range(levels))
    return Task(
        name="ill",
        y=y,
        fold=fold,
        fold_names=tuple(f"fold {k}" for k in range(folds)),
        trains=[np.flatnonzero(fold != k) for k in range(folds)],
        levels={"c": Levels(codes, names)},
        patients=patients,
    )


def scores(t: Task, seed: int, skill: float = 1.0) -> Scores:
    rng = np.random.default_rng(seed)
    codes = t.levels["c"].codes
    return Scores(skill * t.y + codes + rng.normal(size=len(t.y)), np.zeros(len(t.y)))


def figure(t: Task, s: Scores, environment: str, metric: str = "AUROC") -> float:
    (measure,) = (m for m in measures(t) if m.key == (metric, environment))
    return value(measure, s)


def value(measure: Measure, s: Scores) -> float:
    ones = np.ones((1, len(measure.rows)))
    return float(measure.of(s.at(measure.rows), measure.rows, ones)[0])


# ------------------------------------------------------------------ pairs


@settings(max_examples=15)
@given(seed=seeds, levels=st.integers(2, 4), crossed=st.booleans())
def test_discordant_pairs_agree_with_counting_them_one_by_one(seed, levels, crossed):
    t = task(seed, n=60, levels=levels)
    codes = t.levels["c"].codes
    rng = np.random.default_rng(seed)
    score = rng.integers(5, size=60).astype(float)  # many ties
    risk = training_risk(t.y, codes, levels, t.trains)
    won = pairs = 0.0
    for i, j in product(range(60), range(60)):
        if not (t.y[i] == 1 and t.y[j] == 0 and t.fold[i] == t.fold[j]):
            continue
        gap = risk[t.fold[i], codes[i]] - risk[t.fold[i], codes[j]]
        if (gap < 0) if crossed else (gap > 0):
            pairs += 1
            won += (score[i] > score[j]) + 0.5 * (score[i] == score[j])
    ones = np.ones((1, 60))
    found = discordant_aurocs(score, t.y, codes, t.fold, risk, ones, crossed=crossed)[0]
    assert found == pytest.approx(won / pairs if pairs else np.nan, nan_ok=True)


@given(seed=seeds)
@settings(max_examples=10)
def test_a_score_that_is_the_confounder_wins_all_aligned_and_no_crossed_pair(seed):
    t = task(seed)
    s = Scores(t.levels["c"].codes.astype(float), np.zeros(len(t.y)))
    assert figure(t, s, "c: aligned pairs") == 1.0
    assert figure(t, s, "c: crossed pairs") == 0.0
    assert figure(t, s, "c: within levels") == 0.5


def test_risk_is_taken_from_training_rows_alone():
    t = task(0)
    codes = t.levels["c"].codes
    risk = training_risk(t.y, codes, 2, t.trains)
    y = t.y.copy()
    y[t.fold == 0] = 1 - y[t.fold == 0]  # test rows of fold 0
    assert (training_risk(y, codes, 2, t.trains)[0] == risk[0]).all()
    assert (training_risk(y, codes, 2, t.trains)[1] != risk[1]).any()


# ------------------------------------------------------------------ other worlds


def counted(y: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    table = np.zeros((codes.max() + 1, 2))
    np.add.at(table, (codes, y.astype(int)), weights)
    return table / table.sum()


@settings(max_examples=15)
@given(seed=seeds, levels=st.integers(2, 4))
def test_weights_untie_outcome_and_confounder_and_keep_both_margins(seed, levels):
    t = task(seed, n=600, levels=levels)
    codes = t.levels["c"].codes
    names = t.levels["c"].names
    part = sweep(t.y, codes, np.zeros(600, int), t.patients, names, outcome="ill")
    if part.left_out:
        return
    before = counted(t.y, codes, np.ones(600))
    after = counted(t.y[part.rows], codes[part.rows], part.power(1))
    assert after == pytest.approx(np.outer(before.sum(1), before.sum(0)))


@settings(max_examples=10)
@given(seed=seeds)
def test_the_square_of_the_weights_inverts_the_odds_ratio(seed):
    t = task(seed, n=600)
    codes = t.levels["c"].codes
    part = sweep(t.y, codes, np.zeros(600, int), t.patients, ("a", "b"), outcome="ill")

    def odds(power: int) -> float:
        p = counted(t.y[part.rows], codes[part.rows], part.power(power))
        return float(p[1, 1] * p[0, 0] / (p[0, 1] * p[1, 0]))

    assert odds(0) > 1.5
    assert odds(2) == pytest.approx(1 / odds(0))


def test_every_held_out_part_is_untied_by_itself_and_one_with_one_level_is_left_out():
    t = task(3, n=900)
    codes, groups = t.levels["c"].codes.copy(), np.arange(900) // 2 % 3
    codes[groups == 2] = 1
    part = sweep(t.y, codes, groups, t.patients, ("a", "b"), outcome="ill",
                 group_names=("A", "B", "C"))  # fmt: skip
    assert set(groups[part.rows]) == {0, 1}
    assert not part.left_out
    for group in (0, 1):
        inside = part.rows[groups[part.rows] == group]
        w = part.power(1)[groups[part.rows] == group]
        p = counted(t.y[inside], codes[inside], w)
        assert p == pytest.approx(np.outer(p.sum(1), p.sum(0)))


def test_a_level_of_one_class_is_named_and_no_film_of_it_is_weighed():
    t = task(0, levels=3, n=600)
    codes = t.levels["c"].codes
    y = np.where(codes == 2, 1.0, t.y)
    part = sweep(y, codes, np.zeros(600, int), t.patients, ("a", "b", "c"), outcome="ill")
    assert part.left_out == ("no c patients with ill=0",)
    assert not (codes[part.rows] == 2).any()


def test_no_film_of_the_reversed_world_counts_for_more_than_twenty_medians():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=4000)
    codes = np.where(rng.random(4000) < 0.01, 1 - y, y)
    part = sweep(y, codes, np.zeros(4000, int), np.arange(4000), ("a", "b"), outcome="ill")
    w = part.power(2)
    assert w.max() <= 20 * np.median(w) * (1 + 1e-12)
    assert w.mean() == pytest.approx(1.0)


# ------------------------------------------------------------------ folds


@given(seed=seeds, shift=st.floats(-50, 50), scale=st.floats(0.1, 10))
@settings(max_examples=10)
def test_no_auroc_depends_on_the_scale_of_a_fold(seed, shift, scale):
    t = task(seed)
    s = scores(t, seed)
    moved = Scores(np.where(t.fold == 0, scale * s.logit + shift, s.logit), s.base)
    for measure in measures(t):
        if measure.metric == "AUROC" and not measure.refused:
            assert value(measure, moved) == pytest.approx(value(measure, s), nan_ok=True)


def test_a_fold_with_one_class_is_averaged_into_nothing():
    t = task(0, folds=3)
    y = np.where(t.fold == 2, 1.0, t.y)
    lone = Task("ill", y, t.fold, t.fold_names, t.trains, t.levels, t.patients)
    s = scores(t, 0)
    both = [figure(Task("ill", np.where(t.fold == k, t.y, np.nan), t.fold, t.fold_names, t.trains,
                        t.levels, t.patients), s, "pooled") for k in (0, 1)]  # fmt: skip
    sizes = [(t.fold == k).sum() for k in (0, 1)]
    assert figure(lone, s, "pooled") == pytest.approx(np.average(both, weights=sizes))


def test_the_worst_group_is_the_lowest_share_of_rightly_called_films():
    t = task(5)
    s = scores(t, 5)
    codes, called = t.levels["c"].codes, s.logit > s.base
    shares = [(called[(codes == c) & (t.y == y)] == y).mean() for c in (0, 1) for y in (0, 1)]
    assert figure(t, s, "c: worst group", "accuracy") == pytest.approx(min(shares))


# ------------------------------------------------------------------ figures and differences


def table(t: Task, own: dict[str, Scores], refusals: dict | None = None) -> dict:
    w = np.vstack([np.ones((1, len(t.y))), patient_weights(t.patients, 200, 0)])
    rows = judged(t, own, {}, w, reference="raw", refusals=refusals or {})
    return {(r["representation"], r["metric"], r["environment"]): r for r in rows}


def test_twins_differ_by_nothing_in_every_draw():
    t = task(1)
    s = scores(t, 1)
    cells = table(t, {"raw": s, "twin": s})
    twin = cells["twin", "AUROC", "pooled"]
    assert twin["difference"] == twin["difference_low"] == twin["difference_high"] == 0
    assert np.isnan(cells["raw", "AUROC", "pooled"]["difference"])


def test_beside_a_difference_stands_the_smallest_that_would_have_been_found():
    sizes = {}
    for n in (400, 1600):
        t = task(3, n=n)
        raw, rng = scores(t, 3), np.random.default_rng(0)
        other = Scores(raw.logit + rng.normal(size=n), raw.base)
        cell = table(t, {"raw": raw, "other": other})["other", "AUROC", "pooled"]
        error = (cell["difference_high"] - cell["difference_low"]) / (2 * 1.96)
        assert cell["detectable"] == pytest.approx(2.8 * error, rel=0.15)  # z(.975) + z(.8)
        sizes[n] = cell["detectable"]
    assert sizes[1600] == pytest.approx(sizes[400] / 2, rel=0.35)


def test_a_difference_is_taken_on_the_films_that_both_have_scored():
    t = task(2, n=400)
    raw = scores(t, 2)
    half = Scores(np.where(t.fold == 0, raw.logit, np.nan), raw.base)
    cells = table(t, {"raw": raw, "half": half}, {"half": {1: "of a graph"}})
    cell = cells["half", "AUROC", "pooled"]
    assert cell["difference"] == 0  # the same scores where there are scores
    assert cell["n"] == (t.fold == 0).sum()
    assert cell["reason"] == "without fold 1: of a graph"
    assert cells["raw", "AUROC", "pooled"]["n"] == 400


def test_a_representation_without_any_score_is_refused_and_carries_no_number():
    t = task(2)
    none = Scores(np.full(len(t.y), np.nan), np.zeros(len(t.y)))
    cells = table(t, {"raw": scores(t, 2), "none": none}, {"none": {0: "why", 1: "why"}})
    for (name, _, _), cell in cells.items():
        if name == "none":
            assert cell["status"] == "REFUSED"
            assert cell["reason"].endswith("why")
            assert np.isnan(cell["estimate"])
            assert np.isnan(cell["difference"])


def test_the_worst_environment_is_the_lowest_of_each_representation_on_its_own():
    t = task(4, n=800)
    codes = t.levels["c"].codes
    rng = np.random.default_rng(0)
    noise = rng.normal(size=800)
    shortcut = Scores(2.0 * codes + t.y + noise, np.zeros(800))
    turned = Scores(-2.0 * codes + t.y + noise, np.zeros(800))
    cells = table(t, {"raw": shortcut, "turned": turned})
    assert "reversed" in cells["raw", *WORST]["reason"]
    assert "as in training" in cells["turned", *WORST]["reason"]


# ------------------------------------------------------------------ calibration


@settings(max_examples=10)
@given(seed=seeds, slope=st.floats(0.3, 3.0))
def test_the_calibration_slope_recovers_the_truth_and_agrees_with_scikit_learn(seed, slope):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(seed)
    x = rng.normal(size=3000)
    y = (rng.random(3000) < 1 / (1 + np.exp(-slope * x))).astype(float)
    found = calibration_slope(x, y, np.ones((1, 3000)))[0]
    peer = LogisticRegression(C=1e9, tol=1e-10).fit(x[:, None], y).coef_[0, 0]
    assert found == pytest.approx(peer, rel=1e-4)
    assert found == pytest.approx(slope, abs=0.35)


def test_one_step_from_the_films_as_they_are_is_close_to_a_whole_fit():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=1000)
    y = (rng.random(1000) < 1 / (1 + np.exp(-x))).astype(float)
    w = patient_weights(np.arange(1000), 20, 0)
    found = calibration_slope(x, y, w)
    whole = [LogisticRegression(C=1e9).fit(x[:, None], y, r).coef_[0, 0] for r in w]
    spread = np.std(whole)
    assert np.abs(found - whole).max() < 0.3 * spread


def test_the_calibration_of_scores_that_separate_the_classes_has_no_figure():
    y = np.repeat([0.0, 1.0], 20)
    assert np.isnan(calibration_slope(y * 2 - 1, y, np.ones((1, 40)))).all()


def test_stated_risk_equal_to_observed_has_no_calibration_error_and_shifted_has_its_shift():
    y = np.tile([1.0, 0.0, 0.0, 0.0], 100)
    ones = np.ones((1, 400))
    assert calibration_error(np.full(400, np.log(1 / 3)), y, ones)[0] == pytest.approx(0, abs=1e-9)
    assert calibration_error(np.zeros(400), y, ones)[0] == pytest.approx(0.25)


# ------------------------------------------------------------------ what was lost


@settings(max_examples=10)
@given(seed=seeds, scale=st.floats(0.01, 100))
def test_effective_rank_knows_neither_scale_nor_basis_and_is_k_for_k_equal_directions(seed, scale):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(40, 6)) * np.arange(1, 7)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert effective_rank(scale * z @ turn + 3) == pytest.approx(effective_rank(z))
    frame = np.vstack([np.eye(5)[:3], -np.eye(5)[:3]])
    assert effective_rank(frame) == pytest.approx(3.0)


def test_a_shift_inside_the_span_is_covered_and_one_outside_is_not():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 8))
    train, held = z[:1000], z[1000:]
    inside, outside = np.eye(8)[:, :2], np.eye(8)[:, 2:3]
    shift = np.array([1.0, 1.0, 0, 0, 0, 0, 0, 0])
    assert outside_span(held + shift, train, inside) < 0.05
    assert outside_span(held + shift, train, outside) > 0.95
    assert outside_span(held + shift, train, np.eye(8)[:, :1]) == pytest.approx(0.5, abs=0.06)


def test_a_shift_no_larger_than_its_noise_has_no_share():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(60, 30))
    assert np.isnan(outside_span(z[:30], z[30:], np.eye(30)[:, :2]))


def test_columns_nobody_asked_about_are_two_classes_or_numbers_with_enough_rows():
    rng = np.random.default_rng(0)
    t = pd.DataFrame(
        {
            "age": rng.normal(60, 9, 100),
            "sex": ["M", "F"] * 50,
            "grade": rng.integers(4, size=100),
            "vendor": rng.choice(list("abc"), 100),
            "rare": [1] * 5 + [0] * 95,
            "empty": [np.nan] * 90 + [1.0, 2.0] * 5,
            "same": 1,
            "ill": [0, 1] * 50,
        }
    )
    assert unasked(t, ["ill"]) == ["age", "sex", "grade"]


def test_the_share_out_of_span_is_not_inflated_by_the_noise_of_small_samples():
    rng = np.random.default_rng(2)
    shift = 2.0 * np.eye(20)[0]
    shares = []
    for _ in range(200):
        z = rng.normal(size=(100, 20))
        shares.append(outside_span(z[:50] + shift, z[50:], np.eye(20)[:, :1]))
    assert np.mean(shares) < 0.1  # 0.17 with the noise left in


def test_gaps_of_opposite_sign_do_not_cancel():
    y = np.tile([1.0, 1.0, 1.0, 0.0], 50)  # observed 0.75 where 0.25 is said, and the reverse
    logit = np.repeat([np.log(1 / 3), np.log(3)], 200)
    found = calibration_error(logit, np.r_[y, 1 - y], np.ones((1, 400)))[0]
    assert found == pytest.approx(0.5)


def test_a_patient_seen_at_two_sites_leaves_training_when_one_of_them_is_held_out():
    frame = pd.DataFrame(
        {"who": [0, 0, 1, 2, 3, 4], "site": ["A", "B", "B", "A", None, "C"], "ill": [0, 1] * 3}
    )
    cohort = Cohort.read(frame, patient="who", outcome="ill")
    held = {part.name: part for part in folds_of(cohort, "site", 5, 0)}
    assert held["site=A"].train.tolist() == [2, 5]  # nor the row whose site nobody knows
    assert held["site=A"].test.tolist() == [0, 3]
    assert held["site=B"].train.tolist() == [3, 5]


def test_leakage_is_measured_on_half_of_the_patients_unless_one_fold_is_enough():
    few = Cohort.read(pd.DataFrame({"ill": [0, 1] * 300}), outcome="ill")
    parts = folds_of(few, None, 5, 0)
    half = half_split(few, parts, None, 0)
    assert len(half.test) == 300
    assert not set(half.test) & set(half.train)
    many = Cohort.read(pd.DataFrame({"ill": [0, 1] * 5100}), outcome="ill")
    parts = folds_of(many, None, 5, 0)
    assert half_split(many, parts, None, 0) is parts[0]


def looked_up(seed: int, *, gone: bool) -> pd.DataFrame:
    """Twelve columns before and after: other noise of the same size, and c0 gone or not."""
    rng = np.random.default_rng(seed)
    n, width = 300, 12
    table = pd.DataFrame({f"c{k}": rng.integers(2, size=n) for k in range(width)})
    signal, noise, other = 1.5 * table.to_numpy(), *rng.standard_normal((2, n, width))
    raw, clean = signal + noise, signal + 0.9 * noise + np.sqrt(1 - 0.9**2) * other
    clean[:, 0] = rng.standard_normal(n) if gone else clean[:, 0]
    found = lost(
        {"raw": raw, "clean": clean}, {"raw": raw, "clean": raw}, table, np.arange(n),
        list(table), reference="raw", draws=500, seed=seed,
    )  # fmt: skip
    assert found.loc[found["representation"] == "raw", "difference_q"].isna().all()
    return found[(found["representation"] == "clean") & (found["metric"] == "AUROC")]


def test_a_lost_column_is_told_among_many_that_were_looked_at():
    q = looked_up(0, gone=True).set_index("what")["difference_q"]
    assert q.idxmin() == "c0"
    assert q["c0"] < 0.05


@pytest.mark.slow
def test_many_columns_looked_at_by_chance_do_not_make_a_loss():
    """Twelve intervals leave out zero somewhere half of the time; q-values one time in twenty."""
    outside, told = 0, 0
    for seed in range(10):
        own = looked_up(seed, gone=False)
        outside += bool(((own["difference_low"] > 0) | (own["difference_high"] < 0)).any())
        told += bool((own["difference_q"] < 0.05).any())
    assert told <= 2
    assert told < outside
