"""A query made ready for PLAID: in bytes, and scored with every centroid.

Axes: U tokens of a query, H panels of C = 32 of them, K centroids, P width padded to whole bytes of codes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from flatcoat.indexing.threads import cores, pieces

from .codec import Codec
from .int8_matmul import COLUMNS, ROWS, aligned, as_rows
from .kernels import centroid_scores, nearest_centroids, query_bytes
from .parts import Spread

_AT_LEAST = 4_096  # centroids that take longer than handing them to another core


@dataclass
class ScoredQuery:
    """``columns`` are the panels, starts and units of its bytes, ``tokens`` how many it has.

    ``scores_HKC`` (float32) are its scores with the centroids, ``table_HKC`` (uint8) the same in bytes.
    """

    columns: tuple[np.ndarray, np.ndarray, np.ndarray]
    scores_HKC: np.ndarray
    table_HKC: np.ndarray
    tokens: int = 0

    @staticmethod
    def empty(panels: int, centroids: int, width: int) -> "ScoredQuery":
        """Room for a query of ``panels`` times 32 tokens."""
        columns = panels * COLUMNS
        return ScoredQuery(
            (
                aligned((columns * width,), np.int8),
                aligned((columns,), np.int32),
                np.empty(columns, np.float32),
            ),
            aligned((panels, centroids, COLUMNS), np.float32),
            aligned((panels, centroids, COLUMNS), np.uint8),
        )

    def nearest(self, probes: int, centroids: int) -> tuple[np.ndarray, np.ndarray]:
        """The best ``probes`` of ``centroids`` for each token, best first: int32 [U, probes], and scores."""
        found = np.zeros((self.tokens, min(probes, centroids)), np.int32)
        values = np.empty(found.shape, np.float32)
        for scores_KC, here in zip(self.scores_HKC, pieces(self.tokens, COLUMNS), strict=True):
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
    def scored(self, query_UD: np.ndarray, spread: Spread) -> Iterator[ScoredQuery]:
        """A query's scores, in memory that the next query takes over: fresh pages would cost as much."""
        panels = -(-len(query_UD) // COLUMNS)
        room = self._room.setdefault(panels, [])
        try:
            query = room.pop()
        except IndexError:
            query = ScoredQuery.empty(panels, *self._rows_KP.shape)
        query.tokens = len(query_UD)
        self._score(query_UD.astype(np.float32, copy=False), query, spread)
        yield query
        room.append(query)

    def _score(self, query_UD: np.ndarray, query: ScoredQuery, spread: Spread) -> None:
        for array in query.columns:
            array[:] = 0
        query_bytes(query_UD, *query.columns)
        panels = len(query.scores_HKC)
        # No score is above |query token| x |longest centroid|; one below the average cannot matter.
        high_U = np.linalg.norm(query_UD, axis=1) * self._longest
        reach = max(float((high_U - query_UD @ self._mean_D).max()), 1e-6)
        lows, steps = np.zeros((2, panels * COLUMNS), np.float32)
        lows[: query.tokens], steps[: query.tokens] = high_U - reach, 255 / reach
        units = query.columns[2] * self._step
        places = tuple(np.tile(row.reshape(panels, COLUMNS), ROWS) for row in (units, lows, steps))

        def some(here: slice) -> None:
            bounds = here.start, here.stop
            scores = query.scores_HKC, query.table_HKC
            centroid_scores(self._rows_KP, *bounds, query.columns, places, *scores)

        count = len(self._rows_KP)
        spread(some, pieces(count, max(_AT_LEAST, -(-count // (cores() * ROWS)) * ROWS)))
