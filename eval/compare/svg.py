"""Plots of a comparison as inline SVG: their colours come from the page, so that they follow its scheme.

One style sheet for light and dark, with no font or file from elsewhere. Coordinates are in the units of the
view box, from its upper left corner.
"""

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

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


_COLOURS = 8


def colour_class(number: int) -> str:
    """The class that gives a system its colour; after eight they begin again."""
    return f"s{(number - 1) % _COLOURS + 1}"


STYLE = """
:root { color-scheme: light dark; --paper: #fdfcfa; --card: #ffffff; --ink: #1c1917; --soft: #6b6560;
  --line: #e4e0da; --accent: #b4410e; --win: #0f766e; --loss: #be123c; --tie: #a8a29e; --warn: #fdf3dc;
  --c1: #b4410e; --c2: #1d4ed8; --c3: #0f766e; --c4: #7c3aed; --c5: #a16207; --c6: #be185d; --c7: #0369a1;
  --c8: #4d7c0f; }
@media (prefers-color-scheme: dark) { :root { --paper: #171412; --card: #201c19; --ink: #efebe6;
  --soft: #a8a099; --line: #38322d; --accent: #fb923c; --win: #2dd4bf; --loss: #fb7185; --tie: #78716c;
  --warn: #33291a; --c1: #fb923c; --c2: #7ea6ff; --c3: #2dd4bf; --c4: #b79bff; --c5: #facc15; --c6: #f472b6;
  --c7: #38bdf8; --c8: #a3e635; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1400px; margin: 0 auto; padding: 2rem clamp(1rem, 3vw, 2.5rem) 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 0; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
p { margin: .2rem 0 .8rem; } .soft, caption { color: var(--soft); } .small { font-size: .85rem; }
.notices { background: var(--warn); border-radius: 8px; padding: .7rem 1rem .7rem 2rem; margin: 1rem 0; }
.notices li { overflow-wrap: anywhere; }
.beside { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
.beside > .card { flex: 1 1 240px; } .beside > .wide { flex: 5 1 780px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 1.2rem;
  margin-top: 1.2rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem;
  min-width: 0; max-width: 100%; }
.published { max-height: 24rem; overflow-y: auto; } .published td { padding-block: .18rem; }
.published h4 { margin: .7rem 0 0; font-size: .8rem; } .published thead { display: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { padding: .38rem .42rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); font-size: .8rem; }
tr:last-child td { border-bottom: 0; }
th.word, td.word { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7.5rem; }
th:first-child, td:first-child { padding-left: 0; } th:last-child, td:last-child { padding-right: 0; }
tr.baseline td { background: color-mix(in srgb, var(--line) 35%, transparent); }
td.best { font-weight: 700; }
.badge { display: inline-block; min-width: 1.45em; padding: 0 .3em; margin-right: .5em; border-radius: 1em;
  color: var(--card); background: var(--own); font-size: .75rem; font-weight: 700; text-align: center; }
.plot { width: 100%; height: auto; display: block; max-width: 560px; margin: 0 auto; }
.plot text { font-size: 11.5px; fill: var(--soft); text-anchor: middle; }
.plot text[text-anchor=end] { text-anchor: end; } .plot .title { fill: var(--ink); }
.plot .grid { stroke: var(--line); } .plot .diagonal { stroke: var(--soft); stroke-dasharray: 4 3; }
.plot .dot { fill: var(--own); stroke: var(--card); } .plot .number { fill: var(--own); font-weight: 700;
  font-size: 12px; }
.plot circle { fill-opacity: .65; } .plot .dot { fill-opacity: .8; } .plot circle:hover { stroke: var(--ink);
  fill-opacity: 1; }
.win { fill: var(--win); color: var(--win); } .loss { fill: var(--loss); color: var(--loss); }
.tie { fill: var(--tie); color: var(--soft); }
.moves { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; margin-top: .6rem; }
.moves ol { margin: 0; padding-left: 1.2rem; font-size: .82rem; } .moves li { overflow-wrap: anywhere; }
.moves h4 { margin: 0; font-size: .82rem; }
details { margin-top: .6rem; } summary { cursor: pointer; overflow-wrap: anywhere; }
pre { overflow-x: auto; font-size: .8rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: .8rem; margin: .4rem 0; }
""" + "\n".join(f".s{number} {{ --own: var(--c{number}); }}" for number in range(1, _COLOURS + 1))
