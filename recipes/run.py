"""From a recipe to a checkpoint: read the data, build the model, train it, save it with its card.

A run folder holds what resuming needs (``run.json``, ``checkpoints/``, ``start/``) from its first minute, and
the finished model beside it when ``training.json`` is there.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flatcoat.atomic_files import readable_weights
from flatcoat.backbone.pretraining.distributed import require_shared
from flatcoat.errors import ConflictError, UsageError
from flatcoat.eval.datasets import load_beir
from flatcoat.indexing.reading.beir import BeirFolder
from flatcoat.retrieval.data.dataset import load_source
from flatcoat.retrieval.training.callbacks import Evaluate, OnStep, process_state
from flatcoat.retrieval.training.train import TrainingLog, check_sources, require_full_batch, train

from .model import build_model, truncated_documents
from .record import RunRecord, RunStart, is_finished
from .schema import Recipe
from .scoring import dev_scores, score_checkpoint

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from flatcoat.eval.datasets import RetrievalDataset

logger = logging.getLogger(__name__)


def run(
    recipe: Recipe,
    output: Path,
    *,
    on_step: OnStep = lambda step, steps, loss: None,
    resume: bool = False,
) -> TrainingLog:
    """Carry out a recipe and leave a checkpoint in ``output``, which must not exist or be empty.

    With ``resume``, a run that was cut off there continues with the same batches, losses and weights. Under
    torchrun all processes share each batch and ``output``. Raises NotFoundError for missing data or an
    unknown base, ConflictError for an output that is taken or an unfinished run whose recipe or data have
    changed, UsageError for data that the loss cannot learn from or an output that processes do not share, and
    FlatcoatError for training that diverges.
    """
    state = process_state()
    # Read before training, so that a missing data set is found first.
    tests = _distinct(recipe.evaluate, [load_beir(recipe.data_root / path) for path in recipe.evaluate])
    dev = _distinct(recipe.dev, [_load_dev(recipe.data_root / path) for path in recipe.dev])
    fresh = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    if not fresh:
        _check_unfinished(output, resume)
    state.wait_for_everyone()
    rows = output / "data" / str(state.process_index)
    with _emptied_on_failure(output) if fresh else nullcontext():
        require_shared(output)
        shutil.rmtree(rows, ignore_errors=True)
        sources = read_sources(recipe, rows)
        model = build_model(recipe, sources, scratch_folder=output / "start")
        check_sources(model, sources, settings=recipe.training)
        start = RunStart.of(recipe, sources)
        if state.is_main_process:
            start.write(output) if fresh else start.check(output)
    state.wait_for_everyone()
    log = fit(
        recipe,
        model,
        sources=sources,
        checkpoints=output / "checkpoints",
        on_step=on_step,
        evaluate=dev_scores(recipe, dev),
    )
    if state.is_main_process:
        _finish(recipe, output, model, start, log, tests)
    return log


def read_sources(recipe: Recipe, folder: Path) -> "dict[str, Dataset]":
    """The training data of every source by name, sampled as the recipe says and kept in ``folder``."""
    sources = {}
    for name, source in recipe.sources.items():
        rows = load_source(source, recipe.data_root, folder=folder, seed=recipe.training.seed, places=True)
        require_full_batch(name, rows, settings=recipe.training)
        sources[name] = rows
        logger.info("%s: %d rows", name, len(rows))
    return sources


def _load_dev(folder: Path) -> "RetrievalDataset":
    return load_beir(folder, "dev" if "dev" in BeirFolder(folder).splits() else None)


def _distinct(paths: Sequence[Path], datasets: "Sequence[RetrievalDataset]") -> "list[RetrievalDataset]":
    """Data sets under distinct names: a second one of a name takes the recipe's path as its name."""
    names = [dataset.name for dataset in datasets]
    return [
        replace(dataset, name=str(path)) if dataset.name in names[:place] else dataset
        for place, (path, dataset) in enumerate(zip(paths, datasets, strict=True))
    ]


def _check_unfinished(output: Path, resume: bool) -> None:
    if not output.is_dir() or is_finished(output) or not RunStart.is_in(output):
        raise ConflictError(f"{output} exists and is not empty: name another --output")
    if not resume:
        raise ConflictError(f"{output} holds an unfinished run: --resume it, or name another --output")


@contextmanager
def _emptied_on_failure(output: Path) -> Iterator[None]:
    """Restore ``output`` to missing or empty if preparing a run fails, so that it can be tried again."""
    existed = output.exists()
    try:
        yield
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        if existed:
            output.mkdir()
        raise


def fit(
    recipe: Recipe,
    model: "SentenceTransformer",
    *,
    sources: "dict[str, Dataset]",
    checkpoints: Path,
    on_step: OnStep = lambda step, steps, loss: None,
    evaluate: Evaluate | None = None,
) -> TrainingLog:
    """Train ``model`` in place with the recipe's settings; ``checkpoints`` is the trainer's folder."""
    weights = {name: source.weight for name, source in recipe.sources.items() if source.weight is not None}
    length = recipe.training.document_length or recipe.encoder.document_length
    with truncated_documents(model, length):
        return train(
            model,
            sources,
            settings=recipe.training,
            folder=checkpoints,
            evaluate=evaluate,
            on_step=on_step,
            weights=weights,
        )


def _finish(
    recipe: Recipe,
    output: Path,
    model: "SentenceTransformer",
    start: RunStart,
    log: TrainingLog,
    tests: "list[RetrievalDataset]",
) -> None:
    save(recipe, model, folder=output)
    for part in ("data", "start"):
        shutil.rmtree(output / part, ignore_errors=True)
    scores = score_checkpoint(recipe.name, output, datasets=tests)
    RunRecord.of(start, log, scores=scores).write(recipe, output)


def save(recipe: Recipe, model: "SentenceTransformer", *, folder: Path) -> None:
    """Write a checkpoint in the recipe's dtype that plain sentence-transformers or PyLate loads.

    Raises UsageError for weights beyond the range of float16.
    """
    import torch

    half = recipe.training.weights_dtype == "fp16"
    if half:
        model.to(torch.float16)
        if not all(weights.isfinite().all() for weights in model.parameters()):
            raise UsageError("some weights are beyond float16: name weights_dtype: fp32")
    model.save(str(folder), create_model_card=False)
    readable_weights(folder)
    if half:
        # Half the bytes on disk; loaded as float32, so that every processor computes the same.
        for file in (folder / "config.json", *folder.glob("*_*/config.json")):
            values = json.loads(file.read_text()) if file.exists() else {}
            if "dtype" in values:
                file.write_text(json.dumps(values | {"dtype": "float32"}, indent=2, sort_keys=True) + "\n")
