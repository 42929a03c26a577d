"""Threads: one for small linear algebra, several for long work whose parts are independent.

Thousands of small products spend their time waking threads: on a shared machine one selection took
ten times longer on two threads than on one.  Large products are left alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

SMALL = 30_000_000  # numbers in an embedding up to which one thread is the faster choice


def one_thread(numbers: int) -> AbstractContextManager[Any]:
    """Return a context in which BLAS and OpenMP use one thread, where the job is small.

    Parameters
    ----------
    numbers : int
        Size of the embedding, n times d.
    """
    if numbers > SMALL:
        return nullcontext()
    import sklearn.ensemble  # noqa: F401 (only libraries already loaded can be limited)
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limits


def ahead(
    function: Callable[[Any], Any], items: Iterable[Any], window: int, workers: int
) -> Generator[Any]:
    """Yield the function of every item in order, at most ``window`` of them in the making.

    No thread outlives an interrupt.
    """
    with ThreadPoolExecutor(workers, "deconf") as pool:
        under_way: deque[Future[Any]] = deque()
        try:
            for item in items:
                under_way.append(pool.submit(function, item))
                if len(under_way) >= window:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def spread(function: Callable[[Any], Any], items: Iterable[Any], numbers: int) -> Generator[Any]:
    """Yield the function of every item in order, several at a time where the job is large.

    As many threads as BLAS may use now, each with a BLAS of one thread: what surrounds a product
    (copying, centring) is then shared out as well.  The results, and their order, are the same.

    Parameters
    ----------
    numbers : int
        Size of the whole job, n times d.
    """
    lanes = 1
    if numbers > SMALL:
        from threadpoolctl import ThreadpoolController

        blas = ThreadpoolController().select(user_api="blas")
        lanes = max((library.num_threads for library in blas.lib_controllers), default=1)
    if lanes == 1:
        yield from map(function, items)
        return
    with blas.limit(limits=1):
        yield from ahead(function, items, lanes + 1, lanes)
