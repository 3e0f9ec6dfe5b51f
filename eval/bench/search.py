"""Speed and quality of search engines on the same token vectors, side by side in one run.

Each row is an engine with one choice of settings, in a process of its own that opened the index from disk:

- ``build_seconds``: from vectors in a file to an index on disk, compilation of kernels included where no
  earlier run has compiled them.
- ``bytes_per_token``: all files of the index's folder.
- ``ms_cold``: opening the index and answering one query in a fresh process, without imports. The files are in
  the page cache; compiled kernels come from their cache.
- ``ms_per_query``, ``ms_p95``: one query at a time. Engines take turns of ten queries, so that a busy machine
  slows all alike while each keeps its caches. Each query counts with its median pass; the row has the median
  and the 95th percentile over queries.
- ``recall@10``: the share of exact search's best ten among the engine's. ``ndcg@10``: with judgements, and
  without a filter.
- ``recall@100``: the share of the best hundred, in an untimed pass that retrieves a hundred and warms up.

Axes: S queries, Q tokens of one query, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatcoat.errors import UsageError
from flatcoat.eval.metrics import evaluate
from flatcoat.indexing.exact import ExactIndex

from .collections import Collection
from .search_peers import Engine
from .search_process import Task
from .search_timing import DEEP, EngineTiming, time_engines

QUALITIES = ("recall@10", "recall@100", "ndcg@10")


@dataclass(frozen=True, kw_only=True)
class SearchRow:
    """One engine with one choice of settings, on the first ``passages`` of a collection.

    ``error`` says why the engine failed, if it did; figures that were not measured are None.
    """

    engine: str
    settings: str
    passages: int
    tokens: int
    build_seconds: float | None = None
    bytes_per_token: float | None = None
    ms_per_query: float | None = None
    ms_p95: float | None = None
    ms_cold: float | None = None
    quality: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(QUALITIES))
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, ``quality`` spread among them."""
        values = dict(vars(self))
        return values | values.pop("quality")


def bench_search(
    collection: Collection,
    engines: Sequence[Engine],
    *,
    k: int = 10,
    passes: int = 3,
    share: float | None = None,
    sizes: Sequence[int] = (),
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[SearchRow]:
    """Measure engines, one row per choice of settings.

    ``k`` is at least 10. ``share`` filters each search to a random share of the passages, such as 0.01.
    ``sizes`` measures prefixes of the collection with these numbers of passages instead of the whole. Raises
    UsageError for a size beyond the collection.

    >>> rows = bench_search(collection, engines(["exact", "flatcoat"]))  # doctest: +SKIP
    >>> rows[0].quality["recall@10"]  # doctest: +SKIP
    1.0
    """
    if wrong := [size for size in sizes if not 1 <= size <= collection.passages]:
        raise UsageError(f"{wrong[0]:,} passages are asked for: 1 to {collection.passages:,} are there")
    queries = [query_QD.astype(np.float32) for query_QD in collection.queries]
    rows: list[SearchRow] = []
    for size in sorted(set(sizes)) or [collection.passages]:
        allowed = None if share is None else _drawn(size, share)
        task = Task(collection.folder, size, queries, k, allowed)
        timings = time_engines(
            task,
            engines,
            passes=passes,
            on_progress=lambda what, size=size: on_progress(f"{size:,} passages: {what}"),
        )
        truth = _exact(collection, task)
        tokens = len(collection.vectors(size).values_TD)
        rows += [_row(timing, task, tokens, truth, collection.grades) for timing in timings]
    return rows


def _drawn(size: int, share: float) -> np.ndarray:
    """Positions of a random share, at least one, in ascending order."""
    return np.sort(np.random.default_rng(0).permutation(size)[: max(1, round(share * size))])


def _exact(collection: Collection, task: Task) -> list[list[int]]:
    """The positions of the truly best passages of each query."""
    vectors = collection.vectors(task.passages)
    index = ExactIndex.from_vectors([str(position) for position in range(task.passages)], vectors)
    results = index.search(collection.queries, max(task.k, DEEP), allowed=task.allowed)
    return [[int(id) for id in hits.ids] for hits in results]


def _row(
    timing: EngineTiming,
    task: Task,
    tokens: int,
    truth: list[list[int]],
    grades: dict[int, dict[int, int]],
) -> SearchRow:
    row = SearchRow(
        engine=timing.engine,
        settings=timing.settings,
        passages=task.passages,
        tokens=tokens,
        build_seconds=timing.build_seconds,
        bytes_per_token=None if timing.bytes is None else timing.bytes / tokens,
        ms_cold=None if timing.cold_seconds is None else 1000 * timing.cold_seconds,
        error=timing.error,
    )
    if timing.error:
        return row
    deep, *timed = timing.passes
    ms_S = 1000 * np.median([[answer.seconds for answer in answers] for answers in timed], axis=0)
    found = [answer.passages for answer in timed[-1]]
    quality: dict[str, float | None] = {
        "recall@10": recall(found, truth, k=10),
        "recall@100": recall([answer.passages for answer in deep], truth, k=DEEP),
        "ndcg@10": _ndcg(found, grades) if grades and task.allowed is None else None,
    }
    p95 = float(np.percentile(ms_S, 95))
    return replace(row, ms_per_query=float(np.median(ms_S)), ms_p95=p95, quality=quality)


def recall(found: Sequence[Sequence[int]], truth: Sequence[Sequence[int]], *, k: int) -> float:
    """Recall against exact search: the mean over queries of the share of the true best ``k`` found.

    >>> recall([[1, 2, 9]], [[2, 1, 3]], k=3)
    0.6666666666666666
    """
    shares = [
        len(set(some[:k]) & set(best[:k])) / len(best[:k]) for some, best in zip(found, truth, strict=True)
    ]
    return float(np.mean(shares))


def _ndcg(found: Sequence[Sequence[int]], grades: dict[int, dict[int, int]]) -> float:
    """nDCG@10 by trec_eval, in the engine's order."""
    run = {
        str(query): {str(passage): -float(rank) for rank, passage in enumerate(passages)}
        for query, passages in enumerate(found)
    }
    qrels = {
        str(query): {str(passage): grade for passage, grade in judged.items()}
        for query, judged in grades.items()
    }
    return evaluate(run, qrels, measures=["ndcg@10"]).mean["ndcg@10"]
