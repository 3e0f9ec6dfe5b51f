"""An iterator that runs ahead: the same items, the same errors, no thread left behind."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from flatcoat.retrieval.ingest import ahead


def test_items_come_in_order() -> None:
    assert list(ahead(range(100), 3)) == list(range(100))


def test_no_more_than_so_many_are_made_ahead() -> None:
    made: list[int] = []
    found = threading.Event()

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            if number == 3:
                found.set()
            yield number

    with closing(ahead(items(), 2)) as running:
        assert next(running) == 0
        # One was taken, two wait, and one is in the hand of the thread.
        assert found.wait(10)
        threading.Event().wait(0.3)
        assert made == [0, 1, 2, 3]
        assert next(running) == 1


def test_errors_come_after_the_items_before_them() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    running = ahead(items())
    assert next(running) == 1
    with pytest.raises(ValueError, match="broken"):
        next(running)


def test_the_thread_ends_with_its_reader() -> None:
    with closing(ahead(iter(int, 1))) as running:
        next(running)
    assert not [thread for thread in threading.enumerate() if thread.name == "flatcoat-ahead"]
