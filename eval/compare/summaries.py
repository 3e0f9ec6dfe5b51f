"""Summaries of a comparison: a system's mean over a benchmark, and the quality that an index loses."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from flatcoat.eval.benchmarks import BENCHMARKS, Benchmark
from flatcoat.eval.significance import paired_differences, randomisation_test, t_test

from .rows import Row, Table

_INDEX_SETTINGS = frozenset({"engine", "recall"})
"""Settings that choose the index and the effort of its search."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkMean:
    """Means by system, best first, over ``measured`` of ``tasks`` tasks; CQADupstack's twelve are one.

    A system without all measured tasks has no mean, and in ``partial`` the number of its tasks.
    """

    benchmark: str
    measured: list[str]
    tasks: int
    means: dict[str, float]
    partial: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class IndexLoss:
    """An index against exact search with the same encoder.

    ``loss`` is the mean of exact search minus the mean of the index; below 0 the index is better.
    ``speedup`` is of search time, None where the index took no time.
    """

    dataset: str
    split: str
    exact: str
    index: str
    loss: float
    p_t: float
    p_randomisation: float
    speedup: float | None
    revision: str = ""


def benchmark_means(tables: Sequence[Table]) -> tuple[list[BenchmarkMean], list[str]]:
    """The mean of each benchmark of the tables, and notices of data sets left out of it."""
    by_benchmark: dict[str, list[Table]] = defaultdict(list)
    for table in tables:
        if benchmark := table.rows[0].record.benchmark:
            by_benchmark[benchmark].append(table)
    means: list[BenchmarkMean] = []
    notices: list[str] = []
    for name, members in by_benchmark.items():
        datasets = [table.dataset for table in members]
        twice = sorted({dataset for dataset in datasets if datasets.count(dataset) > 1})
        notices += [
            f"{name}: {dataset} is left out of the mean, it is in several tables" for dataset in twice
        ]
        kept = [table for table in members if table.dataset not in twice]
        if kept:
            means.append(_mean(name, kept))
    return means, notices


def _mean(name: str, tables: Iterable[Table]) -> BenchmarkMean:
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for table in tables:
        for row in table.rows:
            values[row.label][table.dataset] = row.mean
    benchmark = BENCHMARKS.get(name) or Benchmark(tuple(dict.fromkeys(table.dataset for table in tables)))
    by_system = {label: benchmark.by_task(scores) for label, scores in values.items()}
    measured = [task for task in benchmark.tasks if any(task in scores for scores in by_system.values())]
    complete = {
        label: fmean(scores.values())
        for label, scores in by_system.items()
        if scores and len(scores) == len(measured)
    }
    return BenchmarkMean(
        benchmark=name,
        measured=measured,
        tasks=len(benchmark.tasks),
        means=dict(sorted(complete.items(), key=lambda item: -item[1])),
        partial={label: len(scores) for label, scores in by_system.items() if label not in complete},
    )


def index_losses(tables: Iterable[Table]) -> list[IndexLoss]:
    """Every pair of exact search and an index in a table whose other settings are equal."""
    return [
        _loss(table, exact, row)
        for table in tables
        for exact in table.rows
        if _is_exact(exact.record.settings)
        for row in table.rows
        if row is not exact and _without_index(row.record.settings) == _without_index(exact.record.settings)
    ]


def _loss(table: Table, exact: Row, row: Row) -> IndexLoss:
    differences_SM = paired_differences(exact.scores, row.scores)[:, None]
    return IndexLoss(
        dataset=table.dataset,
        split=table.split,
        exact=exact.label,
        index=row.label,
        loss=float(differences_SM.mean()),
        p_t=float(t_test(differences_SM)[0]),
        p_randomisation=float(randomisation_test(differences_SM)[0]),
        speedup=exact.costs.search / row.costs.search if row.costs.search else None,
        revision=table.revision,
    )


def _is_exact(settings: dict[str, Any]) -> bool:
    engine = settings.get("engine")
    return "exact" in (engine, engine.get("name") if isinstance(engine, dict) else None)


def _without_index(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _INDEX_SETTINGS}
