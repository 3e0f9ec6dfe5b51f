"""Exact search of a corpus that memory does not hold: encoded, searched and forgotten in chunks.

Equal scores fall as trec_eval breaks them, to the greater id, so that it never shows how a corpus was cut.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.vectors import Hits, TokenVectors, Vectors

from .costs import Meter
from .datasets import RetrievalDataset
from .metrics import finite_scores, ranked

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.contract import Contract
    from flatcoat.retrieval.encoders.encoder import Encoder

BUDGET_BYTES = 1 << 29
"""Of memory for the texts and vectors of one chunk."""

_QUERIES = 500  # encoded together
_CHARACTERS_A_TOKEN = 2  # half of what English prose has: a bound rather than a mean
_BYTES_A_CHARACTER = 4
_BYTES_A_TOKEN = 64  # as ids in Python
_BYTES_A_NUMBER = 8  # float32, once as batches and once laid end to end


def encoded_bytes(contract: "Contract") -> Callable[[Document], int]:
    """About the memory that a document takes while it is encoded, and at most for prose."""
    vector = _BYTES_A_NUMBER * contract.width
    a_token, a_document = (vector, 0) if contract.kind == "colbert" else (0, vector)

    def size(document: Document) -> int:
        characters = len(document.title) + len(document.text)
        tokens = min(contract.document_length, 4 + characters // _CHARACTERS_A_TOKEN)
        return _BYTES_A_CHARACTER * characters + tokens * (_BYTES_A_TOKEN + a_token) + a_document

    return size


def chunks(
    documents: Iterable[Document], size_of: Callable[[Document], int], most: int
) -> Iterator[list[Document]]:
    """Documents in their order, as many at once as ``most`` holds and one at least."""
    chunk: list[Document] = []
    filled = 0
    for document in documents:
        size = size_of(document)
        if chunk and filled + size > most:
            yield chunk
            chunk, filled = [], 0
        chunk.append(document)
        filled += size
    if chunk:
        yield chunk


def query_batches(dataset: RetrievalDataset) -> Iterator[list[str]]:
    """The ids of the queries, some hundreds at once."""
    ids = list(dataset.queries)
    return (ids[start : start + _QUERIES] for start in range(0, len(ids), _QUERIES))


def searchable(documents: Iterable[Document]) -> list[str]:
    """The texts that are encoded: title and text."""
    return [Passage(document.id, document.text, document.title).searchable for document in documents]


def require_finite(documents: Sequence[Document], vectors: Vectors) -> None:
    """Raise FlatcoatError naming the first document whose vectors hold NaN or infinity."""
    values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        if isinstance(vectors, TokenVectors):
            row = int(np.searchsorted(vectors.offsets, row, side="right")) - 1
        raise FlatcoatError(
            f"document {documents[row].id!r} was encoded as NaN or infinity: encode in fp32, or fix the model"
        )


class Best:
    """The best ``k`` results of every query of a data set, less those of itself."""

    def __init__(self, dataset: RetrievalDataset, k: int) -> None:
        self._k = k
        self._self_hits = dataset.self_hits
        self._worst = dict.fromkeys(dataset.queries, -np.inf)
        self.depth = k + bool(dataset.self_hits)
        self.run: dict[str, dict[str, float]] = {query: {} for query in dataset.queries}

    def add(self, queries: Sequence[str], results: Sequence[Hits[str]]) -> None:
        """Merge in the hits of these queries; FlatcoatError for a score that is no finite float32."""
        for query, hits in zip(queries, results, strict=True):
            if not np.isfinite(hits.scores).all():
                finite_scores(query, dict(zip(hits.ids, hits.scores, strict=True)))
            good = int(np.searchsorted(-hits.scores, -self._worst[query], side="right"))
            if good:
                self._merge(query, dict(zip(hits.ids[:good], hits.scores[:good].tolist(), strict=True)))

    def _merge(self, query: str, found: dict[str, float]) -> None:
        pool = self.run[query] | found
        if query in self._self_hits:
            pool.pop(query, None)
        kept = ranked(pool)[: self._k]
        self.run[query] = {document: pool[document] for document in kept}
        if len(kept) == self._k:
            self._worst[query] = pool[kept[-1]]


def search_exactly(
    encoder: "Encoder",
    dataset: RetrievalDataset,
    k: int,
    budget_bytes: int,
    meter: Meter,
    on_progress: Callable[[int, int], None],
) -> dict[str, dict[str, float]]:
    """The run of an encoder: the ``k`` best documents of every query.

    Beside a chunk of ``budget_bytes``, memory holds the vectors of all queries. ``on_progress`` is told the
    documents searched so far, and how many there are. Raises FlatcoatError for vectors that are not finite.
    """
    with meter.stage("encode"):
        batches = [
            (ids, encoder.encode_queries([dataset.queries[id] for id in ids]))
            for ids in query_batches(dataset)
        ]
    best = Best(dataset, k)
    done = 0
    for chunk in chunks(dataset.documents, encoded_bytes(encoder.contract), budget_bytes):
        # exact search gives equals in this order, and trec_eval the greater id first
        chunk.sort(key=lambda document: document.id, reverse=True)
        with meter.stage("encode"):
            vectors = encoder.encode_documents(searchable(chunk))
        require_finite(chunk, vectors)
        with meter.stage("search"):
            index = ExactIndex.from_vectors([document.id for document in chunk], vectors)
            for ids, queries in batches:
                best.add(ids, index.search(queries, best.depth))
        meter.vectors += len(vectors.values_TD if isinstance(vectors, TokenVectors) else vectors)
        done += len(chunk)
        on_progress(done, len(dataset.documents))
    return best.run
