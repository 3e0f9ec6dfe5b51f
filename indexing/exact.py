"""Exhaustive search: the slow, exact truth for small collections and the yardstick for the others.

Dense vectors score by inner product or cosine, token vectors by MaxSim: for each query token the best inner
product with a token of the passage, summed over the query (ColBERT, Khattab and Zaharia 2020).

The order of additions in a large matrix product depends on the position of a vector, which changes the last
bits of its score. The product therefore only selects candidates. Each candidate is scored again alone, so
that equal vectors have equal scores in any segment, block or batch of queries.

Axes: N passages, T passage tokens, S queries, Q query tokens (a dense query has one), D width.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Generic, NamedTuple

import numpy as np

from flatcoat.errors import StorageError, UsageError
from flatcoat.threads import pieces

from .metric import Metric
from .snapshot import Snapshot
from .top_k import reaching, top_k
from .vectors import (
    Hits,
    Id,
    Shape,
    TokenVectors,
    Vectors,
    require_finite,
    require_ids,
    require_queries,
    values_of,
)

_BLOCK = 1 << 24  # numbers per block of scores, or of passage vectors in float32: 64 MiB
_RANKED_AT_ONCE = 1 << 24  # scores kept before they are cut to the best k: 64 MiB
_QUERY_TOKENS = 4096  # query tokens scored together


class _Scored(NamedTuple):
    """Positions of passages, and their scores."""

    positions: np.ndarray
    scores: np.ndarray


_NOTHING = _Scored(np.zeros(0, np.int64), np.zeros(0, np.float32))


class ExactIndex(Generic[Id]):
    """Scores every passage, dense vectors or token vectors.

    >>> index = ExactIndex.from_vectors(["red", "green", "blue"], np.eye(3, dtype=np.float32))
    >>> (hits,) = index.search(np.array([[0.1, 0.9, 0.5]], np.float32), k=2)
    >>> hits.ids
    ['green', 'blue']
    """

    def __init__(
        self,
        snapshot: Snapshot,
        ids: Sequence[Id] | None,
        *,
        metric: Metric = "ip",
        keep_bytes: int = 1 << 29,
    ) -> None:
        """``ids`` are the names of the rows (None: hits name the rows themselves).

        ``metric`` "cosine" compares dense vectors of any length by their directions alone; a vector of zeros
        scores 0. Up to ``keep_bytes`` of vectors are kept in float32, which makes a single query five times
        faster; larger collections stay memory-mapped and are converted block by block. Raises StorageError
        where the segments differ in shape, UsageError for the cosine of token vectors.
        """
        shapes = {Shape.of(vectors) for vectors in snapshot.vectors}
        if len(shapes) > 1:
            raise StorageError(f"the segments of one index differ: {sorted(shapes)}: verify it")
        self._shape = shapes.pop() if shapes else None
        if metric == "cosine" and self._shape and self._shape.kind == "token":
            raise UsageError("metric 'cosine' is of dense vectors: token vectors take 'ip'")
        self._snapshot = snapshot
        self._ids = ids
        self._is_cosine = metric == "cosine"
        self._values = [values_of(vectors) for vectors in snapshot.vectors]
        self._are_kept = sum(values.size for values in self._values) * 4 <= keep_bytes
        if self._are_kept:
            self._values = [self._prepared(values) for values in self._values]
        self._starts_N, self._sizes_N = _extents(snapshot)

    @staticmethod
    def from_snapshot(snapshot: Snapshot, *, metric: Metric = "ip") -> "ExactIndex[int]":
        """An index of a store (``store.snapshot()``); its hits name passage rows."""
        return ExactIndex[int](snapshot, None, metric=metric)

    @staticmethod
    def from_vectors(ids: Sequence[str], vectors: Vectors, *, metric: Metric = "ip") -> "ExactIndex[str]":
        """An index in memory: ``ids[i]`` names vector or token matrix ``i``, which is row ``i``."""
        require_ids(ids, vectors)
        rows = np.arange(len(ids), dtype=np.int64)
        snapshot = Snapshot((vectors,), rows, np.zeros_like(rows), rows)
        return ExactIndex[str](snapshot, ids, metric=metric)

    @property
    def width(self) -> int:
        """Components of one vector; 0 while the index is empty."""
        return self._shape.width if self._shape else 0

    def __len__(self) -> int:
        return len(self._snapshot)

    def search(
        self, queries: Vectors, k: int, *, allowed: np.ndarray | None = None, recall: float | None = None
    ) -> list[Hits[Id]]:
        """The ``k`` best passages per query, best first; equal scores by order of adding.

        ``allowed`` (int64 rows; None: all) is a filter before scoring. Passages without tokens are never
        found, queries without tokens find nothing. Any ``recall`` is met. Raises as ``require_queries`` does.
        """
        require_queries(queries, k, shape=self._shape)
        if not self._shape:
            return [self._hits(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in range(len(queries))]
        candidates = self._candidates(allowed)
        return [hits for batch in _batches(queries) for hits in self._search_batch(batch, k, candidates)]

    def _candidates(self, allowed: np.ndarray | None) -> np.ndarray:
        """Positions in the snapshot of the allowed passages that have a token."""
        keep = self._sizes_N > 0
        if allowed is not None:
            keep &= np.isin(self._snapshot.rows, allowed)
        return np.flatnonzero(keep)

    def _search_batch(self, queries: TokenVectors, k: int, candidates: np.ndarray) -> Iterator[Hits[Id]]:
        nonempty = np.flatnonzero(np.diff(queries.offsets))
        query_QD = self._prepared(queries.values_TD)
        best: dict[int, _Scored] = {}
        if len(nonempty):
            starts = queries.offsets[nonempty]
            ranking = _Ranking(k, self._margins(query_QD, starts))
            at_once = max(1, _RANKED_AT_ONCE // len(nonempty))
            for first in range(0, len(candidates), at_once):
                tile = candidates[first : first + at_once]
                ranking.add(tile, self._scores_SN(query_QD, starts, tile))
            for query, found in zip(nonempty.tolist(), ranking.kept, strict=True):
                one_QD = query_QD[slice(*queries.offsets[query : query + 2])]
                best[query] = self._best(one_QD, found.positions, k)
        return (self._hits(*best.get(query, _NOTHING)) for query in range(len(queries)))

    def _best(self, query_QD: np.ndarray, positions: np.ndarray, k: int) -> "_Scored":
        scores = np.concatenate([_NOTHING.scores, *self._scores_alone(query_QD, positions)])
        order = top_k(scores, self._snapshot.rows[positions], k=k)
        return _Scored(positions[order], scores[order])

    def _scores_alone(self, query_QD: np.ndarray, positions: np.ndarray) -> Iterator[np.ndarray]:
        """The scores of passages, in order, each independent of the other passages."""
        starts, sizes = self._starts_N[positions], self._sizes_N[positions]
        segments = self._snapshot.segment_of[positions]
        # By the kind, not by the sizes here: the same passages may stand in another index beside longer ones.
        if self._shape and self._shape.kind == "dense":
            bounds = (np.flatnonzero(np.diff(segments)) + 1).tolist()
            for first, last in zip([0, *bounds], [*bounds, len(positions)], strict=True):
                for here in pieces(last - first, max(1, _BLOCK // self.width)):
                    values_ND = self._float32(self._values[segments[first]][starts[first:last][here]])
                    yield inner_products(values_ND, query_QD[0])
            return
        # In float64, so that a token has the same float32 product at any place of its passage.
        query_QD = query_QD.astype(np.float64)
        for segment, start, size in zip(segments.tolist(), starts.tolist(), sizes.tolist(), strict=True):
            values_TD = self._values[segment][start : start + size].astype(np.float64)
            yield (query_QD @ values_TD.T).max(axis=1).sum(keepdims=True).astype(np.float32)

    def _margins(self, query_QD: np.ndarray, query_starts: np.ndarray) -> np.ndarray:
        """Score differences, one per query [S], up to which rounding may decide the order of two passages.

        A sum of n products is off by at most n x 2^-24 x |query token| x |passage token| (Higham 2002, 3.1):
        four times that for two passages, each scored in two ways.
        """
        lengths_Q = np.sqrt(np.einsum("qd,qd->q", query_QD, query_QD))
        terms = query_QD.shape[1] + np.diff([*query_starts, len(query_QD)]) + 1
        margins = 4 * terms * 2.0**-24 * self._longest * np.add.reduceat(lengths_Q, query_starts)
        require_finite(margins)
        return margins

    @cached_property
    def _longest(self) -> float:
        """Length of the longest vector."""
        return max(
            (
                float(np.sqrt(np.einsum("td,td->t", block, block).max()))
                for values in self._values
                for here in pieces(len(values), max(1, _BLOCK // self.width))
                for block in [self._float32(values[here])]
            ),
            default=0.0,
        )

    def _prepared(self, values: np.ndarray) -> np.ndarray:
        """Vectors in float32, for cosines divided by their lengths."""
        values = values.astype(np.float32, copy=False)
        return unit_length(values) if self._is_cosine else values

    def _float32(self, values: np.ndarray) -> np.ndarray:
        """A part of ``self._values``, prepared here unless all were prepared in advance."""
        return values if self._are_kept else self._prepared(values)

    def _hits(self, positions: np.ndarray, scores: np.ndarray) -> Hits[Id]:
        rows = self._snapshot.rows[positions].tolist()
        return Hits(rows if self._ids is None else [self._ids[row] for row in rows], scores)

    def _scores_SN(self, query_QD: np.ndarray, query_starts: np.ndarray, tile: np.ndarray) -> np.ndarray:
        are_single = len(query_starts) == len(query_QD)
        scores_SN = np.empty((len(query_starts), len(tile)), dtype=np.float32)
        for first, last in self._blocks(tile, max(1, _BLOCK // max(query_QD.shape))):
            block = tile[first:last]
            scores_QN = self._best_QN(query_QD, block)
            scores_SN[:, first:last] = (
                scores_QN if are_single else np.add.reduceat(scores_QN, query_starts, axis=0)
            )
        return scores_SN

    def _best_QN(self, query_QD: np.ndarray, block: np.ndarray) -> np.ndarray:
        """The best inner product of each query token with each passage of ``block`` (one segment)."""
        sizes, starts = self._sizes_N[block], self._starts_N[block]
        ends = np.cumsum(sizes)
        values = self._values[self._snapshot.segment_of[block[0]]]
        if starts[-1] + sizes[-1] - starts[0] == ends[-1]:
            values_TD = values[starts[0] : starts[0] + ends[-1]]
        else:
            values_TD = values[np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1])]
        scores_QT = query_QD @ self._float32(values_TD).T
        return scores_QT if ends[-1] == len(block) else np.maximum.reduceat(scores_QT, ends - sizes, axis=1)

    def _blocks(self, tile: np.ndarray, tokens: int) -> Iterator[tuple[int, int]]:
        """Cut ``tile`` into runs of one segment and at most ``tokens`` tokens, or one passage if longer."""
        ends = np.cumsum(self._sizes_N[tile])
        bounds = np.flatnonzero(np.diff(self._snapshot.segment_of[tile])) + 1
        first = 0
        for bound in [*bounds.tolist(), len(tile)]:
            while first < bound:
                before = int(ends[first - 1]) if first else 0
                last = min(bound, max(first + 1, int(np.searchsorted(ends, before + tokens, side="right"))))
                yield first, last
                first = last


class _Ranking:
    """The candidates of each query: passages that score at most its margin below the k-th best."""

    def __init__(self, k: int, margins: np.ndarray) -> None:
        self._k, self._margins = k, margins
        self.kept = [_NOTHING] * len(margins)

    def add(self, candidates: np.ndarray, scores_SN: np.ndarray) -> None:
        """Merge in the scores of new candidates."""
        require_finite(scores_SN)
        for query, scores in enumerate(scores_SN):
            good = self._good(scores, query)
            kept = self.kept[query]
            positions = np.concatenate([kept.positions, candidates[good]])
            together = np.concatenate([kept.scores, scores[good]])
            good = self._good(together, query)
            self.kept[query] = _Scored(positions[good], together[good])

    def _good(self, scores: np.ndarray, query: int) -> np.ndarray:
        return reaching(scores, self._k, margin=self._margins[query])


def inner_products(vectors_ND: np.ndarray, query_D: np.ndarray) -> np.ndarray:
    """The inner product of a query with each vector (both float32, leading axes may differ) on its own.

    Equal vectors have equal products at any position.
    """
    return np.matmul(vectors_ND[..., None, :], query_D[..., :, None])[..., 0, 0]


def unit_length(vectors_ND: np.ndarray) -> np.ndarray:
    """Float32 vectors divided by their lengths; vectors of zeros stay zeros."""
    # Summed in float64: the squares of large or small components leave the range of float32.
    lengths_N = np.sqrt(np.einsum("nd,nd->n", vectors_ND, vectors_ND, dtype=np.float64))
    return vectors_ND / np.where(lengths_N == 0, 1, lengths_N).astype(np.float32)[:, None]


def _extents(snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """First vector within its segment and number of vectors, per passage."""
    starts, sizes = np.zeros((2, len(snapshot)), dtype=np.int64)
    bounds = np.searchsorted(snapshot.segment_of, np.arange(len(snapshot.segments) + 1))
    for vectors, first, last in zip(snapshot.vectors, bounds[:-1], bounds[1:], strict=True):
        here = slice(first, last)
        positions = snapshot.positions[here]
        offsets = vectors.offsets if isinstance(vectors, TokenVectors) else np.arange(len(vectors) + 1)
        starts[here], sizes[here] = offsets[positions], offsets[positions + 1] - offsets[positions]
    return starts, sizes


def _batches(queries: Vectors) -> Iterator[TokenVectors]:
    """Queries as token vectors (a dense query has one), in batches of bounded tokens."""
    if not isinstance(queries, TokenVectors):
        queries = TokenVectors(queries, np.arange(len(queries) + 1))
    first = 0
    while first < len(queries):
        full = int(queries.offsets[first]) + _QUERY_TOKENS
        last = max(first + 1, int(np.searchsorted(queries.offsets, full, side="right")) - 1)
        offsets = queries.offsets[first : last + 1]
        yield TokenVectors(queries.values_TD[offsets[0] : offsets[-1]], offsets - offsets[0])
        first = last
