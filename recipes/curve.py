"""A run as a picture: loss, learning rate and scores on the dev sets over its steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = Sequence[tuple[int, float]]
"""(step, value) points."""

_PALE, _DARK = "#9bb7d4", "#1f4e79"


def draw_curves(
    losses: Curve,
    learning_rates: Curve,
    dev: Sequence[tuple[int, Mapping[str, float]]],
    title: str,
    file: Path,
) -> None:
    """Write a PNG of a panel for each; that of the dev sets only where there are any."""
    from matplotlib.figure import Figure

    panels = 3 if dev else 2
    figure = Figure(figsize=(8, 1.5 + 2.5 * panels), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True)
    axes[0].set(title=title)
    _draw_losses(axes[0], losses)
    axes[1].plot(*zip(*learning_rates, strict=True), color=_DARK)
    axes[1].set(ylabel="learning rate")
    if dev:
        for name in dev[0][1]:
            axes[2].plot(*zip(*((step, scores[name]) for step, scores in dev), strict=True), label=name)
        axes[2].set(ylabel="nDCG@10")
        axes[2].legend(frameon=False)
    axes[-1].set(xlabel="optimiser step")
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def _draw_losses(axes: "Axes", losses: Curve) -> None:
    """The points, and their running mean over a twentieth of the run."""
    steps, values = np.array(losses, dtype=float).reshape(-1, 2).T
    axes.plot(steps, values, color=_PALE, linewidth=1, label="logged")
    width = max(1, len(values) // 20)
    if len(values) >= 2 * width:
        smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
        axes.plot(steps[width - 1 :], smooth, color=_DARK, linewidth=2, label=f"mean of {width}")
        axes.legend(frameon=False)
    axes.set(ylabel="training loss")
