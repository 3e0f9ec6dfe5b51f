"""The search benchmark as a picture: quality against time, and time against the size of the collection."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flatcoat.errors import DataError
from flatcoat.eval.label_placement import Box, Place, Size, place_labels

from . import OURS
from .search_peers import EXACT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.text import Annotation

    from .search import SearchRow

_COLOURS = {EXACT: "#57534e", OURS: "#c2410c", "fast-plaid": "#1d4ed8", "xtr-warp-rs": "#0f766e"}
_FONT_SIZE = 8  # of labels, in points
_RADIUS = 9  # of a point and its margin, in pixels


class _Point(NamedTuple):
    engine: str
    settings: str
    passages: int
    ms: float
    recall: float

    @property
    def name(self) -> str:
        return f"{self.engine}, {self.settings}" if self.settings else self.engine


def draw_search(rows: Sequence["SearchRow"], file: Path, *, caption: str) -> None:
    """Write a PNG: recall@10 against time on the largest collection, and time against size if there are two.

    Engines that failed are left out; DataError where all failed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = [
        _Point(row.engine, row.settings, row.passages, row.ms_per_query, recall)
        for row in rows
        if row.ms_per_query is not None and (recall := row.quality["recall@10"]) is not None
    ]
    if not points:
        raise DataError("every engine failed: there is nothing to draw")
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
    canvas.draw()  # from here on the layout is known
    _label_around(quality, largest)
    for axes in growth:
        _label_ends(axes, largest)
    figure.savefig(file)


def _draw_quality(axes: "Axes", points: Sequence[_Point]) -> None:
    for point in points:
        axes.plot(point.ms, point.recall, "o", color=_COLOURS[point.engine])
    axes.set_ylabel("recall@10 of exact search")
    axes.set_xlabel(f"milliseconds per query, {points[0].passages:,} passages")
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.15)
    _tidy(axes, axes.xaxis)


def _draw_growth(axes: "Axes", points: Sequence[_Point]) -> None:
    for name in dict.fromkeys(point.name for point in points):
        line = [point for point in points if point.name == name]
        sizes, times = [point.passages for point in line], [point.ms for point in line]
        axes.plot(sizes, times, "o-", color=_COLOURS[line[0].engine], linewidth=1, markersize=4)
    sizes = sorted({point.passages for point in points})
    axes.set_xscale("log")
    axes.set_yscale("log")
    # Labels take nearly half of the width.
    axes.set_xlim(sizes[0] / 1.2, sizes[-1] * (sizes[-1] / sizes[0]) ** 0.8)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("passages")
    axes.set_ylabel("milliseconds per query")
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
    """Name points beside them, apart from other points and labels."""
    places = [Place(*place) for place in axes.transData.transform([(one.ms, one.recall) for one in points])]
    texts = [_name(axes, point, (point.ms, point.recall)) for point in points]
    extents = [text.get_window_extent() for text in texts]
    sizes = [Size(extent.width, extent.height) for extent in extents]
    area = Box(axes.bbox.x0, axes.bbox.y0, axes.bbox.x1, axes.bbox.y1)
    labels = place_labels(places, sizes, radius=_RADIUS, within=area)
    points_per_pixel = 72 / axes.figure.dpi
    for text, place, label in zip(texts, places, labels, strict=True):
        text.set_position(((label.x - place.x) * points_per_pixel, (label.y - place.y) * points_per_pixel))
        text.set_horizontalalignment("center")
        text.set_verticalalignment("center")


def _label_ends(axes: "Axes", points: Sequence[_Point]) -> None:
    """Name lines right of their last points, in the order of these points, moved apart where they overlap."""
    points = sorted(points, key=lambda point: point.ms)
    pixels = axes.transData.transform([(point.passages, point.ms) for point in points])[:, 1]
    heights = (pixels * 72 / axes.figure.dpi).tolist()
    gap = 1.4 * _FONT_SIZE
    risen = list(accumulate(heights, lambda below, own: max(below + gap, own)))
    sunk = list(accumulate(heights[::-1], lambda above, own: min(above - gap, own)))[::-1]
    for point, height, high, low in zip(points, heights, risen, sunk, strict=True):
        text = _name(axes, point, (point.passages, point.ms))
        text.set_position((_FONT_SIZE, (high + low) / 2 - height))
        text.set_verticalalignment("center")


def _name(axes: "Axes", point: _Point, at: tuple[float, float]) -> "Annotation":
    from matplotlib.patheffects import withStroke

    colour = _COLOURS[point.engine]
    text = axes.annotate(
        point.name, at, (0, 0), textcoords="offset points", color=colour, fontsize=_FONT_SIZE
    )
    text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    return text
