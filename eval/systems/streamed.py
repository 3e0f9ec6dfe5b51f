"""Exact search of a corpus larger than memory: encoded, searched and dropped chunk by chunk.

Equal scores are ordered as trec_eval orders them, the greater id first, so that the size of a chunk never
shows in the results.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.errors import DataError
from flatcoat.eval.costs import Meter, OnProgress
from flatcoat.eval.datasets import RetrievalDataset
from flatcoat.eval.metrics import finite_scores, ranked
from flatcoat.eval.truncation import count_cut
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.vectors import Hits, TokenVectors, Vectors

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.contract import Contract
    from flatcoat.retrieval.encoders.encoder import Encoder

BUDGET_BYTES = 1 << 29
"""Memory for the texts and vectors of one chunk."""

_QUERY_BATCH = 500  # queries encoded together
_CHARACTERS_PER_TOKEN = 2  # half of English prose's: a bound rather than a mean
_BYTES_PER_CHARACTER = 4
_BYTES_PER_TOKEN = 64  # of token ids as Python integers
_BYTES_PER_COMPONENT = 8  # float32, once in batches and once laid end to end


class TopResults:
    """The best ``k`` results of every query of a data set, self-hits left out.

    ``run`` is query id -> document id -> score, best first; ``depth`` is how many hits to ask an index for.
    """

    def __init__(self, dataset: RetrievalDataset, k: int) -> None:
        self._k = k
        self._self_hits = dataset.self_hits
        self._worst = dict.fromkeys(dataset.queries, -np.inf)
        self.depth = k + bool(dataset.self_hits)
        self.run: dict[str, dict[str, float]] = {query: {} for query in dataset.queries}

    def add(self, queries: Sequence[str], results: Sequence[Hits[str]]) -> None:
        """Merge the hits of these queries; DataError for a score that is not a finite float32."""
        for query, hits in zip(queries, results, strict=True):
            if not np.isfinite(hits.scores).all():
                finite_scores(query, dict(zip(hits.ids, hits.scores, strict=True)))
            good = int(np.searchsorted(-hits.scores, -self._worst[query], side="right"))
            if good:
                self._merge(query, dict(zip(hits.ids[:good], hits.scores[:good].tolist(), strict=True)))

    def _merge(self, query: str, scores: dict[str, float]) -> None:
        pool = self.run[query] | scores
        if query in self._self_hits:
            pool.pop(query, None)
        kept = ranked(pool)[: self._k]
        self.run[query] = {document: pool[document] for document in kept}
        if len(kept) == self._k:
            self._worst[query] = pool[kept[-1]]


def search_exactly(
    encoder: "Encoder",
    dataset: RetrievalDataset,
    *,
    k: int,
    budget_bytes: int,
    meter: Meter,
    on_progress: OnProgress,
) -> dict[str, dict[str, float]]:
    """The run of an encoder: the ``k`` best documents of every query.

    Memory holds one chunk of ``budget_bytes`` and the vectors of all queries. Raises DataError for vectors
    that are not finite.
    """
    batches = list(encoded_queries(encoder, dataset, meter=meter))
    top = TopResults(dataset, k)
    done = 0
    for chunk in chunks(dataset.documents, encoded_bytes(encoder.contract), budget=budget_bytes):
        # exact search gives equals in this order, and trec_eval the greater id first
        chunk.sort(key=lambda document: document.id, reverse=True)
        vectors = encode_chunk(encoder, chunk, meter=meter)
        require_finite(chunk, vectors)
        with meter.stage("search"):
            index = ExactIndex.from_vectors([document.id for document in chunk], vectors)
            for ids, queries in batches:
                top.add(ids, index.search(queries, top.depth))
        meter.vectors += len(vectors.values_TD if isinstance(vectors, TokenVectors) else vectors)
        done += len(chunk)
        on_progress(done, len(dataset.documents))
    return top.run


def chunks(
    documents: Iterable[Document], size_of: Callable[[Document], int], *, budget: int
) -> Iterator[list[Document]]:
    """Consecutive documents whose sizes add up to at most ``budget``, or one that is larger by itself.

    >>> documents = [Document(str(size), "x" * size) for size in (3, 1, 2, 9, 1)]
    >>> [[len(one.text) for one in chunk] for chunk in chunks(documents, lambda one: len(one.text), budget=4)]
    [[3, 1], [2], [9], [1]]
    """
    chunk: list[Document] = []
    filled = 0
    for document in documents:
        size = size_of(document)
        if chunk and filled + size > budget:
            yield chunk
            chunk, filled = [], 0
        chunk.append(document)
        filled += size
    if chunk:
        yield chunk


def encoded_bytes(contract: "Contract") -> Callable[[Document], int]:
    """A function that bounds the memory of one document while it is encoded (for prose)."""
    vector = _BYTES_PER_COMPONENT * contract.width
    per_token, per_document = (vector, 0) if contract.kind == "colbert" else (0, vector)

    def size(document: Document) -> int:
        characters = len(document.title) + len(document.text)
        tokens = min(contract.document_length, 4 + characters // _CHARACTERS_PER_TOKEN)
        return _BYTES_PER_CHARACTER * characters + tokens * (_BYTES_PER_TOKEN + per_token) + per_document

    return size


def encode_chunk(encoder: "Encoder", documents: Sequence[Document], *, meter: Meter) -> Vectors:
    """The vectors of whole documents; the meter gets the time, and how many of them were cut."""
    texts = searchable(documents)
    meter.cut_documents += count_cut(encoder, texts)
    with meter.stage("encode"):
        return encoder.encode_documents(texts)


def encoded_queries(
    encoder: "Encoder", dataset: RetrievalDataset, *, meter: Meter
) -> Iterator[tuple[list[str], Vectors]]:
    """Ids of queries and their vectors, in batches; the meter gets the time, and how many were cut."""
    ids = list(dataset.queries)
    for start in range(0, len(ids), _QUERY_BATCH):
        batch = ids[start : start + _QUERY_BATCH]
        texts = [dataset.queries[id] for id in batch]
        meter.cut_queries += count_cut(encoder, texts, is_query=True)
        with meter.stage("encode"):
            vectors = encoder.encode_queries(texts)
        yield batch, vectors


def searchable(documents: Iterable[Document]) -> list[str]:
    """The texts to encode: title and text."""
    return [Passage(document.id, document.text, document.title).searchable for document in documents]


def require_finite(documents: Sequence[Document], vectors: Vectors) -> None:
    """Raise DataError naming the first document whose vectors hold NaN or infinity."""
    values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        if isinstance(vectors, TokenVectors):
            row = int(np.searchsorted(vectors.offsets, row, side="right")) - 1
        raise DataError(
            f"document {documents[row].id!r} was encoded as NaN or infinity: encode in fp32, or fix the model"
        )
