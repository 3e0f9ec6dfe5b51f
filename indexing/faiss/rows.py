"""The dense vectors of a snapshot, fetched by position in float32.

Axes: N passages, Q query vectors (one per query), D width.
"""

from collections.abc import Iterable

import numpy as np

from flatcoat.errors import UsageError
from flatcoat.indexing.exact import ExactIndex, unit_length
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.top_k import NOTHING, merge
from flatcoat.indexing.vectors import Hits
from flatcoat.threads import pieces

_BLOCK = 1 << 24  # numbers fetched at once: 64 MiB


class DenseRows:
    """Vectors by their positions in a snapshot, with its passages in any order."""

    def __init__(self, snapshot: Snapshot, unit_length: bool) -> None:
        """With ``unit_length`` vectors are divided by their lengths: inner products are cosines."""
        dense = [vectors for vectors in snapshot.segments if isinstance(vectors, np.ndarray)]
        if len(dense) < len(snapshot.segments):
            raise UsageError("these are token vectors, FAISS searches dense ones: use PlaidIndex")
        self._segments = [np.asarray(vectors_ND) for vectors_ND in dense]  # indexed faster than a memmap
        self._snapshot = snapshot
        self._unit_length = unit_length
        self.width = self._segments[0].shape[1] if self._segments else 0

    def __len__(self) -> int:
        return len(self._snapshot)

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        """The vectors at ``positions`` (int64 [N]): float32 [N, D]."""
        vectors_ND = np.empty((len(positions), self.width), np.float32)
        segment_of, places = self._snapshot.segment_of[positions], self._snapshot.positions[positions]
        for segment in np.unique(segment_of):
            here = segment_of == segment
            vectors_ND[here] = self._segments[segment][places[here]]
        return unit_length(vectors_ND) if self._unit_length else vectors_ND

    def blocks(self, positions: np.ndarray) -> Iterable[np.ndarray]:
        """``positions`` in blocks whose vectors take bounded memory."""
        return (positions[here] for here in pieces(len(positions), max(1, _BLOCK // max(self.width, 1))))

    def exact(self, positions: np.ndarray) -> ExactIndex[int]:
        """An index of the vectors at ``positions`` alone, in float32; its hits are positions."""
        places = np.arange(len(positions))
        return ExactIndex(Snapshot((self[positions],), positions, np.zeros_like(places), places), None)

    def nearest(self, queries_QD: np.ndarray, k: int, *, positions: np.ndarray) -> list[Hits[int]]:
        """The ``k`` best of ``positions`` (rising) per query, by exact search in bounded memory."""
        found = [NOTHING] * len(queries_QD)
        for block in self.blocks(positions):
            found = merge(found, self.exact(block).search(queries_QD, k), k=k)
        return found
