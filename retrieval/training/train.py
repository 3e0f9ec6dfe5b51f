"""Training on sentence-transformers' trainer, the backbone unpadded inside.

A batch never holds a text twice, for its other documents may be a query's negatives. A run that was cut off
goes on from its last checkpoint as if it had not been.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sentence_transformers import SentenceTransformerTrainingArguments
from transformers import EarlyStoppingCallback, PrinterCallback

from flatcoat.backbone.malloc import reuse_freed_memory
from flatcoat.errors import FlatcoatError
from flatcoat.retrieval.data.examples import PLACE

from .batches import SCORES, Collator, shares_of
from .callbacks import FinalEvaluation, MarkComplete, Report, last_checkpoint, processes, scored
from .gradient_cache import mini_batches
from .losses import LossSettings, make_loss, require_learnable
from .trainer import Trainer

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from transformers import TrainerCallback

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, float], None]
"""Called with (step, steps in all, latest loss)."""

Evaluate = Callable[["SentenceTransformer"], Mapping[str, float]]
"""Scores of a model by dev set, higher is better."""


@dataclass(frozen=True)
class Hyperparameters:
    """One run. A step takes ``gradient_accumulation`` batches of ``batch_size`` rows over all processes.

    ``mini_batch_size`` (texts) and ``mini_batch_tokens`` bound memory by computing forwards twice.
    """

    batch_size: int
    learning_rate: float
    loss: LossSettings = field(default_factory=LossSettings)
    epochs: float = 1.0
    max_steps: int | None = None
    gradient_accumulation: int = 1
    warmup: float = 0.05
    schedule: str = "linear"
    weight_decay: float = 0.01
    mini_batch_size: int | None = None
    mini_batch_tokens: int | None = None
    gradient_checkpointing: bool = False
    bf16: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Watching:
    """What is logged, kept and measured along the way, each after so many steps.

    ``evaluate`` scores the model, the best by mean score is kept, and ``patience`` evaluations without a
    better one end the run. ``log_to`` names transformers' integrations, such as tensorboard.
    """

    log_every: int = 10
    save_every: int = 500
    evaluate: Evaluate | None = None
    evaluate_every: int = 500
    patience: int | None = None
    log_to: tuple[str, ...] = ()
    on_progress: Progress = lambda step, steps, loss: None


@dataclass(frozen=True)
class TrainingLog:
    """What a run did: optimiser steps, and (step, value) along the way; ``best_step`` is that of the weights.

    ``seconds`` and ``cpu_seconds`` are those since the run was last resumed.
    """

    steps: int
    seconds: float
    cpu_seconds: float
    losses: list[tuple[int, float]]
    learning_rates: list[tuple[int, float]] = field(default_factory=list)
    dev: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    best_step: int | None = None


def train(
    model: "SentenceTransformer",
    sources: Mapping[str, "Dataset"],
    settings: Hyperparameters,
    folder: Path,
    watching: Watching | None = None,
    weights: Mapping[str, float] | None = None,
) -> TrainingLog:
    """Train ``model`` in place on sources by name; a batch holds rows of one source only.

    Sources have the columns query, document, negatives and, for a loss that learns from a teacher, scores; a
    column of places, such as ``file:line``, is what an error names rows by.
    ``weights`` are shares of sources in the batches, by default their numbers of rows. ``folder`` keeps the
    trainer's checkpoints; a run goes on from the last whole one there. Raises FlatcoatError for sources that
    do not fit the loss or the batch size, and at the first loss, gradient norm or dev score that is no finite
    number.
    """
    from datasets import DatasetDict

    watching = watching or Watching()
    check_sources(model, sources, settings)
    steps = step_count({name: len(rows) for name, rows in sources.items()}, settings)
    trainer = Trainer(
        model=model,
        args=_arguments(model, settings, watching, steps, folder),
        train_dataset=DatasetDict({name: _columns(name, rows, settings) for name, rows in sources.items()}),
        loss=make_loss(model, settings.loss),
        evaluator=scored(watching.evaluate) if watching.evaluate else None,
        callbacks=_callbacks(watching),
        data_collator=Collator(model),
    )
    trainer.shares = shares_of({name: len(rows) for name, rows in sources.items()}, weights or {})
    trainer.batches = steps * settings.gradient_accumulation
    trainer.remove_callback(PrinterCallback)
    reuse_freed_memory()
    cpu_before = time.process_time()
    with mini_batches(model, settings.mini_batch_size, settings.mini_batch_tokens):
        result = trainer.train(resume_from_checkpoint=last_checkpoint(folder))
        trainer.require_sound()
    return _log(trainer, result.metrics["train_runtime"], time.process_time() - cpu_before)


def step_count(sizes: Mapping[str, int], settings: Hyperparameters) -> int:
    """Optimiser steps of a run over sources of so many rows."""
    if settings.max_steps is not None:
        return settings.max_steps
    batches = sum(size // settings.batch_size for size in sizes.values())
    return max(1, math.ceil(settings.epochs * (batches // settings.gradient_accumulation)))


def check_sources(
    model: "SentenceTransformer", sources: Mapping[str, "Dataset"], settings: Hyperparameters
) -> None:
    """FlatcoatError for sources that do not fill a batch, or that the loss cannot learn from."""
    sharing = processes().num_processes
    if settings.batch_size % sharing:
        raise FlatcoatError(
            f"batch_size {settings.batch_size} cannot be shared by {sharing} processes: name a multiple"
        )
    # What is contrasted with each other.
    together = settings.batch_size if settings.loss.gather else settings.batch_size // sharing
    for name, rows in sources.items():
        if len(rows) < settings.batch_size:
            raise FlatcoatError(
                f"{name} has {len(rows)} pairs, fewer than one batch of {settings.batch_size}"
            )
        there = set(rows.column_names)
        if settings.loss.needs_scores and not {SCORES, "negative_1"} <= there:
            raise FlatcoatError(
                f"loss {settings.loss.name} learns from negatives with a teacher's scores; {name} has the "
                f"columns {', '.join(rows.column_names)}: name its negatives and scores, or another loss"
            )
        documents = len(there - {"query", SCORES, PLACE})
        require_learnable(model, settings.loss, name, documents, together)


def _columns(name: str, rows: "Dataset", settings: Hyperparameters) -> "Dataset":
    """Without scores where the loss has no use for them, and with the places of rows."""
    if PLACE not in rows.column_names:
        numbered = [f"{name}, row {number + 1}" for number in range(len(rows))]
        rows = rows.add_column(PLACE, numbered)  # type: ignore[call-arg]
    return rows.select_columns(
        [name for name in rows.column_names if name != SCORES or settings.loss.needs_scores]
    )


def _arguments(
    model: "SentenceTransformer", settings: Hyperparameters, watching: Watching, steps: int, folder: Path
) -> SentenceTransformerTrainingArguments:
    dev = watching.evaluate is not None
    every = watching.evaluate_every if dev else watching.save_every
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        lr_scheduler_type=settings.schedule,
        weight_decay=settings.weight_decay,
        bf16=settings.bf16,
        use_cpu=model.device.type == "cpu",
        seed=settings.seed,
        batch_sampler="no_duplicates",
        # One batch is one batch however many processes share it.
        accelerator_config={"split_batches": True},
        ddp_broadcast_buffers=False,
        dataloader_drop_last=True,
        logging_steps=watching.log_every,
        # It would show a loss that is no number as 0.
        logging_nan_inf_filter=False,
        save_steps=every,
        save_total_limit=2,
        eval_strategy="steps" if dev else "no",
        eval_steps=every if dev else None,
        load_best_model_at_end=dev,
        metric_for_best_model="eval_mean" if dev else None,
        report_to=list(watching.log_to) or "none",
        disable_tqdm=True,
    )


def _callbacks(watching: Watching) -> "list[TrainerCallback]":
    callbacks: list[TrainerCallback] = [Report(watching.on_progress), MarkComplete()]
    if watching.evaluate is not None:
        callbacks.append(FinalEvaluation())
    if watching.patience is not None:
        callbacks.append(EarlyStoppingCallback(watching.patience))
    return callbacks


def _log(trainer: Trainer, seconds: float, cpu_seconds: float) -> TrainingLog:
    history = trainer.state.log_history

    def values(key: str) -> list[tuple[int, float]]:
        return [(int(entry["step"]), float(entry[key])) for entry in history if key in entry]

    dev = [
        (
            int(entry["step"]),
            {
                key.removeprefix("eval_"): float(value)
                for key, value in entry.items()
                if key.startswith("eval_") and key not in _TIMINGS
            },
        )
        for entry in history
        if "eval_mean" in entry
    ]
    return TrainingLog(
        steps=trainer.state.global_step,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        losses=values("loss"),
        learning_rates=values("learning_rate"),
        dev=dev,
        best_step=trainer.state.best_global_step if dev else None,
    )


_TIMINGS = {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
