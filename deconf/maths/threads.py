"""Keep small linear algebra on one thread.

Thousands of small products spend their time waking threads: on a shared machine one selection took
ten times longer on two threads than on one.  Large products are left alone.
"""

from __future__ import annotations

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
