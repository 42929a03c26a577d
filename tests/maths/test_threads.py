from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from deconf.maths import threads
from deconf.maths.moments import cell_moments


def blas_threads() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_work_shared_out_comes_back_in_order_and_blas_gets_its_threads_back():
    with threadpool_limits(limits=2, user_api="blas"):
        seen = []

        def slow_start(i: int) -> int:
            seen.append((threading.get_ident(), *blas_threads()))
            time.sleep(0.02 if i % 2 == 0 else 0)
            return i

        assert list(threads.spread(slow_start, range(8), threads.SMALL + 1)) == list(range(8))
        assert len({who for who, _ in seen}) == 2
        assert {number for _, number in seen} == {1}
        assert blas_threads() == {2}


def test_small_work_stays_in_its_thread():
    who = list(threads.spread(lambda _: threading.get_ident(), range(3), threads.SMALL))
    assert set(who) == {threading.get_ident()}


def test_an_error_in_a_thread_reaches_the_caller_and_blas_gets_its_threads_back():
    with threadpool_limits(limits=2, user_api="blas"):
        with pytest.raises(ZeroDivisionError):
            list(threads.spread(lambda i: 1 // i, range(3), threads.SMALL + 1))
        assert blas_threads() == {2}


def test_moments_are_the_same_bits_on_one_thread_and_on_two(monkeypatch):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((30_000, 12), dtype=np.float32)
    c = rng.integers(2, size=(30_000, 1)).astype(float)
    alone = cell_moments(z, c)
    monkeypatch.setattr(threads, "SMALL", 0)
    with threadpool_limits(limits=2, user_api="blas"):
        together = cell_moments(z, c)
    assert np.array_equal(alone.scatter, together.scatter)
    assert np.array_equal(alone.mean, together.mean)
