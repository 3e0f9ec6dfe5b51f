"""A corpus in memory under an encoder: whole documents, encoded once, searched as their number asks for.

Axes: N documents, T tokens, D width.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import FlatcoatError
from ..indexing.engines import AUTO
from ..indexing.exact import ExactIndex
from ..indexing.types import Hits, TokenVectors, Vectors

if TYPE_CHECKING:
    from ..indexing.types import VectorIndex
    from .encoding import Encoder

_DOCUMENTS_AT_ONCE = 1_000


class CorpusSearcher:
    """Exact search while that is as fast, beyond that PLAID for token vectors and FAISS for dense ones."""

    def __init__(
        self,
        encoder: "Encoder",
        ids: Sequence[str],
        texts: Sequence[str],
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Encode ``texts``, each as far as the encoder reads; ``on_progress`` is told how many are done.

        Raises FlatcoatError at the first vectors that are not finite, here and in a search.
        """
        chunks = []
        for start in range(0, len(texts), _DOCUMENTS_AT_ONCE):
            vectors = _halved(encoder.encode_documents(texts[start : start + _DOCUMENTS_AT_ONCE]))
            chunks.append(_finite(vectors, encoder.name))
            on_progress(min(start + _DOCUMENTS_AT_ONCE, len(texts)))
        self._encoder = encoder
        self._index = _index(ids, _joined(chunks))

    def search(self, queries: Sequence[str], k: int) -> list[Hits[str]]:
        """The best ``k`` documents of each query, best first."""
        return self._index.search(_finite(self._encoder.encode_queries(queries), self._encoder.name), k)


def _finite(vectors: Vectors, model: str) -> Vectors:
    values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
    if not np.isfinite(values).all():
        raise FlatcoatError(f"{model} gives vectors that are not finite numbers: its weights are damaged")
    return vectors


def _halved(vectors: Vectors) -> Vectors:
    """In float16, which is what an index on disk keeps."""
    if isinstance(vectors, TokenVectors):
        return TokenVectors(vectors.values_TD.astype(np.float16), vectors.offsets)
    return vectors.astype(np.float16)


def _joined(chunks: Sequence[Vectors]) -> Vectors:
    tokens = [chunk for chunk in chunks if isinstance(chunk, TokenVectors)]
    if not tokens:
        return np.concatenate([chunk for chunk in chunks if not isinstance(chunk, TokenVectors)])
    sizes_N = np.concatenate([np.diff(chunk.offsets) for chunk in tokens])
    offsets = np.concatenate([[0], np.cumsum(sizes_N)])
    return TokenVectors(np.concatenate([chunk.values_TD for chunk in tokens]), offsets)


def _index(ids: Sequence[str], vectors: Vectors) -> "VectorIndex[str]":
    if isinstance(vectors, TokenVectors):
        if AUTO.wanted("token", len(vectors.values_TD)) == "plaid":
            from ..indexing.plaid import PlaidIndex

            return PlaidIndex.from_vectors(ids, vectors)
    elif AUTO.wanted("dense", len(vectors)) == "faiss":
        from ..indexing.faiss_index import FaissIndex

        return FaissIndex.from_vectors(ids, vectors, AUTO.faiss())
    return ExactIndex.from_vectors(ids, vectors)
