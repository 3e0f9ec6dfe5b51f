"""How fast and how well engines search the same token vectors, side by side in one run.

Each row is an engine with one choice of settings, in a process of its own that opened the index from disk:

- ``build_seconds``: from vectors in a file to an index on disk. An engine that compiles kernels does so here,
  where no run before it has.
- ``bytes_per_token``: all files of the index's folder.
- ``ms_cold``: opening the index and answering one query in a fresh process, imports not counted. The files
  are in the page cache; compiled kernels are loaded from theirs.
- ``ms_per_query``, ``ms_p95``: one query at a time, as a user asks. Engines take turns of ten queries, so
  that a busy machine slows all alike while each keeps its caches. Of each query the median pass counts, of
  these the median and the 95th percentile.
- ``recall@10``: how much of exact search's best ten is among the engine's. ``ndcg@10``: where people judged,
  and nothing is filtered.
- ``recall@100``: the same of a hundred, in a pass that asks for a hundred, warms up and is not timed.

Axes: Q queries, U tokens of one query, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatcoat.errors import FlatcoatError
from flatcoat.eval.metrics import evaluate
from flatcoat.indexing.exact import ExactIndex

from .collections import Collection
from .search_peers import Engine
from .search_process import DEEP, Measured, Task, measure

QUALITIES = ("recall@10", "recall@100", "ndcg@10")


@dataclass(frozen=True)
class SearchRow:
    """One engine with one choice of settings, on the first ``passages`` of a collection.

    Where the engine failed, ``error`` says how, and what was not measured is None.
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
        values = dict(vars(self))
        return values | values.pop("quality")


def compare(
    collection: Collection,
    engines: Sequence[Engine],
    k: int = 10,
    passes: int = 3,
    share: float | None = None,
    sizes: Sequence[int] = (),
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[SearchRow]:
    """Measure engines, one row a setting.

    ``k`` is at least 10. ``share`` searches among so much of the passages, drawn by chance, such as 0.01.
    ``sizes`` measures the first so many passages, size by size, instead of all. Raises FlatcoatError for a
    size beyond the collection.
    """
    if wrong := [size for size in sizes if not 1 <= size <= collection.passages]:
        raise FlatcoatError(f"{wrong[0]:,} passages are asked for: 1 to {collection.passages:,} are there")
    queries = [query_UD.astype(np.float32) for query_UD in collection.queries]
    rows: list[SearchRow] = []
    for size in sorted(set(sizes)) or [collection.passages]:
        allowed = None if share is None else _drawn(size, share)
        task = Task(collection.folder, size, queries, k, allowed)
        measured = measure(
            task, engines, passes, lambda what, size=size: on_progress(f"{size:,} passages: {what}")
        )
        truth = _exact(collection, task)
        tokens = len(collection.vectors(size).values_TD)
        rows += [_row(one, task, tokens, truth, collection.grades) for one in measured]
    return rows


def _drawn(size: int, share: float) -> np.ndarray:
    """Positions of a random share, at least one, in rising order."""
    return np.sort(np.random.default_rng(0).permutation(size)[: max(1, round(share * size))])


def _exact(collection: Collection, task: Task) -> list[list[int]]:
    """The true best of each query, by position."""
    vectors = collection.vectors(task.passages)
    index = ExactIndex.from_vectors([str(position) for position in range(task.passages)], vectors)
    found = index.search(collection.queries, max(task.k, DEEP), task.allowed)
    return [[int(id) for id in hits.ids] for hits in found]


def _row(
    one: Measured, task: Task, tokens: int, truth: list[list[int]], grades: dict[int, dict[int, int]]
) -> SearchRow:
    row = SearchRow(
        one.engine,
        one.settings,
        task.passages,
        tokens,
        build_seconds=one.build_seconds,
        bytes_per_token=None if one.bytes is None else one.bytes / tokens,
        ms_cold=None if one.cold_seconds is None else 1000 * one.cold_seconds,
        error=one.error,
    )
    if one.error:
        return row
    deep, *timed = one.passes
    ms_Q = 1000 * np.median([[answer.seconds for answer in answers] for answers in timed], axis=0)
    found = [answer.passages for answer in timed[-1]]
    quality: dict[str, float | None] = {
        "recall@10": recall(found, truth, 10),
        "recall@100": recall([answer.passages for answer in deep], truth, DEEP),
        "ndcg@10": _ndcg(found, grades) if grades and task.allowed is None else None,
    }
    p95 = float(np.percentile(ms_Q, 95))
    return replace(row, ms_per_query=float(np.median(ms_Q)), ms_p95=p95, quality=quality)


def recall(found: Sequence[Sequence[int]], truth: Sequence[Sequence[int]], k: int) -> float:
    """Mean over queries of the share of the true best ``k``, or of all where fewer exist, that is found."""
    shares = [
        len(set(some[:k]) & set(best[:k])) / len(best[:k]) for some, best in zip(found, truth, strict=True)
    ]
    return float(np.mean(shares))


def _ndcg(found: Sequence[Sequence[int]], grades: dict[int, dict[int, int]]) -> float:
    """trec_eval's, on the engine's own order."""
    run = {
        str(query): {str(passage): -float(rank) for rank, passage in enumerate(passages)}
        for query, passages in enumerate(found)
    }
    qrels = {
        str(query): {str(passage): grade for passage, grade in judged.items()}
        for query, judged in grades.items()
    }
    return evaluate(run, qrels, ["ndcg@10"]).mean["ndcg@10"]
