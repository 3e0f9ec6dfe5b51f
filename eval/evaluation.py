"""Exact search of a whole corpus that memory does not hold: encoded, searched and forgotten in chunks."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..indexing.exact import ExactIndex
from ..indexing.types import TokenVectors
from .costs import Meter
from .datasets import RetrievalDataset
from .streaming import Best, chunks, encoded_bytes, query_batches, require_finite, searchable

if TYPE_CHECKING:
    from ..retrieval.encoding import Encoder


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
