"""What a results folder says: systems side by side on each data set, tested against a baseline.

A table holds only what may be compared: the same data at the same revision, cut at the same k, judged on the
same queries. Whatever differs in one of these gets a table of its own, and a notice.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from flatcoat.errors import FlatcoatError
from flatcoat.eval.published import Published, find_published
from flatcoat.eval.records import Record, read_records
from flatcoat.eval.significance import holm, paired_differences, randomisation_test, t_test

from .rows import Contrast, Row, Table, read_row
from .summaries import BenchmarkMean, IndexLoss, benchmark_means, index_losses

_DEFAULT_BASELINE = "BM25"

Key: TypeAlias = tuple[str, str]
"""A system's name and the key of its settings."""


@dataclass(frozen=True)
class Comparison:
    """All that is shown. ``published`` are the figures of others for each data set and benchmark, by name."""

    measure: str
    baseline: str
    tables: list[Table]
    means: list[BenchmarkMean]
    losses: list[IndexLoss]
    published: dict[str, list[Published]]
    settings: dict[str, Record]
    notices: list[str]


def compare(folders: Sequence[Path], measure: str, baseline: str | None = None) -> Comparison:
    """Read results folders and compare by one measure.

    ``baseline`` is a system's name or key; without one, BM25 if it was measured, or the first system. Raises
    FlatcoatError for a record that is malformed or lacks the measure, and a baseline that is none of the
    systems, or several.
    """
    records, notices = _latest(read_records(folders))
    labels = _labels(records)
    chosen = _choose_baseline(labels, baseline)
    rows = [read_row(record, labels[record.system, record.key], measure) for record in records]
    tables = [_tested(table, chosen) for table in _tables(rows)]
    notices += [notice for table in tables for notice in _notices(table, tables, chosen)]
    means, left_out = benchmark_means(tables)
    names = [*(table.dataset for table in tables), *(mean.benchmark for mean in means)]
    return Comparison(
        measure,
        chosen,
        tables,
        means,
        index_losses(tables),
        {name: figures for name in names if (figures := _published(name, measure))},
        {labels[record.system, record.key]: record for record in records},
        notices + left_out,
    )


def _published(name: str, measure: str) -> list[Published]:
    return [figure for figure in find_published(name) if figure.measure == measure]


def _latest(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """Without measurements that were made again elsewhere, and a notice of each that is left out."""
    kept: dict[tuple[str, ...], Record] = {}
    notices: list[str] = []
    for record in sorted(records, key=lambda record: record.finished, reverse=True):
        identity = (record.system, record.key, record.dataset, record.split, record.revision)
        newer = kept.setdefault(identity, record)
        if newer is not record:
            notices.append(f"{record.folder} is left out: {newer.folder} holds the same, measured later")
    return sorted(kept.values(), key=lambda record: record.folder), notices


def _labels(records: Iterable[Record]) -> dict[Key, str]:
    """A name for each system; the key of its settings beside it where others have the same name."""
    keys = sorted({(record.system, record.key) for record in records})
    names = [name for name, _ in keys]
    return {(name, key): name if names.count(name) == 1 else f"{name} [{key}]" for name, key in keys}


def _choose_baseline(labels: dict[Key, str], wanted: str | None) -> str:
    if wanted is None:
        return _DEFAULT_BASELINE if _DEFAULT_BASELINE in labels.values() else next(iter(labels.values()))
    found = [label for (name, key), label in labels.items() if wanted in (name, key, label)]
    if len(found) != 1:
        fault = f"are {len(found)} systems" if found else "is no system here"
        choices = ", ".join(found or labels.values())
        raise FlatcoatError(f"the baseline {wanted!r} {fault}: choose one of {choices}")
    return found[0]


def _tables(rows: Iterable[Row]) -> list[Table]:
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        record = row.record
        groups[record.dataset, record.split, record.revision, record.k, frozenset(row.scores)].append(row)
    return [
        Table(*key[:4], rows=sorted(group, key=lambda row: -row.mean), baseline=None)
        for key, group in groups.items()
    ]


def _tested(table: Table, baseline: str) -> Table:
    """The table with every row's contrast to the baseline; as it is where the baseline is missing."""
    base = next((row for row in table.rows if row.label == baseline), None)
    others = [row for row in table.rows if row is not base]
    if base is None or not others:
        return table
    differences_QM = np.stack([paired_differences(row.scores, base.scores) for row in others], axis=1)
    p_t = t_test(differences_QM).tolist()
    p_random = randomisation_test(differences_QM).tolist()
    contrasts = {
        row.label: Contrast.of(differences, t, random, corrected)
        for row, differences, t, random, corrected in zip(
            others, differences_QM.T, p_t, p_random, holm(p_random), strict=True
        )
    }
    rows = [row if row is base else row.against(contrasts[row.label]) for row in table.rows]
    return Table(table.dataset, table.split, table.revision, table.k, rows, base)


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
