"""Each planted leak is found by the attacker made for it, and not by the linear one."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from deconf.errors import CohortError, SettingsError
from deconf.maths.intervals import multilevel_auroc
from deconf.probes.attackers import (
    TUNED,
    Boosted,
    Logistic,
    Neighbours,
    Network,
    RadialBasis,
    attackers,
)
from deconf.probes.coordinates import (
    row_span,
    second_order,
    standardise,
    with_telling_coordinates,
)
from deconf.probes.tuning import tuned_linear

NAMES = attackers.names()


def planted(kind: str, *, n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (n, d) and levels (n,) with one kind of leak; directions are turned."""
    rng = np.random.default_rng(seed)
    c = rng.integers(2, size=n)
    z = rng.standard_normal((n, d))
    if kind == "mean":
        z[:, 0] += 1.5 * c
    elif kind == "quiet variance":  # in a direction a hundred times quieter than the rest
        z[:, 0] *= 0.01 * (1 + 2 * c)
    elif kind == "xor":
        c = ((z[:, 0] > 0) ^ (z[:, 1] > 0)).astype(int)
    elif kind == "rotation":  # same variances, the correlation changes sign
        u, v = 2 * z[:, 0].copy(), 0.5 * z[:, 1].copy()
        sign = 2 * c - 1
        z[:, 0], z[:, 1] = (u + sign * v) / np.sqrt(2), (v - sign * u) / np.sqrt(2)
    turn = np.linalg.qr(np.random.default_rng(99).standard_normal((d, d)))[0]
    return (z @ turn).astype(np.float32), c


def held_out_auroc(name: str, z: np.ndarray, c: np.ndarray) -> float:
    half = len(z) // 2
    probe = attackers[name]().fit(z[:half], c[:half], seed=0)
    return multilevel_auroc(probe.scores(z[half:]), c[half:])


@pytest.mark.parametrize("name", NAMES)
def test_every_attacker_finds_a_difference_of_means_and_none_in_noise(name):
    assert held_out_auroc(name, *planted("mean", n=1200, d=8)) > 0.78
    assert abs(held_out_auroc(name, *planted("none", n=1200, d=8)) - 0.5) < 0.08  # 3 sd


@pytest.mark.parametrize("kind", ["quiet variance", "xor", "rotation"])
def test_the_quadratic_attacker_finds_second_moments_and_the_linear_one_does_not(kind):
    z, c = planted(kind, n=2000, d=24)
    assert held_out_auroc("quadratic", z, c) > 0.7
    assert held_out_auroc("logistic", z, c) < 0.57


@pytest.mark.parametrize("name", ["knn", "boosted", "mlp", "rbf"])
def test_the_curved_attackers_find_an_exclusive_or_of_two_turned_directions(name):
    assert held_out_auroc(name, *planted("xor", n=1600, d=4)) > 0.8


def test_boosted_trees_find_a_step_in_one_coordinate_of_five_hundred():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((1200, 500))
    c = (np.abs(z[:, 7]) > 0.67).astype(int)
    assert held_out_auroc("boosted", z, c) > 0.95
    assert held_out_auroc("logistic", z, c) < 0.57


def test_boosted_trees_find_tails_of_one_coordinate_of_five_hundred_that_no_moment_shows():
    rng = np.random.default_rng(0)
    z, c = rng.standard_normal((2000, 500)), np.sort(rng.integers(2, size=2000))
    far = rng.random(2000) < 0.1  # a narrow core and rare films far out: mean 0, variance 1
    odd = np.where(far, 2.8 * rng.choice([-1, 1], 2000), 0.5 * rng.standard_normal(2000))
    z[:, 7] = np.where(c, odd / np.sqrt(0.1 * 2.8**2 + 0.9 * 0.25), z[:, 7])
    z[:, 8] = 0.0  # all ties, in the order of the levels
    mixed = rng.permutation(2000)
    z, c = z[mixed], c[mixed]
    assert held_out_auroc("boosted", z, c) > 0.62
    for name in ("logistic", "quadratic"):
        assert held_out_auroc(name, z, c) < 0.55


def test_ties_in_the_order_of_the_table_do_not_make_a_coordinate_telling():
    rng = np.random.default_rng(0)
    c = np.repeat([0, 1], 300)
    z = np.where(rng.random((600, 80)) < 0.9, 0.0, 1.0)  # mostly zero, whatever the level
    z[:, 70] = rng.standard_normal(600) + c
    view = with_telling_coordinates(z, c, 4, seed=0, count=1)
    expected = standardise(z)(z)[:, 70]
    assert any(np.allclose(column, expected) for column in view(z).T)
    assert view(z).shape[1] == 4 + 1 + 1  # by mean and by distribution; by square another


