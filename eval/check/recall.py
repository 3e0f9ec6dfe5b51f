"""Recall of an index against exact search: how many of the truly best passages its engine finds."""

import heapq
from collections.abc import Callable, Iterator, Sequence

from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.store.engines import open_index
from flatcoat.indexing.vectors import TokenVectors, Vectors
from flatcoat.retrieval.retriever import Retriever

_ROWS = 1_000  # passages scored exactly at a time

OnProgress = Callable[[int, int], None]
"""Called with the number of passages scored exactly so far, and of all."""


def engine_recall(
    retriever: Retriever,
    texts: Sequence[str],
    *,
    k: int,
    recall: float | None = None,
    encode_again: bool = False,
    on_progress: OnProgress = lambda done, total: None,
) -> list[float]:
    """The share of the ``k`` passages ranked first by exact search that the engine finds, per query.

    ``recall`` is the target that the engine searches by. Exact search scores the vectors that the index
    holds, for PLAID as decoded; with ``encode_again`` all passages are encoded again, so that what the bits
    lose counts too. ConflictError for an index without a model.
    """
    snapshot = retriever.store.snapshot()
    queries = retriever.query_encoder.encode_queries(texts)
    hits = open_index(snapshot, retriever.store.engine).search(queries, k, recall=recall)
    found = [set(one.ids) for one in hits]
    if snapshot.codec is None and not encode_again:
        exact = ExactIndex.from_snapshot(snapshot, metric=retriever.store.engine.metric)
        best = [set(one.ids) for one in exact.search(queries, k)]
    else:
        blocks = _blocks(retriever, snapshot, encode_again)
        best = _best_of_blocks(retriever, blocks, queries, k=k, on_progress=on_progress)
    return [len(one & those) / max(len(one), 1) for one, those in zip(best, found, strict=True)]


def _blocks(
    retriever: Retriever, snapshot: Snapshot, encode_again: bool
) -> Iterator[tuple[list[int], Vectors, float]]:
    """Rows and vectors of all passages, block by block, and the share of the passages that this makes."""
    for start in range(0, len(snapshot), _ROWS):
        rows = snapshot.rows[start : start + _ROWS].tolist()
        if encode_again:
            texts = [passage.searchable for passage in retriever.store.passages(rows)]
            vectors = retriever.encoder.encode_documents(texts)
        else:
            decoded = [tokens for tokens in snapshot.token_vectors(rows) if tokens is not None]
            vectors = TokenVectors.from_list(decoded)
        yield rows, vectors, (start + len(rows)) / len(snapshot)


def _best_of_blocks(
    retriever: Retriever,
    blocks: Iterator[tuple[list[int], Vectors, float]],
    queries: Vectors,
    *,
    k: int,
    on_progress: OnProgress,
) -> list[set[int]]:
    """The rows of the ``k`` best passages of all blocks, per query; equal scores by order of adding."""
    metric, seen = retriever.store.engine.metric, 0
    best: list[list[tuple[float, int]]] = [[] for _ in range(len(queries))]
    for rows, vectors, share in blocks:
        index = ExactIndex.from_vectors([str(row) for row in rows], vectors, metric=metric)
        for query, hits in enumerate(index.search(queries, k)):
            scored = zip(hits.scores.tolist(), (-int(id) for id in hits.ids), strict=True)
            best[query] = heapq.nlargest(k, [*best[query], *scored])
        seen += len(rows)
        on_progress(seen, round(seen / share))
    return [{-row for _, row in scored} for scored in best]
