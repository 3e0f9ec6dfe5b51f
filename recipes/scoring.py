"""How well a model does: on dev sets in training, to choose a checkpoint, and at the end, for its card."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatcoat.eval.metrics import evaluate
from flatcoat.eval.systems import Bm25System, EncoderSystem

from .schema import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from flatcoat.eval.datasets import RetrievalDataset
    from flatcoat.eval.systems import System
    from flatcoat.retrieval.training.train import Evaluate

DEV_MEASURE = "ndcg@10"
_DEPTH = 100


def dev_scores(recipe: Recipe, datasets: "Sequence[RetrievalDataset]") -> "Evaluate | None":
    """What scores a model in training on the dev sets by name; None where there are none."""
    from flatcoat.retrieval.encoders.colbert import ColbertEncoder
    from flatcoat.retrieval.encoders.dense import DenseEncoder

    length = "document_length" if recipe.kind == "colbert" else "max_seq_length"
    encoder_class = ColbertEncoder if recipe.kind == "colbert" else DenseEncoder

    def scores(model: "SentenceTransformer") -> dict[str, float]:
        in_training = getattr(model, length)
        setattr(model, length, recipe.encoder.document_length)
        try:
            encoder = encoder_class(model, recipe.name)  # type: ignore[arg-type]
            return {
                dataset.name: _means(EncoderSystem(encoder), dataset)[DEV_MEASURE] for dataset in datasets
            }
        finally:
            setattr(model, length, in_training)

    return scores if datasets else None


def score_checkpoint(name: str, folder: Path, datasets: "Sequence[RetrievalDataset]") -> list[dict[str, Any]]:
    """Rows of measures of a checkpoint, and of BM25 beside it, on each data set."""
    from flatcoat.retrieval.encoders.load import load_encoder

    systems = (EncoderSystem(load_encoder(folder), label=name), Bm25System())
    return [
        {"dataset": dataset.name, "split": dataset.split, "system": system.name, **_means(system, dataset)}
        for dataset in datasets
        for system in systems
    ]


def _means(system: "System", dataset: "RetrievalDataset") -> dict[str, float]:
    return evaluate(system.search(dataset, _DEPTH).run, dataset.qrels).mean
