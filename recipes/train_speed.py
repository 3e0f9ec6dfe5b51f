"""How fast a recipe trains on flatcoat's unpadded backbone and on transformers' padded one, in turns.

Every pass is a separate process, so that its peak memory is measured by itself. Both see the same batches.
"""

import logging
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flatcoat.eval.bench import OURS
from flatcoat.eval.costs import peak_bytes

from .schema import Recipe

PADDED = "transformers, padded"

_WARM_UP = 1
"""Steps before timing starts."""


@dataclass(frozen=True)
class TrainSpeed:
    """Optimiser steps per second in the median pass; ``loss`` is the mean over a pass, as training logs it.

    ``peak_bytes`` is the peak resident memory of the process, on a GPU the peak memory of tensors there.
    """

    implementation: str
    steps_per_second: float
    ratio_to_ours: float
    peak_bytes: int
    loss: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class _Pass(NamedTuple):
    steps_per_second: float
    peak_bytes: int
    loss: float


def bench_training(
    recipe: Recipe,
    steps: int,
    *,
    passes: int,
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[TrainSpeed]:
    """Time the first ``steps`` steps after a warm-up, ``passes`` times on each backbone, flatcoat's first.

    Raises the errors of ``run``. A backbone that is not ModernBERT trains padded in both.
    """
    recipe = _shortened(recipe, steps)
    measured: dict[str, list[_Pass]] = {OURS: [], PADDED: []}
    with tempfile.TemporaryDirectory() as place:
        # The first pass makes a model from scratch for all passes.
        start = Path(place) / "start"
        for number in range(passes):
            for name, done in measured.items():
                on_progress(f"{name}, pass {number + 1} of {passes}")
                done.append(_in_process(recipe, name == OURS, start))
    medians = {
        name: statistics.median(one.steps_per_second for one in done) for name, done in measured.items()
    }
    return [
        TrainSpeed(
            implementation=name,
            steps_per_second=medians[name],
            ratio_to_ours=medians[name] / medians[OURS],
            peak_bytes=max(one.peak_bytes for one in done),
            loss=done[0].loss,
        )
        for name, done in measured.items()
    ]


def _shortened(recipe: Recipe, steps: int) -> Recipe:
    count = steps + _WARM_UP
    changes = {"max_steps": count, "log_every": count, "log_to": (), "patience": None}
    training = recipe.training.model_copy(update=changes)
    return recipe.model_copy(update={"training": training, "dev": (), "evaluate": ()})


def _in_process(recipe: Recipe, unpad: bool, start: Path) -> _Pass:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, recipe, unpad, start).result()


def _measure(recipe: Recipe, unpad: bool, start: Path) -> _Pass:
    import torch

    from .model import build_model
    from .run import fit, read_sources

    logging.disable(logging.WARNING)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sources = read_sources(recipe, folder / "data")
        model = build_model(recipe, sources, scratch_folder=start, unpad=unpad)
        log = fit(
            recipe,
            model,
            sources=sources,
            checkpoints=folder / "checkpoints",
            on_step=lambda *_: ends.append(time.perf_counter()),
        )
    timed = ends[_WARM_UP - 1 :]
    peak = torch.cuda.max_memory_allocated() if model.device.type == "cuda" else peak_bytes()
    return _Pass((len(timed) - 1) / (timed[-1] - timed[0]), peak, log.losses[-1].value)
