from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from deconf.errors import CohortError
from deconf.maths.intervals import patient_counts, patient_weights, weighted_aurocs
from deconf.maths.paired import auroc_difference, paired_aurocs


@st.composite
def films(draw):
    """Scores with many or few ties, labels of any balance, patients of one film or many."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n = draw(st.integers(2, 80))
    scores = rng.normal(size=(n, 2)).round(draw(st.sampled_from([0, 1, 12])))
    label = rng.random(n) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    label[0], label[-1] = True, False
    return scores, label, rng.integers(draw(st.sampled_from([3, 20, 200])), size=n)


@given(films(), st.booleans())
def test_every_draw_is_the_auroc_scikit_learn_gives_the_resampled_films(case, with_sites):
    scores, label, patients = case
    site = patients % 3 if with_sites else None
    found = paired_aurocs(scores, label, patients, site=site, draws=7, seed=4)
    codes, counts = patient_counts(patients, 7, seed=4, site=site)
    for areas, count in zip(found, counts, strict=True):
        rows = np.repeat(np.arange(len(label)), count[codes])
        if len(np.unique(label[rows])) == 2:
            expected = [roc_auc_score(label[rows], s) for s in scores[rows].T]
            assert_allclose(areas, expected, atol=1e-12)
        else:
            assert np.isnan(areas).all()


@given(films())
def test_the_draws_are_those_of_the_weights_of_the_same_seed(case):
    scores, label, patients = case
    weights = patient_weights(patients, 5, seed=2)
    found = paired_aurocs(scores, label, patients, draws=5, seed=2)
    for k, score in enumerate(scores.T):
        assert_allclose(found[:, k], weighted_aurocs(score, label, weights), atol=1e-13)


def test_draws_of_several_groups_are_those_of_one_walk_each(monkeypatch):
    rng = np.random.default_rng(0)
    scores, label = rng.normal(size=(300, 2)).round(1), rng.random(300) < 0.6
    together = paired_aurocs(scores, label, np.arange(300), draws=200, seed=1)
    monkeypatch.setattr("deconf.maths.paired.TOGETHER", 1)
    apart = paired_aurocs(scores, label, np.arange(300), draws=200, seed=1)
    assert (together == apart).all()


def test_turning_scores_round_and_exchanging_the_classes_are_exact():
    rng = np.random.default_rng(0)
    score, label, who = rng.integers(9, size=(500, 1)), rng.random(500) < 0.3, np.arange(500) // 2
    found = paired_aurocs(score, label, who, draws=50)
    assert (paired_aurocs(-score, ~label, who, draws=50) == found).all()
    assert_allclose(paired_aurocs(-score, label, who, draws=50), 1 - found, atol=1e-15)


def test_a_score_that_is_the_outcome_is_one_in_every_draw_and_a_constant_one_half():
    label = np.arange(50) % 5 == 0
    areas = paired_aurocs(np.column_stack([label, np.zeros(50)]), label, np.arange(50), draws=300)
    kept = areas[~np.isnan(areas).any(axis=1)]
    assert (kept == [1.0, 0.5]).all()
    found = auroc_difference(label, np.zeros(50), label, np.arange(50))
    assert (found.estimate, found.low, found.high) == (0.5, 0.5, 0.5)


def test_an_interval_covers_the_true_difference_of_clustered_films():
    rng = np.random.default_rng(0)
    hits = []
    for seed in range(150):
        who = np.repeat(np.arange(80), 3)
        label = (who % 2).astype(bool)
        shared = rng.normal(size=(80, 2))[who] * 0.9
        # Both scores carry the same signal: the true difference is 0.
        scores = shared + 0.44 * rng.normal(size=(240, 2)) + label[:, None]
        found = auroc_difference(*scores.T, label, who, draws=300, seed=seed)
        hits.append(found.low <= 0 <= found.high)
    assert 0.88 < np.mean(hits) < 0.995  # 0.95 and 4 standard errors


def test_two_thousand_draws_of_ten_thousand_films_take_about_half_a_second():
    rng = np.random.default_rng(0)
    label = rng.random(10_000) < 0.3
    scores = rng.normal(size=(10_000, 2))
    start = time.process_time()
    paired_aurocs(scores, label, np.arange(10_000) // 2, draws=2000)
    assert time.process_time() - start < 3.0  # 0.4 s when the machine is idle


def test_one_class_and_lengths_that_differ_are_refused_in_words():
    with pytest.raises(CohortError, match=r"all 4 films are negative.*Take films of both"):
        auroc_difference(np.arange(4.0), np.arange(4.0), np.zeros(4), np.arange(4))
    with pytest.raises(CohortError, match="4 scores, 4 labels and 3 patients"):
        paired_aurocs(np.zeros((4, 1)), np.arange(4) % 2, np.arange(3))
    bad = np.array([[0, 1], [1, 1], [2, np.nan]])
    with pytest.raises(CohortError, match="score 1 is nan in row 2"):
        paired_aurocs(bad, np.array([0, 1, 1]), np.arange(3))
