"""Between the frameworks' embeddings, lists of floats, and flatcoat's encoders of one vector per text."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from flatcoat.errors import UsageError
from flatcoat.indexing.exact import unit_length
from flatcoat.retrieval.encoders.contract import Contract
from flatcoat.retrieval.encoders.encoder import Encoder, checked_texts

_CHARACTERS = 4  # per token, about: an embedding says nothing of its tokens
_PROBE = "width"


class EmbeddingsEncoder:
    """An ``Encoder`` over functions of another library that embed texts: dense vectors of length 1.

    ``name`` tells one model from another, since weights cannot be compared. Passages have at most ``length``
    tokens of about four characters.

    >>> encoder = EmbeddingsEncoder("ones", lambda text: [1.0], lambda texts: [[1.0] for _ in texts])
    >>> encoder.encode_queries(["a", "b"]).shape
    (2, 1)
    """

    def __init__(
        self,
        name: str,
        embed_query: Callable[[str], Sequence[float]],
        embed_documents: Callable[[list[str]], Sequence[Sequence[float]]],
        *,
        length: int = 512,
    ) -> None:
        self.name = name
        self._embed_query, self._embed_documents = embed_query, embed_documents
        self._length = self._longest = length

    @cached_property
    def _width(self) -> int:
        return len(self._embed_query(_PROBE))

    @property
    def contract(self) -> Contract:
        """Name, width and length; the width is that of a first embedding."""
        return Contract(
            kind="dense",
            model=self.name,
            weights=hashlib.sha256(self.name.encode()).hexdigest(),
            width=self._width,
            query_prefix="",
            document_prefix="",
            query_length=self._length,
            document_length=self._length,
        )

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors [N, D] of queries, one call of the model per text."""
        return self._vectors([self._embed_query(text) for text in checked_texts(texts)])

    def encode_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors [N, D] of documents."""
        return self._vectors(self._embed_documents(checked_texts(texts)))

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        """About as many tokens as a text has."""
        return [-(-len(text) // _CHARACTERS) for text in texts]

    def truncate_documents(self, length: int | None) -> None:
        """The length that passages are cut to; what the model truncates is its own affair."""
        self._length = self._longest if length is None else length

    def _vectors(self, embeddings: Sequence[Sequence[float]]) -> np.ndarray:
        return unit_length(np.asarray(embeddings, np.float32).reshape(len(embeddings), self._width))


def dense_encoder(model: "str | Path | Encoder | None") -> Encoder:
    """The encoder, loaded where it is a name, of one vector per text, as all three frameworks want it.

    UsageError for a late-interaction model, NotFoundError or DataError where it cannot be loaded.
    """
    from flatcoat.retrieval.encoders.load import load_encoder

    encoder = load_encoder(model) if model is None or isinstance(model, str | Path) else model
    if encoder.contract.kind != "dense":
        raise UsageError(
            f"{encoder.name} gives one vector per token, an embedding is one per text: name a dense model"
        )
    return encoder


def floats(vectors_ND: object) -> list[list[float]]:
    """Vectors as lists of Python floats."""
    return np.asarray(vectors_ND).astype(np.float64).tolist()
