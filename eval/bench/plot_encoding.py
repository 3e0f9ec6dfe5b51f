"""The encoding benchmark as a picture: one panel per document set, bars grouped by precision."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import OURS
from .encode_peers import BOUND, DEFAULT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .encode import SpeedRow

_COLOURS = {OURS: "#c2410c", DEFAULT: "#1d4ed8", BOUND: "#d6d3d1"}
_OTHERS = ("#0d9488", "#a16207", "#7c3aed", "#be185d")
_GAP = 0.8  # between precisions, in bars


def draw_encoding(rows: Sequence["SpeedRow"], file: Path, *, machine: str) -> None:
    """Write a PNG of the tokens per second of every implementation."""
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
    figure.suptitle(f"{rows[0].task}, tokens per second\n{machine}", fontsize="small")
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
