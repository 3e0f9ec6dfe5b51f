"""How fast a recipe trains on the unpadded backbone and on transformers' padded one, in turns.

Every pass is a process of its own, so that its peak of memory is its own. Both see the same batches.
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


@dataclass(frozen=True)
class TrainSpeed:
    """Optimiser steps a second, the median pass; ``loss`` is the mean over a pass, as training logs it.

    ``peak_bytes`` is the process's resident memory at its highest, on a GPU what tensors held there.
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
    recipe: Recipe, steps: int, passes: int, on_progress: Callable[[str], None] = lambda what: None
) -> list[TrainSpeed]:
    """Time the first ``steps`` steps after a warm-up, ``passes`` times each, ours first.

    Raises FlatcoatError as ``run`` does. A backbone that is not ModernBERT trains padded in both.
    """
    recipe = _shortened(recipe, steps)
    found: dict[str, list[_Pass]] = {OURS: [], PADDED: []}
    with tempfile.TemporaryDirectory() as place:
        # A model from scratch is made by the first pass, for all.
        start = Path(place) / "start"
        for number in range(passes):
            for name, done in found.items():
                on_progress(f"{name}, pass {number + 1} of {passes}")
                done.append(_in_process(recipe, name == OURS, start))
    medians = {name: statistics.median(one.steps_per_second for one in done) for name, done in found.items()}
    return [
        TrainSpeed(
            name,
            medians[name],
            medians[name] / medians[OURS],
            max(one.peak_bytes for one in done),
            done[0].loss,
        )
        for name, done in found.items()
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
        model = build_model(recipe, sources, start, unpad)
        log = fit(recipe, model, sources, folder / "checkpoints", lambda *_: ends.append(time.perf_counter()))
    timed = ends[_WARM_UP - 1 :]
    peak = torch.cuda.max_memory_allocated() if model.device.type == "cuda" else peak_bytes()
    return _Pass((len(timed) - 1) / (timed[-1] - timed[0]), peak, log.losses[-1][1])
