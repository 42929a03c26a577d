from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist, squareform

from deconf.errors import CohortError, SettingsError
from deconf.maths.dependence import dependence, hsic
from deconf.maths.kernels import Kernel, categories, gaussian, median_distance
from deconf.maths.permutation import permutations_within


@st.composite
def kernels(draw):
    """A pair of kernels over the same films: wide or narrow, categorical or not."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n = draw(st.integers(6, 90))
    return tuple(
        {
            "embedding": lambda: gaussian(rng.normal(size=(n, 20))),
            "number": lambda: gaussian(rng.normal(size=n)),
            "levels": lambda: categories(rng.integers(4, size=n)),
            "full": lambda: Kernel(None, gaussian(rng.normal(size=(n, 3))).matrix),
        }[draw(st.sampled_from(["embedding", "number", "levels", "full"]))]()
        for _ in range(2)
    )


def naive(k: np.ndarray, l: np.ndarray, unbiased: bool) -> float:
    """Return HSIC by the formulas of Gretton et al. 2005 and Song et al. 2012, as they stand."""
    n = len(k)
    if not unbiased:
        h = np.eye(n) - 1 / n
        return float(np.trace(k @ h @ l @ h)) / n**2
    k, l = (a - np.diag(np.diag(a)) for a in (k, l))
    first = np.trace(k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2))
    return float(first - 2 / (n - 2) * (k @ l).sum()) / (n * (n - 3))


# --- kernels -------------------------------------------------------------------------------


@given(st.integers(2, 120), st.sampled_from([1, 2, 30]), st.integers(0, 100))
def test_the_gaussian_kernel_is_its_formula_at_the_median_distance(n, d, seed):
    x = 1e3 + np.random.default_rng(seed).normal(size=(n, d))
    distance = pdist(x)
    expected = np.exp(-(squareform(distance) ** 2) / (2 * np.median(distance) ** 2))
    assert_allclose(gaussian(x).matrix, expected, atol=1e-9)


def test_a_single_number_has_a_narrow_factor_and_an_embedding_has_not():
    rng = np.random.default_rng(0)
    assert gaussian(rng.normal(size=500)).factor.shape[1] < 30
    assert gaussian(rng.normal(size=(500, 50))).factor is None


def test_the_width_of_a_two_valued_column_is_the_step_between_its_values():
    assert median_distance(np.repeat([[0.0], [3.0]], [90, 10], axis=0)) == 3


def test_scale_and_shift_and_rotation_leave_the_kernel_as_it_is():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    assert_allclose(gaussian(7 * x @ turn + 3).matrix, gaussian(x).matrix, atol=1e-10)


# --- the statistic -------------------------------------------------------------------------


@given(kernels(), st.booleans())
def test_the_statistic_is_the_formula_of_the_paper(pair, unbiased):
    x, y = pair
    expected = naive(x.matrix, y.matrix, unbiased)
    assert_allclose(hsic(x, y, unbiased=unbiased), expected, atol=1e-10)
    assert_allclose(hsic(y, x, unbiased=unbiased), expected, atol=1e-10)


@given(kernels(), st.booleans(), st.integers(0, 100))
def test_every_permuted_value_is_the_statistic_of_the_permuted_films(pair, unbiased, seed):
    x, y = pair
    n = len(x)
    found = dependence(x, y, permutations=4, unbiased=unbiased, seed=seed)
    moved = permutations_within(np.zeros(n), times=4, seed=seed)
    expected = [naive(x.matrix, y.matrix[i][:, i], unbiased) for i in moved]
    assert_allclose(found.null, expected, atol=1e-5)  # kernels cut at 1e-6


@given(kernels(), st.integers(0, 100))
def test_the_order_of_the_films_does_not_matter_and_dependence_on_oneself_is_one(pair, seed):
    x, y = pair
    order = np.random.default_rng(seed).permutation(len(x))
    assert_allclose(hsic(x.among(order), y.among(order)), hsic(x, y), atol=1e-10)
    assert_allclose(dependence(x, x, permutations=1).correlation, 1, atol=1e-8)
    assert hsic(x, y) > -1e-12


def test_an_embedding_with_films_written_several_times_has_a_statistic_all_the_same():
    rng = np.random.default_rng(0)
    x = gaussian(np.repeat(rng.normal(size=(200, 3)), 5, axis=0))  # smooth, and of rank 200 at most
    y = categories(np.arange(1000) % 3)
    assert x.factor is None
    assert_allclose(hsic(x, y), naive(x.matrix, y.matrix, False), atol=1e-10)


def test_the_unbiased_statistic_is_zero_on_average_and_the_biased_is_not():
    rng = np.random.default_rng(0)
    both = np.array(
        [
            [
                hsic(
                    gaussian(rng.normal(size=20)), categories(rng.integers(2, size=20)), unbiased=u
                )
                for u in (True, False)
            ]
            for _ in range(400)
        ]
    )
    error = both.std(axis=0) / 20
    assert abs(both[:, 0].mean()) < 4 * error[0]
    assert both[:, 1].mean() > 20 * error[1]


# hyppo 0.5.2: Hsic(bias=b).statistic(x[:, None], y[:, None]) for b in (False, True), x and y as in
# the test below.  It gives both variables the width of x, and its biased value is the root.
GOLDEN_UNBIASED, GOLDEN_BIASED = 0.22906735623101934, 0.5133854747554725


def test_normalised_it_is_the_statistic_of_hyppo():
    x = np.sin(np.arange(40.0) ** 2)
    y = x**2 + 0.3 * np.cos(np.arange(40.0) * 7)
    y *= median_distance(x[:, None]) / median_distance(y[:, None])
    for unbiased, golden in ((True, GOLDEN_UNBIASED), (False, GOLDEN_BIASED**2)):
        found = dependence(gaussian(x), gaussian(y), permutations=1, unbiased=unbiased)
        assert_allclose(found.correlation, golden, atol=1e-8)


# --- the test ------------------------------------------------------------------------------


def rejected(
    trials: int, *, follows: float, films: int = 1, within: bool = False, blocks: bool = True
) -> float:
    """Return how often 99 permutations reject at 5 % what is independent given the disease.

    ``follows``: how often the portable follows the disease, which the embedding shows.
    """
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(30), films)
    count = 0
    for seed in range(trials):
        ill = rng.integers(2, size=30)
        portable = rng.random(30) < np.where(ill, follows, 1 - follows)
        z = rng.normal(size=(30, 4)) + 1.5 * ill[:, None]
        found = dependence(
            gaussian(z[who] + 0.2 * rng.normal(size=(len(who), 4))),
            categories(portable[who]),
            strata=ill[who] if within else None,
            patients=who if blocks else None,
            permutations=99,
            seed=seed,
        )
        count += found.p <= 0.05
    return count / trials


TRUE_NULLS = [
    {"follows": 0.5},
    {"follows": 0.8, "within": True},
    {"follows": 0.8, "within": True, "films": 2},
]


@pytest.mark.parametrize("how", TRUE_NULLS)
def test_a_true_null_is_rejected_5_percent_of_the_time(how):
    assert rejected(100, **how) < 0.05 + 3.2 * np.sqrt(0.05 * 0.95 / 100)


@pytest.mark.slow
@pytest.mark.parametrize("how", TRUE_NULLS)
def test_a_true_null_is_rejected_5_percent_of_the_time_over_500_seeds(how):
    assert_allclose(rejected(500, **how), 0.05, atol=3.2 * np.sqrt(0.05 * 0.95 / 500))


def test_films_taken_for_patients_and_strata_left_out_reject_a_true_null_far_too_often():
    assert rejected(60, follows=0.8, within=True, films=2, blocks=False) > 0.15
    assert rejected(60, follows=0.8, films=2) > 0.3


def test_what_no_mean_shows_is_found():
    rng = np.random.default_rng(0)
    site = rng.integers(2, size=150)
    z = rng.normal(size=(150, 5)) * (1 + 0.8 * site[:, None])
    assert dependence(gaussian(z), categories(site), permutations=199).p == 1 / 200
    age = rng.normal(size=150)
    z[:, 0] = age**2 + 0.3 * rng.normal(size=150)
    assert dependence(gaussian(z[:, :1]), gaussian(age), permutations=199).p == 1 / 200


def test_dependences_of_opposite_sign_in_two_strata_do_not_cancel():
    rng = np.random.default_rng(0)
    ill, portable = np.repeat([0, 0, 1, 1], 50), np.repeat([0, 1, 1, 0], 50)
    z = np.tile(rng.normal(size=100) + np.repeat([0.0, 1.2], 50), 2)  # low, high, low, high
    x, y = gaussian(z), categories(portable)
    assert dependence(x, y, permutations=199).p == 1  # the same 100 values at both levels
    assert dependence(x, y, strata=ill, permutations=199).p == 1 / 200


def test_a_confounder_that_only_follows_the_stratum_is_independent_within():
    rng = np.random.default_rng(1)
    ill = rng.integers(2, size=200)
    portable = rng.random(200) < np.where(ill, 0.8, 0.2)
    x, y = gaussian(rng.normal(size=(200, 3)) + ill[:, None]), categories(portable)
    assert dependence(x, y, permutations=199).p == 1 / 200
    assert dependence(x, y, strata=ill, permutations=199).p > 0.05


def test_within_strata_the_statistic_is_the_mean_of_the_strata_by_their_films():
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1, 2], [30, 50, 1])  # a stratum of one film is left out
    x, y = gaussian(rng.normal(size=(81, 3))), categories(rng.integers(2, size=81))
    found = dependence(x, y, strata=strata, permutations=9)
    parts = [hsic(*(k.among(np.flatnonzero(strata == s)) for k in (x, y))) for s in (0, 1)]
    assert_allclose(found.statistic, np.average(parts, weights=[30, 50]), atol=1e-12)
    assert found.n == 80


def test_where_nothing_can_move_p_is_one():
    x, y = gaussian(np.arange(6.0)), categories(np.array([0, 0, 0, 1, 1, 1]))
    strata = np.array([0, 0, 0, 1, 1, 1])
    assert dependence(x, y, strata=strata, permutations=99).p == 1  # one level in each stratum
    alone = np.repeat([0, 1, 2], [1, 2, 3])  # no two patients with as many films
    assert dependence(x, y, patients=alone, permutations=99).p == 1


def test_groups_that_only_change_names_count_as_reached():
    # 3 + 3 films: of the 20 ways to deal two levels, 2 give the observed partition.
    x = gaussian(np.array([0.0, 0.1, 0.25, 5.0, 5.1, 5.3]))
    y = categories(np.array([0, 0, 0, 1, 1, 1]))
    assert_allclose(dependence(x, y, permutations=8000).p, 0.1, atol=0.014)


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_null_and_another_one_another(seed):
    rng = np.random.default_rng(seed)
    x, y = gaussian(rng.normal(size=(40, 3))), categories(rng.integers(3, size=40))
    first, again, other = (dependence(x, y, permutations=20, seed=s) for s in (1, 1, 2))
    assert (first.null == again.null).all()
    assert (first.null != other.null).any()
    assert first.statistic == other.statistic


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: gaussian(np.ones((5, 2))), CohortError, "all 5 rows are the same"),
        (lambda: gaussian(np.array([0.0, np.nan, 1])), CohortError, "row 1 holds a value .* nan"),
        (lambda: gaussian(np.arange(3.0), width=0.0), SettingsError, "width=0 is not a positive"),
        (lambda: hsic(categories(np.arange(3)), categories(np.arange(4))), CohortError, "over 3"),
        (lambda: hsic(*[categories(np.arange(3))] * 2, unbiased=True), CohortError, "3 films are"),
        (lambda: dependence(*[categories(np.arange(9))] * 2, permutations=0), SettingsError, "=0:"),
        (
            lambda: dependence(*[categories(np.arange(9))] * 2, strata=np.arange(8)),
            CohortError,
            "8 strata for 9 films",
        ),
        (
            lambda: dependence(*[categories(np.arange(9))] * 2, strata=np.arange(9)),
            CohortError,
            "no stratum has 2 films: pool strata",
        ),
    ],
)
def test_what_cannot_be_tested_is_said(call, error, words):
    with pytest.raises(error, match=words):
        call()