@pytest.mark.parametrize("name", NAMES)
def test_three_levels_give_three_columns_and_the_rare_one_is_told(name):
    rng = np.random.default_rng(0)
    c = rng.choice(3, p=[0.5, 0.4, 0.1], size=900)
    z = rng.standard_normal((900, 5)) + 3 * np.eye(3, 5)[c]
    probe = attackers[name]().fit(z[:450], c[:450], seed=0)
    scores = probe.scores(z[450:])
    assert scores.shape == (450, 3)
    assert (scores.argmax(1) == c[450:]).mean() > 0.85


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_scores(name):
    z, c = planted("mean", n=120, d=300)
    first, second = (attackers[name]().fit(z, c, seed=3).scores(z) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("d", [1, 40])
def test_four_rows_two_of_them_alike_are_enough_to_fit(name, d):
    z = np.repeat(np.random.default_rng(0).standard_normal((3, d)), [1, 1, 2], axis=0)
    scores = attackers[name]().fit(z, np.array([0, 1, 0, 1]), seed=0).scores(z)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_embedding_without_variance_is_read_by_nobody(name):
    z, c = np.ones((60, 5)), np.arange(60) % 2
    scores = attackers[name]().fit(z, c, seed=0).scores(z)
    assert multilevel_auroc(scores, c) == pytest.approx(0.5)


@pytest.mark.parametrize("name", NAMES)
def test_the_units_of_a_coordinate_do_not_matter(name):
    z, c = planted("mean", n=400, d=6)
    units = np.array([0.01, 1, 10, 100, 1, 7])
    plain = attackers[name]().fit(z.astype(float), c, seed=0).scores(z.astype(float))
    scaled = attackers[name]().fit(z * units + 5, c, seed=0).scores(z * units + 5)
    np.testing.assert_allclose(scaled, plain, rtol=1e-4, atol=1e-4)


def test_float32_rounding_left_by_an_erasure_is_not_blown_up_into_a_leak():
    rng = np.random.default_rng(0)
    c = rng.integers(2, size=1000)
    axis, turned = np.eye(12)[0], rng.standard_normal(12) / np.sqrt(12)
    for u in (axis, turned):
        z = (rng.standard_normal((1000, 12)) + 5 + 3 * np.outer(c, u)).astype(np.float32)
        v = (u / (u @ u)).astype(np.float32)
        erased = z - np.outer((z - z.mean(0)) @ v, u.astype(np.float32))
        for name in NAMES:
            assert held_out_auroc(name, z, c) > 0.8
            assert abs(held_out_auroc(name, erased, c) - 0.5) < 0.09


@pytest.mark.parametrize("name", NAMES)
def test_a_trace_a_millionth_of_the_signal_is_rounding_and_not_read(name):
    rng = np.random.default_rng(0)
    z, c = rng.standard_normal((1000, 6)), rng.integers(2, size=1000)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    for size in (1e-6, 1.5):
        z[:, 0] = size * c  # all there is in this direction
        for seen in (z, z @ turn):
            assert (held_out_auroc(name, seen, c) > 0.65) == (size > 1)


def test_one_wild_value_does_not_blind_the_quadratic_attacker():
    z, c = planted("rotation", n=2000, d=4)
    z[0, :] = 1e4
    assert held_out_auroc("quadratic", z, c) > 0.8


def test_fitting_in_the_span_of_the_rows_is_exact_when_there_are_more_coordinates_than_rows():
    z, c = planted("mean", n=40, d=90)
    x = standardise(z)(z)
    whole = tuned_linear(x, c, None, (0.01,), seed=0)(x)
    span = row_span(x)
    assert span(x).shape[1] <= 40
    within = tuned_linear(span(x), c, None, (0.01,), seed=0)(span(x))
    np.testing.assert_allclose(within, whole, atol=0.01)  # the optimiser stops at 0.001


def test_tuning_by_patient_distrusts_what_only_a_patients_own_films_confirm():
    # Eight near-copies per patient and a level per patient: by film, the weakest penalty and the
    # nearest neighbour look perfect; by patient there is nothing to find.
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 8)
    c = rng.integers(2, size=60)[patients]
    z = rng.standard_normal((60, 30))[patients] + 0.01 * rng.standard_normal((480, 30))
    by_film = Logistic().fit(z, c, seed=0).scores(z)
    by_patient = Logistic().fit(z, c, seed=0, patients=patients).scores(z)
    assert np.abs(by_patient).mean() < np.abs(by_film).mean() / 3


def test_neighbours_choose_k_by_patients_other_than_the_own():
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(100), 6)
    c = rng.integers(2, size=100)[patients]
    z = (rng.standard_normal((100, 3)) + 0.7 * c[::6, None])[patients]
    z = z + 0.01 * rng.standard_normal(z.shape)
    shades = {
        key: len(np.unique(Neighbours().fit(z, c, seed=0, patients=who).scores(z)[:, 1].round(6)))
        for key, who in {"film": None, "patient": patients}.items()
    }
    assert shades["film"] <= 6  # k = 5
    assert shades["patient"] > 6


