"""The reranking of another system's results.

Axes: P pairs of a query and a candidate.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flatcoat.eval.costs import Meter, OnProgress, add_costs
from flatcoat.eval.datasets import RetrievalDataset
from flatcoat.indexing.documents import Document
from flatcoat.indexing.vectors import Hits

from .streamed import TopResults, chunks, searchable
from .system import MeasuredRun, System, no_progress

if TYPE_CHECKING:
    from flatcoat.retrieval.rerank import Reranker

_RERANK_CHARACTERS = 1 << 26  # of documents reranked together


@dataclass(frozen=True)
class RerankSystem:
    """The ``depth`` best documents of another system, and only these, scored again by a reranker.

    ``label`` replaces the reranker's name in tables.

    >>> system = RerankSystem(Bm25System(), reranker, depth=50)  # doctest: +SKIP
    >>> system.search(dataset, 10).run["q1"]  # doctest: +SKIP
    {'cats': 8.1, 'dogs': -2.4}
    """

    first: System
    reranker: "Reranker"
    depth: int = 100
    label: str = ""

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.first.name} > {self.label or self.reranker.name}"

    def describe(self) -> dict[str, Any]:
        """The first system, the reranker and the depth."""
        systems = {"first": self.first.describe(), "reranker": self.reranker.describe()}
        return {"kind": "rerank", "depth": self.depth, **systems}

    def search(
        self,
        dataset: RetrievalDataset,
        k: int,
        *,
        folder: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> MeasuredRun:
        """Reads the corpus again for the texts of candidates; encodes each candidate once for all queries."""
        first = self.first.search(dataset, self.depth, folder=folder, on_progress=on_progress)
        meter = Meter()
        with meter.stage("search"):
            run = self._rerank(dataset, first.run, k)
        costs = meter.costs(first.costs.queries, first.costs.documents)
        return MeasuredRun(run, add_costs(first.costs, costs), first.truncation)

    def _rerank(
        self, dataset: RetrievalDataset, candidates: dict[str, dict[str, float]], k: int
    ) -> dict[str, dict[str, float]]:
        queries_of: dict[str, list[int]] = {}  # candidate id -> positions of queries
        ids = list(dataset.queries)
        for position, query in enumerate(ids):
            for document in candidates[query]:
                queries_of.setdefault(document, []).append(position)
        score = self.reranker.scorer(list(dataset.queries.values()))
        scores: dict[str, dict[str, float]] = {query: {} for query in ids}
        documents = (document for document in dataset.documents if document.id in queries_of)
        for chunk in chunks(documents, lambda document: len(document.text), budget=_RERANK_CHARACTERS):
            pairs_P2 = _pairs(chunk, queries_of)
            for (query, document), value in zip(
                pairs_P2.tolist(), score(searchable(chunk), pairs_P2).tolist(), strict=True
            ):
                scores[ids[query]][chunk[document].id] = value
        top = TopResults(dataset, k)
        top.add(ids, [_hits(scores[query]) for query in ids])
        return top.run


def _pairs(chunk: list[Document], queries_of: dict[str, list[int]]) -> np.ndarray:
    """Pairs [P, 2] of a query's position and its candidate's place in the chunk."""
    pairs = [(query, place) for place, document in enumerate(chunk) for query in queries_of[document.id]]
    return np.array(pairs, dtype=np.int64)


def _hits(scores: dict[str, float]) -> Hits[str]:
    ids = sorted(scores, key=lambda id: scores[id], reverse=True)
    return Hits(ids, np.array([scores[id] for id in ids], dtype=np.float32))
