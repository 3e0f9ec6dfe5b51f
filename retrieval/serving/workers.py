"""Threads that answer requests, with a queue that has an end."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Semaphore, local
from typing import TypeVar

from .errors import Refused

Answer = TypeVar("Answer")

_own = local()
"""``turns``: those of which this thread has one."""


class Workers:
    """So many threads for one kind of request, and so many requests that wait for one.

    ``at_once`` of the threads work at a time, by default all; the others have given way, or wait for a turn.

    >>> workers = Workers("search", threads=2, waiting=8, seconds=10)
    >>> asyncio.run(workers.run(lambda: 6 * 7))
    42
    >>> workers.close()
    """

    def __init__(
        self, name: str, *, threads: int, waiting: int, seconds: float, at_once: int | None = None
    ) -> None:
        self.name = name
        self.pending = 0
        """Requests that are answered or wait."""
        self._turns = Semaphore(at_once or threads)
        self._most = (at_once or threads) + waiting
        self._seconds = seconds
        self._pool = ThreadPoolExecutor(threads, f"flatcoat-{name}")

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """What ``work`` returns, from one of the threads.

        Raises Refused with 429 where the queue is full, and with 504 where the answer takes too long: work
        that has begun goes on to its end, and keeps its place until then.
        """
        if self.pending >= self._most:
            raise Refused(
                429, f"{self.pending} {self.name} requests are being answered or wait: send this one again"
            )
        loop = asyncio.get_running_loop()
        future = self._pool.submit(self._in_turn, work)
        self.pending += 1
        future.add_done_callback(lambda _: _call_soon(loop, self._ended))
        try:
            # wait, unlike wait_for, does not wait for work that cannot be cancelled.
            done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=self._seconds)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if not done:
            future.cancel()
            raise self._late()
        return done.pop().result()

    def _in_turn(self, work: Callable[[], Answer]) -> Answer:
        # Nobody waits for the answer any longer than that.
        if not self._turns.acquire(timeout=self._seconds):
            raise self._late()
        _own.turns = self._turns
        try:
            return work()
        finally:
            _own.turns = None
            self._turns.release()

    def _late(self) -> Refused:
        return Refused(504, f"no answer within {self._seconds:g} seconds: ask for less, or again later")

    def _ended(self) -> None:
        self.pending -= 1

    def close(self) -> None:
        """Wait for what has begun, and end the threads."""
        self._pool.shutdown()


@contextmanager
def giving_way() -> Iterator[None]:
    """Let another thread work while this one waits for what is done elsewhere."""
    turns: Semaphore | None = getattr(_own, "turns", None)
    if turns is None:
        yield
        return
    turns.release()
    try:
        yield
    finally:
        turns.acquire()


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # The loop is closed: nobody counts any more.
        return
