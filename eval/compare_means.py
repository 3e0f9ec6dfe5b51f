"""One figure a system for a whole benchmark: the mean over its data sets."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from .compare_rows import Table
from .tasks import BENCHMARKS, Benchmark


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
