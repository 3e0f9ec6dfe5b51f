"""Work that overlaps: an iterator that runs ahead in a thread of its own."""

from collections.abc import Generator, Iterable
from contextvars import copy_context
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
_CHECK_SECONDS = 0.1


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


_END = object()


def ahead(items: Iterable[T], count: int = 2) -> Generator[T]:
    """The same items, up to ``count`` of them made before they are asked for, by another thread.

    What ``items`` raises is raised here, after the items before it. Where the caller stops early, so does the
    thread, at its next item.
    """
    queue: Queue[object] = Queue(count)
    stopped = Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                queue.put(item, timeout=_CHECK_SECONDS)
            except Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(_END)
        except BaseException as error:
            put(_Raised(error))

    # With what its caller is doing: documents that are added while they are made would wait for themselves.
    thread = Thread(target=copy_context().run, args=[run], name="flatcoat-ahead", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
