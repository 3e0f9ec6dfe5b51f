"""Kernels that hold no lock, run side by side on every core by one pool of threads."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Work = TypeVar("Work")
Done = TypeVar("Done")


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(function: Callable[[Work], Done], work: Iterable[Work]) -> list[Done]:
    """``[function(piece) for piece in work]``, the pieces taken by whichever core is free."""
    pieces = list(work)
    if len(pieces) < 2 or cores() < 2:
        return [function(piece) for piece in pieces]
    return list(_pool().map(function, pieces))


def pieces(size: int, step: int) -> Iterator[slice]:
    """``[0:step]``, ``[step:2 step]``, ... up to ``size``."""
    return (slice(first, min(first + step, size)) for first in range(0, size, step))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), "flatcoat-index")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # A forked child has none of the threads.
