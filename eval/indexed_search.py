"""A corpus in an index on disk, as a retriever would keep it but for the texts, and searched there.

FOLDER/vectors/       the index
FOLDER/seconds.json   what encoding and building it took so far
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.schema import DATABASE
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import Hits, TokenVectors, Vectors

from .costs import Meter
from .datasets import Corpus, RetrievalDataset
from .streamed_search import Best, chunks, encoded_bytes, query_batches, searchable

if TYPE_CHECKING:
    from flatcoat.indexing.vectors import VectorIndex
    from flatcoat.retrieval.encoders.encoder import Encoder

_INDEX, _SECONDS = "vectors", "seconds.json"
_PACKED_FROM = 1 << 34  # bytes of new vectors: a larger collection is coded before it is complete
_ROWS = 10_000  # looked up together


def open_store(folder: Path, encoder: "Encoder", engine: EngineSettings) -> Store:
    """The index that this encoder and engine began or finished in ``folder``.

    What another one left there is removed, and an empty index made.
    """
    contract = encoder.contract.to_json()
    del contract["model"]  # a name: the weights are known by their hash
    path = folder / _INDEX
    if (path / DATABASE).exists():
        store = Store.open(path)
        if (store.contract, store.engine) == (contract, engine):
            return store
        store.close()
        shutil.rmtree(path)
        (folder / _SECONDS).unlink(missing_ok=True)
    return Store.create(path, contract, engine)


def build(
    store: Store,
    encoder: "Encoder",
    documents: Corpus,
    budget_bytes: int,
    meter: Meter,
    on_progress: Callable[[int, int], None],
) -> None:
    """Encode what the index lacks, a chunk a commit, so that a run that was cut off goes on from there."""
    seconds = store.path.parent / _SECONDS
    meter.resume(seconds)
    with store.writer() as writer:
        held = store.document_hashes()
        new_bytes = 0
        for chunk in chunks(_missing(documents, held), encoded_bytes(encoder.contract), budget_bytes):
            with meter.stage("encode"):
                vectors = encoder.encode_documents(searchable(chunk))
            with meter.stage("build"):
                passages = [Passage(document.id, "") for document in chunk]
                writer.add(passages, vectors, {document.id: _digest(document) for document in chunk})
                writer.commit()
                new_bytes += _stored_bytes(vectors)
                if new_bytes > _PACKED_FROM:
                    writer.compact(full=False, budget=budget_bytes)
                    new_bytes = 0
            meter.save(seconds)
            on_progress(len(held), len(documents))
        with meter.stage("build"):
            writer.remove(_gone(documents, held))
            writer.compact(budget=budget_bytes)
    meter.save(seconds)


def find(
    store: Store, encoder: "Encoder", dataset: RetrievalDataset, k: int, recall: float | None, meter: Meter
) -> dict[str, dict[str, float]]:
    """The run of an index that is complete."""
    stats = store.stats()
    meter.index_bytes, meter.vectors = stats.bytes, stats.vectors
    with meter.stage("search"):
        index = store.index()
    best = Best(dataset, k)
    for ids in query_batches(dataset):
        with meter.stage("encode"):
            queries = encoder.encode_queries([dataset.queries[id] for id in ids])
        with meter.stage("search"):
            best.add(ids, _named(store, index, queries, best.depth, recall))
    return best.run


def _named(
    store: Store, index: "VectorIndex[int]", queries: Vectors, k: int, recall: float | None
) -> list[Hits[str]]:
    """Hits by document id instead of passage row: a document is one passage here."""
    results = _best_and_equals(index, queries, k, recall)
    rows = np.unique([row for hits in results for row in hits.ids])
    names: dict[int, str] = {}
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        names |= zip(some.tolist(), (passage.document_id for passage in store.passages(some)), strict=True)
    return [Hits([names[row] for row in hits.ids], hits.scores) for hits in results]


def _best_and_equals(
    index: "VectorIndex[int]", queries: Vectors, k: int, recall: float | None
) -> list[Hits[int]]:
    """The best ``k`` of each query and all that equal the last: trec_eval says which of those count."""
    depth = k + 1
    while True:
        results = index.search(queries, depth, recall=recall)
        if not any(len(hits.ids) == depth and hits.scores[k - 1] == hits.scores[-1] for hits in results):
            return results
        depth *= 2


def _missing(documents: Corpus, held: dict[str, str]) -> Iterator[Document]:
    """Documents that are not in the index as they are now; ``held`` is kept up to date."""
    for document in documents:
        digest = _digest(document)
        if held.get(document.id) != digest:
            held[document.id] = digest
            yield document


def _gone(documents: Corpus, held: dict[str, str]) -> set[str]:
    gone = set(held) if len(held) > len(documents) else set()
    return gone.difference(document.id for document in documents) if gone else gone


def _digest(document: Document) -> str:
    content = f"{document.title}\0{document.text}".encode(errors="surrogatepass")
    return hashlib.sha256(content).hexdigest()[:16]


def _stored_bytes(vectors: Vectors) -> int:
    values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
    return 2 * values.size
