"""Work on all cores: pools of threads for kernels that release Python's lock.

Forked children, which have none of their parent's threads, start pools of their own.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar, cast

Work = TypeVar("Work")
Done = TypeVar("Done")


def cores() -> int:
    """The processor cores that this process may use, $FLATCOAT_CORES at most where that is set."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get("FLATCOAT_CORES", "")
    return min(there, max(1, int(share))) if share.isdecimal() else there


def pieces(size: int, step: int) -> Iterator[slice]:
    """``[0:step]``, ``[step:2 step]``, ... up to ``size``.

    >>> list(pieces(5, 2))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return (slice(first, min(first + step, size)) for first in range(0, size, step))


def spread(function: Callable[[Work], Done], work: Iterable[Work]) -> list[Done]:
    """``[function(piece) for piece in work]``, each piece computed by the next free core.

    The caller takes pieces too, and waits for no helper that has not begun: waking a thread may take
    milliseconds where its core is busy. So a piece may spread its own work.

    >>> spread(lambda piece: sum(range(10)[piece]), pieces(10, 5))
    [10, 35]
    """
    todo = list(work)
    helpers = min(cores(), len(todo)) - 1
    if helpers < 1:
        return [function(piece) for piece in todo]
    done: list[Done | None] = [None] * len(todo)
    waiting = iter(range(len(todo)))  # Each number comes to one thread alone.

    def take() -> None:
        for index in waiting:
            done[index] = function(todo[index])

    helping = [pool(max(1, cores() - 1)).submit(take) for _ in range(helpers)]
    try:
        take()
    finally:
        raised = [helper.exception() for helper in helping if not helper.cancel()]
    for error in filter(None, raised):
        raise error
    return cast(list[Done], done)


@cache
def pool(
    size: int,
    in_each: Callable[[], object] | None = None,
    when_started: Callable[[int], object] | None = None,
) -> ThreadPoolExecutor:
    """The process's pool of ``size`` threads, one per set of arguments; a forked child starts its own.

    Threads start as work comes, and run ``in_each()`` first. With ``when_started`` all start at once, and
    ``when_started(size)`` runs in the caller before any gets work.
    """
    executor = ThreadPoolExecutor(size, "flatcoat", initializer=in_each)
    if when_started is not None:
        all_run = Barrier(size)
        list(executor.map(lambda _: all_run.wait(), range(size)))
        when_started(size)
    return executor


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # The threads stay in the parent.
