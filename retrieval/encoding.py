"""Encode the passages that have no vectors yet: each batch is stored while the next is encoded.

Text and BM25 were committed before, so that searches have answers meanwhile. Each batch is one commit: a run
that was cut off goes on with the first batch that lacks vectors.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from flatcoat.threads import pieces

from . import ingest

if TYPE_CHECKING:
    from flatcoat.indexing.store.store import Store
    from flatcoat.indexing.store.writer import Writer
    from flatcoat.indexing.vectors import Vectors
    from flatcoat.retrieval.encoders.encoder import Encoder

_REPORTED = 100
"""Passages between two reports of progress: a second or two on a slow machine."""


class PassageEncoding:
    """Gives vectors to the passages of one index, with counts in ``added``."""

    def __init__(
        self, store: "Store", writer: "Writer", *, added: ingest.Added, on_progress: ingest.Progress
    ) -> None:
        self._store = store
        self._writer = writer
        self._added = added
        self._on_progress = on_progress
        self._encoded, self._total = 0, 0

    def carry_out(self, encoder: "Callable[[], Encoder]") -> None:
        """Encode all that have none; ``encoder`` is called if there are any."""
        segments = self._writer.without_vectors(ingest.BATCH)
        self._encoded, self._total = self._added.encoded, self._added.encoded + self._added.waiting
        if segments:
            self._report()
        written: Future[None] | None = None
        with ThreadPoolExecutor(1, "flatcoat-writer") as pool:
            for segment in segments:
                texts = [passage.searchable for passage in self._store.passages_of(segment)]
                vectors = self._pooled(self._vectors(encoder(), texts))
                if written is not None:
                    self._finish(written)
                written = pool.submit(self._write, segment, vectors)
            if written is not None:
                self._finish(written)

    def _vectors(self, encoder: "Encoder", texts: Sequence[str]) -> "Vectors":
        from flatcoat.indexing.vectors import concatenated

        chunks = []
        for here in pieces(max(len(texts), 1), _REPORTED):
            chunks.append(encoder.encode_documents(texts[here]))
            self._encoded += len(chunks[-1])
            self._report()
        return concatenated(chunks)

    def _pooled(self, vectors: "Vectors") -> "Vectors":
        factor = int(self._store.contract.get("token_pooling", 1))
        if factor == 1:
            return vectors
        from flatcoat.indexing.vectors import TokenVectors
        from flatcoat.retrieval.encoders.token_pooling import pooled_tokens

        assert isinstance(vectors, TokenVectors)
        return pooled_tokens(vectors, factor)

    def _write(self, segment: int, vectors: "Vectors") -> None:
        self._writer.add_vectors(segment, vectors)
        self._writer.commit()
        self._added.encoded += len(vectors)
        self._added.waiting -= len(vectors)

    def _finish(self, written: "Future[None]") -> None:
        written.result()
        self._report()

    def _report(self) -> None:
        """Say how many have vectors, those of the batch that is not stored yet among them."""
        waiting = self._total - self._encoded
        self._on_progress(replace(self._added, encoded=self._encoded, waiting=waiting))
