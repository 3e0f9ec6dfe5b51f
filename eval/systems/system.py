"""Systems under test: an encoder with an engine over whole documents, and the BM25 baseline.

Others are in search_system.py and rerank_system.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from flatcoat.errors import UsageError
from flatcoat.eval.costs import Costs, Meter, OnProgress
from flatcoat.eval.datasets import RetrievalDataset
from flatcoat.eval.truncation import Truncation
from flatcoat.indexing.store.engines import AUTO, EngineSettings

from .indexed import build_index, open_store, search_index
from .streamed import BUDGET_BYTES, TopResults, search_exactly, searchable

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder

EXACT = EngineSettings("exact")

_PROGRESS_EVERY = 1_000  # documents


def no_progress(done: int, total: int) -> None:
    """Ignore the progress of a search."""


class MeasuredRun(NamedTuple):
    """``run`` is query id -> document id -> score, best first; a query without results has an empty one."""

    run: dict[str, dict[str, float]]
    costs: Costs
    truncation: Truncation = Truncation()


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


def _engine_name(engine: EngineSettings) -> str:
    """The name of an engine with the bits or factory that are not the default ones."""
    if engine.name == "plaid" and engine.bits != AUTO.bits:
        return f"plaid:{engine.bits}"
    if engine.name == "faiss" and engine.factory != AUTO.factory:
        return f"faiss:{engine.factory}"
    return engine.name


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
        """The encoder's name, followed by the engine unless that is exact search, as ``--index`` names it."""
        name = self.label or self.encoder.name
        return name if self.engine.name == "exact" else f"{name} ({_engine_name(self.engine)})"

    def describe(self) -> dict[str, Any]:
        """The encoder's contract without its name, which changes no result; the engine and the recall."""
        encoder = self.encoder.contract.settings
        return {"kind": "encoder", "encoder": encoder, "engine": self._engine, "recall": self.recall}

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
        lengths = self.encoder.contract
        truncation = Truncation(
            meter.cut_documents, lengths.document_length, meter.cut_queries, lengths.query_length
        )
        return MeasuredRun(run, meter.costs(len(dataset.queries), len(dataset.documents)), truncation)

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

    >>> from flatcoat.indexing.documents import Document
    >>> documents = [Document("a", "cats purr"), Document("b", "dogs bark")]
    >>> dataset = RetrievalDataset("pets", "test", documents, {"q": "a purring cat"}, {"q": {"a": 1}})
    >>> list(Bm25System().search(dataset, 10).run["q"])
    ['a']
    """

    name: str = "BM25"

    def describe(self) -> dict[str, Any]:
        """The parameters of BM25, the stop words and the stemmer."""
        from flatcoat.indexing.bm25_baseline import SETTINGS, STEMMER, STOP_WORDS

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
        from flatcoat.indexing.bm25_baseline import Bm25

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


def _texts(dataset: RetrievalDataset, on_progress: OnProgress) -> Iterator[tuple[str, str]]:
    for done, document in enumerate(dataset.documents, start=1):
        yield document.id, searchable([document])[0]
        if done % _PROGRESS_EVERY == 0 or done == len(dataset.documents):
            on_progress(done, len(dataset.documents))
