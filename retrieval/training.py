"""Training on sentence-transformers' trainer with its and PyLate's losses, the backbone unpadded inside.

Dense models learn by multiple-negatives ranking, late-interaction models by the same contrast over MaxSim;
both take every other document of a batch as a negative, so a batch never holds a text twice.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backbone.memory import reuse_freed_memory
from .data import Pair
from .maxsim import BatchMaxSim

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn
    from transformers import TrainerCallback

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, float], None]
"""Called with (step, steps in all, latest loss)."""


@dataclass(frozen=True)
class ContrastiveSettings:
    """Hyper-parameters of one run; ``mini_batch_size`` bounds memory by recomputing (GradCache)."""

    batch_size: int
    learning_rate: float
    epochs: float = 1.0
    max_steps: int | None = None
    warmup: float = 0.05
    schedule: str = "linear"
    weight_decay: float = 0.01
    temperature: float = 1.0
    mini_batch_size: int | None = None
    bf16: bool = False
    seed: int = 42


@dataclass(frozen=True)
class TrainingLog:
    """What a run did: optimiser steps, seconds on the clock and of processors, (step, loss) along the way."""

    steps: int
    seconds: float
    cpu_seconds: float
    losses: list[tuple[int, float]]


def train_contrastive(
    model: "SentenceTransformer",
    pairs: Mapping[str, Sequence[Pair]],
    settings: ContrastiveSettings,
    work_folder: Path,
    on_progress: Progress = lambda step, steps, loss: None,
) -> TrainingLog:
    """Train ``model`` in place on pairs by source; a batch holds pairs of one source only.

    Sources are drawn in proportion to their size. ``work_folder`` is the trainer's own.
    """
    from datasets import Dataset, DatasetDict
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from transformers import PrinterCallback

    datasets = DatasetDict(
        {
            name: Dataset.from_dict(
                {"query": [pair.query for pair in rows], "document": [pair.document for pair in rows]}
            )
            for name, rows in pairs.items()
        }
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work_folder),
        per_device_train_batch_size=settings.batch_size,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        lr_scheduler_type=settings.schedule,
        weight_decay=settings.weight_decay,
        bf16=settings.bf16,
        use_cpu=model.device.type == "cpu",
        seed=settings.seed,
        batch_sampler="no_duplicates",
        multi_dataset_batch_sampler="proportional",
        dataloader_drop_last=True,
        save_strategy="no",
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets,
        loss=_loss(model, settings),
        callbacks=[_progress_callback(on_progress)],
        **_collator(model),
    )
    trainer.remove_callback(PrinterCallback)
    reuse_freed_memory()
    cpu_before = time.process_time()
    result = trainer.train()
    cpu_seconds = time.process_time() - cpu_before
    losses = [
        (int(entry["step"]), float(entry["loss"])) for entry in trainer.state.log_history if "loss" in entry
    ]
    return TrainingLog(result.global_step, result.metrics["train_runtime"], cpu_seconds, losses)


def _loss(model: "SentenceTransformer", settings: ContrastiveSettings) -> "nn.Module":
    from pylate import losses as late
    from pylate.models import ColBERT
    from sentence_transformers import losses as dense

    mini = settings.mini_batch_size
    if isinstance(model, ColBERT):
        if mini is None:
            return late.Contrastive(model, BatchMaxSim(), temperature=settings.temperature)
        return late.CachedContrastive(model, BatchMaxSim(), mini, temperature=settings.temperature)
    scale = 1 / settings.temperature
    if mini is None:
        return dense.MultipleNegativesRankingLoss(model, scale=scale)
    return dense.CachedMultipleNegativesRankingLoss(model, mini_batch_size=mini, scale=scale)


def _collator(model: "SentenceTransformer") -> dict[str, Any]:
    """PyLate's collator, without its padding of every document to the full document length."""
    from pylate.models import ColBERT
    from pylate.utils import ColBERTCollator

    if not isinstance(model, ColBERT):
        return {}
    return {
        "data_collator": ColBERTCollator(
            lambda texts, is_query, **_: model.tokenize(texts, is_query=is_query)
        )
    }


def _progress_callback(on_progress: Progress) -> "TrainerCallback":
    from transformers import TrainerCallback

    class Report(TrainerCallback):
        loss = float("nan")

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            self.loss = (logs or {}).get("loss", self.loss)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            on_progress(state.global_step, state.max_steps, self.loss)

    return Report()
