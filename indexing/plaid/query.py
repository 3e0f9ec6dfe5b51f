"""A query made ready for PLAID: in bytes, and scored with every centroid.

Axes: Q tokens of a query, G panels of C = 32 of them, K centroids, D width, P width padded to whole bytes of
codes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from flatcoat.indexing.threads import cores, pieces

from .codec import Codec
from .int8_matmul import COLUMNS, ROWS, aligned, as_rows
from .kernels import QueryColumns, TileScales, centroid_scores, nearest_centroids, query_bytes
from .parts import Spread

_AT_LEAST = 4_096  # centroids that take longer than handing them to another core


@dataclass
class ScoredQuery:
    """A query in bytes (``columns``), and how many ``tokens`` it has.

    ``scores_GKC`` (float32) are its scores with the centroids, ``table_GKC`` (uint8) the same in bytes.
    """

    columns: QueryColumns
    scores_GKC: np.ndarray
    table_GKC: np.ndarray
    tokens: int = 0

    @staticmethod
    def empty(panels: int, centroids: int, *, width: int) -> "ScoredQuery":
        """Room for a query of ``panels`` times 32 tokens."""
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

    def nearest(self, probes: int, centroids: int) -> tuple[np.ndarray, np.ndarray]:
        """The best ``probes`` of ``centroids`` for each token, best first: int32 [Q, probes], and scores."""
        found = np.zeros((self.tokens, min(probes, centroids)), np.int32)
        values = np.empty(found.shape, np.float32)
        for scores_KC, here in zip(self.scores_GKC, pieces(self.tokens, COLUMNS), strict=True):
            nearest_centroids(scores_KC[:centroids], found[here], values[here])
        return found, values


class QueryScorer:
    """Scores queries with the centroids of one codec; threads may share it."""

    def __init__(self, codec: Codec) -> None:
        self._step = np.float32(codec.step)
        self._rows_KP = as_rows(codec.centroids_KP)
        centroids_KD = codec.centroids_KP[:, : codec.width] * self._step
        self._longest = float(np.linalg.norm(centroids_KD, axis=1).max())
        self._mean_D = centroids_KD.mean(axis=0)
        self._room: dict[int, list[ScoredQuery]] = {}

    @contextmanager
    def scored(self, query_QD: np.ndarray, spread: Spread) -> Iterator[ScoredQuery]:
        """A query's scores, in memory that the next query takes over: fresh pages would cost as much."""
        panels = -(-len(query_QD) // COLUMNS)
        room = self._room.setdefault(panels, [])
        try:
            query = room.pop()
        except IndexError:
            centroids, width = self._rows_KP.shape
            query = ScoredQuery.empty(panels, centroids, width=width)
        query.tokens = len(query_QD)
        self._score(query_QD.astype(np.float32, copy=False), query, spread)
        yield query
        room.append(query)

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
        of_tiles = TileScales(*(np.tile(row.reshape(panels, COLUMNS), ROWS) for row in (units, lows, steps)))

        def some(here: slice) -> None:
            bounds = here.start, here.stop
            scores = query.scores_GKC, query.table_GKC
            centroid_scores(self._rows_KP, *bounds, query.columns, of_tiles, *scores)

        count = len(self._rows_KP)
        spread(some, pieces(count, max(_AT_LEAST, -(-count // (cores() * ROWS)) * ROWS)))
