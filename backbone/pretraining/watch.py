"""What a run shows of itself: a line of figures, a log that a resumed run continues, loggers, a picture."""

import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from flatcoat.atomic_files import atomic_write_text
from flatcoat.errors import MissingExtraError

LOG = "log.jsonl"
_PALE, _DARK, _WARM = "#9bb7d4", "#1f4e79", "#c05621"
_MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}


def check_loggers(names: Sequence[str]) -> None:
    """Raise MissingExtraError for a logger that is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"watching.log_to names {name}, which is not installed: pip install {name}"
            )


class RunLog:
    """Appends figures to ``log.jsonl``, an object per line, and to other loggers.

    Lines of steps after ``step``, which a run that was cut off has left, are removed. What remains is not
    written again: a phase's last score, where the run was cut off between it and the phase's checkpoint.
    """

    def __init__(self, folder: Path, step: int, *, log_to: Sequence[str] = ()):
        self._file = folder / LOG
        self._kept: set[tuple[str, int]] = set()
        if self._file.exists():
            kept = [line for line in read_log(folder) if line["step"] <= step]
            atomic_write_text(self._file, "".join(json.dumps(line) + "\n" for line in kept))
            self._kept = {(line["kind"], line["step"]) for line in kept}
        self._writer: Any = None
        self._wandb: Any = None
        if "tensorboard" in log_to:
            module = importlib.import_module("torch.utils.tensorboard")
            # TensorBoard hides what was written of this step and later ones.
            self._writer = module.SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        if "wandb" in log_to:
            self._wandb = importlib.import_module("wandb")
            self._wandb.init(dir=str(folder), name=folder.name, resume="allow")

    def write(self, kind: str, step: int, figures: Mapping[str, Any]) -> None:
        """One line: ``kind`` says what the figures are of, "training" or "held back"."""
        if (kind, step) in self._kept:
            return
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **figures}) + "\n")
        numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
        if self._writer is not None:
            for name, value in numbers.items():
                self._writer.add_scalar(f"{kind}/{name}", value, step)
        if self._wandb is not None:
            self._wandb.log({f"{kind}/{name}": value for name, value in numbers.items()}, step=step)

    def close(self) -> None:
        """Flush and close the loggers."""
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last line that was cut off is left out."""
    lines = []
    for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def status_line(figures: Mapping[str, Any]) -> str:
    """The figures of a step in a line.

    >>> status_line({"phase": "stable", "step": 20, "loss": 6.25, "tokens_per_second": 5000.0})
    'stable, step 20, loss 6.250, 5,000 tokens/s'
    """
    parts = [f"{figures['phase']}, step {figures['step']:,}"]
    for name, text in (
        ("loss", "loss {:.3f}"),
        ("masked_accuracy", "masked accuracy {:.1%}"),
        ("gradient_norm", "gradient {:.2f}"),
        ("learning_rate", "rate {:.2g}"),
        ("packing", "{:.1%} full"),
        ("tokens_per_second", "{:,.0f} tokens/s"),
        ("mfu", "MFU {:.0%}"),
    ):
        if figures.get(name) is not None:
            parts.append(text.format(figures[name]))
    return ", ".join(parts)


def draw_curves(folder: Path) -> Path:
    """Loss, masked accuracy and learning rate by tokens, phases told apart: ``curves.png``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    log = read_log(folder)
    training = [line for line in log if line["kind"] == "training"]
    held_back = [line for line in log if line["kind"] == "held back"]
    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, sharex=True, height_ratios=(3, 3, 1.2))
    for axis, name, label in zip(
        axes,
        ("loss", "masked_accuracy", "learning_rate"),
        ("loss", "masked accuracy", "learning rate"),
        strict=True,
    ):
        for lines, colour, what in ((training, _PALE, "training"), (held_back, _DARK, "held-back text")):
            points = [(line["tokens"], line[name]) for line in lines if name in line]
            if points:
                marker = "." if what != "training" else ""
                axis.plot(*zip(*points, strict=True), color=colour, marker=marker, label=what)
        axis.set_ylabel(label)
        for before, line in pairwise(training):
            if line["phase"] != before["phase"]:
                axis.axvline(before["tokens"], color=_WARM, linewidth=0.8)
    for line in {line["phase"]: line for line in reversed(training)}.values():
        axes[0].annotate(
            line["phase"], (line["tokens"], 1.01), xycoords=("data", "axes fraction"), fontsize=8
        )
    axes[0].legend(frameon=False)
    axes[2].set_xlabel("tokens")
    figure.suptitle(folder.resolve().name)
    figure.savefig(folder / "curves.png", dpi=110)
    return folder / "curves.png"
