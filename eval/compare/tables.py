"""A comparison as tables of text, the same on a terminal, in Markdown and in HTML."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from flatcoat.eval.metrics import title_of
from flatcoat.eval.published import Published

from .comparison import Comparison
from .rows import Row, Table
from .summaries import BenchmarkMean

MARKS = (
    "† p < 0.05, ‡ p < 0.01 against the baseline: paired randomisation test over queries, p corrected by "
    "Holm's method for the systems of the table"
)
TEXT_COLUMNS = frozenset({"Source", "Exact", "Data set"})
"""Columns of text rather than figures, beside the first."""


class Grid(NamedTuple):
    """A table of text: the first column and TEXT_COLUMNS are words, the others figures."""

    title: str
    caption: str
    header: list[str]
    rows: list[list[str]]


def dataset_grid(table: Table, measure: str, *, brief: bool = False) -> Grid:
    """The systems of one data set; ``brief`` shows no other measures."""
    shared = set.intersection(*(set(row.record.measures) for row in table.rows)) - {measure}
    others = [] if brief else [name for name in table.rows[0].record.measures if name in shared]
    header = ["System", title_of(measure)]
    if table.baseline:
        header += ["Diff.", "p", "Win/tie/loss"]
    header += [*map(title_of, others), "ms/query", "Index"]
    rows = [
        [
            row.label + (", baseline" if row is table.baseline else ""),
            _hundredths(row.mean),
            *(_contrast_cells(row) if table.baseline else ()),
            *(_hundredths(row.record.measures[name]) for name in others),
            _three_digits(row.milliseconds),
            format_bytes(row.costs.index_bytes),
        ]
        for row in table.rows
    ]
    return Grid(table.title, table.condition, header, rows)


def published_grid(name: str, figures: Sequence[Published]) -> Grid:
    """Published figures with their sources."""
    header = ["Published", title_of(figures[0].measure), "Source"]
    rows = [[figure.system, _hundredths(figure.value), figure.source] for figure in figures]
    return Grid(f"{name}, published elsewhere", "not measured here", header, rows)


def mean_grid(mean: BenchmarkMean, measure: str) -> Grid:
    """The means over a benchmark."""
    rows = [[label, _hundredths(value), str(len(mean.measured))] for label, value in mean.means.items()]
    rows += [[label, "", str(count)] for label, count in mean.partial.items()]
    caption = f"mean over {len(mean.measured)} of {mean.tasks} tasks: {', '.join(mean.measured)}"
    return Grid(mean.benchmark, caption, ["System", title_of(measure), "Tasks"], rows)


def loss_grid(comparison: Comparison) -> Grid:
    """The loss of every index against exact search with the same encoder."""
    titles = _titles({(loss.dataset, loss.split, loss.revision) for loss in comparison.losses})
    header = ["Index", "Exact", "Data set", f"{title_of(comparison.measure)} lost", "p", "Speed-up"]
    rows = [
        [
            loss.index,
            loss.exact,
            titles[loss.dataset, loss.split, loss.revision],
            signed(loss.loss),
            _p_value(loss.p_randomisation),
            f"{loss.speedup:.3g}x" if loss.speedup else "",
        ]
        for loss in comparison.losses
    ]
    return Grid("Lost to the index", "against exact search with the same encoder", header, rows)


def _titles(data: Collection[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
    """A title for each data set, split and revision, with the revision only where titles are equal."""
    names = [f"{dataset} {split}" for dataset, split, _ in data]
    return {
        part: name if names.count(name) == 1 else f"{name} {part[2][:16] or 'unknown'}"
        for part, name in zip(data, names, strict=True)
    }


def grids(comparison: Comparison, *, brief: bool = False) -> list[Grid]:
    """All tables, benchmarks first; ``brief`` shows no other measures."""
    tables: list[Grid] = []
    for mean in comparison.means:
        tables.append(mean_grid(mean, comparison.measure))
        if figures := comparison.published.get(mean.benchmark):
            tables.append(published_grid(mean.benchmark, figures))
    for table in comparison.tables:
        tables.append(dataset_grid(table, comparison.measure, brief=brief))
        if figures := comparison.published.get(table.dataset):
            tables.append(published_grid(table.dataset, figures))
    return [*tables, loss_grid(comparison)] if comparison.losses else tables


def signed(difference: float) -> str:
    """A difference x 100 with its sign.

    >>> signed(-0.0123), signed(0.0001)
    ('−1.2', '0.0')
    """
    figure = f"{100 * difference:+.1f}".replace("-", "−")
    return figure[1:] if figure[1:] == "0.0" else figure


def format_bytes(count: float) -> str:
    """Three digits and a decimal unit.

    >>> format_bytes(71_283_968)
    '71.3 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def _contrast_cells(row: Row) -> list[str]:
    contrast = row.contrast
    if not contrast:
        return ["", "", ""]
    return [
        signed(contrast.difference) + (f" {contrast.mark}" if contrast.mark else ""),
        _p_value(contrast.p_holm),
        f"{contrast.wins}/{contrast.ties}/{contrast.losses}",
    ]


def _hundredths(value: float) -> str:
    return f"{100 * value:.1f}"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
