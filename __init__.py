"""flatcoat: dense and late-interaction search on an unpadded ModernBERT backbone.

The public names are loaded on first use, so that ``import flatcoat`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    ConflictError,
    DataError,
    FlatcoatError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    UsageError,
)

if TYPE_CHECKING:
    from flatcoat.backbone.fill_mask import FillMask
    from flatcoat.backbone.heads import MaskedLanguageModel, SequenceClassifier, TokenClassifier
    from flatcoat.backbone.model import ModernBert
    from flatcoat.indexing.documents import Document, Passage
    from flatcoat.indexing.exact import ExactIndex
    from flatcoat.indexing.vectors import Hits, TokenVectors
    from flatcoat.recipes.schema import Recipe
    from flatcoat.retrieval.encoders.colbert import ColbertEncoder
    from flatcoat.retrieval.encoders.dense import DenseEncoder
    from flatcoat.retrieval.results import Result
    from flatcoat.retrieval.retriever import Retriever

__version__ = "0.1.0"

_HOMES = {
    "ColbertEncoder": "retrieval.encoders.colbert",
    "DenseEncoder": "retrieval.encoders.dense",
    "Document": "indexing.documents",
    "ExactIndex": "indexing.exact",
    "FillMask": "backbone.fill_mask",
    "Hits": "indexing.vectors",
    "MaskedLanguageModel": "backbone.heads",
    "ModernBert": "backbone.model",
    "Passage": "indexing.documents",
    "Recipe": "recipes.schema",
    "Result": "retrieval.results",
    "Retriever": "retrieval.retriever",
    "SequenceClassifier": "backbone.heads",
    "TokenClassifier": "backbone.heads",
    "TokenVectors": "indexing.vectors",
}

__all__ = [
    "ColbertEncoder",
    "ConflictError",
    "DataError",
    "DenseEncoder",
    "Document",
    "ExactIndex",
    "FillMask",
    "FlatcoatError",
    "Hits",
    "MaskedLanguageModel",
    "MissingExtraError",
    "ModernBert",
    "NotFoundError",
    "Passage",
    "Recipe",
    "Result",
    "Retriever",
    "SequenceClassifier",
    "StorageError",
    "TokenClassifier",
    "TokenVectors",
    "UsageError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flatcoat' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
