"""Training a retriever: ``train`` runs sentence-transformers' trainer with the backbone unpadded inside.

A batch never holds a text twice, since each document may serve as a negative of the other queries. A run that
was cut off resumes from its last checkpoint with the same batches, losses and weights.
"""

import math
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sentence_transformers import SentenceTransformerTrainingArguments
from torch import nn
from transformers import EarlyStoppingCallback, PrinterCallback

from flatcoat.backbone.environment import fast_precisions
from flatcoat.backbone.malloc import reuse_freed_memory
from flatcoat.errors import UsageError
from flatcoat.retrieval.data.examples import PLACE
from flatcoat.retrieval.encoders.load import as_encoder

from .average import WeightAverage, mix_in, trained_weights
from .batch_teachers import START, BatchTeachers
from .batches import SCORES, Collator, source_shares
from .callbacks import (
    Evaluate,
    FinalEvaluation,
    MarkComplete,
    OnStep,
    ProgressCallback,
    dev_evaluator,
    last_checkpoint,
    process_state,
)
from .gradient_cache import gradient_cached
from .losses import make_loss, require_learnable
from .settings import TrainingSettings
from .trainer import Trainer

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from transformers import TrainerCallback

    from flatcoat.retrieval.encoders.encoder import Encoder

_TIMINGS = {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
"""What the trainer logs with an evaluation that is no score."""


class Point(NamedTuple):
    """A value logged at an optimiser step, such as the loss or the learning rate."""

    step: int
    value: float


class DevScores(NamedTuple):
    """Scores at an optimiser step by dev set, ``mean`` among them."""

    step: int
    scores: dict[str, float]


@dataclass(frozen=True)
class TrainingLog:
    """What a run did: the number of optimiser steps, and curves over them.

    ``best_step`` is the step whose weights the model has, None without dev sets: then it has the last.
    ``seconds`` and ``cpu_seconds`` count from the last resumption.
    """

    steps: int
    seconds: float
    cpu_seconds: float
    losses: list[Point]
    learning_rates: list[Point] = field(default_factory=list)
    dev: list[DevScores] = field(default_factory=list)
    best_step: int | None = None


def train(
    model: "SentenceTransformer",
    sources: Mapping[str, "Dataset"],
    *,
    settings: TrainingSettings,
    folder: Path,
    evaluate: Evaluate | None = None,
    on_step: OnStep = lambda step, steps, loss: None,
    weights: Mapping[str, float] | None = None,
) -> TrainingLog:
    """Train ``model`` in place on sources by name; each batch holds rows of one source.

    Sources have the columns query, document, negative_1, ..., and scores if the loss learns from a teacher; a
    column of places, such as ``file:line``, names rows in errors. ``weights`` are the relative shares of
    sources in the batches, by default their numbers of rows.

    ``folder`` keeps the trainer's checkpoints; a run resumes from the last complete one there. With
    ``evaluate`` the model ends with the weights of its best mean score, else with the last ones.

    Raises UsageError for sources that do not fit the loss or the batch size, and FlatcoatError at the first
    loss, gradient norm or dev score that is NaN or infinite.
    """
    from datasets import DatasetDict

    check_sources(model, sources, settings=settings)
    sizes = {name: len(rows) for name, rows in sources.items()}
    steps = step_count(sizes, settings)
    if steps == 0:
        return TrainingLog(0, 0, 0, [])
    freeze(model, settings.frozen_layers)
    start = trained_weights(model) if settings.start_share else {}
    trainer = Trainer(
        shares=source_shares(sizes, weights or {}),
        batches=steps * settings.gradient_accumulation,
        average=WeightAverage(model, settings.average) if settings.average is not None else None,
        model=model,
        args=_arguments(model, settings, steps, evaluate is not None, folder),
        train_dataset=DatasetDict({name: _columns(name, rows, settings) for name, rows in sources.items()}),
        loss=make_loss(model, settings),
        evaluator=dev_evaluator(evaluate) if evaluate else None,
        callbacks=_callbacks(settings, evaluate, on_step),
        data_collator=Collator(model, _teachers(model, settings)),
    )
    trainer.remove_callback(PrinterCallback)
    reuse_freed_memory()
    cpu_before = time.process_time()
    with gradient_cached(model, max_texts=settings.mini_batch_size, max_tokens=settings.mini_batch_tokens):
        result = trainer.train(resume_from_checkpoint=last_checkpoint(folder))
        trainer.finish()
    mix_in(model, start, settings.start_share)
    return _log(trainer, result.metrics["train_runtime"], time.process_time() - cpu_before)


def _teachers(model: "SentenceTransformer", settings: TrainingSettings) -> BatchTeachers | None:
    if not settings.teachers:
        return None
    start = cast("Encoder", as_encoder(deepcopy(model))) if START in settings.teachers else None
    return BatchTeachers(settings.teachers, start=start)


def freeze(model: "SentenceTransformer", layers: int) -> None:
    """Keep the embeddings and the first ``layers`` layers of the backbone from learning; 0 freezes nothing.

    Raises UsageError for more layers than there are.
    """
    backbone: Any = model[0].auto_model
    stack: nn.ModuleList = next(part for part in backbone.modules() if isinstance(part, nn.ModuleList))
    if layers > len(stack):
        raise UsageError(f"frozen_layers is {layers}; the model has {len(stack)} layers")
    embeddings = [weights for name, weights in backbone.named_parameters() if "embeddings" in name]
    for weights in [*embeddings, *stack[:layers].parameters()] if layers else []:
        weights.requires_grad_(False)


def step_count(sizes: Mapping[str, int], settings: TrainingSettings) -> int:
    """Optimiser steps of a run over sources with these numbers of rows: whole batches only.

    >>> step_count({"squad": 33, "code": 15}, TrainingSettings(batch_size=8, epochs=1.5))
    8
    """
    if settings.max_steps is not None:
        return settings.max_steps
    batches = sum(size // settings.batch_size for size in sizes.values())
    return max(1, math.ceil(settings.epochs * (batches // settings.gradient_accumulation)))


def require_full_batch(name: str, rows: "Dataset", *, settings: TrainingSettings) -> None:
    """Raise UsageError if a source has fewer rows than one batch."""
    if len(rows) < settings.batch_size:
        raise UsageError(f"{name} has {len(rows)} pairs, fewer than one batch of {settings.batch_size}")


def check_sources(
    model: "SentenceTransformer", sources: Mapping[str, "Dataset"], *, settings: TrainingSettings
) -> None:
    """Raise UsageError for sources that do not fill a batch, or that the loss cannot learn from."""
    processes = process_state().num_processes
    if settings.batch_size % processes:
        raise UsageError(
            f"batch_size {settings.batch_size} cannot be shared by {processes} processes: name a multiple"
        )
    contrasted = settings.batch_size if settings.gather else settings.batch_size // processes
    for name, rows in sources.items():
        require_full_batch(name, rows, settings=settings)
        columns = set(rows.column_names)
        if settings.needs_scores and not {SCORES, "negative_1"} <= columns:
            raise UsageError(
                f"loss {settings.loss} learns from negatives with a teacher's scores; {name} has the "
                f"columns {', '.join(rows.column_names)}: name its negatives and scores, or another loss"
            )
        documents = len(columns - {"query", SCORES, PLACE})
        require_learnable(model, settings, source=name, documents=documents, rows=contrasted)


def _columns(name: str, rows: "Dataset", settings: TrainingSettings) -> "Dataset":
    """Rows with a column of places, and with scores only if the loss needs them."""
    if PLACE not in rows.column_names:
        numbered = [f"{name}, row {number + 1}" for number in range(len(rows))]
        rows = rows.add_column(PLACE, numbered)  # type: ignore[call-arg]
    return rows.select_columns(
        [column for column in rows.column_names if column != SCORES or settings.needs_scores]
    )


def _arguments(
    model: "SentenceTransformer", settings: TrainingSettings, steps: int, evaluates: bool, folder: Path
) -> SentenceTransformerTrainingArguments:
    """The settings in transformers' words."""
    # The best checkpoint can be loaded at the end only if one is saved at every evaluation.
    every = settings.evaluate_every if evaluates else settings.save_every
    fast = settings.precision == "auto" and "bf16" in fast_precisions(model.device)
    return SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        # Below 1 it is a fraction of all steps.
        warmup_steps=settings.warmup,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        weight_decay=settings.weight_decay,
        bf16=fast or settings.precision == "bf16",
        use_cpu=model.device.type == "cpu",
        seed=settings.seed,
        batch_sampler="no_duplicates",
        # batch_size counts the rows of all processes, as if there were one.
        accelerator_config={"split_batches": True},
        ddp_broadcast_buffers=False,
        dataloader_drop_last=True,
        logging_steps=settings.log_every,
        # The filter would log a NaN loss as 0.
        logging_nan_inf_filter=False,
        save_steps=every,
        save_total_limit=2,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=every if evaluates else None,
        load_best_model_at_end=evaluates,
        metric_for_best_model="eval_mean" if evaluates else None,
        report_to=list(settings.log_to) or "none",
        disable_tqdm=True,
    )


def _callbacks(
    settings: TrainingSettings, evaluate: Evaluate | None, on_step: OnStep
) -> "list[TrainerCallback]":
    callbacks: list[TrainerCallback] = [ProgressCallback(on_step), MarkComplete()]
    if evaluate is not None:
        callbacks.append(FinalEvaluation())
    if settings.patience is not None:
        callbacks.append(EarlyStoppingCallback(settings.patience))
    return callbacks


def _log(trainer: Trainer, seconds: float, cpu_seconds: float) -> TrainingLog:
    history = trainer.state.log_history

    def curve(key: str) -> list[Point]:
        return [Point(int(entry["step"]), float(entry[key])) for entry in history if key in entry]

    dev = [
        DevScores(
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
        losses=curve("loss"),
        learning_rates=curve("learning_rate"),
        dev=dev,
        best_step=trainer.state.best_global_step if dev else None,
    )
