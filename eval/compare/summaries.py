"""Results in few figures: a system's mean over a benchmark, and what an index costs in quality."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from flatcoat.eval.benchmarks import BENCHMARKS, Benchmark
from flatcoat.eval.significance import paired_differences, randomisation_test, t_test

from .rows import Row, Table


@dataclass(frozen=True)
class BenchmarkMean:
    """Means by system, best first, over ``measured`` of ``tasks`` tasks; CQADupstack's twelve are one.

    A system that was not measured on all of them has no mean, and stands in ``partial`` with how many it has.
    """

    benchmark: str
    measured: list[str]
    tasks: int
    means: dict[str, float]
    partial: dict[str, int]


def benchmark_means(tables: Sequence[Table]) -> tuple[list[BenchmarkMean], list[str]]:
    """A mean for each benchmark that the tables' records belong to, and notices of what it leaves out."""
    by_benchmark: dict[str, list[Table]] = defaultdict(list)
    for table in tables:
        if benchmark := table.rows[0].record.benchmark:
            by_benchmark[benchmark].append(table)
    means: list[BenchmarkMean] = []
    notices: list[str] = []
    for name, its_tables in by_benchmark.items():
        datasets = [table.dataset for table in its_tables]
        twice = sorted({dataset for dataset in datasets if datasets.count(dataset) > 1})
        notices += [
            f"{name}: {dataset} is left out of the mean, it is in several tables" for dataset in twice
        ]
        kept = [table for table in its_tables if table.dataset not in twice]
        if kept:
            means.append(_mean(name, kept))
    return means, notices


def _mean(name: str, tables: Iterable[Table]) -> BenchmarkMean:
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for table in tables:
        for row in table.rows:
            values[row.label][table.dataset] = row.mean
    benchmark = BENCHMARKS.get(name) or Benchmark(tuple(dict.fromkeys(table.dataset for table in tables)))
    by_system = {label: benchmark.by_task(own) for label, own in values.items()}
    measured = [task for task in benchmark.tasks if any(task in own for own in by_system.values())]
    complete = {
        label: fmean(own.values()) for label, own in by_system.items() if own and len(own) == len(measured)
    }
    return BenchmarkMean(
        name,
        measured,
        len(benchmark.tasks),
        dict(sorted(complete.items(), key=lambda item: -item[1])),
        {label: len(own) for label, own in by_system.items() if label not in complete},
    )


_INDEX = frozenset({"engine", "recall"})
"""Settings that choose the index and how thoroughly it is searched."""


@dataclass(frozen=True)
class IndexLoss:
    """``loss`` is the mean of exact search less that of the index; below 0 the index found more.
    ``speedup`` is of search, None where the index took no time."""

    dataset: str
    split: str
    exact: str
    index: str
    loss: float
    p_t: float
    p_randomisation: float
    speedup: float | None
    revision: str = ""


def index_losses(tables: Iterable[Table]) -> list[IndexLoss]:
    """Every pair of a table's rows that differ in their index alone, one of them exact."""
    return [
        _loss(table, exact, row)
        for table in tables
        for exact in table.rows
        if _is_exact(exact.record.settings)
        for row in table.rows
        if row is not exact and _without_index(row.record.settings) == _without_index(exact.record.settings)
    ]


def _loss(table: Table, exact: Row, row: Row) -> IndexLoss:
    differences_QM = paired_differences(exact.scores, row.scores)[:, None]
    return IndexLoss(
        table.dataset,
        table.split,
        exact.label,
        row.label,
        float(differences_QM.mean()),
        float(t_test(differences_QM)[0]),
        float(randomisation_test(differences_QM)[0]),
        exact.costs.search / row.costs.search if row.costs.search else None,
        table.revision,
    )


def _is_exact(settings: dict[str, Any]) -> bool:
    engine = settings.get("engine")
    return "exact" in (engine, engine.get("name") if isinstance(engine, dict) else None)


def _without_index(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _INDEX}
