"""Who is measured: encoders over an engine, BM25, fusions of two systems, and rerankers of one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.fusion import RRF_CONSTANT, reciprocal_rank_fusion, weighted_fusion
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.vectors import Hits

from .costs import Costs, Meter, Searched, joined
from .datasets import RetrievalDataset
from .indexed_search import build, find, open_store
from .streamed_search import BUDGET_BYTES, Best, chunks, search_exactly, searchable

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder
    from flatcoat.retrieval.rerank import Reranker

__all__ = [
    "EXACT",
    "Bm25System",
    "Costs",
    "EncoderSystem",
    "HybridSystem",
    "RerankSystem",
    "Searched",
    "System",
]

EXACT = EngineSettings("exact")
_CHARACTERS = 1 << 26  # of documents reranked together
_REPORT_EACH = 1_000  # documents

Progress = Callable[[int, int], None]
"""Called with the documents that were gone through, and how many there are."""


class System(Protocol):
    """What answers the queries of a data set."""

    @property
    def name(self) -> str:
        """As shown in a table."""
        ...

    def describe(self) -> dict[str, Any]:
        """JSON values: whatever changes results is among them."""
        ...

    def search(
        self, dataset: RetrievalDataset, k: int, folder: Path | None, on_progress: Progress
    ) -> Searched:
        """The ``k`` best documents of every query, ``self_hits`` left out.

        What is worth resuming is kept in ``folder``; without one, in a temporary place.
        """
        ...


@dataclass(frozen=True)
class EncoderSystem:
    """A dense or late-interaction encoder.

    ``exact`` streams the corpus; every other engine searches an index on disk, which a run that was cut off
    resumes. ``recall`` is what PLAID is asked for. ``budget_bytes`` bounds the memory for a chunk of
    documents. ``label`` is the encoder's name in tables. Raises FlatcoatError where the engine does not fit
    the vectors.
    """

    encoder: "Encoder"
    engine: EngineSettings = EXACT
    recall: float | None = None
    budget_bytes: int = BUDGET_BYTES
    label: str = ""

    def __post_init__(self) -> None:
        self.engine.validate()
        shape = self.encoder.contract.shape
        self.engine.validate_for(shape)
        if self.recall is not None and (shape.kind, self.engine.name) != ("token", "plaid"):
            raise FlatcoatError(
                f"recall {self.recall} is for engine 'plaid' over token vectors, "
                f"not for {self.engine.name!r} over {shape.kind} ones: leave it out"
            )

    @property
    def name(self) -> str:
        """The encoder's, with the engine unless that is exact search."""
        name = self.label or self.encoder.name
        return name if self.engine.name == "exact" else f"{name} ({self.engine.name})"

    def describe(self) -> dict[str, Any]:
        """The encoder's contract less its name, which does not change results; the engine and its recall."""
        contract = self.encoder.contract.to_json()
        del contract["model"]
        return {"kind": "encoder", "encoder": contract, "engine": self._engine, "recall": self.recall}

    @property
    def _engine(self) -> dict[str, Any]:
        """Settings that count: exact search has none."""
        return {"name": "exact"} if self.engine == EXACT else self.engine.to_json()

    def search(
        self, dataset: RetrievalDataset, k: int, folder: Path | None, on_progress: Progress
    ) -> Searched:
        """Raises FlatcoatError for vectors that are not finite."""
        meter = Meter()
        if self.engine == EXACT:
            run = search_exactly(self.encoder, dataset, k, self.budget_bytes, meter, on_progress)
        elif folder:
            run = self._search_index(dataset, k, folder, meter, on_progress)
        else:
            with TemporaryDirectory() as temporary:
                run = self._search_index(dataset, k, Path(temporary), meter, on_progress)
        return Searched(run, meter.costs(len(dataset.queries), len(dataset.documents)))

    def _search_index(
        self, dataset: RetrievalDataset, k: int, folder: Path, meter: Meter, on_progress: Progress
    ) -> dict[str, dict[str, float]]:
        with open_store(folder, self.encoder, self.engine) as store:
            build(store, self.encoder, dataset.documents, self.budget_bytes, meter, on_progress)
            return find(store, self.encoder, dataset, k, self.recall, meter)


@dataclass(frozen=True)
class Bm25System:
    """BM25 over title and text, in memory."""

    name: str = "BM25"

    def describe(self) -> dict[str, Any]:
        """What BM25 is computed with."""
        from flatcoat.indexing.bm25 import SETTINGS, STEMMER, STOP_WORDS

        return {"kind": "bm25", **SETTINGS, "stop_words": STOP_WORDS, "stemmer": STEMMER}

    def search(
        self, dataset: RetrievalDataset, k: int, folder: Path | None, on_progress: Progress
    ) -> Searched:
        """Nothing is kept in ``folder``."""
        from flatcoat.indexing.bm25 import Bm25

        meter = Meter()
        with meter.stage("build"):
            index = Bm25(_texts(dataset, on_progress))
        meter.index_bytes = index.nbytes
        best = Best(dataset, k)
        with meter.stage("search"):
            # one query after the other: results of all of them would be held twice
            for query, hits in zip(
                dataset.queries, index.search(list(dataset.queries.values()), best.depth), strict=True
            ):
                best.add([query], [hits])
        return Searched(best.run, meter.costs(len(dataset.queries), len(dataset.documents)))


