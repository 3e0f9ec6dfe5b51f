"""Work spread over cores: every piece once, in order, errors raised, whoever calls."""

import threading
import time
from collections.abc import Iterator

import pytest

from flatcoat import threads
from flatcoat.threads import pieces, spread


@pytest.fixture(autouse=True)
def several_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "cores", lambda: 4)
    threads.pool.cache_clear()
    yield
    threads.pool.cache_clear()


def test_results_come_in_order_from_several_threads() -> None:
    seen: set[int] = set()

    def square(number: int) -> int:
        time.sleep(0.01)
        seen.add(threading.get_ident())
        return number * number

    assert spread(square, range(20)) == [number * number for number in range(20)]
    assert len(seen) > 1
    assert spread(square, []) == []


@pytest.mark.parametrize("bad", [0, 7])
def test_an_error_is_raised_after_all_is_done(bad: int) -> None:
    running: list[int] = []

    def fail(number: int) -> None:
        running.append(number)
        time.sleep(0.01)
        running.remove(number)
        if number == bad:
            raise ValueError(number)

    with pytest.raises(ValueError, match=str(bad)):
        spread(fail, range(8))
    assert running == []


def test_a_helper_may_spread_its_own_work() -> None:
    def inner(number: int) -> int:
        return sum(spread(lambda other: number * other, range(6)))

    assert spread(inner, range(8)) == [15 * number for number in range(8)]


def test_pieces_cover_all() -> None:
    assert list(pieces(7, 3)) == [slice(0, 3), slice(3, 6), slice(6, 7)]
