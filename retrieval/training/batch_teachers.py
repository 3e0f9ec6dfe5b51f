"""Teachers of a batch: scorers that rank every document of a batch for every query of it.

A contrastive loss holds that each query has one answer in its batch. A teacher knows better: some of the
others answer it too, and most are nowhere near. Scores of several teachers lie on different scales, so each
is standardised per query before they are averaged. Axes: B rows of a batch, N documents of all its rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from flatcoat.backbone.environment import fast_precisions
from flatcoat.indexing.bm25_baseline import Bm25
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.vectors import Hits
from flatcoat.retrieval.encoders.load import load_encoder

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder

START = "start"
"""The teacher that is the model itself as its training starts."""

BatchScorer = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""Scores [B, N] of the texts of queries and documents."""

_BM25 = "bm25"
_TOKENS = 128
"""Tokens of a document that a teacher reads: what small models were trained on, at half the time."""


class BatchTeachers:
    """Scorers by name, "bm25", "start" or a checkpoint's folder or hub name, with their weights in the mean.

    >>> teachers = BatchTeachers({"bm25": 1.0})
    >>> teachers(["cats purr", "dogs bark"], ["a purring cat", "a barking dog"]).round().tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """

    def __init__(self, weights: Mapping[str, float], *, start: "Encoder | None" = None) -> None:
        """Load the teachers, "start" from ``start``; raises as ``load_encoder``."""
        self._scorers = [(_scorer(name, start), weight) for name, weight in weights.items()]
        self._total = sum(weights.values())

    def __call__(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """The weighted mean of the teachers' scores [B, N], standardised per query."""
        scores_BN = np.zeros((len(queries), len(documents)), np.float32)
        for scorer, weight in self._scorers:
            scores_BN += weight / self._total * _standardised(scorer(queries, documents))
        return scores_BN


def _scorer(name: str, start: "Encoder | None") -> BatchScorer:
    if name == _BM25:
        return _words
    return _vectors(load_encoder(name) if name != START or start is None else start)


def _standardised(scores_BN: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 per row; a row of equal scores is 0."""
    centred_BN = scores_BN - scores_BN.mean(axis=1, keepdims=True)
    return centred_BN / np.maximum(centred_BN.std(axis=1, keepdims=True), 1e-6)


def _words(queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """BM25 within the batch: its documents are the corpus that says which words are rare."""
    index = Bm25(zip(_ids(documents), documents, strict=True))
    return _matrix(index.search(queries, len(documents)), len(documents))


def _ids(documents: Sequence[str]) -> list[str]:
    return [str(number) for number in range(len(documents))]


def _matrix(results: Iterable[Hits[str]], documents: int) -> np.ndarray:
    """Scores [B, N]; a document that a query did not find has 0."""
    rows = []
    for hits in results:
        rows.append(np.zeros(documents, np.float32))
        rows[-1][[int(id) for id in hits.ids]] = hits.scores
    return np.stack(rows)


def _vectors(encoder: "Encoder") -> BatchScorer:
    encoder.truncate_documents(_TOKENS)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    in_bf16 = "bf16" in fast_precisions(torch.device(device))

    def scores(queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        with torch.autocast(device, torch.bfloat16, enabled=in_bf16):
            queries_vectors, vectors = encoder.encode_queries(queries), encoder.encode_documents(documents)
        index = ExactIndex.from_vectors(_ids(documents), vectors)
        return _matrix(index.search(queries_vectors, len(documents)), len(documents))

    return scores
