"""The AUROC is the mean of its parts by pairs; every part is what counting one by one gives."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.evidence.environments import KINDS, pair_counts, training_risk
from deconf.evidence.pairs import ALL, pair_split
from deconf.evidence.tasks import Scores, Task
from deconf.maths.intervals import auroc, patient_weights
from deconf.probes.cells import Levels

seeds = st.integers(0, 10_000)


def task(seed: int, n: int = 120, levels: int = 3, folds: int = 2) -> Task:
    """A confounder that goes with the outcome, and is missing here and there."""
    rng = np.random.default_rng(seed)
    patients = np.arange(n) // 2
    y = rng.integers(2, size=n).astype(float)
    codes = np.clip((levels * (0.3 * y + 0.7 * rng.random(n))).astype(int), 0, levels - 1)
    codes[rng.random(n) < 0.05] = -1
    fold = rng.integers(folds, size=patients.max() + 1)[patients]
    return Task(
        name="ill",
        y=y,
        fold=fold,
        fold_names=tuple(f"fold {k}" for k in range(folds)),
        # With one fold there is nobody else to learn the risk from.
        trains=[np.flatnonzero(fold != k) if folds > 1 else np.arange(n) for k in range(folds)],
        levels={"c": Levels(codes, tuple(f"c={k}" for k in range(levels)))},
        patients=patients,
    )


def scores(t: Task, seed: int) -> Scores:
    rng = np.random.default_rng(seed)
    rough = np.round(t.y + t.levels["c"].codes + rng.normal(size=len(t.y)))  # many ties
    return Scores(rough, np.zeros(len(t.y)))


def drawn(t: Task, draws: int = 30) -> np.ndarray:
    return np.vstack([np.ones((1, len(t.y))), patient_weights(t.patients, draws, 0)])


@settings(max_examples=15)
@given(seed=seeds, levels=st.integers(2, 4), folds=st.integers(2, 3))
def test_every_kind_of_pair_agrees_with_counting_them_one_by_one(seed, levels, folds):
    t = task(seed, 60, levels, folds)
    codes, s = t.levels["c"].codes, scores(t, seed).logit
    risk = training_risk(t.y, codes, levels, t.trains)
    if seed % 2:
        risk[:, 0] = np.nan  # a level never met in training
    won, pairs = dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, 0.0)
    for i, j in product(range(60), range(60)):
        if t.y[i] != 1 or t.y[j] != 0 or t.fold[i] != t.fold[j] or min(codes[i], codes[j]) < 0:
            continue
        gap = risk[t.fold[i], codes[i]] - risk[t.fold[i], codes[j]]
        kind = "aligned" if gap > 0 else "crossed" if gap < 0 else "untold"
        kind = "same level" if codes[i] == codes[j] else kind
        pairs[kind] += 1
        won[kind] += (s[i] > s[j]) + 0.5 * (s[i] == s[j])
    known = codes >= 0
    found = pair_counts(
        s[known], t.y[known], codes[known], t.fold[known], risk, np.ones((1, known.sum()))
    )
    for kind in KINDS:
        assert found[kind][0][0] == pytest.approx(won[kind])
        assert found[kind][1][0] == pairs[kind]


@settings(max_examples=15)
@given(seed=seeds, levels=st.integers(2, 4), folds=st.integers(1, 3))
def test_the_auroc_is_the_mean_of_its_parts_by_their_pairs(seed, levels, folds):
    t = task(seed, 120, levels, folds)
    expected = {"aligned", "crossed", "same level"}
    if levels > 2 and seed % 2:  # a level that training never met
        t.trains[:] = [rows[t.levels["c"].codes[rows] != 1] for rows in t.trains]
        expected = {"aligned", "same level", "untold"}
    found = pair_split(t, {"raw": scores(t, seed)}, drawn(t), reference="raw").set_index("kind")
    parts = found.drop(index=ALL)
    assert expected <= set(parts.index)
    assert parts["share"].sum() == pytest.approx(1)
    assert (parts["share"] * parts["estimate"]).sum() == pytest.approx(found.loc[ALL, "estimate"])
    assert parts["pairs"].sum() == found.loc[ALL, "pairs"]


@settings(max_examples=10)
@given(seed=seeds)
def test_with_one_test_part_the_whole_is_the_pooled_auroc_of_films_with_a_level(seed):
    t, s = task(seed, folds=1), scores(task(seed, folds=1), seed)
    found = pair_split(t, {"raw": s}, drawn(t), reference="raw").set_index("kind")
    known = t.levels["c"].codes >= 0
    assert found.loc[ALL, "estimate"] == pytest.approx(auroc(s.logit[known], t.y[known]))


def test_a_score_that_is_the_confounder_has_one_none_and_one_half():
    t = task(3, n=400)
    risk = training_risk(t.y, t.levels["c"].codes, 3, t.trains)
    by_risk = Scores(risk[t.fold, t.levels["c"].codes], np.zeros(400))
    found = pair_split(t, {"raw": by_risk}, drawn(t), reference="raw").set_index("kind")
    expected = {"aligned": 1.0, "crossed": 0.0, "same level": 0.5}
    assert {kind: found.loc[kind, "estimate"] for kind in expected} == expected


def test_where_every_test_part_is_one_level_all_pairs_are_of_the_same_level():
    t = task(1, levels=2)
    codes = t.fold.copy()
    sites = Task("ill", t.y, t.fold, t.fold_names, t.trains, {"c": Levels(codes, ("A", "B"))},
                 t.patients)  # fmt: skip
    found = pair_split(sites, {"raw": scores(t, 1)}, drawn(t), reference="raw")
    assert found["kind"].tolist() == ["same level", ALL]
    assert found["share"].tolist() == [1.0, 1.0]


def test_a_difference_is_paired_and_on_the_films_that_both_have_scored():
    t = task(5, n=300)
    raw = scores(t, 5)
    half = Scores(np.where(t.fold == 0, raw.logit, np.nan), raw.base)
    found = pair_split(t, {"raw": raw, "half": half}, drawn(t), reference="raw")
    mine = found[found["representation"] == "half"]
    assert np.allclose(mine[["difference", "difference_low", "difference_high"]], 0)
    assert found[found["representation"] == "raw"]["difference"].isna().all()
    assert mine["pairs"].iloc[-1] < found["pairs"].max()
