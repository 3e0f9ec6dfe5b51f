"""The search benchmark as tables, JSON and a picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .search_speed import QUALITIES, SearchRow

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = ("Build s", "B/token", "ms (p95)", "Cold ms", "R@10", "R@100", "nDCG@10")


def report(rows: Sequence[SearchRow], settings: Mapping[str, Any], plot: Path | None, as_json: bool) -> None:
    """Print ``rows``, then draw them where ``plot`` is given; ``settings`` are those that all share."""
    from .encode_speed import describe_machine

    machine = describe_machine()
    shared = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    if as_json:
        values = {"machine": machine, **settings, "rows": [row.to_json() for row in rows]}
        typer.echo(json.dumps(values, indent=2))
    else:
        _print_tables(rows, f"{shared}; {machine}")
    if plot:
        from .search_plot import draw

        draw(rows, f"{shared}\n{machine}", plot)


def _print_tables(rows: Sequence[SearchRow], caption: str) -> None:
    from rich.console import Console

    console = Console(markup=False)
    for size in dict.fromkeys(row.passages for row in rows):
        _print_table([row for row in rows if row.passages == size], console)
    console.print(caption, soft_wrap=True)


def _print_table(rows: Sequence[SearchRow], console: "Console") -> None:
    from rich import box
    from rich.table import Table

    title = f"{rows[0].passages:,} passages, {rows[0].tokens:,} tokens"
    # 80 columns are enough.
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("Engine")
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        times = f"{_short(row.ms_per_query)} ({_short(row.ms_p95)})"
        figures = (_short(row.build_seconds), _short(row.bytes_per_token), times, _short(row.ms_cold))
        qualities = (row.quality[name] for name in QUALITIES)
        table.add_row(
            f"{row.engine}: {row.settings}" if row.settings else row.engine,
            *("" if row.error else figure for figure in figures),
            *("" if value is None else f"{value:.3f}" for value in qualities),
        )
    console.print(table)
    for row in rows:
        if row.error:
            console.print(f"{row.engine} {row.settings}: {row.error}".strip(), soft_wrap=True)


def _short(value: float | None) -> str:
    """Three digits, or whole."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
