"""PLAID in NumPy, for a process that searches once or twice and ends: numba takes ten times as long to load.

The same search with the same numbers: products of bytes are whole numbers that float32 holds, and what is
made of them is rounded as often. Scores may differ in their last bits.

Axes: N passages, T their tokens, Q query tokens, K centroids, D width, P width padded to whole bytes of
codes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from flatcoat.indexing.segments import CodedSegment
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.threads import pieces

from .codec import Codec
from .index import PlaidIndex
from .parts import Part, Spread

MOST_TOKENS = 1 << 20
"""Tokens of an index up to which a search of its codes in NumPy takes less time than loading numba."""

_PASSAGES_AT_ONCE = 256


class _Query(NamedTuple):
    """A query in bytes (float32), what a byte of 1 stands for in each token, and the scores of centroids.

    ``table_KQ`` (uint8) are the scores in bytes.
    """

    bytes_PQ: np.ndarray
    units_Q: np.ndarray
    scores_KQ: np.ndarray
    table_KQ: np.ndarray


class _QueryScorer:
    """The twin of ``query.QueryScorer``."""

    def __init__(self, codec: Codec) -> None:
        self._step, self._width = np.float32(codec.step), codec.width
        self._bytes_KP = codec.centroids_KP.astype(np.float32)
        centroids_KD = codec.centroids_KP[:, : codec.width] * self._step
        self._longest = float(np.linalg.norm(centroids_KD, axis=1).max())
        self._mean_D = centroids_KD.mean(axis=0)

    @contextmanager
    def scored(self, query_QD: np.ndarray, spread: Spread) -> Iterator[_Query]:
        query_QD = query_QD.astype(np.float32, copy=False)
        units_Q = np.maximum(np.abs(query_QD).max(axis=1), np.float32(1e-20)) / np.float32(127)
        bytes_PQ = np.zeros((self._bytes_KP.shape[1], len(query_QD)), np.float32)
        bytes_PQ[: self._width] = np.round(query_QD / units_Q[:, None]).T
        scores_KQ = self._bytes_KP @ bytes_PQ
        scores_KQ *= units_Q * self._step
        high_Q = np.linalg.norm(query_QD, axis=1) * self._longest
        reach = max(float((high_Q - query_QD @ self._mean_D).max()), 1e-6)
        places_KQ = (scores_KQ - (high_Q - reach)) * np.float32(255 / reach)
        yield _Query(bytes_PQ, units_Q, scores_KQ, places_KQ.clip(0, 255).astype(np.uint8))


class NumpyPlaidIndex(PlaidIndex[int]):
    """An index of a store that ``can_search`` says yes to; its hits name passage rows."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(snapshot, None)

    @staticmethod
    def can_search(snapshot: Snapshot) -> bool:
        """Whether the index is small enough."""
        tokens = [len(one.tokens.codes_T) for one in snapshot.segments if isinstance(one, CodedSegment)]
        return sum(tokens) <= MOST_TOKENS

    @cached_property
    def _scorer(self) -> Any:
        return _QueryScorer(self._codec)

    @cached_property
    def _level_bytes(self) -> np.ndarray:
        return self._codec.levels_of_bytes.astype(np.float32)

    def _interact(self, part: Part, scores: np.ndarray, query: Any) -> None:
        for here, tokens_T, starts_N in _tokens_of(part, scores, nothing=-1):
            best_NQ = np.maximum.reduceat(query.table_KQ[part.coded.codes_T[tokens_T]], starts_N, axis=0)
            scores[here] = best_NQ.sum(axis=1, dtype=np.int32)

    def _score(self, part: Part, scores: np.ndarray, query: Any) -> None:
        for here, tokens_T, starts_N in _tokens_of(part, scores, nothing=-np.inf):
            levels_TP = self._level_bytes[part.coded.residuals_TB[tokens_T]].reshape(len(tokens_T), -1)
            scores_TQ = (levels_TP @ query.bytes_PQ) * query.units_Q
            scales_T, norms_T = self._codec.scales[[[0], [1]], part.coded.scales_T2[tokens_T].T]
            scores_TQ *= scales_T[:, None]
            scores_TQ += query.scores_KQ[part.coded.codes_T[tokens_T]]
            scores_TQ *= norms_T[:, None]
            scores[here] = np.maximum.reduceat(scores_TQ, starts_N, axis=0).sum(axis=1)


def _tokens_of(
    part: Part, scores: np.ndarray, *, nothing: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Passages that have tokens, some at a time: their places, their tokens, and where in these each begins.

    ``scores`` of the others become ``nothing``.
    """
    scores[:] = nothing
    firsts, lasts = part.coded.offsets[part.passages], part.coded.offsets[part.passages + 1]
    there = np.flatnonzero(lasts > firsts)
    for some in pieces(len(there), _PASSAGES_AT_ONCE):
        here = there[some]
        sizes = lasts[here] - firsts[here]
        starts = np.cumsum(sizes) - sizes
        yield here, np.repeat(firsts[here] - starts, sizes) + np.arange(int(sizes.sum())), starts
