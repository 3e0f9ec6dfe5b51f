"""Segment merge: the live passages of some segments streamed into new ones, block by block.

Tombstones (vectors of removed passages) are left behind, and working memory stays within a budget.

Axes: N passages, T tokens, D width.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.indexing.plaid.sampling import Sample, content_keys
from flatcoat.indexing.postings import Part, Postings, write_postings
from flatcoat.indexing.segments import MOST_PASSAGES, CodedSegment, Stored, take, write_blocks
from flatcoat.indexing.vectors import Shape, TokenVectors

from . import segment_table
from .segment_table import SegmentRecord

if TYPE_CHECKING:
    from flatcoat.indexing.plaid.codec import Codec

_MOST_VECTORS = 1 << 17  # per block
_BYTES_EACH = 32  # of working memory per component: as stored, decoded, encoded again

Change = Callable[[Stored], Stored]
"""Applied to each block on its way, such as encoding."""


@dataclass(frozen=True)
class _Live:
    """The live passages of one segment: their rows, positions and vector counts (int64 [N])."""

    segment: SegmentRecord
    rows: np.ndarray
    positions: np.ndarray
    sizes: np.ndarray

    def part(self, first: int, last: int) -> "_Live":
        """Passages ``first`` to ``last`` (exclusive) of them."""
        part = slice(first, last)
        return _Live(self.segment, self.rows[part], self.positions[part], self.sizes[part])


class SegmentMerge:
    """Reads and replaces segments of one index, inside a transaction of ``connection``."""

    def __init__(
        self, connection: sqlite3.Connection, folder: Path, *, shape: Shape | None, budget: int
    ) -> None:
        """``shape`` is that of the vectors; None merges segments without any."""
        self._connection, self._folder, self._shape = connection, folder, shape
        self._at_once = min(_MOST_VECTORS, max(1, budget // (_BYTES_EACH * shape.width))) if shape else 0

    def merge(
        self,
        segments: Sequence[SegmentRecord],
        codec: "Codec | None",
        *,
        change: Change = lambda block: block,
        most: int | None = None,
    ) -> None:
        """Merge segments into ones of ``most`` (65,536) passages and a last one, encoded by ``codec``.

        All of them have vectors, or none has.
        """
        most = most or MOST_PASSAGES
        filled, room = [], most
        for segment in segments:
            live = self._live(segment)
            while len(live.rows):
                filled.append(live.part(0, room))
                live, room = live.part(room, len(live.rows)), room - len(filled[-1].rows)
                if not room:
                    self._write(filled, codec, change)
                    filled, room = [], most
        if filled:
            self._write(filled, codec, change)
        numbers = ((segment.number,) for segment in segments)
        self._connection.executemany("DELETE FROM segments WHERE number = ?", numbers)

    def sample(
        self,
        segments: Sequence[SegmentRecord],
        count: int,
        *,
        codec: "Codec | None",
        added: TokenVectors | None = None,
    ) -> np.ndarray:
        """``count`` token vectors (float16 [T, D]) of segments, decoded by ``codec``, and of ``added``."""
        assert self._shape
        sample = Sample(count, self._shape.width)
        for segment in segments:
            for block in self._blocks(self._live(segment)):
                _add(sample, block, codec)
        if added is not None:
            _add(sample, added, None)
        return sample.vectors()

    def _live(self, segment: SegmentRecord) -> _Live:
        places = segment_table.places(self._connection, segment)
        if not segment.has_vectors:
            return _Live(segment, places.rows, places.positions, np.zeros(len(places.rows), np.int64))
        stored = self._open(segment)
        if isinstance(stored, np.ndarray):
            return _Live(segment, places.rows, places.positions, np.ones(len(places.rows), np.int64))
        return _Live(segment, places.rows, places.positions, np.diff(stored.offsets)[places.positions])

    def _blocks(self, live: _Live) -> Iterator[Stored]:
        ends = np.cumsum(live.sizes)
        first = 0
        while first < len(ends):
            full = (int(ends[first - 1]) if first else 0) + self._at_once
            last = max(first + 1, int(np.searchsorted(ends, full, side="right")))
            # Mapped anew for each block, so that the pages read before leave this process.
            yield take(self._open(live.segment), live.positions[first:last])
            first = last

    def _open(self, segment: SegmentRecord) -> Stored:
        opened = segment.open(self._folder, self._shape)
        return opened.tokens if isinstance(opened, CodedSegment) else opened

    def _write(self, lives: Sequence[_Live], codec: "Codec | None", change: Change) -> None:
        rows = np.concatenate([live.rows for live in lives])
        sizes = np.concatenate([live.sizes for live in lives])
        number = segment_table.new_segment(self._connection, rows, int(sizes.sum()))
        if lives[0].segment.has_vectors:
            blocks = (change(block) for live in lives for block in self._blocks(live))
            self._write_vectors(number, blocks, sizes, codec)
        self._write_postings(number, lives)
        moved = ((number, row) for row in rows.tolist())
        self._connection.executemany("UPDATE passages SET segment = ? WHERE row = ?", moved)

    def _write_vectors(
        self, number: int, blocks: Iterator[Stored], sizes: np.ndarray, codec: "Codec | None"
    ) -> None:
        assert self._shape
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        files = write_blocks(
            self._folder,
            number,
            blocks=blocks,
            vectors=int(offsets[-1]),
            offsets=None if self._shape.kind == "dense" else offsets,
            lists_of=codec and codec.inverted_lists,
        )
        segment_table.enter_files(self._connection, number, files)

    def _write_postings(self, number: int, lives: Sequence[_Live]) -> None:
        bounds = np.cumsum([0, *(len(live.rows) for live in lives)]).tolist()
        parts = [
            Part(live.segment.open_postings(self._folder), live.positions, np.arange(first, last))
            for live, first, last in zip(lives, bounds[:-1], bounds[1:], strict=True)
        ]
        written = write_postings(self._folder, number, Postings.merge(parts, bounds[-1]))
        segment_table.enter_files(self._connection, number, [written])


def _add(sample: Sample, block: Stored, codec: "Codec | None") -> None:
    assert not isinstance(block, np.ndarray)
    if isinstance(block, TokenVectors):
        sample.add(content_keys([block.values_TD], block.offsets), lambda chosen: block.values_TD[chosen])
        return
    assert codec

    def decoded(chosen: np.ndarray) -> np.ndarray:
        parts = block.codes_T[chosen], block.residuals_TB[chosen], block.scales_T2[chosen]
        return codec.decode(type(block)(*parts, np.array([0, len(chosen)]))).values_TD

    sample.add(content_keys([block.codes_T, block.residuals_TB, block.scales_T2], block.offsets), decoded)
