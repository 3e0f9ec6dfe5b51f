"""Compare results folders: systems side by side on each data set, tested against a baseline.

A table holds comparable results only: the same data at the same revision, the same k, the same judged
queries. Results that differ in one of these get separate tables, and a notice.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flatcoat.errors import UsageError
from flatcoat.eval.published import Published, find_published
from flatcoat.eval.records import Record, read_records
from flatcoat.eval.significance import holm, paired_differences, randomisation_test, t_test

from .rows import Contrast, Row, Table, read_row
from .summaries import BenchmarkMean, IndexLoss, benchmark_means, index_losses

_DEFAULT_BASELINE = "BM25"


class SystemId(NamedTuple):
    """A system's name and the key of its settings."""

    name: str
    key: str

    @staticmethod
    def of(record: Record) -> "SystemId":
        """The system of a record."""
        return SystemId(record.system, record.key)


class _Condition(NamedTuple):
    """Results are comparable where all of these are equal."""

    dataset: str
    split: str
    revision: str
    k: int
    queries: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The contents of a report. ``published`` is the name of a data set or benchmark -> published figures.

    ``settings`` is the label of a system -> one of its records.
    """

    measure: str
    baseline: str
    tables: list[Table]
    means: list[BenchmarkMean]
    losses: list[IndexLoss]
    published: dict[str, list[Published]]
    settings: dict[str, Record]
    notices: list[str]


def compare_results(folders: Sequence[Path], measure: str, *, baseline: str | None = None) -> Comparison:
    """Read results folders and compare by one measure.

    ``baseline`` is a system's name or key; the default is BM25, or the first system if BM25 was not measured.
    Raises UsageError for a measure that a record lacks and a baseline that is not exactly one of the systems,
    NotFoundError for folders without records, DataError for a malformed record.

    >>> compare_results([Path("results")], "ndcg@10").baseline  # doctest: +SKIP
    'BM25'
    """
    records, notices = _latest(read_records(folders))
    labels = _labels(records)
    chosen = _choose_baseline(labels, baseline)
    rows = [read_row(record, labels[SystemId.of(record)], measure=measure) for record in records]
    tables = [_tested(table, chosen) for table in _tables(rows)]
    notices += [notice for table in tables for notice in _notices(table, tables, chosen)]
    means, left_out = benchmark_means(tables)
    names = [*(table.dataset for table in tables), *(mean.benchmark for mean in means)]
    return Comparison(
        measure=measure,
        baseline=chosen,
        tables=tables,
        means=means,
        losses=index_losses(tables),
        published={name: figures for name in names if (figures := _published(name, measure))},
        settings={labels[SystemId.of(record)]: record for record in records},
        notices=notices + left_out,
    )


def _published(name: str, measure: str) -> list[Published]:
    return [figure for figure in find_published(name) if figure.measure == measure]


def _latest(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """The latest of measurements of the same, and a notice of each older one."""
    kept: dict[tuple[str, ...], Record] = {}
    notices: list[str] = []
    for record in sorted(records, key=lambda record: record.finished, reverse=True):
        identity = (record.system, record.key, record.dataset, record.split, record.revision)
        newer = kept.setdefault(identity, record)
        if newer is not record:
            notices.append(f"{record.folder} is left out: {newer.folder} holds the same, measured later")
    return sorted(kept.values(), key=lambda record: record.folder), notices


def _labels(records: Iterable[Record]) -> dict[SystemId, str]:
    """The name of each system, followed by its key where several systems share the name."""
    systems = sorted({SystemId.of(record) for record in records})
    names = [system.name for system in systems]
    return {
        system: system.name if names.count(system.name) == 1 else f"{system.name} [{system.key}]"
        for system in systems
    }


def _choose_baseline(labels: dict[SystemId, str], query: str | None) -> str:
    if query is None:
        return _DEFAULT_BASELINE if _DEFAULT_BASELINE in labels.values() else next(iter(labels.values()))
    matches = [label for system, label in labels.items() if query in (*system, label)]
    if len(matches) != 1:
        fault = f"are {len(matches)} systems" if matches else "is no system here"
        choices = ", ".join(matches or labels.values())
        raise UsageError(f"the baseline {query!r} {fault}: choose one of {choices}")
    return matches[0]


def _tables(rows: Iterable[Row]) -> list[Table]:
    groups: dict[_Condition, list[Row]] = defaultdict(list)
    for row in rows:
        record = row.record
        condition = _Condition(record.dataset, record.split, record.revision, record.k, frozenset(row.scores))
        groups[condition].append(row)
    return [
        Table(
            dataset=condition.dataset,
            split=condition.split,
            revision=condition.revision,
            k=condition.k,
            rows=sorted(group, key=lambda row: -row.mean),
        )
        for condition, group in groups.items()
    ]


def _tested(table: Table, baseline: str) -> Table:
    """The table with every row's contrast to the baseline; unchanged where the baseline is missing."""
    base = next((row for row in table.rows if row.label == baseline), None)
    others = [row for row in table.rows if row is not base]
    if base is None or not others:
        return table
    differences_SM = np.stack([paired_differences(row.scores, base.scores) for row in others], axis=1)
    p_t = t_test(differences_SM).tolist()
    p_random = randomisation_test(differences_SM).tolist()
    contrasts = {
        row.label: Contrast.of(differences, p_t=t, p_randomisation=random, p_holm=corrected)
        for row, differences, t, random, corrected in zip(
            others, differences_SM.T, p_t, p_random, holm(p_random), strict=True
        )
    }
    rows = [row if row is base else row.against(contrasts[row.label]) for row in table.rows]
    return replace(table, rows=rows, baseline=base)


def _notices(table: Table, tables: Sequence[Table], baseline: str) -> list[str]:
    twins = [other for other in tables if other.title == table.title]
    notices = []
    if len(twins) > 1 and table is twins[0]:
        conditions = "; ".join(f"{twin.condition}: {len(twin.rows)}" for twin in twins)
        notices.append(f"{table.title} is shown in {len(twins)} tables, not compared: {conditions}")
    if table.baseline is None and all(row.label != baseline for row in table.rows):
        notices.append(
            f"{table.title} ({table.condition}): {baseline} was not measured, so nothing is tested"
        )
    return notices
