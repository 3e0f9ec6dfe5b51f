"""A comparison on a terminal, as Markdown and as JSON."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer

from flatcoat.eval.metrics import title_of

from .comparison import Comparison
from .rows import Row, Table
from .tables import MARKS, TEXT_COLUMNS, Grid, grids

_WIDE = 110  # columns of a terminal that shows every measure


def render_markdown(comparison: Comparison) -> str:
    """Tables in GitHub's Markdown."""
    parts = [f"# {title_of(comparison.measure)} x 100"]
    parts += [
        f"## {_escape(grid.title)}\n\n{_escape(grid.caption)}\n\n{_table(grid)}" for grid in grids(comparison)
    ]
    notes = [MARKS, *comparison.notices]
    return "\n\n".join([*parts, "\n".join(f"- {_escape(note)}" for note in notes)]) + "\n"


def render_json(comparison: Comparison) -> str:
    """All figures except scores of single queries; measures and differences in 0..1."""
    values = {
        "measure": comparison.measure,
        "baseline": comparison.baseline,
        "tables": [_table_values(table) for table in comparison.tables],
        "benchmarks": [asdict(mean) for mean in comparison.means],
        "index_losses": [asdict(loss) for loss in comparison.losses],
        "published": {
            name: [figure._asdict() for figure in figures] for name, figures in comparison.published.items()
        },
        "notices": comparison.notices,
    }
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def print_tables(comparison: Comparison) -> None:
    """Print the tables; a narrow terminal shows no other measures."""
    from flatcoat.console import print_table

    brief = shutil.get_terminal_size().columns < _WIDE
    for grid in grids(comparison, brief=brief):
        title = f"{grid.title}  ({grid.caption})"
        print_table(grid.header, grid.rows, words=TEXT_COLUMNS, title=title)
    typer.echo(f"measures x 100; {MARKS}")
    for notice in comparison.notices:
        typer.echo(notice)


def _table_values(table: Table) -> dict[str, Any]:
    return {
        "dataset": table.dataset,
        "split": table.split,
        "revision": table.revision,
        "k": table.k,
        "queries": len(table.rows[0].scores),
        "systems": [_row_values(row) for row in table.rows],
    }


def _row_values(row: Row) -> dict[str, Any]:
    return {
        "system": row.label,
        "key": row.record.key,
        "measures": row.record.measures,
        "contrast": asdict(row.contrast) if row.contrast else None,
        "milliseconds_a_query": row.milliseconds,
        "costs": row.costs._asdict(),
        "folder": str(row.record.folder),
    }


def _table(grid: Grid) -> str:
    lines = [_line(grid.header), _line(["---", *["---:"] * (len(grid.header) - 1)])]
    return "\n".join([*lines, *(_line([*map(_escape, row)]) for row in grid.rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(text.split()))
