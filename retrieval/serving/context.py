"""What the handlers of all APIs share."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from flatcoat.errors import UsageError

from .errors import Refused
from .indexes import Served, ServedModel
from .metrics import Metrics
from .settings import Settings
from .workers import Workers

Answer = TypeVar("Answer")

_THREADS = 128
"""Of those that wait for the batcher's: so many requests can be encoded together."""


class Context:
    """Indexes, models, limits, and the threads that answer."""

    def __init__(self, served: Served, settings: Settings, *, metrics: Metrics) -> None:
        self.served, self.settings, self.metrics = served, settings, metrics
        waiting, seconds = settings.queue, settings.request_seconds
        self.searching = Workers(
            "search", threads=_THREADS, at_once=settings.searches, waiting=waiting, seconds=seconds
        )
        self.encoding = Workers("encoding", threads=_THREADS, waiting=waiting, seconds=seconds)
        self.writing = Workers("write", threads=1, waiting=waiting, seconds=settings.write_seconds)
        self.is_closing = False

    async def write(self, work: Callable[[], Answer]) -> Answer:
        """Change an index, one change after the other; Refused with 403 where nobody may."""
        if self.settings.read_only:
            raise Refused(403, "this server changes no index: it was started with --read-only")
        return await self.writing.run(work)

    def count_tokens(self, model: ServedModel, texts: Sequence[str], *, is_query: bool = False) -> int:
        """The tokens that the model reads of all texts.

        Raises UsageError where there are none, and Refused with 413 for too many texts or tokens.
        """
        most = self.settings
        if not texts:
            raise UsageError("no text came: send at least one")
        if len(texts) > most.max_texts:
            raise Refused(413, f"{len(texts):,} texts came: {most.max_texts:,} at most are encoded at once")
        contract = model.contract
        length = contract.query_length if is_query else contract.document_length
        tokens = sum(min(count, length) for count in model.token_counts(texts, is_query=is_query))
        if tokens > most.max_tokens:
            raise Refused(413, f"{tokens:,} tokens came: {most.max_tokens:,} at most are encoded at once")
        return tokens

    def gauges(self) -> dict[str, float]:
        """What waits now, for the metrics."""
        gauges: dict[str, float] = {"te_queue_size": sum(model.waiting for model in self.served.models)}
        for workers in (self.searching, self.encoding, self.writing):
            gauges[f'flatcoat_requests_pending{{kind="{workers.name}"}}'] = workers.pending
        for index in self.served.indexes.values():
            stats = index.retriever.info()
            gauges[f'flatcoat_documents{{index="{index.name}"}}'] = stats.documents
        return gauges

    def close(self) -> None:
        """Finish what was accepted, and close the indexes."""
        for workers in (self.searching, self.encoding, self.writing):
            workers.close()
        self.served.close()
