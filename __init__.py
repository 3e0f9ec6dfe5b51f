"""flatcoat: dense and late-interaction search on an unpadded ModernBERT backbone.

The public names are loaded on first use, so that ``import flatcoat`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbone.classification import SequenceClassifier, TokenClassifier
    from .backbone.fill_mask import FillMask
    from .backbone.heads import MaskedLanguageModel
    from .backbone.model import ModernBert
    from .indexing.documents import Document, Passage
    from .indexing.exact import ExactIndex
    from .indexing.types import Hits, TokenVectors
    from .recipes.schema import Recipe
    from .retrieval.colbert import ColbertEncoder
    from .retrieval.dense import DenseEncoder
    from .retrieval.retriever import Result, Retriever

__version__ = "0.1.0"

_HOMES = {
    "ColbertEncoder": "retrieval.colbert",
    "DenseEncoder": "retrieval.dense",
    "Document": "indexing.documents",
    "ExactIndex": "indexing.exact",
    "FillMask": "backbone.fill_mask",
    "Hits": "indexing.types",
    "MaskedLanguageModel": "backbone.heads",
    "ModernBert": "backbone.model",
    "Passage": "indexing.documents",
    "Recipe": "recipes.schema",
    "Result": "retrieval.retriever",
    "Retriever": "retrieval.retriever",
    "SequenceClassifier": "backbone.classification",
    "TokenClassifier": "backbone.classification",
    "TokenVectors": "indexing.types",
}

__all__ = [
    "ColbertEncoder",
    "DenseEncoder",
    "Document",
    "ExactIndex",
    "FillMask",
    "FlatcoatError",
    "Hits",
    "MaskedLanguageModel",
    "ModernBert",
    "Passage",
    "Recipe",
    "Result",
    "Retriever",
    "SequenceClassifier",
    "TokenClassifier",
    "TokenVectors",
]


class FlatcoatError(Exception):
    """Base of every error that flatcoat raises on purpose; its message is one line for a person.

    Line breaks and half surrogate pairs in it, of names that came from outside, are replaced.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())
        super().__init__(line.encode("utf-8", "backslashreplace").decode())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flatcoat' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
