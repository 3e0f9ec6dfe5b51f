"""From a recipe to a checkpoint: read the pairs, build the model, train it, save it with its card."""

import json
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import FlatcoatError
from ..eval.datasets import load_beir
from ..retrieval.data import Pair, beir_pairs, jsonl_pairs
from ..retrieval.docstrings import docstring_pairs
from ..retrieval.training import ContrastiveSettings, Progress, TrainingLog, train_contrastive
from .record import RunRecord
from .schema import Recipe, Scratch, Source

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from ..eval.datasets import RetrievalDataset

logger = logging.getLogger(__name__)


def run(recipe: Recipe, output: Path, on_progress: Progress = lambda step, steps, loss: None) -> TrainingLog:
    """Carry out a recipe and leave a checkpoint in ``output``, which must not exist or be empty.

    The folder appears only when training is done: an interrupted run leaves none. Raises FlatcoatError for
    missing data, an unknown base or an output that is taken.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FlatcoatError(f"{output} exists and is not empty: name another --output")
    # Read before training, so that a missing data set costs no training.
    datasets = [load_beir(recipe.data_root / path) for path in recipe.evaluate]
    pairs = read_pairs(recipe)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
        work = Path(folder)
        model = build_model(recipe, pairs, work / "start")
        log = _train(recipe, model, pairs, work / "trainer", on_progress)
        checkpoint = work / "checkpoint"
        _save(recipe, model, checkpoint)
        scores = score_checkpoint(recipe.name, checkpoint, datasets)
        counts = {name: len(rows) for name, rows in pairs.items()}
        RunRecord(counts, log.steps, log.seconds, log.cpu_seconds, log.losses, scores).write(
            recipe, checkpoint
        )
        if output.exists():
            output.rmdir()
        shutil.move(checkpoint, output)
    return log


def read_pairs(recipe: Recipe) -> dict[str, list[Pair]]:
    """The training pairs of every source, sampled as the recipe says, by the source's label."""
    generator = random.Random(recipe.training.seed)
    pairs: dict[str, list[Pair]] = {}
    for source in recipe.data:
        found = _sampled(_read(source, recipe.data_root), source, generator)
        if len(found) < recipe.training.batch_size:
            raise FlatcoatError(
                f"{source.label} has {len(found)} pairs, fewer than one batch of {recipe.training.batch_size}"
            )
        pairs.setdefault(source.label, []).extend(found * source.repeat)
        logger.info("%s: %d pairs", source.label, len(found))
    return pairs


def _read(source: Source, root: Path) -> Iterable[Pair]:
    if source.beir is not None:
        return beir_pairs(root / source.beir, source.split)
    if source.jsonl is not None:
        return jsonl_pairs(root / source.jsonl, source.query, source.document)
    return docstring_pairs(source.docstrings or ())


def _sampled(pairs: Iterable[Pair], source: Source, generator: random.Random) -> list[Pair]:
    found = list(pairs)
    if source.per_document is not None or source.max_pairs is not None:
        generator.shuffle(found)
    if source.per_document is not None:
        seen: Counter[str] = Counter()
        kept = []
        for pair in found:
            seen[pair.document] += 1
            if seen[pair.document] <= source.per_document:
                kept.append(pair)
        found = kept
    return found[: source.max_pairs]


def build_model(recipe: Recipe, pairs: dict[str, list[Pair]], folder: Path) -> "SentenceTransformer":
    """The model before training: a checkpoint, or a new tokenizer and random weights laid in ``folder``."""
    import torch

    from ..retrieval.colbert import UnpaddedColBERT
    from ..retrieval.encoding import loading, unpad_backbone

    # A new projection and new tokens are random even where the base is a checkpoint.
    torch.manual_seed(recipe.training.seed)
    base = recipe.base
    if recipe.scratch is not None:
        start_from_scratch(recipe.scratch, chain.from_iterable(pairs.values()), folder, recipe.training.seed)
        base = str(folder)
    assert base is not None
    settings = recipe.encoder
    with loading(base):
        model: SentenceTransformer
        if recipe.kind == "colbert":
            model = UnpaddedColBERT(
                base,
                embedding_size=settings.width,
                query_prefix=settings.query_prefix,
                document_prefix=settings.document_prefix,
                query_length=settings.query_length,
                document_length=settings.document_length,
                do_query_expansion=settings.query_expansion,
            )
        else:
            model = _dense_model(base, recipe)
    unpad_backbone(model)
    return model


