"""Hard negatives: documents that a search ranks high for a query but that do not answer it.

A document that ranks high and is not judged may still answer. So a negative must score clearly less than the
positive: by default at most 95% of it, as in NV-Retriever (Moreira et al. 2024, arXiv 2407.15831).
``CorpusSearcher`` encodes whole documents once, in memory. Axes: N documents, T tokens, D width.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flatcoat.errors import DataError
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.store.engines import AUTO
from flatcoat.indexing.vectors import Hits, TokenVectors, Vectors, concatenated

from .examples import Example, plain
from .files import Collection

if TYPE_CHECKING:
    from flatcoat.indexing.vectors import VectorIndex
    from flatcoat.retrieval.encoders.encoder import Encoder

_QUERIES_AT_ONCE = 256
_DOCUMENTS_AT_ONCE = 1_000


class Searcher(Protocol):
    """A corpus that can be searched."""

    def search(self, queries: Sequence[str], k: int) -> Iterable[Hits[str]]:
        """The best ``k`` documents of each query, best first."""
        ...


@dataclass(frozen=True)
class MiningSettings:
    """``count`` negatives per row, from the ranks ``first`` to ``last`` of documents not judged positive.

    A negative scores at most the positive's score s less ``margin`` (in the units of the scores), and at most
    s less the share ``relative_margin`` of the absolute value of s. None switches a filter off.
    """

    count: int = 5
    first: int = 1
    last: int = 100
    margin: float | None = None
    relative_margin: float | None = 0.05


@dataclass
class MiningCounts:
    """Rows written, rows left out, and candidates left out, by the first filter that applied."""

    rows: int = 0
    rows_without_enough: int = 0
    rows_whose_positive_was_not_found: int = 0
    candidates: int = 0
    judged_positive: int = 0
    text_of_a_positive: int = 0
    text_seen_before: int = 0
    before_first_rank: int = 0
    within_margin: int = 0
    within_relative_margin: int = 0


def mine(
    collection: Collection, searcher: Searcher, *, settings: MiningSettings, counts: MiningCounts
) -> Iterator[Example]:
    """One row per query and positive, with exactly ``settings.count`` negatives, the hardest first.

    Rows with fewer are left out, and with a margin also rows whose positive is not among the results, since
    all results then score higher. ``counts`` is kept up to date.

    >>> import numpy as np
    >>> class Fixed:
    ...     def search(self, queries, k):
    ...         return [Hits(["sky", "sea", "tar"], np.array([1.0, 0.9, 0.1])) for _ in queries]
    >>> collection = Collection({"sky": "blue", "sea": "bluish", "tar": "black"}, {"q": "?"}, {"q": ["sky"]})
    >>> rows = mine(collection, Fixed(), settings=MiningSettings(count=1), counts=MiningCounts())
    >>> next(rows).negatives
    ('bluish',)
    """
    for ids in _batches(collection.positives):
        # Ranks count documents that are not positive.
        depth = settings.last + max(len(collection.positives[id]) for id in ids)
        results = searcher.search([collection.queries[id] for id in ids], depth)
        for id, hits in zip(ids, results, strict=True):
            scores = dict(zip(hits.ids, hits.scores.tolist(), strict=True))
            candidates = _candidates(collection, id, scores, settings, counts)
            for positive in collection.positives[id]:
                negatives = _negatives(candidates, scores.get(positive), settings, counts)
                if negatives is not None:
                    texts = tuple(collection.documents[document] for document in negatives)
                    yield Example(collection.queries[id], collection.documents[positive], texts)


def _candidates(
    collection: Collection,
    query: str,
    scores: Mapping[str, float],
    settings: MiningSettings,
    counts: MiningCounts,
) -> dict[str, float]:
    """The documents in the range of ranks that differ from every positive and from each other in text."""
    positives = set(collection.positives[query])
    answers = {plain(collection.documents[id]) for id in positives}
    seen: set[str] = set()
    candidates = {}
    unjudged = (id for id in scores if id not in positives)
    counts.judged_positive += len(positives & scores.keys())
    for rank, id in enumerate(islice(unjudged, settings.last), start=1):
        counts.candidates += 1
        text = plain(collection.documents[id])
        if rank < settings.first:
            counts.before_first_rank += 1
        elif text in answers:
            counts.text_of_a_positive += 1
        elif text in seen:
            counts.text_seen_before += 1
        else:
            candidates[id] = scores[id]
        seen.add(text)
    return candidates


def _negatives(
    candidates: Mapping[str, float], positive: float | None, settings: MiningSettings, counts: MiningCounts
) -> list[str] | None:
    """The first ``count`` candidates that score far enough below the positive; None where there are fewer."""
    if positive is None and (settings.margin is not None or settings.relative_margin is not None):
        counts.rows_whose_positive_was_not_found += 1
        return None
    negatives: list[str] = []
    for id, score in candidates.items():
        if positive is not None:
            if settings.margin is not None and score > positive - settings.margin:
                counts.within_margin += 1
                continue
            share = settings.relative_margin
            if share is not None and score > positive - share * abs(positive):
                counts.within_relative_margin += 1
                continue
        negatives.append(id)
        if len(negatives) == settings.count:
            counts.rows += 1
            return negatives
    counts.rows_without_enough += 1
    return None


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    waiting = iter(ids)
    return iter(lambda: list(islice(waiting, _QUERIES_AT_ONCE)), [])


class CorpusSearcher:
    """Exact search of small corpora; of larger ones PLAID for token vectors and FAISS for dense vectors."""

    def __init__(
        self,
        encoder: "Encoder",
        documents: Mapping[str, str],
        *,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Encode texts by id, each as far as the encoder reads; ``on_progress`` gets the number encoded.

        Raises DataError at the first vectors that are not finite, here and in a search.
        """
        chunks, texts = [], list(documents.values())
        for start in range(0, len(texts), _DOCUMENTS_AT_ONCE):
            vectors = _halved(encoder.encode_documents(texts[start : start + _DOCUMENTS_AT_ONCE]))
            chunks.append(_finite(vectors, encoder.name))
            on_progress(min(start + _DOCUMENTS_AT_ONCE, len(texts)))
        self._encoder = encoder
        self._index = _index(list(documents), concatenated(chunks))

    def search(self, queries: Sequence[str], k: int) -> list[Hits[str]]:
        """The best ``k`` documents of each query, best first."""
        return self._index.search(_finite(self._encoder.encode_queries(queries), self._encoder.name), k)


def _finite(vectors: Vectors, model: str) -> Vectors:
    values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
    if not np.isfinite(values).all():
        raise DataError(f"{model} gives vectors that are not finite numbers: its weights are damaged")
    return vectors


def _halved(vectors: Vectors) -> Vectors:
    """In float16, as in an index on disk."""
    if isinstance(vectors, TokenVectors):
        return TokenVectors(vectors.values_TD.astype(np.float16), vectors.offsets)
    return vectors.astype(np.float16)


def _index(ids: Sequence[str], vectors: Vectors) -> "VectorIndex[str]":
    if isinstance(vectors, TokenVectors):
        if AUTO.engine_for("token", len(vectors.values_TD)) == "plaid":
            from flatcoat.indexing.plaid.index import PlaidIndex

            return PlaidIndex.from_vectors(ids, vectors)
    elif AUTO.engine_for("dense", len(vectors)) == "faiss":
        from flatcoat.indexing.faiss.index import FaissIndex

        return FaissIndex.from_vectors(ids, vectors, settings=AUTO.faiss())
    return ExactIndex.from_vectors(ids, vectors)
