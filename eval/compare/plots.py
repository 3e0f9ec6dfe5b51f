"""Plots of a comparison as inline SVG, coloured by the page's style sheet, so that they follow its scheme.

Written by hand rather than by matplotlib, whose SVG is larger, takes 100 times as long, and shows no titles
of points on hovering. Coordinates are in units of the view box, from its upper left corner.
"""

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

from flatcoat.eval.label_placement import Box, Place, Size, place_labels

from .style import colour_class

_WIDTH, _HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 20, 14, 44
_SIDE = 380
_RADIUS = 5  # of a dot
_DIGIT = Size(9, 13)  # of a number
_BASELINE = 4  # below the middle of a digit
_PERCENT = [(value, str(value)) for value in range(0, 101, 20)]


class Point(NamedTuple):
    """A dot with the number of its system and the title shown on hovering."""

    number: int
    x: float
    y: float
    title: str


class Pair(NamedTuple):
    """The measure of one query for the baseline and for the system, in 0..100."""

    query: str
    baseline: float
    system: float


class _Axis(NamedTuple):
    """``place`` maps a value to a coordinate; ``ticks`` are values and their labels."""

    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


def plot_cost(
    points: Sequence[Point], x_title: str, *, y_title: str, format_cost: Callable[[float], str]
) -> str:
    """Quality (y) against a cost (x) on a logarithmic scale with ticks as ``format_cost`` writes them."""
    x = _log_axis([point.x for point in points], _LEFT, _WIDTH - _RIGHT, format_cost)
    y = _linear_axis([point.y for point in points], _HEIGHT - _BOTTOM, _TOP)
    places = [Place(x.place(point.x), y.place(point.y)) for point in points]
    sizes = [Size(_DIGIT.width * len(str(point.number)), _DIGIT.height) for point in points]
    area = Box(_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM)
    labels = place_labels(places, sizes, radius=_RADIUS, within=area)
    marks = [_numbered(*mark) for mark in zip(points, places, labels, strict=True)]
    return _svg(_WIDTH, _HEIGHT, x, y, (x_title, y_title), marks)


def plot_queries(pairs: Sequence[Pair], x_title: str, *, y_title: str) -> str:
    """The measure of every query, a system's (y) against the baseline's (x): the system wins above y = x."""
    x = _Axis(lambda value: _LEFT + value / 100 * (_SIDE - _LEFT - _RIGHT), _PERCENT)
    y = _Axis(lambda value: _SIDE - _BOTTOM - value / 100 * (_SIDE - _BOTTOM - _TOP), _PERCENT)
    start = f'x1="{x.place(0):.1f}" y1="{y.place(0):.1f}"'
    end = f'x2="{x.place(100):.1f}" y2="{y.place(100):.1f}"'
    marks = [f'<line class="diagonal" {start} {end}/>']
    for query, before, after in pairs:
        outcome = "win" if after > before else "loss" if after < before else "tie"
        marks.append(
            f'<circle class="{outcome}" cx="{x.place(before):.1f}" cy="{y.place(after):.1f}" r="3">'
            f"<title>{escape(query)}: {before:.1f} → {after:.1f}</title></circle>"
        )
    return _svg(_SIDE, _SIDE, x, y, (x_title, y_title), marks)


def _numbered(point: Point, at: Place, label: Place) -> str:
    return (
        f'<g class="{colour_class(point.number)}"><title>{escape(point.title)}</title>'
        f'<circle class="dot" cx="{at.x:.1f}" cy="{at.y:.1f}" r="{_RADIUS}"/>'
        f'<text class="number" x="{label.x:.1f}" y="{label.y + _BASELINE:.1f}">{point.number}</text></g>'
    )


def _svg(width: int, height: int, x: _Axis, y: _Axis, titles: tuple[str, str], marks: Sequence[str]) -> str:
    right, bottom = width - _RIGHT, height - _BOTTOM
    name = escape(f"{titles[1]} against {titles[0]}")
    parts = [f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{name}">']
    for value, label in x.ticks:
        at = f"{x.place(value):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(_text("tick", x.place(value), bottom + 15, label))
    for value, label in y.ticks:
        at = f"{y.place(value):.1f}"
        parts.append(f'<line class="grid" y1="{at}" y2="{at}" x1="{_LEFT}" x2="{right}"/>')
        parts.append(_text("tick", _LEFT - 7, y.place(value) + _BASELINE, label, 'text-anchor="end"'))
    middle, low = (_LEFT + right) / 2, (_TOP + bottom) / 2
    parts.append(_text("title", middle, height - 8, titles[0]))
    parts.append(_text("title", 12, low, titles[1], f'transform="rotate(-90 12 {low})"'))
    return "".join([*parts, *marks, "</svg>"])


def _text(kind: str, x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'


def _log_axis(
    values: Sequence[float], low: float, high: float, format_value: Callable[[float], str]
) -> _Axis:
    """A logarithmic axis with room for a label at both ends; ticks at 1, 2 and 5, or at fewer if crowded."""
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
        [(tick, format_value(tick)) for tick in thinned],
    )


def _linear_axis(values: Sequence[float], low: float, high: float) -> _Axis:
    """A linear axis with about five round ticks around the values."""
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
