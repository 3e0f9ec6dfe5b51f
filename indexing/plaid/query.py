"""A query prepared for PLAID: quantized to bytes, and scored with every centroid.

Axes: Q query tokens, G panels of C = 32 of them, K centroids, D width, P width padded to whole bytes of
codes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flatcoat.threads import cores, pieces

from .codec import Codec
from .int8_matmul import COLUMNS, ROWS, aligned, as_rows
from .kernels import QueryColumns, TileScales, centroid_scores, nearest_centroids, query_bytes
from .parts import Spread

_MIN_CHUNK = 4_096  # centroids per task: fewer take less time than handing them to another core


class NearestCentroids(NamedTuple):
    """The best centroids of each query token, best first: int32 [Q, probes], and their scores (float32)."""

    centroids: np.ndarray
    scores: np.ndarray


@dataclass
class ScoredQuery:
    """A query of ``tokens`` tokens in bytes (``columns``).

    ``scores_GKC`` (float32) are its scores with the centroids, ``table_GKC`` (uint8) the same in bytes.
    """

    columns: QueryColumns
    scores_GKC: np.ndarray
    table_GKC: np.ndarray
    tokens: int = 0

    @staticmethod
    def empty(panels: int, centroids: int, *, width: int) -> "ScoredQuery":
        """Buffers for a query of up to ``panels`` times 32 tokens."""
        columns = panels * COLUMNS
        return ScoredQuery(
            QueryColumns(
                aligned((columns * width,), np.int8),
                aligned((columns,), np.int32),
                np.empty(columns, np.float32),
            ),
            aligned((panels, centroids, COLUMNS), np.float32),
            aligned((panels, centroids, COLUMNS), np.uint8),
        )

    def nearest(self, probes: int, centroids: int) -> NearestCentroids:
        """The best ``probes`` of the first ``centroids`` centroids for each token."""
        found = np.zeros((self.tokens, min(probes, centroids)), np.int32)
        scores = np.empty(found.shape, np.float32)
        for scores_KC, here in zip(self.scores_GKC, pieces(self.tokens, COLUMNS), strict=True):
            nearest_centroids(scores_KC[:centroids], found[here], scores[here])
        return NearestCentroids(found, scores)


class QueryScorer:
    """Scores queries with the centroids of one codec; safe to share between threads."""

    def __init__(self, codec: Codec) -> None:
        self._step = np.float32(codec.step)
        self._rows_KP = as_rows(codec.centroids_KP)
        centroids_KD = codec.centroids_KP[:, : codec.width] * self._step
        self._longest = float(np.linalg.norm(centroids_KD, axis=1).max())
        self._mean_D = centroids_KD.mean(axis=0)
        self._buffers: dict[int, list[ScoredQuery]] = {}

    @contextmanager
    def scored(self, query_QD: np.ndarray, spread: Spread) -> Iterator[ScoredQuery]:
        """A query's scores, in buffers that later queries reuse: fresh pages take as long as scoring."""
        panels = -(-len(query_QD) // COLUMNS)
        buffers = self._buffers.setdefault(panels, [])
        try:
            query = buffers.pop()
        except IndexError:
            centroids, width = self._rows_KP.shape
            query = ScoredQuery.empty(panels, centroids, width=width)
        query.tokens = len(query_QD)
        self._score(query_QD.astype(np.float32, copy=False), query, spread)
        yield query
        buffers.append(query)

    def _score(self, query_QD: np.ndarray, query: ScoredQuery, spread: Spread) -> None:
        for array in query.columns:
            array[:] = 0
        query_bytes(query_QD, query.columns)
        panels = len(query.scores_GKC)
        # No score is above |query token| x |longest centroid|; one below the average cannot matter.
        high_Q = np.linalg.norm(query_QD, axis=1) * self._longest
        reach = max(float((high_Q - query_QD @ self._mean_D).max()), 1e-6)
        lows, steps = np.zeros((2, panels * COLUMNS), np.float32)
        lows[: query.tokens], steps[: query.tokens] = high_Q - reach, 255 / reach
        units = query.columns.units * self._step
        tile_scales = TileScales(
            *(np.tile(row.reshape(panels, COLUMNS), ROWS) for row in (units, lows, steps))
        )

        def score_chunk(here: slice) -> None:
            bounds = here.start, here.stop
            scores = query.scores_GKC, query.table_GKC
            centroid_scores(self._rows_KP, *bounds, query.columns, tile_scales, *scores)

        count = len(self._rows_KP)
        spread(score_chunk, pieces(count, max(_MIN_CHUNK, -(-count // (cores() * ROWS)) * ROWS)))
