"""Kernels that hold no lock, run side by side on every core by one pool of threads."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar, cast

Work = TypeVar("Work")
Done = TypeVar("Done")


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(function: Callable[[Work], Done], work: Iterable[Work]) -> list[Done]:
    """``[function(piece) for piece in work]``, the pieces taken by whichever core is free.

    The caller takes pieces too, and waits for no helper that has not begun: waking a thread may take
    milliseconds where its core is busy.
    """
    pieces = list(work)
    helpers = min(cores(), len(pieces)) - 1
    if helpers < 1:
        return [function(piece) for piece in pieces]
    done: list[Done | None] = [None] * len(pieces)
    waiting = iter(range(len(pieces)))  # each number comes to one thread alone

    def take() -> None:
        for index in waiting:
            done[index] = function(pieces[index])

    helping = [_pool().submit(take) for _ in range(helpers)]
    try:
        take()
    finally:
        raised = [helper.exception() for helper in helping if not helper.cancel()]
    for error in filter(None, raised):
        raise error
    return cast(list[Done], done)


def pieces(size: int, step: int) -> Iterator[slice]:
    """``[0:step]``, ``[step:2 step]``, ... up to ``size``."""
    return (slice(first, min(first + step, size)) for first in range(0, size, step))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, cores() - 1), "flatcoat-index")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # A forked child has none of the threads.