def _dense_model(base: str, recipe: Recipe) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer

    settings = recipe.encoder
    transformer = Transformer(base, max_seq_length=settings.document_length)
    pooling = Pooling(transformer.get_word_embedding_dimension(), pooling_mode=settings.pooling)
    prompts = {"query": settings.query_prefix or "", "document": settings.document_prefix or ""}
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], prompts=prompts)


def start_from_scratch(shape: Scratch, pairs: Iterable[Pair], folder: Path, seed: int) -> None:
    """Write a checkpoint of random weights with a tokenizer trained on the pairs."""
    import torch

    from ..backbone.config import ModernBertConfig
    from ..backbone.model import ModernBert
    from ..backbone.tokenizer import train_tokenizer

    texts = (text for pair in pairs for text in (pair.query, pair.document))
    tokenizer = train_tokenizer(texts, shape.vocab_size)
    pad, cls, sep = (tokenizer.get_vocab()[token] for token in ("[PAD]", "[CLS]", "[SEP]"))
    arguments: dict[str, Any] = shape.model_dump() | {
        "vocab_size": len(tokenizer),
        "pad_token_id": pad,
        "cls_token_id": cls,
        "bos_token_id": cls,
        "sep_token_id": sep,
        "eos_token_id": sep,
    }
    torch.manual_seed(seed)
    model = ModernBert(ModernBertConfig(**arguments))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))


def _train(
    recipe: Recipe,
    model: "SentenceTransformer",
    pairs: dict[str, list[Pair]],
    work: Path,
    on_progress: Progress,
) -> TrainingLog:
    training = recipe.training
    settings = ContrastiveSettings(
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        epochs=training.epochs,
        max_steps=training.max_steps,
        warmup=training.warmup,
        schedule="constant_with_warmup" if training.schedule == "constant" else training.schedule,
        weight_decay=training.weight_decay,
        temperature=training.temperature,
        mini_batch_size=training.mini_batch_size,
        bf16=training.precision == "bf16",
        seed=training.seed,
    )
    length = "document_length" if recipe.kind == "colbert" else "max_seq_length"
    setattr(model, length, training.document_length or recipe.encoder.document_length)
    try:
        return train_contrastive(model, pairs, settings, work, on_progress)
    finally:
        setattr(model, length, recipe.encoder.document_length)


def _save(recipe: Recipe, model: "SentenceTransformer", folder: Path) -> None:
    import torch

    if recipe.training.weights_dtype == "fp16":
        model.to(torch.float16)
    model.save(str(folder), create_model_card=False)
    if recipe.training.weights_dtype == "fp16":
        # Half the bytes on disk; loaded as float32, so that every processor computes the same.
        for file in folder.rglob("config.json"):
            values = json.loads(file.read_text())
            if "dtype" in values:
                file.write_text(json.dumps(values | {"dtype": "float32"}, indent=2, sort_keys=True) + "\n")


def score_checkpoint(name: str, folder: Path, datasets: "Sequence[RetrievalDataset]") -> list[dict[str, Any]]:
    """Rows of measures of a checkpoint, and of BM25 beside it, on each data set."""
    from ..eval.evaluation import Row, search_bm25, search_dataset
    from ..eval.metrics import evaluate
    from ..retrieval.load import load_encoder

    encoder = load_encoder(folder)
    rows = []
    for dataset in datasets:
        for system, run in ((name, search_dataset(encoder, dataset)), ("BM25", search_bm25(dataset))):
            scores = evaluate(run, dataset.qrels).mean
            rows.append(Row(dataset.name, dataset.split, system, scores).to_json())
    return rows
