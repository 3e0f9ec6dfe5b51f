"""Search of a corpus through an index on disk, as a retriever keeps it but without the texts.

FOLDER/vectors/       the index
FOLDER/meter.json     seconds spent so far on encoding and building it, and documents cut
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.eval.costs import Meter, OnProgress
from flatcoat.eval.datasets import Corpus, RetrievalDataset
from flatcoat.indexing.documents import Document, Passage, content_hash
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.schema import DATABASE
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import Hits, TokenVectors, Vectors

from .streamed import TopResults, chunks, encode_chunk, encoded_bytes, encoded_queries

if TYPE_CHECKING:
    from flatcoat.indexing.vectors import VectorIndex
    from flatcoat.retrieval.encoders.encoder import Encoder

_INDEX, _METER = "vectors", "meter.json"
_COMPACT_FROM = 1 << 34  # bytes of new vectors: a larger collection is compacted before it is complete
_LOOKUP_BATCH = 10_000  # rows


def open_store(folder: Path, encoder: "Encoder", *, engine: EngineSettings) -> Store:
    """The index that this encoder and engine began or finished in ``folder``, or a new one.

    An index of another encoder or engine there is removed.
    """
    contract = encoder.contract.settings
    path = folder / _INDEX
    if (path / DATABASE).exists():
        store = Store.open(path)
        if (store.contract, store.engine) == (contract, engine):
            return store
        store.close()
        shutil.rmtree(path)
        (folder / _METER).unlink(missing_ok=True)
    return Store.create(path, contract, engine=engine)


def build_index(
    store: Store,
    encoder: "Encoder",
    *,
    documents: Corpus,
    budget_bytes: int,
    meter: Meter,
    on_progress: OnProgress,
) -> None:
    """Encode the documents that the index lacks, one commit per chunk: an interrupted run resumes there."""
    spent = store.path.parent / _METER
    meter.resume(spent)
    with store.writer() as writer:
        indexed = store.document_hashes()
        new_bytes = 0
        missing = _missing(documents, indexed)
        for chunk in chunks(missing, encoded_bytes(encoder.contract), budget=budget_bytes):
            vectors = encode_chunk(encoder, chunk, meter=meter)
            with meter.stage("build"):
                passages = [Passage(document.id, "") for document in chunk]
                hashes = {document.id: content_hash(document) for document in chunk}
                writer.add(passages, vectors, hashes=hashes)
                writer.commit()
                new_bytes += _stored_bytes(vectors)
                if new_bytes > _COMPACT_FROM:
                    writer.compact(full=False, budget=budget_bytes)
                    new_bytes = 0
            meter.save(spent)
            on_progress(len(indexed), len(documents))
        with meter.stage("build"):
            writer.remove(_deleted(documents, indexed))
            writer.compact(budget=budget_bytes)
    meter.save(spent)


def search_index(
    store: Store,
    encoder: "Encoder",
    *,
    dataset: RetrievalDataset,
    k: int,
    recall: float | None,
    meter: Meter,
) -> dict[str, dict[str, float]]:
    """The run of a complete index: the ``k`` best documents of every query."""
    stats = store.stats()
    meter.index_bytes, meter.vectors = stats.bytes, stats.vectors
    with meter.stage("search"):
        index = store.index()
    top = TopResults(dataset, k)
    for ids, queries in encoded_queries(encoder, dataset, meter=meter):
        with meter.stage("search"):
            top.add(ids, _by_document(store, _with_ties(index, queries, top.depth, recall)))
    return top.run


def _by_document(store: Store, results: list[Hits[int]]) -> list[Hits[str]]:
    """Hits by document id instead of passage row: here a document is one passage."""
    rows = np.unique([row for hits in results for row in hits.ids])
    names: dict[int, str] = {}
    for start in range(0, len(rows), _LOOKUP_BATCH):
        batch = rows[start : start + _LOOKUP_BATCH]
        names |= zip(batch.tolist(), (passage.document_id for passage in store.passages(batch)), strict=True)
    return [Hits([names[row] for row in hits.ids], hits.scores) for hits in results]


def _with_ties(index: "VectorIndex[int]", queries: Vectors, k: int, recall: float | None) -> list[Hits[int]]:
    """The best ``k`` of each query and all that equal the last: trec_eval decides which of them count."""
    depth = k + 1
    while True:
        results = index.search(queries, depth, recall=recall)
        if not any(len(hits.ids) == depth and hits.scores[k - 1] == hits.scores[-1] for hits in results):
            return results
        depth *= 2


def _missing(documents: Corpus, indexed: dict[str, str]) -> Iterator[Document]:
    """Documents that are new or changed; ``indexed`` (id -> content hash) is kept up to date."""
    for document in documents:
        digest = content_hash(document)
        if indexed.get(document.id) != digest:
            indexed[document.id] = digest
            yield document


def _deleted(documents: Corpus, indexed: dict[str, str]) -> set[str]:
    deleted = set(indexed) if len(indexed) > len(documents) else set()
    return deleted.difference(document.id for document in documents) if deleted else deleted


def _stored_bytes(vectors: Vectors) -> int:
    values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
    return 2 * values.size
