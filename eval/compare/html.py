"""A comparison as one self-contained HTML page: tables, plots, and the queries that moved most."""

import json
from collections.abc import Sequence
from html import escape

from flatcoat.console import counted
from flatcoat.eval.metrics import title_of
from flatcoat.eval.published import Published

from .comparison import Comparison
from .plots import Pair, Point, plot_cost, plot_queries
from .rows import Row, Table
from .style import STYLE, colour_class
from .summaries import BenchmarkMean
from .tables import (
    MARKS,
    TEXT_COLUMNS,
    Grid,
    dataset_grid,
    format_bytes,
    loss_grid,
    mean_grid,
    published_grid,
)

_MOST_MOVED = 5


def render_html(comparison: Comparison) -> str:
    """The whole page."""
    name = title_of(comparison.measure)
    numbers = {label: number for number, label in enumerate(comparison.settings, start=1)}
    body = [_head(comparison, name), *(_mean(mean, comparison) for mean in comparison.means)]
    body += [_dataset(table, comparison, numbers) for table in comparison.tables]
    if comparison.losses:
        grid = loss_grid(comparison)
        body.append(
            f"<h2>{escape(grid.title)}</h2><p class=soft>{escape(grid.caption)}</p>{_card(_table(grid))}"
        )
    body.append(_settings(comparison, numbers))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)} of {len(numbers)} systems</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _head(comparison: Comparison, name: str) -> str:
    systems, datasets = len(comparison.settings), len({table.dataset for table in comparison.tables})
    notices = "".join(f"<li>{escape(notice)}</li>" for notice in comparison.notices)
    return (
        f"<h1>{escape(name)} of {counted(systems, 'system')} on {counted(datasets, 'data set')}</h1>"
        f"<p class=soft>Measures are x 100. The baseline is {escape(comparison.baseline)}. {escape(MARKS)}. "
        "Milliseconds are for search alone, without the encoding of queries.</p>"
        + (f'<ul class="notices">{notices}</ul>' if notices else "")
    )


def _mean(mean: BenchmarkMean, comparison: Comparison) -> str:
    grid = mean_grid(mean, comparison.measure)
    aside = _published(mean.benchmark, comparison.published.get(mean.benchmark, []))
    return (
        f"<h2>{escape(grid.title)}</h2><p class=soft>{escape(grid.caption)}</p>"
        f'<div class="beside"><div class="card wide">{_table(grid)}</div>{aside}</div>'
    )


def _dataset(table: Table, comparison: Comparison, numbers: dict[str, int]) -> str:
    grid = dataset_grid(table, comparison.measure)
    aside = _published(table.dataset, comparison.published.get(table.dataset, []))
    badges = [_badge(numbers[row.label]) for row in table.rows]
    baseline = table.rows.index(table.baseline) if table.baseline else None
    name = title_of(comparison.measure)
    moves = "".join(_queries(row, table.baseline, numbers, name) for row in table.rows)
    return (
        f"<h2>{escape(grid.title)}</h2><p class=soft>{escape(grid.caption)}</p><div class=beside>"
        f'<div class="card wide">{_table(grid, badges, baseline)}</div>{aside}</div>'
        f'<div class="pair">{_costs(table.rows, numbers, name)}</div>'
        f'<div class="pair">{moves}</div>'
    )


def _published(name: str, figures: Sequence[Published]) -> str:
    """Published figures, best first below each source."""
    if not figures:
        return ""
    grid = published_grid(name, figures)
    parts = [f'<h3>{escape(grid.title)}</h3><p class="soft small">{escape(grid.caption)}</p>']
    for source in dict.fromkeys(figure.source for figure in figures):
        ranked = sorted((figure for figure in figures if figure.source == source), key=lambda one: -one.value)
        rows = [[figure.system, f"{100 * figure.value:.1f}"] for figure in ranked]
        table = _table(Grid("", "", grid.header[:2], rows))
        parts.append(f'<h4 class="soft">{escape(source)}</h4>{table}')
    return f'<div class="card published">{"".join(parts)}</div>'


