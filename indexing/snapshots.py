"""Snapshots of an index: its files are opened once, however many snapshots hold them."""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import catalog
from .calibration import Step
from .schema import read_meta
from .segments import Segment, Snapshot, open_segment, require_file

if TYPE_CHECKING:
    from .residual import Codec


class Snapshots:
    """Takes snapshots of the index whose files are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._segments: dict[int, Segment] = {}
        self._codec: tuple[str, Codec] | None = None

    def take(self, connection: sqlite3.Connection) -> Snapshot:
        """The index as ``connection`` sees it, in a transaction, which holds off a sweep of the files."""
        records = catalog.segments(connection)
        self._segments = {
            record.number: self._segments[record.number]
            if record.number in self._segments
            else open_segment(self.folder, record.sizes)
            for record in records
        }
        places = [catalog.places(connection, record) for record in records]
        nothing = np.zeros(0, np.int64)
        faiss = catalog.derived_file(connection, "faiss")
        return Snapshot(
            tuple(self._segments.values()),
            np.concatenate([nothing, *(rows for rows, _ in places)]),
            np.repeat(np.arange(len(records)), [len(rows) for rows, _ in places]),
            np.concatenate([nothing, *(positions for _, positions in places)]),
            read_meta(connection, "generation"),
            self.codec(connection),
            require_file(self.folder / faiss[0], faiss[1]) if faiss else None,
            tuple(Step(*step) for step in read_meta(connection, "calibration") or ()),
        )

    def codec(self, connection: sqlite3.Connection) -> "Codec | None":
        """What codes the token vectors, if anything does yet."""
        file = catalog.derived_file(connection, "codec")
        if file is None:
            return None
        name, size = file
        if self._codec is None or self._codec[0] != name:
            from .residual import Codec

            self._codec = name, Codec.load(require_file(self.folder / name, size))
        return self._codec[1]
