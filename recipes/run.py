"""From a recipe to a checkpoint: read the data, build the model, train it, save it with its card.

A run folder holds what resuming needs (``run.json``, ``checkpoints/``, ``start/``) from its first minute, and
the finished model beside it when ``training.json`` is there.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flatcoat.backbone.environment import fast_precisions
from flatcoat.errors import FlatcoatError
from flatcoat.eval.datasets import load_beir
from flatcoat.indexing.reading.beir import BeirFolder
from flatcoat.retrieval.data.dataset import load_source
from flatcoat.retrieval.training.callbacks import processes
from flatcoat.retrieval.training.losses import LossSettings
from flatcoat.retrieval.training.train import (
    Hyperparameters,
    Progress,
    TrainingLog,
    Watching,
    check_sources,
    train,
)

from .model import build_model
from .record import RunRecord, RunStart, is_finished
from .schema import Recipe
from .scoring import dev_scores, score_checkpoint

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from flatcoat.eval.datasets import RetrievalDataset
    from flatcoat.retrieval.training.train import Evaluate

logger = logging.getLogger(__name__)


def run(
    recipe: Recipe,
    output: Path,
    on_progress: Progress = lambda step, steps, loss: None,
    resume: bool = False,
) -> TrainingLog:
    """Carry out a recipe and leave a checkpoint in ``output``, which must not exist or be empty.

    With ``resume``, a run that was cut off there goes on exactly as it would have. Under torchrun all
    processes share each batch. Raises FlatcoatError for missing data, an unknown base, an output that is
    taken, and for a run to be resumed whose recipe or data have changed.
    """
    state = processes()
    # Read before training, so that a missing data set costs no training.
    tests = _distinct(recipe.evaluate, [load_beir(recipe.data_root / path) for path in recipe.evaluate])
    dev = _distinct(recipe.dev, [_load_dev(recipe.data_root / path) for path in recipe.dev])
    fresh = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    if not fresh:
        _check_unfinished(output, resume)
    state.wait_for_everyone()
    rows = output / "data" / str(state.process_index)
    with _nothing_left(output) if fresh else _kept():
        shutil.rmtree(rows, ignore_errors=True)
        sources = read_sources(recipe, rows)
        model = build_model(recipe, sources, output / "start")
        check_sources(model, sources, _hyperparameters(recipe, model.device))
        start = RunStart.of(recipe, sources)
        if state.is_main_process:
            start.write(output) if fresh else start.check(output)
    state.wait_for_everyone()
    log = fit(recipe, model, sources, output / "checkpoints", on_progress, dev_scores(recipe, dev))
    if state.is_main_process:
        _finish(recipe, output, model, start, log, tests)
    return log


def read_sources(recipe: Recipe, folder: Path) -> "dict[str, Dataset]":
    """The training data of every source, by its name, sampled as the recipe says and kept in ``folder``."""
    sources = {}
    for name, source in recipe.sources.items():
        rows = load_source(source, recipe.data_root, folder=folder, seed=recipe.training.seed, places=True)
        if len(rows) < recipe.training.batch_size:
            raise FlatcoatError(
                f"{name} has {len(rows)} pairs, fewer than one batch of {recipe.training.batch_size}"
            )
        sources[name] = rows
        logger.info("%s: %d rows", name, len(rows))
    return sources


def _load_dev(folder: Path) -> "RetrievalDataset":
    return load_beir(folder, "dev" if "dev" in BeirFolder(folder).splits() else None)


def _distinct(paths: Sequence[Path], datasets: "Sequence[RetrievalDataset]") -> "list[RetrievalDataset]":
    """Data sets by names of their own: by the recipe's path where one before has the same name."""
    names = [dataset.name for dataset in datasets]
    return [
        replace(dataset, name=str(path)) if dataset.name in names[:place] else dataset
        for place, (path, dataset) in enumerate(zip(paths, datasets, strict=True))
    ]


