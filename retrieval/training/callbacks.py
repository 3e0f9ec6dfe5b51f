"""Callbacks of a training run: progress, evaluation on dev sets, and checkpoints marked when complete."""

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from sentence_transformers.evaluation import SentenceEvaluator
from transformers import TrainerCallback

from flatcoat.errors import FlatcoatError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OnStep = Callable[[int, int, float], None]
"""Called after each optimiser step with (step, total steps, latest logged loss)."""

Evaluate = Callable[["SentenceTransformer"], Mapping[str, float]]
"""Scores of a model by dev set, higher is better."""

_COMPLETE = "complete"
"""The file that marks a checkpoint whose files are all written."""


class ProgressCallback(TrainerCallback):
    """Calls ``on_step`` after every optimiser step."""

    def __init__(self, on_step: OnStep):
        self._on_step = on_step
        self._loss = float("nan")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self._loss = (logs or {}).get("loss", self._loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._on_step(state.global_step, state.max_steps, self._loss)


class FinalEvaluation(TrainerCallback):
    """Evaluates after the last step too, even between two regular evaluations."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True


class MarkComplete(TrainerCallback):
    """Marks a checkpoint once all processes have written their files."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        process_state().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def last_checkpoint(folder: Path) -> str | None:
    """The latest complete checkpoint in a trainer's folder; incomplete ones are removed."""
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    complete = [path for path in checkpoints if (path / _COMPLETE).exists()]
    for path in set(checkpoints) - set(complete):
        shutil.rmtree(path, ignore_errors=True)
    return str(complete[-1]) if complete else None


def dev_evaluator(evaluate: Evaluate) -> SentenceEvaluator:
    """An evaluator for the trainer: scores by dev set and their mean.

    Calling it raises FlatcoatError for a score that is NaN or infinite.
    """

    class Dev(SentenceEvaluator):
        def __call__(self, model: "SentenceTransformer", *_: Any, **__: Any) -> dict[str, float]:
            scores = dict(evaluate(model))
            for name, score in scores.items():
                if not math.isfinite(score):
                    raise FlatcoatError(
                        f"the score on the dev set {name} is {score}: lower the learning rate"
                    )
            return scores | {"mean": sum(scores.values()) / len(scores)}

    return Dev()


def process_state() -> PartialState:
    """Rank and number of the processes that train together, with barriers; the first call joins them."""
    # Without a GPU accelerate joins processes only if it is told to use the CPU.
    return PartialState(cpu=not torch.cuda.is_available())