def _texts(dataset: RetrievalDataset, on_progress: Progress) -> Iterator[tuple[str, str]]:
    for done, document in enumerate(dataset.documents, start=1):
        yield document.id, searchable([document])[0]
        if done % _REPORT_EACH == 0 or done == len(dataset.documents):
            on_progress(done, len(dataset.documents))


@dataclass(frozen=True)
class HybridSystem:
    """The ``k`` best of two systems fused: by reciprocal ranks, or by scores spread over 0 to 1.

    ``weight`` is the share of the first in a "weighted" fusion.
    """

    first: System
    second: System
    method: Literal["rrf", "weighted"] = "rrf"
    weight: float = 0.5

    @property
    def name(self) -> str:
        """Both names, and the method unless it is the usual one."""
        how = "" if self.method == "rrf" else f" (weighted {self.weight:g})"
        return f"{self.first.name} + {self.second.name}{how}"

    def describe(self) -> dict[str, Any]:
        """Both systems, and how they are fused."""
        how = {"constant": RRF_CONSTANT} if self.method == "rrf" else {"weight": self.weight}
        systems = {"first": self.first.describe(), "second": self.second.describe()}
        return {"kind": "hybrid", "method": self.method, **how, **systems}

    def search(
        self, dataset: RetrievalDataset, k: int, folder: Path | None, on_progress: Progress
    ) -> Searched:
        """Each system keeps what it has in a folder of its own; progress counts every document twice."""
        total = len(dataset.documents)
        one = self.first.search(
            dataset, k, _below(folder, "first"), lambda done, _: on_progress(done, 2 * total)
        )
        two = self.second.search(
            dataset, k, _below(folder, "second"), lambda done, _: on_progress(total + done, 2 * total)
        )
        best = Best(dataset, k)
        for query in dataset.queries:
            best.add([query], [self._fused(one.run[query], two.run[query])])
        return Searched(best.run, joined(one.costs, two.costs))

    def _fused(self, one: dict[str, float], two: dict[str, float]) -> Hits[str]:
        if self.method == "rrf":
            return _hits(reciprocal_rank_fusion([list(one), list(two)]))
        return _hits(weighted_fusion([one, two], [self.weight, 1 - self.weight]))


@dataclass(frozen=True)
class RerankSystem:
    """The ``depth`` best documents of another system scored again, and no others."""

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
        self, dataset: RetrievalDataset, k: int, folder: Path | None, on_progress: Progress
    ) -> Searched:
        """The corpus is read once more for the candidates' texts; each is encoded once for all queries."""
        found = self.first.search(dataset, self.depth, folder, on_progress)
        meter = Meter()
        with meter.stage("search"):
            run = self._rerank(dataset, found.run, k)
        return Searched(run, joined(found.costs, meter.costs(found.costs.queries, found.costs.documents)))

    def _rerank(
        self, dataset: RetrievalDataset, candidates: dict[str, dict[str, float]], k: int
    ) -> dict[str, dict[str, float]]:
        asking: dict[str, list[int]] = {}
        ids = list(dataset.queries)
        for position, query in enumerate(ids):
            for document in candidates[query]:
                asking.setdefault(document, []).append(position)
        score = self.reranker.scorer(list(dataset.queries.values()))
        scores: dict[str, dict[str, float]] = {query: {} for query in ids}
        wanted = (document for document in dataset.documents if document.id in asking)
        for chunk in chunks(wanted, lambda document: len(document.text), _CHARACTERS):
            pairs_P2 = _pairs(chunk, asking)
            for (query, document), value in zip(
                pairs_P2.tolist(), score(searchable(chunk), pairs_P2).tolist(), strict=True
            ):
                scores[ids[query]][chunk[document].id] = value
        best = Best(dataset, k)
        best.add(ids, [_hits(scores[query]) for query in ids])
        return best.run


def _pairs(chunk: list[Document], asking: dict[str, list[int]]) -> np.ndarray:
    pairs = [(query, place) for place, document in enumerate(chunk) for query in asking[document.id]]
    return np.array(pairs, dtype=np.int64)


def _hits(scores: dict[str, float]) -> Hits[str]:
    ids = sorted(scores, key=lambda id: scores[id], reverse=True)
    return Hits(ids, np.array([scores[id] for id in ids], dtype=np.float32))


def _below(folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    (folder / name).mkdir(parents=True, exist_ok=True)
    return folder / name
