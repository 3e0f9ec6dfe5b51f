"""The live passages of an index that have vectors, at one moment, as every engine searches them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.errors import ConflictError
from flatcoat.indexing.plaid.operating_points import OperatingPoint

from .segments import CodedSegment, Segment, take
from .vectors import CodedTokens, TokenVectors, Vectors

if TYPE_CHECKING:
    from flatcoat.indexing.plaid.codec import Codec


@dataclass(frozen=True)
class Snapshot:
    """The live passages of one moment that have vectors, ordered by segment and position.

    Passage ``i`` is row ``rows[i]`` of the store; its vectors are at ``positions[i]`` of
    ``segments[segment_of[i]]`` (all three int64 [N], N passages). Positions of a segment that are not listed
    are tombstones. Where ``codec`` is not None it encoded every segment. ``faiss`` is the file that covers
    most of the vectors, if there is one; a later commit may delete it.
    """

    segments: tuple[Segment, ...]
    rows: np.ndarray
    segment_of: np.ndarray
    positions: np.ndarray
    generation: int = 0
    codec: "Codec | None" = None
    faiss: Path | None = None
    calibration: tuple[OperatingPoint, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def vectors(self) -> tuple[Vectors, ...]:
        """The segments as vectors; ConflictError where they are encoded by a codec."""
        vectors = tuple(segment for segment in self.segments if not isinstance(segment, CodedSegment))
        if len(vectors) < len(self.segments):
            raise ConflictError("the vectors of this index are coded: search it with PlaidIndex")
        return vectors

    def token_vectors(self, rows: Sequence[int]) -> list[np.ndarray | None]:
        """The token vectors (float32 [T, D]) of passages by row, decoded where they are encoded.

        None for a passage that is not in the snapshot, and for dense vectors.
        """
        found: dict[int, np.ndarray] = {}
        for place in self._places_of(rows).tolist():
            segment = self.segments[self.segment_of[place]]
            stored = segment.tokens if isinstance(segment, CodedSegment) else segment
            vectors = take(stored, self.positions[place : place + 1])
            if isinstance(vectors, CodedTokens):
                assert self.codec is not None
                vectors = self.codec.decode(vectors)
            if isinstance(vectors, TokenVectors):
                found[int(self.rows[place])] = vectors.values_TD.astype(np.float32)
        return [found.get(row) for row in rows]

    def _places_of(self, rows: Sequence[int]) -> np.ndarray:
        """The places in ``self.rows`` of those of ``rows`` that are there, each once."""
        wanted = np.unique(np.array(rows, np.int64))
        if not self._are_rising:
            return np.flatnonzero(np.isin(self.rows, wanted))
        places = np.searchsorted(self.rows, wanted)
        places = places[: np.searchsorted(places, len(self))]  # Those behind the last row.
        return places[self.rows[places] == wanted[: len(places)]]

    @cached_property
    def _are_rising(self) -> bool:
        """Whether the rows stand in rising order: until segments are merged that were not added in a row."""
        return bool((self.rows[1:] > self.rows[:-1]).all())
