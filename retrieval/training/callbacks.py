"""What happens along a training run: progress, evaluation, and checkpoints that are known to be whole."""

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

_COMPLETE = "complete"


class Report(TrainerCallback):
    """Tells ``on_progress`` after every step: (step, steps in all, latest logged loss)."""

    def __init__(self, on_progress: Callable[[int, int, float], None]):
        self._on_progress = on_progress
        self._loss = float("nan")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self._loss = (logs or {}).get("loss", self._loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._on_progress(state.global_step, state.max_steps, self._loss)


class FinalEvaluation(TrainerCallback):
    """Evaluates after the last step too, wherever it falls."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_evaluate = True


class MarkComplete(TrainerCallback):
    """Marks a checkpoint when all its files, those of other processes too, are written."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        processes().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def last_checkpoint(folder: Path) -> str | None:
    """The last whole checkpoint of a trainer's folder; those that were cut off in writing are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in found if (path / _COMPLETE).exists()]
    for path in set(found) - set(whole):
        shutil.rmtree(path, ignore_errors=True)
    return str(whole[-1]) if whole else None


def scored(evaluate: "Callable[[SentenceTransformer], Mapping[str, float]]") -> SentenceEvaluator:
    """An evaluator for the trainer: scores by dev set, and their mean; FlatcoatError for one that is none."""

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


def processes() -> PartialState:
    """Which of how many processes this is, and how to wait for the others; the first call joins them."""
    # Without a GPU accelerate joins processes only where it is told so.
    return PartialState(cpu=not torch.cuda.is_available())
