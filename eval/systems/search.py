"""flatcoat's own search as a system: indexed and searched as by ``flatcoat index`` and ``flatcoat search``.

Documents are cut into passages, which are ranked by vectors, by BM25 or by both fused, moved by the signals
of ``retrieval/ranking.py``, and grouped by document.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flatcoat.errors import ConflictError
from flatcoat.eval.costs import Costs, Meter, OnProgress, add_costs
from flatcoat.eval.datasets import Corpus, RetrievalDataset
from flatcoat.eval.truncation import Truncation
from flatcoat.indexing.documents import Document, checked_id
from flatcoat.indexing.store.engines import AUTO, EngineSettings
from flatcoat.indexing.vectors import Hits
from flatcoat.retrieval.results import Mode

from .cached_encoder import CachedEncoder
from .streamed import TopResults, encoded_queries
from .system import MeasuredRun, no_progress

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder
    from flatcoat.retrieval.ingest import Added, Progress
    from flatcoat.retrieval.retriever import Retriever

SHOWN = 10
"""Results that ``flatcoat search`` and ``Retriever.search`` give by default."""


class Indexed(NamedTuple):
    """An index of a corpus, what building it cost, and ids of documents by the form in which it stores them.

    ``ids`` has only those that differ.
    """

    retriever: "Retriever"
    costs: Costs
    ids: dict[str, str]


class SearchIndex:
    """The index of a corpus, built once for all systems that search it, its vectors when one needs them.

    It is kept, in a temporary folder, until another corpus is asked for or ``close`` is called. ``engine`` is
    as for ``Retriever.create``.
    """

    def __init__(self, encoder: "Encoder", *, engine: EngineSettings = AUTO) -> None:
        self.encoder = encoder if isinstance(encoder, CachedEncoder) else CachedEncoder(encoder)
        self.engine = engine
        self._corpus: Corpus | None = None
        self._indexed: Indexed | None = None
        self._folder: TemporaryDirectory[str] | None = None

    @property
    def about(self) -> dict[str, Any]:
        """What tells it from others of the same encoder and engine, as JSON values."""
        return {}

    def of(self, corpus: Corpus, *, vectors: bool = True, on_progress: OnProgress = no_progress) -> Indexed:
        """The index of a corpus, of the texts alone without ``vectors``; progress counts documents."""
        if self._indexed is None or self._corpus is not corpus:
            self.close()
            beside = self.encoder.folder
            if beside is not None:
                beside.mkdir(parents=True, exist_ok=True)
            self._folder = TemporaryDirectory(prefix="index-", dir=beside)
            self._indexed = self._build(Path(self._folder.name) / "index", corpus, vectors, on_progress)
            self._corpus = corpus
        elif vectors and not self._indexed.retriever.encoded().is_complete:
            retriever, costs, ids = self._indexed
            added = self._add(retriever, (), vectors, _counting(on_progress, len(corpus)))
            # What is on disk now holds what was there before.
            costs = add_costs(costs._replace(index_bytes=0, vectors=0), added)
            self._indexed = Indexed(retriever, costs, ids)
        return self._indexed

    def close(self) -> None:
        """Delete the index."""
        if self._indexed is not None:
            self._indexed.retriever.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._corpus = self._indexed = self._folder = None

    def _build(self, path: Path, corpus: Corpus, vectors: bool, on_progress: OnProgress) -> Indexed:
        from flatcoat.retrieval.retriever import Retriever

        ids: dict[str, str] = {}
        retriever = Retriever.create(path, self.encoder, index=self.engine)
        costs = self._add(retriever, _noting(corpus, ids), vectors, _counting(on_progress, len(corpus)))
        return Indexed(retriever, costs._replace(documents=len(corpus)), ids)

    def _add(
        self, retriever: "Retriever", documents: Iterable[Document], vectors: bool, on_progress: "Progress"
    ) -> Costs:
        """Index documents, and with ``vectors`` encode all that have none; what it cost."""
        meter = Meter()
        before = self.encoder.seconds
        with meter.stage("build"):
            retriever.add(documents, vectors=vectors, on_progress=on_progress)
        encoding = self.encoder.seconds - before
        meter.add("encode", encoding)
        meter.add("build", -encoding)
        stats = retriever.info()
        meter.index_bytes, meter.vectors = stats.bytes, stats.vectors
        return meter.costs(queries=0, documents=0)


class ExistingIndex(SearchIndex):
    """An index, or a collection of shards, that holds the corpus already, by path or URL.

    Its documents have the ids of the corpus. ConflictError where the encoder did not make it.
    """

    def __init__(self, encoder: "Encoder", path: str) -> None:
        from flatcoat.retrieval.retriever import Retriever

        self._retriever = Retriever.open(path, encoder)
        super().__init__(encoder, engine=self._retriever.engine)
        self._retriever = self._retriever.with_model(self.encoder)
        self.path = path

    @property
    def about(self) -> dict[str, Any]:
        """Where the index is, and its generation."""
        return {"index": self.path, "generation": self._retriever.generation}

    def of(self, corpus: Corpus, *, vectors: bool = True, on_progress: OnProgress = no_progress) -> Indexed:
        """The index; ConflictError where it has less than half of the documents: it is of another corpus."""
        stats = self._retriever.info()
        if 2 * stats.documents < len(corpus):
            raise ConflictError(
                f"{self.path} holds {stats.documents:,} documents, the corpus {len(corpus):,}: index it first"
            )
        meter = Meter()
        meter.index_bytes, meter.vectors = stats.bytes, stats.vectors
        ids = {stored: one.id for one in corpus if (stored := checked_id(one.id)) != one.id}
        return Indexed(self._retriever, meter.costs(queries=0, documents=len(corpus)), ids)

    def close(self) -> None:
        """Leave the index as it is."""


@dataclass(frozen=True)
class SearchSystem:
    """flatcoat's search of an index, results grouped by document.

    ``mode`` and ``signals`` are as for ``Retriever.search``; ``label`` replaces the encoder's name in tables.

    The first ten documents are those of a search for ten results, which is the default; those behind them
    come from a deeper search, whose fused scores are other ones since it has more candidates, and whose time
    is not counted. A result that stands for near-duplicates is followed by their documents. Scores are
    reciprocal ranks.

    >>> index = SearchIndex(load_encoder())  # doctest: +SKIP
    >>> list(SearchSystem(index, "bm25").search(dataset, 10).run["q1"])  # doctest: +SKIP
    ['cats', 'dogs']
    """

    index: SearchIndex
    mode: Mode = "hybrid"
    signals: Collection[str] | None = None
    label: str = ""

    @property
    def model(self) -> str:
        """The label, or the encoder's name."""
        return self.label or self.index.encoder.name

    @property
    def name(self) -> str:
        """The model's name, "search", and the mode; signals where not all apply."""
        signals = "" if self.signals is None else f", signals: {', '.join(self.signals) or 'none'}"
        return f"{self.model} search ({self.mode}{signals})"

    def describe(self) -> dict[str, Any]:
        """The encoder's contract without its name, mode, signals, engine; flatcoat's version for the rest."""
        return {
            "kind": "search",
            "encoder": self.index.encoder.contract.settings,
            "mode": self.mode,
            "signals": None if self.signals is None else sorted(self.signals),
            "engine": self.index.engine.to_json(),
            "flatcoat": version("flatcoat"),
            **self.index.about,
        }

    def search(
        self,
        dataset: RetrievalDataset,
        k: int,
        *,
        folder: Path | None = None,
        on_progress: OnProgress = no_progress,
    ) -> MeasuredRun:
        """Keeps nothing in ``folder``: the index is shared."""
        needs_vectors = self.mode != "bm25"
        indexed = self.index.of(dataset.documents, vectors=needs_vectors, on_progress=on_progress)
        meter = Meter()
        if needs_vectors:
            for _ in encoded_queries(self.index.encoder, dataset, meter=meter):
                pass  # The encoder remembers them.
        top = TopResults(dataset, k)
        for query, text in dataset.queries.items():
            documents = self._documents(indexed.retriever, text, top.depth, meter) if text.strip() else []
            top.add([query], [_by_rank([indexed.ids.get(id, id) for id in documents])])
        costs = add_costs(indexed.costs, meter.costs(len(dataset.queries), len(dataset.documents)))
        costs = costs._replace(queries=len(dataset.queries))
        return MeasuredRun(top.run, costs, self._truncation(indexed.retriever, meter.cut_queries))

    def _documents(self, retriever: "Retriever", query: str, depth: int, meter: Meter) -> list[str]:
        """The ids of the best documents, near-duplicates behind the result that stands for them."""
        search = partial(retriever.search, query, mode=self.mode, group=True, signals=self.signals)
        with meter.stage("search"):
            results = search(k=min(SHOWN, depth))
        if depth > SHOWN:
            results += search(k=depth)
        found: dict[str, None] = {}
        for result in results:
            places = (place.rpartition(":")[0] for place in result.duplicates)
            found |= dict.fromkeys([result.document_id, *places])
        return list(found)[:depth]

    def _truncation(self, retriever: "Retriever", cut_queries: int) -> Truncation:
        return Truncation(
            document_length=retriever.passage_tokens,
            queries=cut_queries,
            query_length=retriever.contract.query_length,
            passages=retriever.info().passages,
        )


def _noting(corpus: Corpus, ids: dict[str, str]) -> Iterator[Document]:
    """The documents; ``ids`` is filled with the ids that an index stores in another form."""
    for document in corpus:
        if (stored := checked_id(document.id)) != document.id:
            ids[stored] = document.id
        yield document


def _counting(on_progress: OnProgress, total: int) -> "Progress":
    def show(added: "Added") -> None:
        on_progress(added.documents + added.unchanged + len(added.skipped), total)

    return show


def _by_rank(documents: Sequence[str]) -> Hits[str]:
    return Hits(list(documents), 1 / np.arange(1, len(documents) + 1, dtype=np.float32))
