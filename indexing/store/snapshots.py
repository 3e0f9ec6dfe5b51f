"""Snapshots taken of an index: each file is opened once, however many snapshots share it."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from flatcoat.indexing.array_checks import damaged
from flatcoat.indexing.plaid.operating_points import OperatingPoint
from flatcoat.indexing.segments import Segment, require_file
from flatcoat.indexing.snapshot import Snapshot

from . import segment_table
from .schema import read_generation, read_meta

if TYPE_CHECKING:
    from flatcoat.indexing.plaid.codec import Codec
    from flatcoat.indexing.vectors import Shape

    from .segment_table import SegmentRecord


class Snapshots:
    """Takes snapshots of the index whose files are in ``folder``. Threads may share it.

    ``kept`` remembers places, for readers of what is committed alone.
    """

    def __init__(self, folder: Path, kept: segment_table.KeptPlaces | None = None) -> None:
        self.folder = folder
        self._kept = kept
        self._segments: dict[int, Segment] = {}
        self._codec: tuple[str, Codec] | None = None
        self._lock = Lock()

    def take(self, connection: sqlite3.Connection) -> Snapshot:
        """The passages that have vectors, as ``connection`` sees them, in a transaction.

        StorageError where a file is damaged, or was swept after a later commit; files opened before that stay
        open for the next snapshot.
        """
        everything = segment_table.segments(connection)
        records = [record for record in everything if record.has_vectors]
        places_of = self._kept or segment_table.places
        places = [places_of(connection, record) for record in records]
        if self._kept:
            self._kept.keep_only(everything)
        shape = segment_table.shape(connection)
        segments = self._opened(records, shape)
        none = np.zeros(0, np.int64)
        faiss = segment_table.derived_file(connection, "faiss")
        return Snapshot(
            segments,
            rows=np.concatenate([none, *(place.rows for place in places)]),
            segment_of=np.repeat(np.arange(len(records)), [len(place.rows) for place in places]),
            positions=np.concatenate([none, *(place.positions for place in places)]),
            generation=read_generation(connection),
            codec=self.codec(connection),
            faiss=require_file(self.folder / faiss.name, faiss.bytes) if faiss else None,
            calibration=_operating_points(read_meta(connection, "calibration")),
        )

    def _opened(self, records: "Sequence[SegmentRecord]", shape: "Shape | None") -> tuple[Segment, ...]:
        with self._lock:
            for record in records:
                if record.number not in self._segments:
                    self._segments[record.number] = record.open(self.folder, shape)
            self._segments = {record.number: self._segments[record.number] for record in records}
            return tuple(self._segments.values())

    def codec(self, connection: sqlite3.Connection) -> "Codec | None":
        """The codec of the token vectors; None before there is one."""
        file = segment_table.derived_file(connection, "codec")
        if file is None:
            return None
        with self._lock:
            if self._codec is None or self._codec[0] != file.name:
                from flatcoat.indexing.plaid.codec import Codec

                self._codec = file.name, Codec.load(require_file(self.folder / file.name, file.bytes))
            return self._codec[1]


def _operating_points(values: Any) -> tuple[OperatingPoint, ...]:
    try:
        steps = tuple(OperatingPoint(*step) for step in values or ())
    except TypeError:
        steps = None
    if steps is None or not all(isinstance(value, int | float) for step in steps for value in step):
        raise damaged("the calibration of the index")
    return steps
