"""Exhaustive search: the slow, exact truth for small collections and the yardstick for the others.

Dense vectors score by inner product, token vectors by MaxSim: for each query token the best inner product
with a token of the passage, summed over the query (ColBERT, Khattab and Zaharia 2020).

Axes: N passages, T tokens of passages, Q queries, U tokens of queries, D width.
"""

from collections.abc import Iterator, Sequence
from typing import Generic

import numpy as np

from .. import FlatcoatError
from .segments import Snapshot
from .types import Hits, Id, Shape, TokenVectors, Vectors

_BLOCK = 1 << 24  # numbers in a block of scores, or of passage vectors in float32: 64 MiB
_RANKED_AT_ONCE = 1 << 24  # scores kept before they are cut to the best k: 64 MiB
_QUERY_TOKENS = 4096  # scored together


class ExactIndex(Generic[Id]):
    """Scores every passage. ``ExactIndex.from_snapshot(store.snapshot())`` finds passage rows."""

    def __init__(self, snapshot: Snapshot, ids: Sequence[Id] | None, keep_bytes: int = 1 << 29) -> None:
        """``ids`` names the rows (None: rows are their own names).

        Up to ``keep_bytes`` of vectors are kept in float32, which makes a single query five times faster;
        beyond that they stay memory-mapped and are converted block by block.
        """
        shapes = {Shape.of(vectors) for vectors in snapshot.vectors}
        if len(shapes) > 1:
            raise FlatcoatError(f"the segments of one index differ: {sorted(shapes)}: verify it")
        self._shape = shapes.pop() if shapes else None
        self._snapshot = snapshot
        self._ids = ids
        values = [_values(vectors) for vectors in snapshot.vectors]
        fits = sum(value.size for value in values) * 4 <= keep_bytes
        self._values = [value.astype(np.float32, copy=False) for value in values] if fits else values
        self._starts_N, self._sizes_N = _extents(snapshot)

    @staticmethod
    def from_snapshot(snapshot: Snapshot) -> "ExactIndex[int]":
        """An index over a store; its hits name passage rows."""
        return ExactIndex[int](snapshot, None)

    @staticmethod
    def from_vectors(ids: Sequence[str], vectors: Vectors) -> "ExactIndex[str]":
        """An index in memory: ``ids[i]`` names vector or token matrix ``i``, which is row ``i``."""
        if len(ids) != len(vectors):
            raise FlatcoatError(f"{len(ids)} ids came for {len(vectors)} vectors: one each is needed")
        rows = np.arange(len(ids), dtype=np.int64)
        return ExactIndex[str](Snapshot((vectors,), rows, np.zeros_like(rows), rows), ids)

    @property
    def width(self) -> int:
        """Components of one vector; 0 while the index is empty."""
        return self._shape.width if self._shape else 0

    def __len__(self) -> int:
        return len(self._snapshot)

    def search(
        self, queries: Vectors, k: int, allowed: np.ndarray | None = None, *, recall: float | None = None
    ) -> list[Hits[Id]]:
        """The best ``k`` passages of each query, best first; of equals, the one added first.

        ``allowed`` (int64 rows; None: all) is applied before scoring. A passage or query without tokens
        never meets. Any ``recall`` is met. Raises FlatcoatError where the queries do not fit the index.
        """
        if k < 1:
            raise FlatcoatError(f"k is {k}: at least 1 is needed")
        came = Shape.of(queries)
        if self._shape:
            self._shape.require(came, "query")
        if not np.isfinite(_values(queries)).all():
            raise FlatcoatError("a query vector holds NaN or infinity")
        if not self._shape:
            return [self._hits(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in range(len(queries))]
        candidates = self._candidates(allowed)
        return [hits for batch in _batches(queries) for hits in self._search_batch(batch, k, candidates)]

    def _candidates(self, allowed: np.ndarray | None) -> np.ndarray:
        """Positions in the snapshot of the passages that may be found: allowed, and with a token."""
        keep = self._sizes_N > 0
        if allowed is not None:
            keep &= np.isin(self._snapshot.rows, allowed)
        return np.flatnonzero(keep)

    def _search_batch(self, queries: TokenVectors, k: int, candidates: np.ndarray) -> Iterator[Hits[Id]]:
        asked = np.flatnonzero(np.diff(queries.offsets))
        ranking = _Ranking(len(asked), k)
        if len(asked):
            starts = queries.offsets[asked]
            query_UD = queries.values_TD.astype(np.float32, copy=False)
            at_once = max(1, _RANKED_AT_ONCE // len(asked))
            for first in range(0, len(candidates), at_once):
                tile = candidates[first : first + at_once]
                ranking.add(tile, self._scores_QN(query_UD, starts, tile))
        best = dict(zip(asked.tolist(), ranking.ranked(), strict=True))
        nothing = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return (self._hits(*best.get(query, nothing)) for query in range(len(queries)))

    def _hits(self, positions: np.ndarray, scores: np.ndarray) -> Hits[Id]:
        rows = self._snapshot.rows[positions].tolist()
        return Hits(rows if self._ids is None else [self._ids[row] for row in rows], scores)

    def _scores_QN(self, query_UD: np.ndarray, query_starts: np.ndarray, tile: np.ndarray) -> np.ndarray:
        one_each = len(query_starts) == len(query_UD)
        scores_QN = np.empty((len(query_starts), len(tile)), dtype=np.float32)
        for first, last in self._blocks(tile, max(1, _BLOCK // max(query_UD.shape))):
            block = tile[first:last]
            scores_UN = self._best_UN(query_UD, block)
            scores_QN[:, first:last] = (
                scores_UN if one_each else np.add.reduceat(scores_UN, query_starts, axis=0)
            )
        return scores_QN

    def _best_UN(self, query_UD: np.ndarray, block: np.ndarray) -> np.ndarray:
        """For each query token its best inner product with each passage of ``block`` (one segment)."""
        sizes, starts = self._sizes_N[block], self._starts_N[block]
        ends = np.cumsum(sizes)
        values = self._values[self._snapshot.segment_of[block[0]]]
        if starts[-1] + sizes[-1] - starts[0] == ends[-1]:
            values_TD = values[starts[0] : starts[0] + ends[-1]]
        else:
            values_TD = values[np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1])]
        scores_UT = query_UD @ values_TD.astype(np.float32, copy=False).T
        return scores_UT if ends[-1] == len(block) else np.maximum.reduceat(scores_UT, ends - sizes, axis=1)

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
    """The best k of each query so far. Candidates come in rising order, so equals keep the earlier one."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._best = [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in range(queries)]

    def add(self, candidates: np.ndarray, scores_QN: np.ndarray) -> None:
        """Merge in the scores of new candidates."""
        if len(candidates) > self._k:
            worst_Q = np.partition(scores_QN, len(candidates) - self._k, axis=1)[:, -self._k]
        else:
            worst_Q = np.full(len(scores_QN), -np.inf, dtype=np.float32)
        for query, (scores, worst) in enumerate(zip(scores_QN, worst_Q, strict=True)):
            good = np.flatnonzero(scores >= worst)
            best, best_scores = self._best[query]
            together = np.concatenate([best, candidates[good]])
            together_scores = np.concatenate([best_scores, scores[good]])
            order = np.argsort(-together_scores, kind="stable")[: self._k]
            self._best[query] = together[order], together_scores[order]

    def ranked(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Candidates and scores of each query, best first."""
        return self._best


def _values(vectors: Vectors) -> np.ndarray:
    return vectors.values_TD if isinstance(vectors, TokenVectors) else vectors


def _extents(snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """First vector and number of vectors of each passage, within its segment."""
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
