"""The live passages of an index at one moment, as every engine searches them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.errors import ConflictError
from flatcoat.indexing.plaid.operating_points import OperatingPoint

from .segments import CodedSegment, Segment
from .vectors import Vectors

if TYPE_CHECKING:
    from flatcoat.indexing.plaid.codec import Codec


@dataclass(frozen=True)
class Snapshot:
    """The live passages of one moment, ordered by segment and position.

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
