"""Systems made of others: the fusion of two, and the reranking of one.

Axes: P pairs of a query and a candidate.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from flatcoat.indexing.documents import Document
from flatcoat.indexing.fusion import RRF_CONSTANT, reciprocal_rank_fusion, weighted_fusion
from flatcoat.indexing.vectors import Hits

from .costs import Meter, OnProgress, add_costs
from .datasets import RetrievalDataset
from .streamed_search import TopResults, chunks, searchable
from .systems import MeasuredRun, System, no_progress

if TYPE_CHECKING:
    from flatcoat.retrieval.rerank import Reranker

_RERANK_CHARACTERS = 1 << 26  # of documents reranked together


@dataclass(frozen=True)
class HybridSystem:
    """The ``k`` best of two systems fused: by reciprocal ranks, or by the sum of scores scaled to 0..1.

    ``weight`` is the share of the first system in a "weighted" fusion.

    >>> from flatcoat.eval.systems import Bm25System
    >>> HybridSystem(Bm25System("title"), Bm25System("text")).name
    'title + text'
    """

    first: System
    second: System
    method: Literal["rrf", "weighted"] = "rrf"
    weight: float = 0.5

    @property
    def name(self) -> str:
        """Both names, and the method unless it is reciprocal rank fusion."""
        how = "" if self.method == "rrf" else f" (weighted {self.weight:g})"
        return f"{self.first.name} + {self.second.name}{how}"

    def describe(self) -> dict[str, Any]:
        """Both systems and the fusion."""
        how = {"constant": RRF_CONSTANT} if self.method == "rrf" else {"weight": self.weight}
        systems = {"first": self.first.describe(), "second": self.second.describe()}
        return {"kind": "hybrid", "method": self.method, **how, **systems}

    def search(
        self,
        dataset: RetrievalDataset,
        k: int,
        *,
        folder: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> MeasuredRun:
        """Each system gets a sub-folder; progress counts every document twice."""
        total = len(dataset.documents)
        one = self.first.search(
            dataset,
            k,
            folder=_below(folder, "first"),
            on_progress=lambda done, _: on_progress(done, 2 * total),
        )
        two = self.second.search(
            dataset,
            k,
            folder=_below(folder, "second"),
            on_progress=lambda done, _: on_progress(total + done, 2 * total),
        )
        top = TopResults(dataset, k)
        for query in dataset.queries:
            top.add([query], [self._fused(one.run[query], two.run[query])])
        return MeasuredRun(top.run, add_costs(one.costs, two.costs))

    def _fused(self, one: dict[str, float], two: dict[str, float]) -> Hits[str]:
        if self.method == "rrf":
            return _hits(reciprocal_rank_fusion([list(one), list(two)]))
        return _hits(weighted_fusion([one, two], [self.weight, 1 - self.weight]))


@dataclass(frozen=True)
class RerankSystem:
    """The ``depth`` best documents of another system, and only these, scored again by a reranker.

    >>> system = RerankSystem(Bm25System(), reranker, depth=50)  # doctest: +SKIP
    >>> system.search(dataset, 10).run["q1"]  # doctest: +SKIP
    {'cats': 8.1, 'dogs': -2.4}
    """

    first: System
    reranker: "Reranker"
    depth: int = 100

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.first.name} > {self.reranker.name}"

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
        return MeasuredRun(run, add_costs(first.costs, costs))

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


def _below(folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    (folder / name).mkdir(parents=True, exist_ok=True)
    return folder / name
