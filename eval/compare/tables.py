"""A comparison as tables of words, the same on a terminal, in Markdown and in HTML."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from flatcoat.eval.published import Published

from .comparison import Comparison
from .rows import Row, Table
from .summaries import BenchmarkMean

MARKS = (
    "† p < 0.05, ‡ p < 0.01 against the baseline: paired randomisation test over queries, p corrected by "
    "Holm's method for the systems of the table"
)
WORDS = frozenset({"Source", "Exact", "Data set"})
"""Columns that hold no figures, besides the first."""

_FAMILIES = {"ndcg": "nDCG", "map": "MAP", "mrr": "MRR"}


class Grid(NamedTuple):
    """A table. The first column names things, the others are figures."""

    title: str
    caption: str
    header: list[str]
    rows: list[list[str]]


def dataset_grid(table: Table, measure: str, brief: bool = False) -> Grid:
    """The systems of one data set; ``brief`` leaves out the other measures."""
    shared = set.intersection(*(set(row.record.measures) for row in table.rows)) - {measure}
    others = [] if brief else [name for name in table.rows[0].record.measures if name in shared]
    header = ["System", name_of(measure)]
    if table.baseline:
        header += ["Diff.", "p", "Win/tie/loss"]
    header += [*map(name_of, others), "ms/query", "Index"]
    rows = [
        [
            row.label + (", baseline" if row is table.baseline else ""),
            _hundredths(row.mean),
            *(_contrast_cells(row) if table.baseline else ()),
            *(_hundredths(row.record.measures[name]) for name in others),
            _three_digits(row.milliseconds),
            bytes_in_words(row.costs.index_bytes),
        ]
        for row in table.rows
    ]
    return Grid(table.title, table.condition, header, rows)


def published_grid(name: str, figures: Sequence[Published]) -> Grid:
    """What others reported, each with its source."""
    header = ["Published", name_of(figures[0].measure), "Source"]
    rows = [[figure.system, _hundredths(figure.value), figure.source] for figure in figures]
    return Grid(f"{name}, published elsewhere", "not measured here", header, rows)


def mean_grid(mean: BenchmarkMean, measure: str) -> Grid:
    """Means over a benchmark."""
    rows = [[label, _hundredths(value), str(len(mean.measured))] for label, value in mean.means.items()]
    rows += [[label, "", str(count)] for label, count in mean.partial.items()]
    caption = f"mean over {len(mean.measured)} of {mean.tasks} tasks: {', '.join(mean.measured)}"
    return Grid(mean.benchmark, caption, ["System", name_of(measure), "Tasks"], rows)


def loss_grid(comparison: Comparison) -> Grid:
    """What every index loses to exact search with the same encoder."""
    titles = _titles({(loss.dataset, loss.split, loss.revision) for loss in comparison.losses})
    header = ["Index", "Exact", "Data set", f"{name_of(comparison.measure)} lost", "p", "Speed-up"]
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
    """A title for each data set, split and revision; the last where others have the same name."""
    names = [f"{dataset} {split}" for dataset, split, _ in data]
    return {
        part: name if names.count(name) == 1 else f"{name} {part[2][:16] or 'unknown'}"
        for part, name in zip(data, names, strict=True)
    }


def grids(comparison: Comparison, brief: bool = False) -> list[Grid]:
    """All tables, benchmarks first."""
    found: list[Grid] = []
    for mean in comparison.means:
        found.append(mean_grid(mean, comparison.measure))
        if figures := comparison.published.get(mean.benchmark):
            found.append(published_grid(mean.benchmark, figures))
    for table in comparison.tables:
        found.append(dataset_grid(table, comparison.measure, brief))
        if figures := comparison.published.get(table.dataset):
            found.append(published_grid(table.dataset, figures))
    return [*found, loss_grid(comparison)] if comparison.losses else found


def name_of(measure: str) -> str:
    """As papers write it: nDCG@10."""
    family, *cut = measure.split("@")
    return "@".join([_FAMILIES.get(family, family.capitalize()), *cut])


def signed(difference: float) -> str:
    """Hundredths with their sign."""
    figure = f"{100 * difference:+.1f}".replace("-", "−")
    return figure[1:] if figure[1:] == "0.0" else figure


def bytes_in_words(count: float) -> str:
    """Three digits and a unit of thousands."""
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
