"""Plots of a comparison as inline SVG: their colours come from the page, so that they follow its scheme.

Coordinates are in the units of the view box, from its upper left corner.
"""

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

from .report_style import colour_class

_WIDTH, _HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 20, 14, 44
_SIDE = 380
_LABEL = 15  # a number's width and height
_AROUND = ((11, 0), (-11, 0), (0, -12), (0, 12), (11, -12), (-11, 12), (22, 0), (0, -25), (0, 25), (-22, 0))


class Point(NamedTuple):
    """A mark with the number of its system and what is shown on hovering."""

    number: int
    x: float
    y: float
    title: str


class Pair(NamedTuple):
    """A query's values with the baseline and with the system, in 0..100."""

    query: str
    baseline: float
    system: float


class _Axis(NamedTuple):
    """``place`` maps a value to a coordinate; ``ticks`` are values and their words."""

    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


def plot_cost(points: Sequence[Point], x_title: str, y_title: str, words: Callable[[float], str]) -> str:
    """Quality against a cost on a logarithmic scale, whose ticks are put into ``words``."""
    x = _log_axis([point.x for point in points], _LEFT, _WIDTH - _RIGHT, words)
    y = _linear_axis([point.y for point in points], _HEIGHT - _BOTTOM, _TOP)
    places = [(x.place(point.x), y.place(point.y)) for point in points]
    marks = [
        _numbered(point, at, label)
        for point, at, label in zip(points, places, _place_labels(places), strict=True)
    ]
    return _svg(_WIDTH, _HEIGHT, x, y, (x_title, y_title), marks)


def plot_queries(pairs: Sequence[Pair], x_title: str, y_title: str) -> str:
    """Every query's value with a system against that with the baseline: above the diagonal it wins."""
    x = _Axis(lambda value: _LEFT + value / 100 * (_SIDE - _LEFT - _RIGHT), _PERCENT)
    y = _Axis(lambda value: _SIDE - _BOTTOM - value / 100 * (_SIDE - _BOTTOM - _TOP), _PERCENT)
    diagonal = [x.place(0), y.place(0), x.place(100), y.place(100)]
    marks = ['<line class="diagonal" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*diagonal)]
    for query, before, after in pairs:
        outcome = "win" if after > before else "loss" if after < before else "tie"
        marks.append(
            f'<circle class="{outcome}" cx="{x.place(before):.1f}" cy="{y.place(after):.1f}" r="3">'
            f"<title>{escape(query)}: {before:.1f} → {after:.1f}</title></circle>"
        )
    return _svg(_SIDE, _SIDE, x, y, (x_title, y_title), marks)


def _numbered(point: Point, at: tuple[float, float], label: tuple[float, float]) -> str:
    return (
        f'<g class="{colour_class(point.number)}"><title>{escape(point.title)}</title>'
        f'<circle class="dot" cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="5"/>'
        f'<text class="number" x="{label[0]:.1f}" y="{label[1] + 4:.1f}">{point.number}</text></g>'
    )


_PERCENT = [(value, str(value)) for value in range(0, 101, 20)]


def _svg(width: int, height: int, x: _Axis, y: _Axis, titles: tuple[str, str], marks: Sequence[str]) -> str:
    right, bottom = width - _RIGHT, height - _BOTTOM
    name = escape(f"{titles[1]} against {titles[0]}")
    parts = [f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{name}">']
    for value, words in x.ticks:
        at = f"{x.place(value):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(_text("tick", x.place(value), bottom + 15, words))
    for value, words in y.ticks:
        at = f"{y.place(value):.1f}"
        parts.append(f'<line class="grid" y1="{at}" y2="{at}" x1="{_LEFT}" x2="{right}"/>')
        parts.append(_text("tick", _LEFT - 7, y.place(value) + 4, words, 'text-anchor="end"'))
    middle, low = (_LEFT + right) / 2, (_TOP + bottom) / 2
    parts.append(_text("title", middle, height - 8, titles[0]))
    parts.append(_text("title", 12, low, titles[1], f'transform="rotate(-90 12 {low})"'))
    return "".join([*parts, *marks, "</svg>"])


def _text(kind: str, x: float, y: float, words: str, how: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" {how}>{escape(words)}</text>'


def _log_axis(values: Sequence[float], low: float, high: float, words: Callable[[float], str]) -> _Axis:
    """With room for a label beyond either end; ticks at 1, 2 and 5 where they are few, else at 1."""
    first, last = log10(min(values)) - 0.25, log10(max(values)) + 0.25
    powers = range(floor(first), ceil(last) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if first <= log10(tick) <= last]
        if len(ticks) <= 5:
            break
    thinned = ticks[:: ceil(len(ticks) / 6)]
    return _Axis(
        lambda value: low + (log10(value) - first) / (last - first) * (high - low),
        [(tick, words(tick)) for tick in thinned],
    )


def _linear_axis(values: Sequence[float], low: float, high: float) -> _Axis:
    """Round ticks around the values, five or so."""
    spread = max(max(values) - min(values), 1)
    raw = spread / 4
    power = 10.0 ** floor(log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    first, last = floor(min(values) / step - 0.2) * step, ceil(max(values) / step + 0.2) * step
    ticks = [first + place * step for place in range(round((last - first) / step) + 1)]
    return _Axis(
        lambda value: low + (value - first) / (last - first) * (high - low),
        [(tick, f"{tick:g}") for tick in ticks],
    )


def _place_labels(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Beside each point, in the first place that meets no point and no label."""
    taken = list(places)
    labels: list[tuple[float, float]] = []
    for x, y in places:
        free = ((x + dx, y + dy) for dx, dy in _AROUND if not _meets((x + dx, y + dy), taken, (x, y)))
        label = next(free, (x + _AROUND[0][0], y + _AROUND[0][1]))
        labels.append(label)
        taken.append(label)
    return labels


def _meets(
    place: tuple[float, float], taken: Sequence[tuple[float, float]], own: tuple[float, float]
) -> bool:
    return any(
        other != own and abs(place[0] - other[0]) < _LABEL and abs(place[1] - other[1]) < _LABEL
        for other in taken
    )
