from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from deconf.errors import CohortError
from deconf.maths.pairs import close_pairs


def naive(z: np.ndarray, limit: float, opposite: bool) -> dict[tuple[int, int], float]:
    found = {}
    for i in range(len(z)):
        for j in range(i + 1, len(z)):
            lengths = np.linalg.norm(z[i]) * np.linalg.norm(z[j])
            cosine = z[i] @ z[j] / lengths if lengths else 0.0
            found[i, j] = 1 - (abs(cosine) if opposite else cosine)
    return {pair: apart for pair, apart in found.items() if apart <= limit}


@given(
    st.integers(0, 1000),
    st.integers(2, 23),
    st.integers(1, 6),
    st.floats(0.05, 0.9),
    st.booleans(),
)
def test_every_close_pair_is_found_once_whatever_the_size_of_a_block(seed, n, d, limit, opposite):
    z = np.random.default_rng(seed).normal(size=(n, d))
    z[0] = 0  # near nothing
    wanted = naive(z, limit, opposite)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deconf.maths.pairs.BLOCK", 5)
        found = close_pairs(z, limit, opposite=opposite)
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    for pair in set(pairs) ^ set(wanted):  # float32 may differ at the limit, and only there
        assert abs(naive(z, 2, opposite)[pair] - limit) < 1e-5
    for pair, apart in zip(pairs, found.distance, strict=True):
        assert_allclose(apart, naive(z, 2, opposite)[pair], atol=1e-5)
    left = [a for pair, a in naive(z, 3, opposite).items() if pair not in pairs]
    assert_allclose(found.nearest_beyond, min(left, default=np.inf), atol=1e-5)


def test_opposite_pairs_are_marked():
    z = np.array([[1.0, 0.0], [-2.0, 0.0], [3.0, 0.0]])
    found = close_pairs(z, 0.1, opposite=True)
    assert list(zip(found.first, found.second, found.opposite, strict=True)) == [
        (0, 1, True),
        (0, 2, False),
        (1, 2, True),
    ]
    assert list(close_pairs(z, 0.1).second) == [2]


def test_a_limit_that_tells_nothing_apart_is_refused_and_the_row_named(monkeypatch):
    monkeypatch.setattr("deconf.maths.pairs.MOST_PAIRS", 10)
    z = np.r_[np.ones((6, 2)), [[1.0, -1.0]]]
    with pytest.raises(CohortError, match=r"more than 10 pairs.*row 0 .*Lower limit="):
        close_pairs(z, 0.1)
