"""Laws that every registered method is held to, as far as its card claims them.

A method is tested here from the moment it is registered; nothing below names one.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from deconf.errors import SettingsError
from deconf.maths.maps import from_spec
from deconf.maths.moments import Given, cell_moments
from deconf.methods.base import Method, methods, resolve
from tests.strategies import apply, gap, invertible, world, worlds


def names(law: str | None = None, dear: bool = True) -> list[str]:
    """Return the methods that claim a law; dear ones take seconds a fit and meet fewer examples.

    Here every film is of another patient: methods that need pairs meet the laws in tests/methods.
    """
    return [
        name
        for name in methods.names()
        if (law is None or law in methods.card(name).laws)
        and (dear or not methods.card(name).dear)
        and "pairs" not in methods.card(name).needs
    ]


def bare(name: str) -> Method:
    """Return a method with nothing estimated away: no shrinkage, every direction."""
    method = resolve(name)
    wish = {"shrinkage": 0.0, "rank": "full"}
    return replace(method, **{f.name: wish[f.name] for f in fields(method) if f.name in wish})


def settings_of(name: str) -> list[Method]:
    """Return the settings under which a law must hold: as they come, and bare."""
    return [resolve(name), bare(name)]


def outcome_of(name: str, w) -> dict:
    """Return the outcome for a method whose card needs one: disease, the strata of the world."""
    return (
        {"outcome": (w.strata > 0).astype(float)} if "outcome" in methods.card(name).needs else {}
    )


def size_of(z) -> float:
    return float(np.abs(z).max())


# ---------------------------------------------------------------- what the card claims


@pytest.mark.parametrize("name", names("idempotent"))
@settings(max_examples=12)
@given(w=worlds())
def test_cleaning_twice_changes_nothing(name, w):
    for method in settings_of(name):
        fitted = method.fit(w.z, w.c, given=w.given, weights=w.weights)
        once = apply(fitted, w.z, w.c)
        assert_allclose(apply(fitted, once, w.c), once, atol=1e-7 * size_of(w.z))


@pytest.mark.parametrize("name", names("equivariant"))
@settings(max_examples=12)
@given(w=worlds(), seed=st.integers(0, 10**6), condition=st.sampled_from([1.0, 100.0]))
def test_the_result_does_not_depend_on_the_basis_of_the_embedding(name, w, seed, condition):
    rng = np.random.default_rng(seed)
    basis, origin = invertible(rng, w.z.shape[1], condition), 10 * rng.normal(size=w.z.shape[1])
    here = apply(bare(name).fit(w.z, w.c, given=w.given), w.z, w.c) @ basis + origin
    there = w.z @ basis + origin
    mapped = apply(bare(name).fit(there, w.c, given=w.given), there, w.c)
    assert_allclose(mapped, here, atol=1e-6 * size_of(here))


@pytest.mark.parametrize("name", names("equivariant"))
def test_the_unit_of_a_feature_does_not_matter(name):
    w = world(0)
    unit = np.ones(w.z.shape[1])
    unit[2], unit[5] = 1e-7, 1e6
    here = apply(bare(name).fit(w.z, w.c), w.z)
    assert_allclose(apply(bare(name).fit(w.z * unit, w.c), w.z * unit) / unit, here, atol=1e-7)


@pytest.mark.parametrize("name", names("recoding"))
@settings(max_examples=12)
@given(w=worlds(), seed=st.integers(0, 10**6))
def test_recoding_the_confounder_changes_nothing(name, w, seed):
    contrasts = w.c[:, 1:]  # one-hot has one column too many; contrasts say the same
    mixed = contrasts @ invertible(np.random.default_rng(seed), contrasts.shape[1], 50.0) + 0.25
    for method in settings_of(name):
        expected = apply(method.fit(w.z, w.c, given=w.given), w.z, w.c)
        for c in (contrasts, mixed):
            recoded = apply(method.fit(w.z, c, given=w.given), w.z, c)
            assert_allclose(recoded, expected, atol=1e-7 * size_of(w.z))


@pytest.mark.parametrize("name", names("duplicates"))
@settings(max_examples=12)
@given(w=worlds())
def test_a_weight_of_two_is_a_row_seen_twice(name, w):
    times = w.weights.astype(int)
    z, c, strata = (np.repeat(x, times, axis=0) for x in (w.z, w.c, w.strata))
    films = np.repeat(np.arange(len(w.z)), times)
    for method in settings_of(name):
        if hasattr(method, "strata"):  # "auto" counts rows, which differ
            method = replace(method, strata="pooled")
        weighted = method.fit(w.z, w.c, given=w.given, weights=w.weights)
        repeated = method.fit(z, c, given=Given(strata), patients=films)
        assert_allclose(
            apply(weighted, w.z, w.c), apply(repeated, w.z, w.c), atol=1e-7 * size_of(w.z)
        )


@pytest.mark.parametrize("name", names("streams"))
@settings(max_examples=15)
@given(w=worlds(), shards=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_shards_merged_in_any_order_give_what_one_batch_gives(name, w, shards, seed):
    assert methods.card(name).streams
    rng = np.random.default_rng(seed)
    shard = rng.integers(shards, size=len(w.z))  # uneven, some empty of a stratum
    cells = int(w.strata.max()) + 1
    parts = [
        cell_moments(
            w.z[rows], w.c[rows], given=w.given.rows(rows), weights=w.weights[rows], cells=cells
        )
        for i in rng.permutation(shards)
        if (rows := np.flatnonzero(shard == i)).size
    ]
    merged = reduce(lambda a, b: a.merge(b) if rng.random() < 0.5 else b.merge(a), parts)
    for method in settings_of(name):
        batch = method.fit(w.z, w.c, given=w.given, weights=w.weights)
        assert_allclose(
            apply(method.fit_moments(merged), w.z), apply(batch, w.z), atol=1e-8 * size_of(w.z)
        )


NULLS = {
    "two levels": {"k": 2, "d": 16, "n": 500, "disease": 2.0},
    "five uneven levels": {"k": 5, "d": 12, "n": 1000, "rarest": 0.05},
    "quiet directions": {"k": 2, "d": 16, "n": 800, "condition": 1000.0},
    "weak disease": {"k": 2, "d": 24, "n": 1200, "disease": 0.6},
    "more columns than rows": {"k": 2, "d": 150, "n": 100},
}


@pytest.mark.parametrize("story", NULLS)
@pytest.mark.parametrize("name", names("null", dear=False))
def test_data_without_confounding_come_back_unchanged_nine_times_in_ten(name, story):
    kept = 0
    for seed in range(20):
        w = world(seed, trace=0.0, **NULLS[story])
        fitted = resolve(name).fit(w.z, w.c, given=w.given, seed=seed)
        kept += np.array_equal(apply(fitted, w.z, w.c), w.z)
    assert kept >= 17  # three of twenty are still chance where one in ten is moved


@pytest.mark.parametrize("name", names("null", dear=False))
def test_weights_and_patients_with_many_films_are_not_taken_for_a_trace(name):
    kept = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        films = rng.geometric(0.5, size=250) * np.where(rng.random(250) < 0.1, 8, 1)
        patient = np.repeat(np.arange(250), films)
        z = rng.normal(size=(250, 10))[patient] + 0.5 * rng.normal(size=(len(patient), 10))
        strata, levels = (rng.integers(2, size=250)[patient] for _ in range(2))
        z[:, 0] += 2 * strata
        weights = rng.exponential(size=250)[patient]
        fitted = resolve(name).fit(
            z, np.eye(2)[levels], given=Given(strata), weights=weights, patients=patient
        )
        kept += np.array_equal(apply(fitted, z, np.eye(2)[levels]), z)
    assert kept >= 18


@pytest.mark.parametrize("name", names("null", dear=False))
def test_without_knowing_the_patients_the_same_films_do_look_like_a_trace(name):
    # The twin of the law above: it would be empty if these films could not deceive.
    if methods.card(name).head_weights:
        pytest.skip("moves nothing, ever")
    deceived = kept = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        patient = np.repeat(np.arange(60), 12)
        z = rng.normal(size=(60, 10))[patient]
        c = np.eye(2)[rng.integers(2, size=60)[patient]]
        deceived += not np.array_equal(apply(resolve(name).fit(z, c), z, c), z)
        kept += np.array_equal(apply(resolve(name).fit(z, c, patients=patient), z, c), z)
    assert deceived == 10
    assert kept >= 9


# ---------------------------------------------------------------- what every method owes


@pytest.mark.parametrize("name", names(dear=False))
def test_what_could_be_read_before_cannot_be_read_after(name):
    w = world(1, n=3000, d=8, k=3, trace=1.0)
    fitted = resolve(name).fit(w.z, w.c, given=w.given)
    before, after = (gap(z, w.levels, w.strata) for z in (w.z, apply(fitted, w.z, w.c)))
    assert before > 0.3
    if methods.card(name).head_weights:
        assert after == before  # says so on its card: the embedding is left as it was
    else:
        assert after < 0.05


@pytest.mark.parametrize("name", names(dear=False))
def test_disease_inside_a_level_can_still_be_read(name):
    w = world(2, n=3000, d=12, k=2, trace=1.0, disease=1.0)
    fitted = resolve(name).fit(w.z, w.c, given=w.given)
    before, after = (gap(z, w.strata, w.levels) for z in (w.z, apply(fitted, w.z, w.c)))
    assert after > 0.5 * before


@pytest.mark.parametrize("name", names(dear=False))
@settings(max_examples=8)
@given(w=worlds(), seed=st.integers(0, 3))
def test_the_same_seed_gives_the_same_numbers_and_the_input_is_left_alone(name, w, seed):
    z, c, weights = w.z.copy(), w.c.copy(), w.weights.copy()
    for x in (z, c, weights):
        x.flags.writeable = False  # as the embeddings of a cohort are
    fits = [resolve(name).fit(z, c, given=w.given, weights=weights, seed=seed) for _ in range(2)]
    assert_allclose(apply(fits[0], w.z, w.c), apply(fits[1], w.z, w.c), rtol=0, atol=0)


@pytest.mark.parametrize("name", names())
def test_arrays_and_tensors_are_the_same_and_the_precision_comes_back(name):
    w = world(3, n=200)
    method, more = resolve(name), outcome_of(name, w)
    array = method.fit(w.z, w.c, given=w.given, **more)
    tensor = method.fit(torch.tensor(w.z), torch.tensor(w.c), given=w.given, **more)
    expected = apply(array, w.z, w.c)
    assert_allclose(apply(tensor, w.z, w.c), expected, atol=1e-12)
    single = apply(array, w.z.astype(np.float32), w.c)
    assert single.dtype == np.float32
    assert_allclose(single, expected, atol=1e-4)


@pytest.mark.parametrize("name", names())
def test_a_fitted_map_is_rebuilt_from_its_spec_and_its_tensors(name):
    w = world(4, n=300)
    fitted = bare(name).fit(w.z, w.c, given=w.given, **outcome_of(name, w))
    rebuilt = from_spec(fitted.spec(), dict(fitted.state_dict()))
    assert rebuilt.needs_confounders == fitted.needs_confounders
    assert_allclose(apply(rebuilt, w.z, w.c), apply(fitted, w.z, w.c), rtol=0, atol=0)


@pytest.mark.parametrize("name", names())
def test_the_card_says_whether_the_map_reads_the_confounder(name):
    w = world(5, n=300)
    fitted = resolve(name).fit(w.z, w.c, given=w.given, **outcome_of(name, w))
    assert fitted.needs_confounders == methods.card(name).needs_confounders


@pytest.mark.parametrize("name", names(dear=False))
def test_a_confounder_of_one_class_leaves_nothing_to_remove(name):
    w = world(6, n=300)
    for method in settings_of(name):
        fitted = method.fit(w.z, np.ones((300, 1)), given=w.given)
        assert_allclose(apply(fitted, w.z, np.ones((300, 1))), w.z, rtol=0, atol=0)


@pytest.mark.parametrize("name", names(dear=False))
@settings(max_examples=8)
@given(
    shape=st.sampled_from([(2, 3), (3, 3), (6, 20), (40, 60), (50, 4)]),
    seed=st.integers(0, 10**6),
    kind=st.sampled_from([np.float32, np.float64]),
)
def test_few_rows_and_dead_columns_give_finite_numbers(name, shape, seed, kind):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=shape).astype(kind)
    z[:, 0] = 0.1  # constant, and not a binary fraction
    z[:, 2] = z[:, 1]
    levels = np.zeros(len(z), dtype=int)
    levels[0] = 1  # a level of one row
    strata = rng.integers(2, size=len(z)) * 2  # no stratum 1
    for method in settings_of(name):
        fitted = method.fit(z, np.eye(2)[levels], given=Given(strata))
        assert np.isfinite(apply(fitted, z, np.eye(2)[levels])).all()


@pytest.mark.parametrize("name", names(dear=False))
def test_a_missing_stratum_and_a_level_without_weight_change_nothing_for_the_rest(name):
    w = world(7, n=3000, k=3, trace=1.0)
    method = resolve(name)
    expected = apply(method.fit(w.z, w.c, given=w.given), w.z, w.c)
    apart = method.fit(w.z, w.c, given=Given(3 * w.strata))
    assert_allclose(apply(apart, w.z, w.c), expected, atol=1e-10)
    two = w.levels < 2
    without = method.fit(w.z[two], w.c[two], given=w.given.rows(two))
    weightless = method.fit(w.z, w.c, given=w.given, weights=two.astype(float))
    clean = apply(weightless, w.z[two], w.c[two])
    if "recoding" in methods.card(name).laws:  # closed form; a classifier of levels moves a little
        assert_allclose(clean, apply(without, w.z[two], w.c[two]), atol=1e-9)
    elif not methods.card(name).head_weights:
        assert gap(w.z[two], w.levels[two], w.strata[two]) > 0.2
        assert gap(clean, w.levels[two], w.strata[two]) < 0.03


@pytest.mark.parametrize("name", names(dear=False))
def test_features_a_thousand_deviations_from_zero_do_not_leak_in_float32(name):
    w = world(8, n=20_000, d=8, k=2, trace=1.0)
    far = (w.z + 1000 * w.z.std(axis=0)).astype(np.float32)
    fitted = bare(name).fit(far, w.c, given=w.given)
    near = bare(name).fit(w.z, w.c, given=w.given)
    out = apply(fitted, far, w.c)
    assert_allclose(out - 1000 * w.z.std(axis=0), apply(near, w.z, w.c), atol=5e-3)
    if "equivariant" in methods.card(name).laws:  # exact on the fitting data
        stacked = replace(bare(name), strata="stacked").fit(far, w.c, given=w.given)
        assert gap(far, w.levels, w.strata) > 0.2
        assert gap(apply(stacked, far), w.levels, w.strata) < 1e-4


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if methods.card(name).dear else [])
        for name in names()
    ],
)
def test_of_two_confounders_both_are_read_whatever_their_order(name):
    n, rng = 800 if methods.card(name).dear else 3000, np.random.default_rng(12)
    w, kernel, number = world(11, n=n, d=6, k=2), rng.integers(3, size=n), rng.normal(size=(n, 1))
    z = w.z + rng.normal(size=(3, 6))[kernel]
    told, more = {"given": w.given}, outcome_of(name, w)
    seconds = {"categories": np.eye(3)[kernel]}
    if "levels" not in methods.card(name).needs:
        seconds["a number"] = number
    for kind, second in seconds.items():
        x = z + number @ rng.normal(size=(1, 6)) if kind == "a number" else z
        orders = [np.hstack([w.c, second]), np.hstack([second, w.c])]
        first, other = (apply(resolve(name).fit(x, c, **told, **more), x, c) for c in orders)
        assert_allclose(first, other, atol=1e-5 * size_of(x), err_msg=kind)
        if not (methods.card(name).dear or methods.card(name).head_weights):
            for levels in (w.levels, kernel)[: 2 if kind == "categories" else 1]:
                assert gap(first, levels, w.strata) < 0.25 * gap(x, levels, w.strata)


@pytest.mark.parametrize("name", names())
def test_a_continuous_confounder_is_served_or_refused_by_name(name):
    rng = np.random.default_rng(0)
    z, c = rng.normal(size=(200, 6)), rng.normal(size=(200, 1))
    z[:, :1] += 2 * c
    if "levels" in methods.card(name).needs:
        with pytest.raises(SettingsError, match=f"{name} needs confounders with levels.*'leace'"):
            resolve(name).fit(z, c)
        return
    out = apply(resolve(name).fit(z, c), z, c)
    after = np.corrcoef(out.T, c.T)[-1, :-1]
    unchanged = methods.card(name).head_weights
    assert (np.abs(after).max() > 0.5) == unchanged


@pytest.mark.parametrize("name", names(dear=False))
def test_bad_rows_are_named_before_any_work(name):
    if methods.card(name).head_weights:
        pytest.skip("looks at no number")
    w = world(9, n=100)
    broken = w.z.copy()
    broken[17, 3] = np.nan
    with pytest.raises(SettingsError, match="nan in row 17, column 3"):
        resolve(name).fit(broken, w.c)
    with pytest.raises(SettingsError, match="row 5 has -1"):
        resolve(name).fit(w.z, w.c, weights=np.where(np.arange(100) == 5, -1.0, 1.0))
    with pytest.raises(SettingsError, match="all weights are zero"):
        resolve(name).fit(w.z, w.c, weights=np.zeros(100))
    with pytest.raises(SettingsError, match=r"\(99,\); one for each of the 100 rows"):
        resolve(name).fit(w.z, w.c, weights=np.ones(99))
    with pytest.raises(SettingsError, match="given has 99 rows, z has 100"):
        resolve(name).fit(w.z, w.c, given=Given.nothing(99))
    with pytest.raises(SettingsError, match=r"z \(n, d\) and c \(n, k\).*\(100, 8\) and \(99, 3\)"):
        resolve(name).fit(w.z, w.c[1:])


@settings(max_examples=10)
@given(w=worlds())
def test_a_gradient_flows_back_through_every_map(w):
    assume(len(w.z) > 60)
    for name in names(dear=False):
        z = torch.tensor(w.z, requires_grad=True)
        fitted = bare(name).fit(w.z, w.c, given=w.given)
        read = (torch.tensor(w.c),) if fitted.needs_confounders else ()
        fitted(z, *read).sum().backward()
        assert torch.isfinite(z.grad).all()
        assert z.grad.abs().max() > 0


def test_a_method_is_named_or_given_and_anything_else_is_refused():
    assert resolve("leace") == methods["leace"]()
    assert resolve(bare("leace")) is not None
    with pytest.raises(SettingsError, match="Did you mean 'leace'"):
        resolve("laece")
    with pytest.raises(SettingsError, match=r"settings object such as LEACE\(rank='full'\), not 3"):
        resolve(3)
