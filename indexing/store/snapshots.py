"""Snapshots of an index: its files are opened once, however many snapshots hold them."""

import sqlite3
from pathlib import Path
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


class Snapshots:
    """Takes snapshots of the index whose files are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._segments: dict[int, Segment] = {}
        self._codec: tuple[str, Codec] | None = None

    def take(self, connection: sqlite3.Connection) -> Snapshot:
        """The index as ``connection`` sees it, in a transaction.

        FlatcoatError where a file is damaged, or was taken by a commit since: what was opened by then is
        kept for the next time.
        """
        records = segment_table.segments(connection)
        places = [segment_table.places(connection, record) for record in records]
        shape = segment_table.shape(connection)
        for record in records:
            if record.number not in self._segments:
                self._segments[record.number] = record.open(self.folder, shape)
        self._segments = {record.number: self._segments[record.number] for record in records}
        nothing = np.zeros(0, np.int64)
        faiss = segment_table.derived_file(connection, "faiss")
        return Snapshot(
            tuple(self._segments.values()),
            np.concatenate([nothing, *(rows for rows, _ in places)]),
            np.repeat(np.arange(len(records)), [len(rows) for rows, _ in places]),
            np.concatenate([nothing, *(positions for _, positions in places)]),
            read_generation(connection),
            self.codec(connection),
            require_file(self.folder / faiss[0], faiss[1]) if faiss else None,
            _steps(read_meta(connection, "calibration")),
        )

    def codec(self, connection: sqlite3.Connection) -> "Codec | None":
        """What codes the token vectors, if anything does yet."""
        file = segment_table.derived_file(connection, "codec")
        if file is None:
            return None
        name, size = file
        if self._codec is None or self._codec[0] != name:
            from flatcoat.indexing.plaid.codec import Codec

            self._codec = name, Codec.load(require_file(self.folder / name, size))
        return self._codec[1]


def _steps(values: Any) -> tuple[OperatingPoint, ...]:
    try:
        steps = tuple(OperatingPoint(*step) for step in values or ())
    except TypeError:
        steps = None
    if steps is None or not all(isinstance(value, int | float) for step in steps for value in step):
        raise damaged("the calibration of the index")
    return steps
