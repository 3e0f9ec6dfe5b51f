"""Texts of concurrent requests encoded together, in one packed forward."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from threading import Condition, Thread

import numpy as np

from flatcoat.indexing.vectors import Vectors

_CHARACTERS = 3
"""Characters per token, at least, in most texts: enough to bound a batch."""


@dataclass
class _Job:
    """The texts of one request, the vectors of those that are encoded, and the place of the next one."""

    texts: Sequence[str]
    vectors: list[np.ndarray] = field(default_factory=list)
    taken: int = 0
    future: "Future[list[np.ndarray]]" = field(default_factory=Future)

    @property
    def is_taken(self) -> bool:
        return self.taken == len(self.texts)


class Batcher:
    """A thread that encodes what several requests submit, about ``max_tokens`` tokens at a time.

    Requests take turns, so that one of a thousand texts does not hold up one of a single text. What comes in
    while a batch is encoded makes up the next one; where the last batch was of several requests, the thread
    waits ``wait_seconds`` for more before the next, and a request that comes alone waits for nobody.

    >>> batcher = Batcher(lambda texts: np.array([[len(text)] for text in texts]), name="lengths")
    >>> batcher.submit(["cat", "birds"]).result()
    [array([3]), array([5])]
    >>> batcher.close()
    """

    def __init__(
        self,
        encode: Callable[[Sequence[str]], Vectors],
        *,
        name: str,
        max_tokens: int = 4096,
        wait_seconds: float = 0.002,
        on_batch: Callable[[int, int], None] = lambda texts, tokens: None,
    ) -> None:
        self._encode = encode
        self._max_tokens = max_tokens
        self._wait_seconds = wait_seconds
        self._on_batch = on_batch
        self._jobs: deque[_Job] = deque()
        self._changed = Condition()
        self._is_closed = False
        self._thread = Thread(target=self._run, name=f"flatcoat-{name}", daemon=True)
        self._thread.start()

    def submit(self, texts: Sequence[str]) -> "Future[list[np.ndarray]]":
        """The vectors of each text, in order; a future that is cancelled is not encoded."""
        job = _Job(texts)
        if not texts:
            job.future.set_result([])
            return job.future
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the batcher is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def __len__(self) -> int:
        """Texts that wait to be encoded."""
        with self._changed:
            return sum(len(job.texts) - job.taken for job in self._jobs)

    def close(self) -> None:
        """Encode what was submitted, then end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        together = 1
        while batch := self._next_batch(wait=together > 1):
            together = len({id(job) for job, _ in batch})
            texts = [text for _, text in batch]
            try:
                vectors = list(self._encode(texts))
            except BaseException as error:  # Whatever it is, those who wait for the result must hear of it.
                for job, _ in batch:
                    self._drop(job, error)
                continue
            self._on_batch(len(texts), sum(map(estimated_tokens, texts)))
            for (job, _), vector in zip(batch, vectors, strict=True):
                job.vectors.append(vector)
            for job in {id(job): job for job, _ in batch}.values():
                if len(job.vectors) == len(job.texts):
                    _resolve(job.future, job.vectors)

    def _next_batch(self, *, wait: bool) -> list[tuple[_Job, str]]:
        """Texts with their jobs, as many as one forward takes; none once the batcher is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._is_closed)
            if wait and not self._is_closed:
                self._changed.wait_for(lambda: self._waiting_tokens() >= self._max_tokens, self._wait_seconds)
            return self._take()

    def _waiting_tokens(self) -> int:
        return sum(sum(map(estimated_tokens, job.texts[job.taken :])) for job in self._jobs)

    def _take(self) -> list[tuple[_Job, str]]:
        batch: list[tuple[_Job, str]] = []
        room = self._max_tokens
        while self._jobs and (room > 0 or not batch):
            job = self._jobs.popleft()
            if not job.taken and not job.future.set_running_or_notify_cancel():
                continue
            share = room / (len(self._jobs) + 1)
            while not job.is_taken and (share > 0 or not batch):
                text = job.texts[job.taken]
                batch.append((job, text))
                job.taken += 1
                share -= estimated_tokens(text)
                room -= estimated_tokens(text)
            if not job.is_taken:
                self._jobs.append(job)
        return batch

    def _drop(self, job: _Job, error: BaseException) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
        if not job.future.done():
            job.future.set_exception(error)


def _resolve(future: "Future[list[np.ndarray]]", vectors: list[np.ndarray]) -> None:
    try:
        future.set_result(vectors)
    except InvalidStateError:  # It has failed in an earlier batch.
        return


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, without reading it.

    >>> estimated_tokens("cats purr")
    6
    """
    return len(text) // _CHARACTERS + 3
