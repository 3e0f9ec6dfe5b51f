"""Scores of a model: on dev sets in training, to choose a checkpoint, and at the end, for the model card."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flatcoat.eval.metrics import evaluate
from flatcoat.eval.systems.cached_encoder import CachedEncoder
from flatcoat.eval.systems.search import SearchIndex, SearchSystem
from flatcoat.eval.systems.system import Bm25System, EncoderSystem

from .model import truncated_documents
from .schema import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from flatcoat.eval.datasets import RetrievalDataset
    from flatcoat.eval.systems.system import System
    from flatcoat.retrieval.training.callbacks import Evaluate

DEV_MEASURE = "ndcg@10"
_DEPTH = 100


def dev_scores(recipe: Recipe, datasets: "Sequence[RetrievalDataset]") -> "Evaluate | None":
    """A function that scores a model by dev set during training (nDCG@10); None without dev sets."""
    if not datasets:
        return None
    from flatcoat.retrieval.encoders.colbert import ColbertEncoder
    from flatcoat.retrieval.encoders.dense import DenseEncoder

    encoder_class = ColbertEncoder if recipe.kind == "colbert" else DenseEncoder

    def scores(model: "SentenceTransformer") -> dict[str, float]:
        # Training may truncate documents further than evaluation.
        with truncated_documents(model, recipe.encoder.document_length):
            encoder = encoder_class(model, recipe.name)  # type: ignore[arg-type]
            return {
                dataset.name: _means(EncoderSystem(encoder), dataset)[DEV_MEASURE] for dataset in datasets
            }

    return scores


def score_checkpoint(
    name: str, folder: Path, *, datasets: "Sequence[RetrievalDataset]"
) -> list[dict[str, Any]]:
    """One row of measures per data set and system: the checkpoint under ``name``, flatcoat's search, BM25."""
    from flatcoat.retrieval.encoders.load import load_encoder

    with TemporaryDirectory() as vectors:
        index = SearchIndex(CachedEncoder(load_encoder(folder), Path(vectors)))
        systems = (EncoderSystem(index.encoder, label=name), SearchSystem(index, label=name), Bm25System())
        rows = [
            {"dataset": dataset.name, "split": dataset.split, "system": system.name} | _means(system, dataset)
            for dataset in datasets
            for system in systems
        ]
        index.close()
    return rows


def _means(system: "System", dataset: "RetrievalDataset") -> dict[str, float]:
    return evaluate(system.search(dataset, _DEPTH).run, dataset.qrels).mean
