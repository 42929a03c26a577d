from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deconf.errors import SettingsError
from deconf.maths.moments import Given
from deconf.methods.films import films_of, stratified

CPU = torch.device("cpu")


def some(level, stratum, weights=None, **more):
    rng = np.random.default_rng(0)
    c = np.eye(int(max(level)) + 1)[level]
    z = rng.normal(size=(len(level), 3))
    return films_of(z, c, Given(np.asarray(stratum), **more), None, weights, CPU)


@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    batch=st.sampled_from([8, 64]),
    steps=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_every_batch_holds_every_cell_and_no_film_twice(sizes, batch, steps, seed):
    cell = np.repeat(np.arange(len(sizes)) * 3, sizes)  # numbers with gaps
    order, size = stratified(cell, batch, steps)
    batches = order(np.random.default_rng(seed)).reshape(steps, size)
    for rows in batches:
        assert len(np.unique(rows)) == size
        held = np.bincount(cell[rows], minlength=cell.max() + 1)[::3]
        for count, available in zip(held, sizes, strict=True):
            assert count == min(max(batch // len(sizes), 32), available)


def test_the_films_of_a_cell_take_turns():
    order, _ = stratified(np.repeat([0, 1], [100, 1000]), 64, 50)
    times = np.bincount(order(np.random.default_rng(0)), minlength=1100)
    assert set(times[:100]) <= {14, 15, 16, 17, 18}  # 50 x 32 / 100, three batches a shuffle
    assert times[100:].max() <= 2
    assert (times[100:] == 0).mean() < 0.01  # what fills no batch waits for the next shuffle


def test_many_cells_do_not_make_a_batch_of_thousands():
    _, size = stratified(np.repeat(np.arange(500), 40), 256, 1)
    assert size <= 2048


def test_balanced_weights_make_the_level_independent_of_the_stratum():
    rng = np.random.default_rng(0)
    stratum = rng.integers(3, size=400)
    level = (rng.random(400) < 0.2 + 0.3 * stratum).astype(int)
    weights = rng.uniform(0.5, 2, size=400)
    films = some(level, stratum, weights)
    w = films.balanced.numpy()
    assert w.sum() == pytest.approx(1, abs=1e-6)
    for s in range(3):
        inside = stratum == s
        assert w[inside].sum() == pytest.approx(weights[inside].sum() / weights.sum(), abs=1e-6)
        own = [w[inside & (level == k)].sum() for k in (0, 1)]
        assert own[0] == pytest.approx(own[1], abs=1e-6)
        here = inside & (level == 1)
        assert np.allclose(w[here] / weights[here], w[here][0] / weights[here][0], rtol=1e-5)


def test_with_nothing_held_levels_count_the_same_whatever_the_stratum():
    level, stratum = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    films = some(level, stratum, basis=np.ones((4, 2))).marginal()
    assert films.strata == 1
    assert films.basis.shape == (4, 0)
    assert films.balanced.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_an_outcome_that_is_neither_is_named():
    z = np.zeros((3, 2))
    with pytest.raises(SettingsError, match=r"0, 1 or missing.*hold 2.*'leace'"):
        films_of(z, np.eye(3), Given.nothing(3), np.array([0, 1, 2]), None, CPU)
    with pytest.raises(SettingsError, match="ill"):
        films_of(z, np.eye(3), Given.nothing(3), np.array(["ill", "ill", "well"]), None, CPU)
    missing = films_of(z, np.eye(3), Given.nothing(3), np.array([0, np.nan, 1]), None, CPU)
    assert missing.outcome.isnan().ravel().tolist() == [False, True, False]
