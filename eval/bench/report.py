"""Results of the benchmarks as tables, as JSON and as pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flatcoat.console import print_table

if TYPE_CHECKING:
    from .bm25 import Bm25Row
    from .encode import SpeedRow
    from .search import SearchRow
    from .serve import Load

_SEARCH_FIGURES = ("Build s", "B/token", "ms (p95)", "Cold ms", "R@10", "R@100", "nDCG@10")


def report_encoding(rows: "Sequence[SpeedRow]", *, plot: Path | None, as_json: bool) -> None:
    """Print ``rows``, and draw them to the file ``plot`` if given."""
    from .encode import FAITHFUL, best_against_default, describe_machine

    machine = describe_machine()
    if plot:
        from .plot_encoding import draw_encoding

        draw_encoding(rows, plot, machine=machine)
    if as_json:
        typer.echo(json.dumps({"machine": machine, "rows": [row.to_json() for row in rows]}, indent=2))
        return
    for name in dict.fromkeys(row.set for row in rows):
        _print_set([row for row in rows if row.set == name])
    typer.echo(f"{rows[0].task}, tokens per second without padding, median pass; {machine}")
    if rows[0].no_peer:
        typer.echo("Cosines are to flatcoat in fp32.")
    for best in best_against_default(rows):
        typer.echo(
            f"{best.set}: best of ours with cosine >= {FAITHFUL}: {best.precision}, "
            f"{best.speedup:.1f}x sentence-transformers' default encode"
        )


def _print_set(rows: "Sequence[SpeedRow]") -> None:
    """The table of one document set."""
    count = f"{rows[0].documents:,} document{'s' if rows[0].documents > 1 else ''}"
    batches = any(row.max_batch for row in rows)
    print_table(
        ["Precision", "Implementation", "Tokens/s", "Ours is", "Cosine", *(["Max batch"] if batches else [])],
        [
            [
                row.precision,
                row.implementation,
                f"{row.tokens_per_second:,.0f}" if row.tokens_per_second else "no memory",
                f"{1 / row.ratio_to_ours:.2f}x" if row.ratio_to_ours else "",
                "" if row.cosine is None else f"{row.cosine:.5f}",
                *([f"{row.max_batch:,}" if row.max_batch else ""] if batches else []),
            ]
            for row in rows
        ],
        words=["Implementation"],
        title=f"{rows[0].set}, {count}" + (f": {rows[0].no_peer}" if rows[0].no_peer else ""),
    )


def report_bm25(rows: "Sequence[Bm25Row]", *, settings: Mapping[str, Any], as_json: bool) -> None:
    """Print ``rows``; ``settings`` are common to all."""
    from .encode import describe_machine

    if as_json:
        values = {"machine": describe_machine(), **settings, "rows": [row.to_json() for row in rows]}
        typer.echo(json.dumps(values, indent=2))
        return
    for size in dict.fromkeys(row.passages for row in rows):
        print_table(
            ["Engine", "CPU ms (p95)", "Build CPU s", "MB", "RSS MB: search", "build"],
            [
                [
                    row.engine,
                    f"{row.ms:.2f} ({row.ms_p95:.2f})",
                    f"{row.build_s:.1f}",
                    f"{row.bytes / 1e6:,.1f}",
                    f"{row.search_mb:,.0f}",
                    f"{row.build_mb:,.0f}",
                ]
                for row in rows
                if row.passages == size
            ],
            words=["Engine"],
            title=f"{size:,} passages",
        )
    typer.echo(f"{', '.join(f'{name} {value}' for name, value in settings.items())}; {describe_machine()}")


def report_search(
    rows: "Sequence[SearchRow]", *, settings: Mapping[str, Any], plot: Path | None, as_json: bool
) -> None:
    """Print ``rows``, and draw them to the file ``plot`` if given; ``settings`` are common to all rows."""
    from .encode import describe_machine

    machine = describe_machine()
    shared = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    if as_json:
        values = {"machine": machine, **settings, "rows": [row.to_json() for row in rows]}
        typer.echo(json.dumps(values, indent=2))
    else:
        for size in dict.fromkeys(row.passages for row in rows):
            _print_size([row for row in rows if row.passages == size])
        typer.echo(f"{shared}; {machine}")
    if plot:
        from .plot_search import draw_search

        draw_search(rows, plot, caption=f"{shared}\n{machine}")


def _print_size(rows: "Sequence[SearchRow]") -> None:
    """The table of one size of a collection, and the errors of engines that failed."""
    print_table(
        ["Engine", *_SEARCH_FIGURES],
        [_search_cells(row) for row in rows],
        title=f"{rows[0].passages:,} passages, {rows[0].tokens:,} tokens",
    )
    for row in rows:
        if row.error:
            typer.echo(f"{row.engine} {row.settings}: {row.error}")


def _search_cells(row: "SearchRow") -> list[str]:
    from .search import QUALITIES

    times = f"{_short(row.ms_per_query)} ({_short(row.ms_p95)})"
    figures = (_short(row.build_seconds), _short(row.bytes_per_token), times, _short(row.ms_cold))
    qualities = (row.quality[name] for name in QUALITIES)
    return [
        f"{row.engine}: {row.settings}" if row.settings else row.engine,
        *("" if row.error else figure for figure in figures),
        *("" if value is None else f"{value:.3f}" for value in qualities),
    ]


def _short(value: float | None) -> str:
    """Three digits, or whole."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def report_serving(loads: "Sequence[Load]", *, as_json: bool) -> None:
    """Print what the servers did under load."""
    if as_json:
        typer.echo(json.dumps([asdict(load) for load in loads], indent=2))
        return
    print_table(
        ["Work", "Server", "Clients", "Requests/s", "p50 ms", "p95 ms", "p99 ms", "CPU ms"],
        [
            [
                load.work,
                load.system,
                str(load.clients),
                f"{load.rate:,.0f}",
                *(f"{value:,.1f}" for value in (load.p50, load.p95, load.p99, load.processor)),
            ]
            for load in sorted(loads, key=lambda load: (load.work, load.clients))
        ],
        words=["Server"],
    )
