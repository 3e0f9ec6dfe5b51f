"""What an index costs in quality: the same encoder searched exactly and by an approximate index."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .compare_rows import Row, Table
from .significance import paired_differences, randomisation_test, t_test

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
