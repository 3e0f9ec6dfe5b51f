"""A whole measurement: every query of a data set against its whole corpus, exactly.

The corpus passes through in chunks, each encoded, searched and forgotten: memory holds the vectors of one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..indexing.documents import Document, Passage
from ..indexing.exact import ExactIndex
from ..indexing.types import Hits
from .bm25 import Bm25
from .datasets import RetrievalDataset
from .metrics import ranked

if TYPE_CHECKING:
    from ..retrieval.encoding import Encoder

CHUNK = 1_000
"""Documents whose vectors are held at once."""
QUERY_BATCH = 500

Item = TypeVar("Item")


@dataclass(frozen=True)
class Row:
    """One line of a results table: ``scores`` are means in 0..1, by measure."""

    dataset: str
    split: str
    system: str
    scores: dict[str, float]

    def to_json(self) -> dict[str, str | float]:
        return {"dataset": self.dataset, "split": self.split, "system": self.system, **self.scores}


def search_dataset(
    encoder: "Encoder",
    dataset: RetrievalDataset,
    k: int = 100,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, float]]:
    """The run of an encoder: the ``k`` best documents of every query, by exact search.

    A query that stands in the corpus under its own id and text is not among its own results.
    ``on_progress`` is told the documents searched so far, and how many there are.
    """
    batches = [
        (ids, encoder.encode_queries([dataset.queries[id] for id in ids]))
        for ids in _split(list(dataset.queries), QUERY_BATCH)
    ]
    best = _Best(dataset, k)
    done = 0
    for documents in _split(dataset.documents, CHUNK):
        vectors = encoder.encode_documents(_searchable(documents))
        index = ExactIndex.from_vectors([document.id for document in documents], vectors)
        for ids, queries in batches:
            best.add(ids, index.search(queries, best.depth))
        done += len(documents)
        if on_progress:
            on_progress(done, len(dataset.documents))
    return best.run


def search_bm25(dataset: RetrievalDataset, k: int = 100) -> dict[str, dict[str, float]]:
    """The run of BM25 over title and text, to compare an encoder's with."""
    index = Bm25([document.id for document in dataset.documents], _searchable(dataset.documents))
    best = _Best(dataset, k)
    best.add(list(dataset.queries), index.search(list(dataset.queries.values()), best.depth))
    return best.run


class _Best:
    """The best k results of every query over all chunks; ties fall as trec_eval breaks them."""

    def __init__(self, dataset: RetrievalDataset, k: int) -> None:
        self._own = dataset.self_documents()
        self._k = k
        self.depth = k + bool(self._own)
        self.run: dict[str, dict[str, float]] = {query: {} for query in dataset.queries}

    def add(self, queries: Sequence[str], results: Sequence[Hits]) -> None:
        for query, hits in zip(queries, results, strict=True):
            pool = self.run[query] | dict(zip(hits.ids, hits.scores.tolist(), strict=True))
            if query in self._own:
                pool.pop(query, None)
            self.run[query] = {document: pool[document] for document in ranked(pool)[: self._k]}


def _searchable(documents: Sequence[Document]) -> list[str]:
    return [Passage(document.id, document.text, document.title).searchable for document in documents]


def _split(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
