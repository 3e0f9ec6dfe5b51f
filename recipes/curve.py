"""The loss of a run as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def draw_losses(losses: Sequence[tuple[int, float]], title: str, file: Path) -> None:
    """Draw (step, loss) points, and their running mean over a twentieth of the run, as a PNG."""
    from matplotlib.figure import Figure

    steps, values = np.array(losses, dtype=float).reshape(-1, 2).T
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, values, color="#9bb7d4", linewidth=1, label="logged")
    width = max(1, len(values) // 20)
    if len(values) >= 2 * width:
        smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
        axes.plot(steps[width - 1 :], smooth, color="#1f4e79", linewidth=2, label=f"mean of {width}")
        axes.legend(frameon=False)
    axes.set(xlabel="optimiser step", ylabel="training loss", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)
