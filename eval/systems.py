"""Systems under test: an encoder with an engine, BM25, the fusion of two systems, the reranking of one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.fusion import RRF_CONSTANT, reciprocal_rank_fusion, weighted_fusion
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.vectors import Hits

from .costs import Costs, Meter, OnProgress, add_costs
from .datasets import RetrievalDataset
from .indexed_search import build_index, open_store, search_index
from .streamed_search import BUDGET_BYTES, TopResults, chunks, search_exactly, searchable

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder
    from flatcoat.retrieval.rerank import Reranker

EXACT = EngineSettings("exact")

_RERANK_CHARACTERS = 1 << 26  # of documents reranked together
_PROGRESS_EVERY = 1_000  # documents


def no_progress(done: int, total: int) -> None:
    """Ignore the progress of a search."""


class MeasuredRun(NamedTuple):
    """``run`` is query id -> document id -> score, best first; a query without results has an empty one."""

    run: dict[str, dict[str, float]]
    costs: Costs


class System(Protocol):
    """Anything that answers the queries of a data set."""

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    def describe(self) -> dict[str, Any]:
        """Settings as JSON values, all that change results among them."""
        ...

    def search(
        self,
        dataset: RetrievalDataset,
        k: int,
        *,
        folder: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> MeasuredRun:
        """The ``k`` best documents of every query, ``self_hits`` left out.

        ``folder`` keeps what an interrupted run resumes from; the default is a temporary folder.
        """
        ...


@dataclass(frozen=True)
class EncoderSystem:
    """A dense or late-interaction encoder with an engine.

    ``exact`` streams the corpus; every other engine searches an index on disk, which an interrupted run
    resumes. ``recall`` is PLAID's target recall against exact search. ``budget_bytes`` bounds the memory for
    one chunk of documents. ``label`` replaces the encoder's name in tables. Raises UsageError for
    a recall of another engine, and as ``EngineSettings.validate_for`` for an engine of other vectors.

    >>> from flatcoat.retrieval.encoders.load import load_encoder
    >>> system = EncoderSystem(load_encoder(), EngineSettings("plaid"))  # doctest: +SKIP
    >>> system.search(dataset, 100).run["q1"]  # doctest: +SKIP
    {'cats': 21.4, 'dogs': 9.3}
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
            raise UsageError(
                f"recall {self.recall} is for engine 'plaid' over token vectors, "
                f"not for {self.engine.name!r} over {shape.kind} ones: leave it out"
            )

    @property
    def name(self) -> str:
        """The encoder's name, followed by the engine unless that is exact search."""
        name = self.label or self.encoder.name
        return name if self.engine.name == "exact" else f"{name} ({self.engine.name})"

    def describe(self) -> dict[str, Any]:
        """The encoder's contract without its name, which changes no result; the engine and the recall."""
        contract = self.encoder.contract.to_json()
        del contract["model"]
        return {"kind": "encoder", "encoder": contract, "engine": self._engine, "recall": self.recall}

    @property
    def _engine(self) -> dict[str, Any]:
        """Settings that change results: exact search has none."""
        return {"name": "exact"} if self.engine == EXACT else self.engine.to_json()

    def search(
        self,
        dataset: RetrievalDataset,
        k: int,
        *,
        folder: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> MeasuredRun:
        """Raises DataError for vectors that are not finite."""
        meter = Meter()
        if self.engine == EXACT:
            run = search_exactly(
                self.encoder,
                dataset,
                k=k,
                budget_bytes=self.budget_bytes,
                meter=meter,
                on_progress=on_progress,
            )
        elif folder:
            run = self._search_index(dataset, k, folder, meter, on_progress)
        else:
            with TemporaryDirectory() as temporary:
                run = self._search_index(dataset, k, Path(temporary), meter, on_progress)
        return MeasuredRun(run, meter.costs(len(dataset.queries), len(dataset.documents)))

    def _search_index(
        self, dataset: RetrievalDataset, k: int, folder: Path, meter: Meter, on_progress: OnProgress
    ) -> dict[str, dict[str, float]]:
        with open_store(folder, self.encoder, engine=self.engine) as store:
            build_index(
                store,
                self.encoder,
                documents=dataset.documents,
                budget_bytes=self.budget_bytes,
                meter=meter,
                on_progress=on_progress,
            )
            return search_index(store, self.encoder, dataset=dataset, k=k, recall=self.recall, meter=meter)


@dataclass(frozen=True)
class Bm25System:
    """The BM25 baseline (bm25s) over title and text, in memory; not the full-text search of an index.

    >>> from flatcoat.eval.datasets import RetrievalDataset
    >>> documents = [Document("a", "cats purr"), Document("b", "dogs bark")]
    >>> dataset = RetrievalDataset("pets", "test", documents, {"q": "a purring cat"}, {"q": {"a": 1}})
    >>> list(Bm25System().search(dataset, 10).run["q"])
    ['a']
    """

    name: str = "BM25"

    def describe(self) -> dict[str, Any]:
        """The parameters of BM25, the stop words and the stemmer."""
        from flatcoat.indexing.bm25 import SETTINGS, STEMMER, STOP_WORDS

        return {"kind": "bm25", **SETTINGS, "stop_words": STOP_WORDS, "stemmer": STEMMER}

    def search(
        self,
        dataset: RetrievalDataset,
        k: int,
        *,
        folder: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> MeasuredRun:
        """Keeps nothing in ``folder``."""
        from flatcoat.indexing.bm25 import Bm25

        meter = Meter()
        with meter.stage("build"):
            index = Bm25(_texts(dataset, on_progress))
        meter.index_bytes = index.nbytes
        top = TopResults(dataset, k)
        with meter.stage("search"):
            # query by query: a list of all results would double their memory
            results = index.search(list(dataset.queries.values()), top.depth)
            for query, hits in zip(dataset.queries, results, strict=True):
                top.add([query], [hits])
        return MeasuredRun(top.run, meter.costs(len(dataset.queries), len(dataset.documents)))


@dataclass(frozen=True)
class HybridSystem:
    """The ``k`` best of two systems fused: by reciprocal ranks, or by the sum of scores scaled to 0..1.

    ``weight`` is the share of the first system in a "weighted" fusion.
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
    """The ``depth`` best documents of another system, and only these, scored again by a reranker."""

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


def _texts(dataset: RetrievalDataset, on_progress: OnProgress) -> Iterator[tuple[str, str]]:
    for done, document in enumerate(dataset.documents, start=1):
        yield document.id, searchable([document])[0]
        if done % _PROGRESS_EVERY == 0 or done == len(dataset.documents):
            on_progress(done, len(dataset.documents))


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