def _costs(rows: Sequence[Row], numbers: dict[str, int], name: str) -> str:
    times = [_point(row, numbers, row.milliseconds) for row in rows if row.milliseconds > 0]
    sizes = [_point(row, numbers, row.costs.index_bytes) for row in rows if row.costs.index_bytes > 0]
    plots = []
    if times:
        plots.append(plot_cost(times, "milliseconds per query", y_title=name, format_cost="{:g}".format))
    if sizes:
        plots.append(plot_cost(sizes, "index size", y_title=name, format_cost=format_bytes))
    return "".join(map(_card, plots))


def _point(row: Row, numbers: dict[str, int], cost: float) -> Point:
    costs = f"{row.milliseconds:.3g} ms, {format_bytes(row.costs.index_bytes)}"
    return Point(numbers[row.label], cost, 100 * row.mean, f"{row.label}: {100 * row.mean:.1f}, {costs}")


def _queries(row: Row, baseline: Row | None, numbers: dict[str, int], name: str) -> str:
    """The queries of a system against the baseline; empty for the baseline."""
    if baseline is None or not row.contrast:
        return ""
    pairs = [Pair(query, 100 * baseline.scores[query], 100 * value) for query, value in row.scores.items()]
    gains = sorted(pairs, key=lambda pair: pair.baseline - pair.system)
    contrast = row.contrast
    return _card(
        f"<h3>{_badge(numbers[row.label])}{escape(row.label)}</h3>"
        f'<p class="small"><span class=win>{counted(contrast.wins, "query", "queries")} better</span>, '
        f"<span class=tie>{contrast.ties} equal</span>, <span class=loss>{contrast.losses} worse</span></p>"
        + plot_queries(pairs, f"{name}, {baseline.label}", y_title=f"{name}, {row.label}")
        + f'<div class="moves">{_moves("Gain most", gains, 1)}{_moves("Lose most", gains[::-1], -1)}</div>'
    )


def _moves(title: str, pairs: Sequence[Pair], sign: int) -> str:
    moved = [pair for pair in pairs[:_MOST_MOVED] if sign * (pair.system - pair.baseline) > 0]
    items = "".join(
        f"<li>{escape(query)} <span class=soft>{before:.0f} → {after:.0f}</span></li>"
        for query, before, after in moved
    )
    return f"<div><h4>{title}</h4><ol>{items}</ol></div>"


def _settings(comparison: Comparison, numbers: dict[str, int]) -> str:
    parts = ["<h2>Systems</h2>"]
    for label, record in comparison.settings.items():
        settings = json.dumps(record.settings, indent=1, ensure_ascii=False)
        versions = ", ".join(f"{package} {version}" for package, version in record.versions.items())
        parts.append(
            f"<details><summary>{_badge(numbers[label])}{escape(label)} "
            f"<span class=soft>{escape(record.key)}</span></summary><pre>{escape(settings)}</pre>"
            f"<p class='soft small'>{escape(versions)}</p></details>"
        )
    return "".join(parts)


def _table(grid: Grid, badges: Sequence[str] = (), baseline: int | None = None) -> str:
    kinds = [
        ' class="word"' if place == 0 or title in TEXT_COLUMNS else ""
        for place, title in enumerate(grid.header)
    ]
    head = "".join(f"<th{kind}>{escape(title)}</th>" for kind, title in zip(kinds, grid.header, strict=True))
    lines = []
    for place, row in enumerate(grid.rows):
        cells = [f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)]
        if badges:
            cells[0] = cells[0].replace(">", f">{badges[place]}", 1)
        lines.append(f"<tr{' class=baseline' if place == baseline else ''}>{''.join(cells)}</tr>")
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table>{body}</table></div>'


def _badge(number: int) -> str:
    return f'<span class="badge {colour_class(number)}">{number}</span>'


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>'
