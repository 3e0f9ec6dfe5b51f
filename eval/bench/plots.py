"""The benchmarks as pictures.

Encoding: a panel per document set, bars grouped by precision. Search: quality against time, and time against
the size of the collection.
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flatcoat.errors import FlatcoatError

from .encode_peers import BOUND, DEFAULT, OURS
from .search_peers import EXACT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.text import Annotation

    from .encode import SpeedRow
    from .search import SearchRow

_COLOURS = {OURS: "#c2410c", DEFAULT: "#1d4ed8", BOUND: "#d6d3d1"}
_OTHERS = ("#0d9488", "#a16207", "#7c3aed", "#be185d")
_GAP = 0.8


def draw_encoding(rows: Sequence["SpeedRow"], machine: str, file: Path) -> None:
    """Tokens a second of every implementation, written as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    sets = list(dict.fromkeys(row.set for row in rows))
    columns = min(2, len(sets))
    lines = -(-len(sets) // columns)
    figure = Figure(figsize=(1 + 5.5 * columns, 1.5 + 3.2 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    colours = _colours(rows)
    for axes, name in zip(panels, sets, strict=False):
        _panel(axes, [row for row in rows if row.set == name], colours)
        axes.set_title(name, fontsize="medium", loc="left")
    for axes in panels[len(sets) :]:
        axes.set_axis_off()
    figure.legend(
        [Patch(color=colour) for colour in colours.values()],
        list(colours),
        loc="outside lower center",
        ncols=1 + columns,
        frameon=False,
    )
    figure.suptitle(f"{rows[0].task}, real tokens a second\n{machine}", fontsize="small")
    figure.savefig(file, dpi=120)


def _colours(rows: Sequence["SpeedRow"]) -> dict[str, str]:
    names = list(dict.fromkeys(row.implementation for row in rows))
    others = iter(_OTHERS)
    return {name: _COLOURS.get(name) or next(others) for name in names}


def _panel(axes: "Axes", rows: Sequence["SpeedRow"], colours: dict[str, str]) -> None:
    ticks: dict[str, list[float]] = {}
    place = 0.0
    for row in rows:
        if row.precision not in ticks:
            place += _GAP if ticks else 0
        ticks.setdefault(row.precision, []).append(place)
        bar = axes.bar(place, row.tokens_per_second, 0.9, color=colours[row.implementation])
        axes.bar_label(
            bar,
            [_short(row.tokens_per_second) if row.tokens_per_second else "no\nmemory"],
            fontsize=7,
            padding=1,
        )
        place += 1
    axes.set_xticks([sum(places) / len(places) for places in ticks.values()], list(ticks))
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_formatter(lambda speed, _: _short(speed))
    axes.spines[["top", "right"]].set_visible(False)


def _short(speed: float) -> str:
    if speed >= 1e6:
        return f"{speed / 1e6:.3g}M"
    return f"{speed / 1e3:.3g}k" if speed >= 1000 else f"{speed:.0f}"


_ENGINE_COLOURS = {EXACT: "#57534e", OURS: "#c2410c", "fast-plaid": "#1d4ed8", "xtr-warp-rs": "#0f766e"}
_AROUND = [
    (step * x, step * y)
    for step in (8, 14, 22, 32, 44, 58)
    for x, y in ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
]
"""Where a label may stand, best first: points right of and above what it names."""

_SIZE = 8  # of labels, in points


class _Point(NamedTuple):
    engine: str
    settings: str
    passages: int
    ms: float
    recall: float

    @property
    def name(self) -> str:
        return f"{self.engine}, {self.settings}" if self.settings else self.engine


def draw_search(rows: Sequence["SearchRow"], caption: str, file: Path) -> None:
    """Write a PNG: recall@10 against time on the largest collection; beside it time against size.

    The latter needs two sizes. Rows that failed are left out; FlatcoatError where none is left.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = [
        _Point(row.engine, row.settings, row.passages, row.ms_per_query, recall)
        for row in rows
        if row.ms_per_query is not None and (recall := row.quality["recall@10"]) is not None
    ]
    if not points:
        raise FlatcoatError("every engine failed: there is nothing to draw")
    sizes = sorted({point.passages for point in points})
    largest = [point for point in points if point.passages == sizes[-1]]
    panels = min(2, len(sizes))
    figure = Figure(figsize=(7.5 * panels, 5), layout="constrained", dpi=130)
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(caption, fontsize="small")
    quality, *growth = figure.subplots(1, panels, squeeze=False)[0]
    _draw_quality(quality, largest)
    for axes in growth:
        _draw_growth(axes, points)
    canvas.draw()  # From here on all places are known.
    _label_around(quality, largest)
    for axes in growth:
        _label_ends(axes, largest)
    figure.savefig(file)


def _draw_quality(axes: "Axes", points: Sequence[_Point]) -> None:
    for point in points:
        axes.plot(point.ms, point.recall, "o", color=_ENGINE_COLOURS[point.engine])
    axes.set_ylabel("recall@10 of exact search")
    axes.set_xlabel(f"milliseconds a query, {points[0].passages:,} passages")
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.15)
    _tidy(axes, axes.xaxis)


def _draw_growth(axes: "Axes", points: Sequence[_Point]) -> None:
    for name in dict.fromkeys(point.name for point in points):
        own = [point for point in points if point.name == name]
        sizes, times = [point.passages for point in own], [point.ms for point in own]
        axes.plot(sizes, times, "o-", color=_ENGINE_COLOURS[own[0].engine], linewidth=1, markersize=4)
    sizes = sorted({point.passages for point in points})
    axes.set_xscale("log")
    axes.set_yscale("log")
    # Nearly half of the width is for the labels.
    axes.set_xlim(sizes[0] / 1.2, sizes[-1] * (sizes[-1] / sizes[0]) ** 0.8)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("passages")
    axes.set_ylabel("milliseconds a query")
    _tidy(axes, axes.yaxis)


def _tidy(axes: "Axes", times: "Axis") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e7e5e4", linewidth=0.6)
    axes.set_axisbelow(True)
    times.set_major_formatter("{x:g}")
    low, high = times.get_view_interval()
    if high < 100 * low:
        labelled = "25" if high > 10 * low else "23456789"
        times.set_minor_formatter(lambda time, _: f"{time:g}" if f"{time:.0e}"[0] in labelled else "")


def _label_around(axes: "Axes", points: Sequence[_Point]) -> None:
    """Name points, each in the first place beside it that meets no point and no other label."""
    from matplotlib.transforms import Bbox

    at = axes.transData.transform([(point.ms, point.recall) for point in points])
    taken = [Bbox([place - 9, place + 9]) for place in at]
    for point in points:
        text = _name(axes, point, (point.ms, point.recall))
        for x, y in _AROUND:
            text.set_position((x, y))
            text.set_horizontalalignment(("center", "left", "right")[(x > 0) - (x < 0)])
            text.set_verticalalignment(("center", "bottom", "top")[(y > 0) - (y < 0)])
            box = text.get_window_extent()
            if axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1 and not box.count_overlaps(taken):
                break
        taken.append(text.get_window_extent())


def _label_ends(axes: "Axes", points: Sequence[_Point]) -> None:
    """Name lines right of their last points, in the order of these, moved apart as far as need be."""
    points = sorted(points, key=lambda point: point.ms)
    pixels = axes.transData.transform([(point.passages, point.ms) for point in points])[:, 1]
    heights = (pixels * 72 / axes.figure.dpi).tolist()
    gap = 1.4 * _SIZE
    risen = list(accumulate(heights, lambda below, own: max(below + gap, own)))
    sunk = list(accumulate(heights[::-1], lambda above, own: min(above - gap, own)))[::-1]
    for point, height, high, low in zip(points, heights, risen, sunk, strict=True):
        text = _name(axes, point, (point.passages, point.ms))
        text.set_position((_SIZE, (high + low) / 2 - height))
        text.set_verticalalignment("center")


def _name(axes: "Axes", point: _Point, at: tuple[float, float]) -> "Annotation":
    from matplotlib.patheffects import withStroke

    colour = _ENGINE_COLOURS[point.engine]
    text = axes.annotate(point.name, at, (0, 0), textcoords="offset points", color=colour, fontsize=_SIZE)
    text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    return text
