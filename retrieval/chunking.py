"""Cut documents into passages: here, or where there is much to cut, in worker processes as well.

Cutting is Python, which one process runs on one core, where the index is written too.
"""

import logging
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.store.store import Store
from flatcoat.threads import cores

from .index_model import IndexModel

_log = logging.getLogger(__name__)

T = TypeVar("T")

Item = tuple[T, Document | None]
"""Anything with the document that is to be cut for it, None for one that needs no cutting."""

_ALONE = 500_000
"""Characters that are cut before workers are started: in less time they would hardly begin."""

_GROUP = 200_000
"""Characters that a worker is given at a time."""

_MOST_WORKERS = 3  # More would wait for the process that writes.

_START = (
    "import sys, pickle; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from flatcoat.retrieval.chunking import work; work()"
)


class Chunker:
    """Cuts as the contract of an index says, by the tokens of its model."""

    def __init__(self, model: IndexModel, contract: Mapping[str, Any]) -> None:
        self._model = model
        self._tokens, self._overlap = int(contract["passage_tokens"]), int(contract.get("overlap", 0))

    def chunk(self, document: Document | None) -> list[Passage]:
        """The passages of a document, none for None."""
        from flatcoat.indexing.chunking.chunk import chunk

        if document is None:
            return []
        return chunk(document, self._model.token_counts, max_tokens=self._tokens, overlap=self._overlap)

    def each(self, items: Iterable[Item[T]]) -> Iterator[tuple[T, list[Passage]]]:
        """Each item, in their order, with the passages of its document."""
        return ((item, self.chunk(document)) for item, document in items)


class ParallelChunker(Chunker):
    """Has up to ``most`` workers, made by ``start``, cut what comes after the first texts.

    What a worker fails at is cut here, which raises the error if it is one of the document.
    """

    def __init__(
        self, model: IndexModel, contract: Mapping[str, Any], *, start: "Callable[[], Worker]", most: int
    ) -> None:
        super().__init__(model, contract)
        self._start, self._most = start, most
        self._pool = ThreadPoolExecutor(most, "flatcoat-chunking")  # Its threads start with their work.
        self._workers: list[Worker] = []
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._is_started = self._has_workers = self._is_closed = False

    def each(self, items: Iterable[Item[T]]) -> Iterator[tuple[T, list[Passage]]]:
        """As ``Chunker.each``."""
        chunked_here = 0
        waiting: deque[tuple[list[Item[T]], Future[list[list[Passage]]]]] = deque()
        for group in _groups(items):
            if self._has_workers and sum(not cut.done() for _, cut in waiting) < 2 * self._most:
                waiting.append((group, self._pool.submit(self._chunk_by_worker, group)))
            elif waiting:  # The workers have enough: this process cuts too, while it would only wait.
                waiting.append((group, self._chunk_here(group)))
            else:
                yield from super().each(group)
                chunked_here += sum(len(document.text) for _, document in group if document)
                if chunked_here > _ALONE:
                    self._start_workers()
            while waiting and (waiting[0][1].done() or len(waiting) > 4 * self._most):
                yield from self._results(*waiting.popleft())
        while waiting:
            yield from self._results(*waiting.popleft())

    def close(self) -> None:
        """End the workers, those that are starting too."""
        self._is_closed = True
        for worker in list(self._workers):
            worker.close()
        self._pool.shutdown(cancel_futures=True)

    def _start_workers(self) -> None:
        if not self._is_started:
            self._is_started = True
            for _ in range(self._most):
                self._pool.submit(self._begin)

    def _begin(self) -> None:
        worker = self._start()
        self._workers.append(worker)
        if self._is_closed:
            worker.close()
        worker.begin()
        self._idle.put(worker)
        self._has_workers = True

    def _chunk_by_worker(self, group: list[Item[T]]) -> list[list[Passage]]:
        worker = self._idle.get()
        try:
            return worker.chunk([document for _, document in group])
        finally:
            self._idle.put(worker)

    def _chunk_here(self, group: list[Item[T]]) -> "Future[list[list[Passage]]]":
        """What is cut, or the error, which comes after what is before it in the stream."""
        cut: Future[list[list[Passage]]] = Future()
        try:
            cut.set_result([self.chunk(document) for _, document in group])
        except Exception as error:
            cut.set_exception(error)
        return cut

    def _results(
        self, group: list[Item[T]], cut: "Future[list[list[Passage]]]"
    ) -> Iterator[tuple[T, list[Passage]]]:
        try:
            passages = cut.result()
        except Exception as error:
            _log.info("%d texts are cut again: %s", len(group), error)
            yield from super().each(group)
        else:
            yield from zip((item for item, _ in group), passages, strict=True)


class Worker:
    """Another process that cuts documents for an index; one thread uses it at a time."""

    def __init__(self, index: Path, model: str | Path | None) -> None:
        self._index, self._model = index, model
        # Not multiprocessing: it runs the main script again, which may be anybody's.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def begin(self) -> None:
        """Have it load the index and the model; any error where that fails."""
        self._ask(sys.path, (self._index, self._model))

    def chunk(self, documents: list[Document | None]) -> list[list[Passage]]:
        """The passages of each; any error where that fails."""
        return self._ask(documents)

    def close(self) -> None:
        """End the process, whatever it does; whoever waits for an answer gets an error."""
        self._process.kill()
        self._process.wait()

    def _ask(self, *messages: Any) -> Any:
        assert self._process.stdin and self._process.stdout
        for message in messages:
            self._process.stdin.write(pickle.dumps(message))  # Whole or not at all.
        self._process.stdin.flush()
        return pickle.load(self._process.stdout)


def work() -> None:
    """What a worker does: answer by pickles over its pipes, until these are closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The process that started it ends it.
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # What is printed would be read as an answer.
    index, model = pickle.load(asked)
    with Store.open(index) as store:
        chunker, answer = Chunker(IndexModel(store, model), store.contract), None
        while True:
            pickle.dump(answer, answers)
            answers.flush()
            try:
                documents = pickle.load(asked)
            except EOFError:
                return
            answer = [chunker.chunk(document) for document in documents]


@contextmanager
def chunker_for(model: IndexModel, store: Store) -> Iterator[Chunker]:
    """What cuts documents for an index; with workers where there are cores and they can load its model."""
    most, given = min(cores() - 1, _MOST_WORKERS), model.given
    # An application that is frozen into one file would start itself.
    can_start = most > 0 and sys.executable and not hasattr(sys, "frozen")
    if not can_start or not (given is None or isinstance(given, str | Path)):
        yield Chunker(model, store.contract)
        return
    chunker = ParallelChunker(model, store.contract, start=lambda: Worker(store.path, given), most=most)
    try:
        yield chunker
    finally:
        chunker.close()


def _groups(items: Iterable[Item[T]]) -> Iterator[list[Item[T]]]:
    """Groups of about _GROUP characters."""
    group: list[Item[T]] = []
    size = 0
    for item in items:
        group.append(item)
        size += len(item[1].text) if item[1] else 1_000  # Not too many of those without a text either.
        if size >= _GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group
