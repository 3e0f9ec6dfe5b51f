"""Bounded queues: what does not fit is told so at once."""

import asyncio
import time
from functools import partial
from threading import Barrier, Event

import pytest

from flatcoat.retrieval.serving.errors import Refused
from flatcoat.retrieval.serving.workers import Workers, giving_way


def test_a_full_queue_refuses_with_429() -> None:
    async def fill() -> None:
        may_end = Event()
        workers = Workers("test", threads=1, waiting=2, seconds=30)
        accepted = [asyncio.create_task(workers.run(lambda: may_end.wait(20))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="3 test requests") as raised:
            await workers.run(lambda: True)
        assert raised.value.status == 429
        may_end.set()
        assert await asyncio.gather(*accepted) == [True] * 3
        assert await workers.run(lambda: 5) == 5
        workers.close()

    asyncio.run(fill())


def test_work_that_takes_too_long_keeps_its_place() -> None:
    async def wait() -> None:
        may_end = Event()
        workers = Workers("test", threads=1, waiting=0, seconds=0.05)
        with pytest.raises(Refused, match="no answer within") as raised:
            await workers.run(lambda: may_end.wait(20))
        assert raised.value.status == 504
        with pytest.raises(Refused) as raised:
            await workers.run(lambda: True)
        assert raised.value.status == 429
        may_end.set()
        while workers.pending:
            await asyncio.sleep(0.01)
        assert await workers.run(lambda: True)
        workers.close()

    asyncio.run(wait())


def test_errors_of_the_work_are_raised_here() -> None:
    async def fail() -> None:
        workers = Workers("test", threads=1, waiting=1, seconds=5)
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 / 0)
        await asyncio.sleep(0)
        assert workers.pending == 0
        workers.close()

    asyncio.run(fail())


def test_work_that_gives_way_lets_other_work_begin_and_waits_for_its_turn() -> None:
    working: list[str] = []
    most = 0

    def work(name: str, met: Barrier) -> str:
        nonlocal most
        with giving_way():
            met.wait(20)  # Which all reach: none has a turn.
        working.append(name)
        most = max(most, len(working))
        time.sleep(0.01)
        working.remove(name)
        return name

    async def run() -> None:
        met = Barrier(5)
        workers = Workers("test", threads=5, at_once=2, waiting=3, seconds=30)
        names = [f"{number}" for number in range(5)]
        assert await asyncio.gather(*(workers.run(partial(work, name, met)) for name in names)) == names
        workers.close()

    asyncio.run(run())
    assert most == 2


def test_what_has_no_turn_in_time_is_not_begun() -> None:
    begun = []

    async def run() -> None:
        may_end = Event()
        workers = Workers("test", threads=2, at_once=1, waiting=1, seconds=0.2)
        first = asyncio.create_task(workers.run(lambda: may_end.wait(20)))
        await asyncio.sleep(0)
        with pytest.raises(Refused):
            await workers.run(lambda: begun.append(1))
        await asyncio.sleep(0.2)
        may_end.set()
        with pytest.raises(Refused):
            await first
        workers.close()

    asyncio.run(run())
    assert not begun


def test_whoever_has_no_turn_gives_none_away() -> None:
    with giving_way():
        pass