def test_directions_of_unequal_variance_come_first_in_the_second_order_view():
    z, c = planted("quiet variance", n=2000, d=16)
    x = standardise(z)(z)
    features = second_order(x, c, seed=0)(x)
    squares = features[:, 8:]  # after the eight patterns themselves
    gap = np.abs(squares[c == 1].mean(0) - squares[c == 0].mean(0))
    assert gap.max() > 0.8


def test_an_unknown_attacker_is_named_with_the_nearest_known():
    with pytest.raises(SettingsError, match=r"'boost'.*Did you mean 'boosted'.*logistic"):
        attackers["boost"]


def test_a_probe_refuses_rows_of_another_width():
    probe = Logistic().fit(np.eye(6), np.arange(6) % 2, seed=0)
    with pytest.raises(CohortError, match=r"width 6 .* \(3, 4\)"):
        probe.scores(np.zeros((3, 4)))


def test_a_fit_stopped_short_warns_nobody(recwarn):
    rng = np.random.default_rng(0)
    Logistic(strengths=(1e8,)).fit(
        rng.standard_normal((300, 60)), rng.integers(2, size=300), seed=0
    )
    assert not [w for w in recwarn if issubclass(w.category, ConvergenceWarning)]


# ------------------------------------------------------------------ chosen by patient-grouped folds


def test_of_many_trees_few_are_taken_where_only_a_patients_own_films_agree():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 8)
    c = rng.integers(2, size=60)[patients]
    z = rng.standard_normal((60, 10))[patients] + 0.01 * rng.standard_normal((480, 10))
    choosing = Boosted(trees=(5, 60), leaves=(4, 8))
    by_film = choosing.fit(z, c, seed=0).scores(z)
    by_patient = choosing.fit(z, c, seed=0, patients=patients).scores(z)
    assert np.abs(by_patient).mean() < np.abs(by_film).mean() / 3


def test_trees_deep_enough_are_taken_where_one_split_does_not_do():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((1600, 3))
    c = (z.prod(1) > 0).astype(int)  # three signs: a sum of single splits cannot say it
    half = 800
    stumps = Boosted(leaves=(2,)).fit(z[:half], c[:half], seed=0).scores(z[half:])
    chosen = Boosted(leaves=(2, 8)).fit(z[:half], c[:half], seed=0).scores(z[half:])
    assert multilevel_auroc(stumps, c[half:]) < 0.8
    assert multilevel_auroc(chosen, c[half:]) > 0.95


def test_the_width_that_does_best_on_other_patients_is_taken_and_averaged_over_thirds():
    z, c = planted("xor", n=400, d=3)
    tried = [Network(hidden=(width, width)).fit(z, c, seed=0).scores(z) for width in (1, 64)]
    chosen = Network(hidden=(1, 64)).fit(z, c, seed=0).scores(z)
    np.testing.assert_array_equal(chosen, tried[1])  # one unit draws one line
    assert not np.allclose(tried[0], tried[1])
    # The mean of three log-probabilities adds up to less than one, that of a single one to one.
    single = Network(hidden=(64,)).fit(z, c, seed=0).scores(z)
    np.testing.assert_allclose(np.exp(single).sum(1), 1)
    assert (np.exp(chosen).sum(1) < 1 - 1e-6).any()


def test_a_kernel_as_narrow_as_the_clusters_is_chosen():
    rng = np.random.default_rng(0)
    z = rng.uniform(-2, 2, size=(1600, 2))
    c = (np.floor(z[:, 0]) + np.floor(z[:, 1])).astype(int) % 2  # a chessboard
    half = 800

    def read(*widths: tuple[float, ...]) -> float:
        probe = RadialBasis(widths=widths).fit(z[:half], c[:half], seed=0)
        return multilevel_auroc(probe.scores(z[half:]), c[half:])

    narrow, wide = read((0.2,)), read((2.0,))
    assert narrow > wide + 0.3
    assert read((0.2,), (2.0,)) == read((2.0,), (0.2,)) == pytest.approx(narrow)


@pytest.mark.parametrize("name", sorted(TUNED))
def test_settings_of_the_full_effort_let_folds_choose_and_include_those_of_the_quick(name):
    quick, full = attackers[name](), TUNED[name]
    choices = [
        (getattr(quick, f.name), getattr(full, f.name))
        for f in fields(full)
        if isinstance(getattr(full, f.name), tuple) and f.name != "strengths"
    ]
    assert any(len(many) > len(one) for one, many in choices)
    for one, many in choices:
        if name != "mlp":
            assert set(one) <= set(many)