def _check_unfinished(output: Path, resume: bool) -> None:
    if not output.is_dir() or is_finished(output) or not RunStart.is_in(output):
        raise FlatcoatError(f"{output} exists and is not empty: name another --output")
    if not resume:
        raise FlatcoatError(f"{output} holds an unfinished run: --resume it, or name another --output")


@contextmanager
def _nothing_left(output: Path) -> Iterator[None]:
    """Remove what was made in ``output`` where preparing a run fails."""
    was_there = output.exists()
    try:
        yield
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        if was_there:
            output.mkdir()
        raise


@contextmanager
def _kept() -> Iterator[None]:
    yield


def fit(
    recipe: Recipe,
    model: "SentenceTransformer",
    sources: "dict[str, Dataset]",
    checkpoints: Path,
    on_progress: Progress,
    evaluate: "Evaluate | None" = None,
) -> TrainingLog:
    """Train ``model`` in place with the recipe's settings."""
    training = recipe.training
    watching = Watching(
        log_every=training.log_every,
        save_every=training.save_every,
        evaluate=evaluate,
        evaluate_every=training.evaluate_every,
        patience=training.patience,
        log_to=training.log_to,
        on_progress=on_progress,
    )
    weights = {name: source.weight for name, source in recipe.sources.items() if source.weight is not None}
    length = "document_length" if recipe.kind == "colbert" else "max_seq_length"
    setattr(model, length, training.document_length or recipe.encoder.document_length)
    try:
        return train(model, sources, _hyperparameters(recipe, model.device), checkpoints, watching, weights)
    finally:
        setattr(model, length, recipe.encoder.document_length)


def _hyperparameters(recipe: Recipe, device: "torch.device") -> Hyperparameters:
    training = recipe.training
    fast = training.precision == "auto" and "bf16" in fast_precisions(device)
    return Hyperparameters(
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        loss=LossSettings(
            name=training.loss,
            temperature=training.temperature,
            symmetric=training.symmetric,
            gather=training.gather,
            matryoshka=training.matryoshka,
        ),
        epochs=training.epochs,
        max_steps=training.max_steps,
        gradient_accumulation=training.gradient_accumulation,
        warmup=training.warmup,
        schedule="constant_with_warmup" if training.schedule == "constant" else training.schedule,
        weight_decay=training.weight_decay,
        mini_batch_size=training.mini_batch_size,
        mini_batch_tokens=training.mini_batch_tokens,
        gradient_checkpointing=training.gradient_checkpointing,
        bf16=fast or training.precision == "bf16",
        seed=training.seed,
    )


def _finish(
    recipe: Recipe,
    output: Path,
    model: "SentenceTransformer",
    start: RunStart,
    log: TrainingLog,
    tests: "list[RetrievalDataset]",
) -> None:
    save(recipe, model, output)
    for part in ("data", "start"):
        shutil.rmtree(output / part, ignore_errors=True)
    scores = score_checkpoint(recipe.name, output, tests)
    RunRecord.of(start, log, scores).write(recipe, output)


def save(recipe: Recipe, model: "SentenceTransformer", folder: Path) -> None:
    """Write a checkpoint that plain sentence-transformers or PyLate load, in the recipe's dtype."""
    import json

    import torch

    half = recipe.training.weights_dtype == "fp16"
    if half:
        model.to(torch.float16)
        if not all(weights.isfinite().all() for weights in model.parameters()):
            raise FlatcoatError("some weights are beyond float16: name weights_dtype: fp32")
    model.save(str(folder), create_model_card=False)
    if half:
        # Half the bytes on disk; loaded as float32, so that every processor computes the same.
        for file in (folder / "config.json", *folder.glob("*_*/config.json")):
            values = json.loads(file.read_text()) if file.exists() else {}
            if "dtype" in values:
                file.write_text(json.dumps(values | {"dtype": "float32"}, indent=2, sort_keys=True) + "\n")
