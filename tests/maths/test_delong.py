from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm

from deconf.errors import CohortError
from deconf.maths.delong import delong
from deconf.maths.intervals import auroc
from deconf.maths.paired import paired_aurocs
from tests.reference.delong import clustered, plain


@st.composite
def films(draw):
    """Two scores with many or few ties, both classes in two patients or more."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n = draw(st.integers(6, 40))
    scores = rng.normal(size=(n, 2)).round(draw(st.sampled_from([0, 1, 12])))
    ill = rng.random(n) < draw(st.sampled_from([0.3, 0.5, 0.8]))
    patients = rng.integers(draw(st.sampled_from([4, 10, 40])), size=n)
    ill[:2], ill[2:4], patients[:4] = True, False, [0, 1, 0, 1]
    return scores, ill, patients


@given(films())
def test_each_film_its_own_patient_is_the_delong_of_the_paper(case):
    scores, ill, _ = case
    found = delong(scores, ill)
    assert_allclose(found.covariance, plain(scores, ill), atol=1e-13)
    assert_allclose(found.areas, [auroc(s, ill) for s in scores.T], atol=1e-13)
    assert_allclose(delong(scores, ill, np.arange(len(ill))).covariance, found.covariance)


@given(films())
def test_clustered_agrees_with_the_loop_over_all_pairs(case):
    scores, ill, patients = case
    found = delong(scores, ill, patients)
    assert_allclose(found.covariance, clustered(scores, ill, patients), atol=1e-13)
    assert found.patients == len(np.unique(patients))


@given(films(), st.integers(0, 100))
def test_neither_the_order_of_films_nor_the_names_of_patients_matter(case, seed):
    scores, ill, patients = case
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(len(ill)), rng.permutation(1000)[patients].astype(str)
    again = delong(scores[order], ill[order], names[order])
    assert_allclose(again.covariance, delong(scores, ill, patients).covariance, atol=1e-13)


@given(films())
def test_only_the_order_of_the_scores_matters_and_turning_them_round_turns_the_area(case):
    scores, ill, patients = case
    found, again = delong(scores, ill, patients), delong(np.exp(scores), ill, patients)
    turned = delong(-scores, ill, patients)
    assert_allclose(again.covariance, found.covariance, atol=1e-15)
    assert_allclose(turned.areas, 1 - found.areas, atol=1e-13)
    assert_allclose(turned.covariance, found.covariance, atol=1e-13)


def test_films_written_twice_within_their_patient_change_neither_area_nor_variance():
    rng = np.random.default_rng(0)
    scores, ill = rng.normal(size=(60, 2)), rng.random(60) < 0.4
    twice = np.repeat(np.arange(60), 2)
    found, doubled = delong(scores, ill), delong(scores[twice], ill[twice], twice)
    assert_allclose(doubled.areas, found.areas)
    assert_allclose(doubled.covariance, found.covariance)
    as_films = delong(scores[twice], ill[twice])
    assert as_films.covariance[0, 0] < 0.6 * found.covariance[0, 0]  # what pretending earns


def world(rng, patients=60):
    """Patients with 1 to 6 films, some ill in some films only; the true AUROCs are known."""
    who = np.repeat(np.arange(patients), rng.integers(1, 7, size=patients))
    ill = rng.random(len(who)) < np.where(np.arange(patients) % 2, 0.8, 0.2)[who]
    shared = rng.normal(size=(patients, 2))
    own = rng.normal(size=(len(who), 2))
    scores = np.sqrt(0.6) * shared[who] + np.sqrt(0.4) * own + ill[:, None] * [1.2, 0.7]
    return scores, ill, who


def truth() -> tuple[float, float]:
    """Pairs of two patients: Φ(shift / √2).  Pairs within one are a percent of them."""
    return norm.cdf(1.2 / math.sqrt(2)), norm.cdf(0.7 / math.sqrt(2))


def coverage(trials: int) -> tuple[float, float, float]:
    rng = np.random.default_rng(1)
    first, second = truth()
    hits = np.zeros((trials, 3))
    for trial in range(trials):
        scores, ill, who = world(rng)
        found = delong(scores, ill, who)
        one, both = found.interval(0), found.difference().interval
        films = delong(scores, ill).interval(0)
        hits[trial] = [
            one.low <= first <= one.high,
            both.low <= first - second <= both.high,
            films.low <= first <= films.high,
        ]
    return tuple(hits.mean(axis=0))


def test_intervals_cover_near_their_level_and_those_of_films_do_not():
    area, difference, films = coverage(300)
    assert 0.91 < area < 0.985
    assert 0.91 < difference < 0.985
    assert films < area - 0.04


@pytest.mark.slow
def test_intervals_cover_95_percent_over_three_thousand_studies():
    area, difference, _ = coverage(3000)
    assert_allclose([area, difference], 0.95, atol=0.018)  # 60 patients; 4 errors are 0.016


def test_the_standard_error_is_that_of_the_bootstrap_of_patients():
    scores, ill, who = world(np.random.default_rng(3), patients=400)
    found = delong(scores, ill, who)
    drawn = paired_aurocs(scores, ill, who, draws=2000)
    assert_allclose(np.sqrt(found.covariance.diagonal()), drawn.std(axis=0), rtol=0.1)
    error = found.difference().standard_error
    assert_allclose(error, (drawn[:, 0] - drawn[:, 1]).std(), rtol=0.1)


def test_a_score_that_is_the_outcome_has_area_one_and_no_interval():
    ill = np.arange(20) % 2 == 0
    found = delong(ill.astype(float), ill)
    assert found.areas[0] == 1
    assert found.covariance[0, 0] == 0
    assert math.isnan(found.interval().low)
    both = delong(np.column_stack([ill, np.zeros(20)]), ill).difference()
    assert both.interval.estimate == 0.5
    assert math.isnan(both.p)


def test_two_scores_of_one_ranking_do_not_differ_at_all():
    rng = np.random.default_rng(0)
    score, ill = rng.normal(size=200), rng.random(200) < 0.4
    found = delong(np.column_stack([score, np.exp(score / 3)]), ill).difference()
    assert (found.interval.low, found.interval.high, found.p) == (0, 0, 1)


def test_a_difference_has_the_p_of_its_interval():
    scores, ill, who = world(np.random.default_rng(2))
    found = delong(scores, ill, who)
    p = found.difference().p
    at_p = found.difference(level=1 - p).interval
    assert_allclose(min(abs(at_p.low), abs(at_p.high)), 0, atol=1e-9)
    assert_allclose(found.difference(1, 0).interval.low, -found.difference().interval.high)


@pytest.mark.parametrize(
    ("scores", "label", "patients", "words"),
    [
        ([1.0, 2, 3], [1, 1, 1], None, "all 3 films are positive: an AUROC compares two classes"),
        ([1.0, 2, 3], [0, 0, 0], None, "all 3 films are negative"),
        ([1.0, np.nan, 3], [0, 1, 1], None, "score 0 is nan in row 1"),
        ([1.0, 2, 3], [0, 1, 2], None, "label .*2.* in row 2 is neither 0 nor 1"),
        ([1.0, 2, 3], [0, 1], None, "3 scores, 2 labels and 3 patients"),
        ([1.0, 2, 3, 4], [0, 1, 1, 0], [1, 2, 2, 3], "positive films are all of one patient"),
        ([1.0, 2, 3, 4], [0, 1, 1, 0], [1, 2, 3, 1], "negative films are all of one patient"),
    ],
)
def test_what_cannot_be_compared_is_said(scores, label, patients, words):
    who = None if patients is None else np.array(patients)
    with pytest.raises(CohortError, match=words):
        delong(np.array(scores), np.array(label), who)
