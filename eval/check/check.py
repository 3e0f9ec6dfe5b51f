"""Check an index: what its own search finds for queries with known answers, and what its engine misses."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from flatcoat.errors import DataError, UsageError
from flatcoat.eval.metrics import evaluate
from flatcoat.eval.records import versions
from flatcoat.retrieval.results import Mode
from flatcoat.retrieval.retriever import Retriever

from .masking import masked_copy
from .queries import CheckQuery
from .recall import OnProgress, engine_recall
from .record import CheckRecord

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder

NDCG, RECALL = "ndcg@10", "recall@10 of exact search"
_K = 10


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """How an index is searched: ``mode`` and ``recall`` as for ``Retriever.search``.

    Without a ``mode`` that is "hybrid", of an index without a model "bm25". ``encode_again`` compares the
    engine with exact search of newly encoded passages.
    """

    mode: Mode | None = None
    recall: float | None = None
    encode_again: bool = False


DEFAULT = CheckSettings()


class _Measured(NamedTuple):
    """The values of each measure, by query, and the seconds that the searches took."""

    scores: dict[str, list[float]]
    seconds: float


def check(
    path: str | Path,
    queries: Sequence[CheckQuery],
    *,
    model: "str | Encoder | None" = None,
    settings: CheckSettings = DEFAULT,
    on_progress: OnProgress = lambda done, total: None,
) -> CheckRecord:
    """Search an index for ``queries`` and score what it finds.

    ``nDCG@10`` is that of documents, by the best passage of each, as ``Retriever.search`` ranks them. Recall
    is of the engine alone, against exact search; an index without a model has none. Texts that queries were
    drawn from are cut out of a copy of the index first. ``model`` is as for ``Retriever.open``. Raises
    UsageError without queries, and as ``Retriever.open`` and ``Retriever.search`` do.

    >>> from flatcoat import Document
    >>> retriever = Retriever.create("my.index", model=None)
    >>> _ = retriever.add([Document("sky", "Air scatters blue light."), Document("sea", "Salt water.")])
    >>> check("my.index", [CheckQuery("blue light", ("sky",), "file")]).scores
    {'ndcg@10': [1.0]}
    """
    if not queries:
        raise UsageError("no queries came: draw_queries or read_queries gives some")
    original = Retriever.open(path, model)
    settings = replace(settings, mode=settings.mode or ("hybrid" if original.has_model else "bm25"))
    described, index_bytes = _described(original) | asdict(settings), original.info().bytes
    with TemporaryDirectory(prefix="flatcoat-check-") as folder:
        retriever = original
        if any(query.source for query in queries):
            retriever = masked_copy(
                original.store,
                queries,
                folder=Path(folder) / "index",
                model=model,
                vectors=settings.mode != "bm25",
            )
        measured = _measured(retriever, queries, settings, on_progress)
        retriever.close()
    return CheckRecord(
        settings=described,
        queries=[*queries],
        scores=measured.scores,
        costs={"ms_per_query": 1e3 * measured.seconds / len(queries), "index_bytes": index_bytes},
        versions=versions(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _measured(
    retriever: Retriever, queries: Sequence[CheckQuery], settings: CheckSettings, on_progress: OnProgress
) -> _Measured:
    retriever.search(queries[0].text, 1, mode=settings.mode)  # Loads the model and opens the index.
    began = time.perf_counter()
    run = _run(retriever, queries, settings)
    seconds = time.perf_counter() - began
    scores = {NDCG: _ndcg(run, queries)}
    if retriever.has_model and settings.mode != "bm25":
        scores[RECALL] = engine_recall(
            retriever,
            [query.text for query in queries],
            k=_K,
            recall=settings.recall,
            encode_again=settings.encode_again,
            on_progress=on_progress,
        )
    return _Measured(scores, seconds)


def _run(
    retriever: Retriever, queries: Sequence[CheckQuery], settings: CheckSettings
) -> dict[str, dict[str, float]]:
    """Documents by the number of their query, scored by rank: where scores are equal the order counts."""
    return {
        str(number): {
            result.document_id: 1 / result.rank
            for result in retriever.search(
                query.text, _K, mode=settings.mode, recall=settings.recall, group=True
            )
        }
        for number, query in enumerate(queries)
    }


def _ndcg(run: dict[str, dict[str, float]], queries: Sequence[CheckQuery]) -> list[float]:
    qrels = {str(number): dict.fromkeys(query.documents, 1) for number, query in enumerate(queries)}
    scores = evaluate(run, qrels, measures=[NDCG])
    return [scores.per_query[number][NDCG] for number in qrels]


def _described(retriever: Retriever) -> dict[str, Any]:
    """What makes an index answer as it does: engine, chunking and model."""
    store, stats = retriever.store, retriever.info()
    if not stats.passages:
        raise DataError(f"index {store.path} holds no passages: there is nothing to check")
    encoder = store.contract["encoder"] or {}
    engine = {"engine": stats.engine, "bits": store.engine.bits} if stats.engine == "plaid" else {}
    return {
        "documents": stats.documents,
        "passages": stats.passages,
        "passages_with_vectors": stats.passages_with_vectors,
        "passage_tokens": retriever.passage_tokens,
        "overlap": retriever.overlap,
        "engine": stats.engine,
        "model": encoder.get("model"),
        "weights": encoder.get("weights"),
        "precision": encoder.get("precision"),
        **engine,
    }
