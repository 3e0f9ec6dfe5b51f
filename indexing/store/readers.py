"""The connections that read an index: as many as there are reads at once, and no more than were needed."""

from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from flatcoat.errors import ConflictError, StorageError
from flatcoat.indexing.array_checks import damaged

from . import schema
from .bm25 import Bm25Snapshots
from .database import Database
from .engines import EngineSettings
from .segment_table import KeptPlaces
from .snapshots import Snapshots

_MOST_IDLE = 8
"""Connections that are kept for the next reads. Each has a cache of pages."""


class OpenedIndex:
    """What is open of the index in a folder until another takes its place.

    ``replacements`` counts the indexes that were there before.
    """

    def __init__(self, folder: Path, replacements: int) -> None:
        self.replacements = replacements
        kept = KeptPlaces()
        self.snapshots = Snapshots(folder / schema.SEGMENTS, kept)
        self.bm25_snapshots = Bm25Snapshots(folder / schema.SEGMENTS, kept)


class Reader(NamedTuple):
    """A connection for one thread at a time, and what is open of the index that it reads."""

    database: Database
    opened: OpenedIndex


class Readers:
    """Lends connections to the index in a folder; where the index was replaced, to the one in its place.

    ``is_immutable`` is as for ``Database``, which says what is raised.
    """

    def __init__(self, folder: Path, *, is_immutable: bool = False) -> None:
        self.folder = folder
        self._is_immutable = is_immutable
        self.is_writing = False
        self._lock = Lock()
        self._is_closed = False
        first = Database(folder, is_immutable=is_immutable)
        self._file = first.file
        self._idle = [first]
        self._opened = OpenedIndex(folder, 0)
        try:
            self.contract, self.engine = _made_with(first)
        except BaseException:
            first.close()
            raise

    def borrow(self) -> Reader:
        """A connection of one's own until ``give_back``.

        ConflictError where another index is in place that was made otherwise, NotFoundError where none is.
        """
        with self._lock:
            if self._is_closed:
                raise StorageError(f"index {self.folder} is closed: open it again")
            if self._idle and not self._idle[-1].was_replaced():
                return Reader(self._idle.pop(), self._opened)
            database = Database(self.folder, is_immutable=self._is_immutable)
            try:
                if database.file != self._file:
                    self._follow(database)
            except BaseException:
                database.close()
                raise
            return Reader(database, self._opened)

    def give_back(self, reader: Reader) -> None:
        """Keep the connection for the next read, unless there are enough or its index was replaced."""
        with self._lock:
            if not self._is_closed and reader.opened is self._opened and len(self._idle) < _MOST_IDLE:
                self._idle.append(reader.database)
                return
        reader.database.close()

    def close(self) -> None:
        """Close all connections, those that are lent when they come back."""
        with self._lock:
            self._is_closed = True
            while self._idle:
                self._idle.pop().close()

    def _follow(self, database: Database) -> None:
        """Go over to the index that replaced ours."""
        if self.is_writing:
            # Were it the last to close, the writer's connection would delete the log of the new index.
            raise ConflictError(f"index {self.folder} was replaced while it was written: write again")
        if _made_with(database) != (self.contract, self.engine):
            raise ConflictError(
                f"index {self.folder} was replaced by one that another model or engine made: open it again"
            )
        while self._idle:
            self._idle.pop().close()
        self._file = database.file
        self._opened = OpenedIndex(self.folder, self._opened.replacements + 1)


def _made_with(database: Database) -> tuple[dict[str, Any], EngineSettings]:
    contract = schema.read_meta(database.connection, "contract")
    if not isinstance(contract, dict):
        raise damaged(f"the contract of the index, {contract!r:.40},")
    return contract, EngineSettings.from_json(schema.read_meta(database.connection, "engine"))
