"""The index on disk, read side: one folder opened, read in transactions, followed where it is replaced."""

import json
import logging
import sqlite3
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from flatcoat.errors import ConflictError, FlatcoatError, NotFoundError, StorageError, UsageError
from flatcoat.indexing.bm25 import Bm25Index, Statistics
from flatcoat.indexing.documents import Document, Passage, checked_id
from flatcoat.indexing.filters.cache import FilterCache
from flatcoat.indexing.filters.forms import Filters, as_filters
from flatcoat.indexing.filters.sql import fields_in_doubt, where
from flatcoat.indexing.filters.text_pattern import TextPattern
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.terms import query_terms
from flatcoat.indexing.vectors import Hits, VectorIndex

from . import document_table, schema, segment_table
from .copying import copy_index
from .database import Database, explained
from .document_table import StoredDocument
from .engines import AUTO, EngineSettings, open_index
from .fields import KnownFields, known_fields, require_fields
from .readers import Reader, Readers
from .source_paths import as_path, as_root, canonical
from .sources import (
    DocumentFile,
    Source,
    file_of,
    file_states,
    name_of,
    place,
    read_location,
    read_states,
    source_at,
    sources,
)
from .stats import Encoded, Stats, read_encoded, read_stats
from .verify import copy_database, problems

if TYPE_CHECKING:
    from flatcoat.indexing.reading.scan import FileState

    from .writer import Writer

Read = TypeVar("Read")

_writing: ContextVar[frozenset[int]] = ContextVar("writing", default=frozenset())
"""The stores whose writer is open further up the call stack: to wait for it here would never end."""

_TEXTS_AT_ONCE, _IDS_AT_ONCE = 5_000, 5_000
_MOST_TRIES = 100  # of reads that commits come between
_log = logging.getLogger(__name__)


class StaleRow(ConflictError):
    """A passage was removed or replaced after the snapshot that found it: take a new one and search again."""


class State(NamedTuple):
    """The state that a store reads: how often the index was replaced, and the commits of this one."""

    replacements: int
    generation: int


class Store:
    """One index folder, open for reading; ``writer()`` opens it for writing. Threads may share it.

    Where the index is replaced by another one, made with the same contract and engine, the store reads the
    new one from then on. ConflictError where the new one was made otherwise, NotFoundError where the index is
    gone.

    >>> from flatcoat.indexing.documents import Passage
    >>> with Store.create("my.index", {"model": "any"}) as store:
    ...     with store.writer() as writer:
    ...         writer.add([Passage("a", "why is the sky blue")], np.ones((1, 4), np.float32))
    ...     [passage.text for passage in store.passages(store.bm25("sky", 5).ids)]
    ['why is the sky blue']
    """

    def __init__(self, path: Path, *, is_immutable: bool = False) -> None:
        self.path = path
        self._turn = threading.Lock()
        self._filtered = FilterCache()
        self._readers = Readers(path, is_immutable=is_immutable)
        self._closing = weakref.finalize(self, self._readers.close)
        self._own = threading.local()
        """The reader of this thread, while it reads."""
        self.contract, self.engine = self._readers.contract, self._readers.engine

    @staticmethod
    def create(path: str | Path, contract: dict[str, Any], *, engine: EngineSettings = AUTO) -> "Store":
        """Make an empty index.

        UsageError where ``path`` or ``engine`` is invalid, ConflictError where ``path`` holds anything,
        StorageError where it cannot be written.
        """
        from .writer import writer_lock

        path = as_path(path)
        engine.validate()
        try:
            if (path / schema.DATABASE).exists():
                raise ConflictError(f"{path} is already an index: open it, or choose another path")
            if not schema.may_become_index(path):
                raise ConflictError(f"{path} holds something else: choose a path that does not exist yet")
            path.mkdir(parents=True, exist_ok=True)
            with writer_lock(path):
                schema.create(path, contract, engine.to_json())
        except (OSError, ValueError, sqlite3.Error) as error:
            raise StorageError(f"cannot create an index at {str(path)!r:.200}: {error!s:.200}") from error
        return Store.open(path)

    @staticmethod
    def open(path: str | Path, *, is_immutable: bool = False) -> "Store":
        """Open an index; ``is_immutable`` promises that nobody ever writes it, which spares all locks.

        NotFoundError where there is none, ConflictError where it has the format of another flatcoat,
        StorageError where it cannot be read.
        """
        path = as_path(path)
        try:
            return Store(path, is_immutable=is_immutable)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"{path / schema.DATABASE} cannot be read as an index: {explained(error)}"
            ) from error

    def close(self) -> None:
        """Close the database; the store cannot be used afterwards."""
        self._closing()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def writer(self) -> "Iterator[Writer]":
        """The one writer of this index, across processes; ConflictError at once where another one has it.

        Threads that share the store wait for each other. Leaving the block commits. An exception,
        KeyboardInterrupt included, rolls back to the last commit.
        """
        from .writer import Writer, writer_lock  # Heavy, and no part of a search.

        writing = _writing.get()
        if id(self) in writing:
            raise ConflictError(f"index {self.path} is being written by the caller of this: end that first")
        with self._turn, writer_lock(self.path):
            with self._reading():
                pass  # It may have been replaced.
            writer = Writer(self.path)
            self._readers.is_writing = True
            _writing.set(writing | {id(self)})
            try:
                yield writer
                writer.commit()
            finally:
                writer.close()
                self._readers.is_writing = False
                _writing.set(writing)

    @property
    def generation(self) -> int:
        """The number of commits so far: a snapshot of another generation is out of date."""
        return self.state.generation

    @property
    def state(self) -> State:
        """The state that is read now: nothing has changed between two reads of equal states."""
        with self._reading() as connection:
            return State(self._reader.opened.replacements, schema.read_generation(connection))

    def of_one_state(self, read: Callable[[], Read]) -> Read:
        """The result of several reads of this store, which all see one commit.

        Made again where a later commit swept a file that they need.
        """
        if self._is_reading:
            return read()
        for _ in range(_MOST_TRIES):
            before = None
            try:
                with self._reading():
                    before = self.state
                    return read()
            except FlatcoatError as error:
                if before is None or self.state == before:
                    raise
                _log.debug("index %s changed while it was read, which is tried again: %s", self.path, error)
        return read()

    def document_hashes(self) -> dict[str, str]:
        """The content hash that each document was added with, by document id."""
        with self._reading() as connection:
            return document_table.hashes(connection)

    def document_ids(self) -> Iterator[str]:
        """The ids of all documents, sorted, a few thousand in memory at a time.

        Of what is added or removed meanwhile some may be among them.
        """
        last = ""
        while True:
            with self._reading() as connection:
                some = document_table.ids(connection, after=last, limit=_IDS_AT_ONCE)
            yield from some
            if len(some) < _IDS_AT_ONCE:
                return
            last = some[-1]

    def documents_of(self, source: int) -> list[str]:
        """The ids of the documents that were read from a source."""
        with self._reading() as connection:
            return document_table.ids_of_source(connection, source)

    def names_of(self, source: int, after: str = "", *, limit: int = 10_000) -> list[str]:
        """The names of a source's documents: the next ``limit`` behind ``after``, in their order."""
        with self._reading() as connection:
            return document_table.names_of_source(connection, source, after=after, limit=limit)

    def document(self, source: int | None, name: str) -> StoredDocument | None:
        """The document of this name in a source; with ``source`` None the one of this id without a source."""
        with self._reading() as connection:
            return document_table.find(connection, source, name)

    def files_of(self, ids: Sequence[str]) -> dict[str, DocumentFile]:
        """The file that each document was read from, by id; without those whose file is not there now."""
        with self._reading() as connection:
            origins = document_table.origins(connection, ids)
            known = {source.key: source for source in sources(connection)} if origins else {}
        found = {id: file_of(self.path, known[key], name) for id, (key, name) in origins.items()}
        return {id: file for id, file in found.items() if file}

    def document_in(self, file: str | Path) -> str | None:
        """The id of the document that was read from a file of its own; None if there is none."""
        path = as_path(file)
        for source in self.sources():
            name = name_of(self.path, source, path)
            if name is not None and (document := self.document(source.key, name)):
                return document.id
        return None

    def count_of(self, source: int) -> int:
        """How many documents were read from a source."""
        with self._reading() as connection:
            return document_table.count_of_source(connection, source)

    def holds(self, id: str) -> bool:
        """Whether there is a document of this id."""
        with self._reading() as connection:
            return document_table.contains(connection, id)

    def sources(self) -> list[Source]:
        """The folders and files that documents were read from."""
        with self._reading() as connection:
            return sources(connection)

    @property
    def location(self) -> Path | None:
        """Where the index was when its sources were last named; None before, or in an earlier index."""
        with self._reading() as connection:
            return read_location(connection)

    def source_at(self, root: str | Path) -> Source:
        """The source that was read from ``root``; NotFoundError where there is none."""
        known = {place(self.path, source): source for source in self.sources()}
        source = source_at(known, canonical(as_root(root), self.path))
        if source is None:
            names = ", ".join(map(str, known)) or "none"
            raise NotFoundError(f"{root} is no source of index {self.path}; its sources: {names}")
        return source

    def file_states(self, source: int) -> "dict[str, FileState]":
        """The states of a source's files when they were read, by name."""
        with self._reading() as connection:
            return file_states(connection, source)

    def read_states(self, source: int) -> dict[str, str]:
        """The states that a source's files had when they were read, skipped ones too, by name."""
        with self._reading() as connection:
            return read_states(connection, source)

    def snapshot(self) -> Snapshot:
        """All live passages that have vectors as of now, untouched by later commits."""

        def take() -> Snapshot:
            with self._reading() as connection:
                return self._reader.opened.snapshots.take(connection)

        return self.of_one_state(take)

    def index(self) -> VectorIndex[int]:
        """The engine that searches the index as of now; its hits are passage rows."""
        return self.of_one_state(lambda: open_index(self.snapshot(), self.engine))

    def change_contract(self, contract: dict[str, Any]) -> None:
        """Replace the contract of an index without vectors; ConflictError where it has some."""
        with self.writer() as writer:
            writer.change_contract(contract)
        self.contract = contract

    def compact(self, full: bool = True) -> None:
        """Merge segments, encode or index what is large enough: ``Writer.compact``."""
        with self.writer() as writer:
            writer.compact(full)

    def copy(self, folder: Path) -> None:
        """Copy the index as of now to a new ``folder``: ``copy_index``."""

        def take() -> None:
            with self._reading() as connection:
                copy_index(connection, self.path, folder)

        self.of_one_state(take)

    def rows_of(self, ids: Iterable[str]) -> list[int]:
        """The rows of all passages of these documents, in the order in which they were added."""
        with self._reading() as connection:
            return document_table.rows_of(connection, ids)

    def passages(self, rows: Sequence[int] | np.ndarray) -> list[Passage]:
        """The passages of ``rows``, in that order; StaleRow where one has been removed since."""
        with self._reading() as connection:
            found = document_table.passages(connection, rows)
        missing = [int(row) for row in rows if int(row) not in found]
        if missing:
            raise StaleRow(f"passage {missing[0]} is no longer in index {self.path}: search again")
        return [found[int(row)] for row in rows]

    def passages_of(self, segment: int) -> list[Passage]:
        """The live passages of a segment, in its order; none where there is no such segment any more."""
        with self._reading() as connection:
            known = {record.number: record for record in segment_table.segments(connection)}
            if segment not in known:
                return []
            rows = segment_table.places(connection, known[segment]).rows.tolist()
            found = document_table.passages(connection, rows)
        return [found[row] for row in rows]

    def without_vectors(self, rows: Iterable[int]) -> set[int]:
        """Those of the passages ``rows`` that have no vectors yet."""
        with self._reading() as connection:
            return document_table.without_vectors(connection, rows)

    def encoded(self) -> Encoded:
        """How many passages have vectors."""
        with self._reading() as connection:
            return read_encoded(connection)

    def documents(
        self, ids: Iterable[str] | None = None, *, filters: Filters = None, are_checked: bool = False
    ) -> list[Document]:
        """The documents of these ids (all by default) for which all ``filters`` hold, in the order of adding.

        Their texts are put together from their passages: ``whole_text`` says what is lost. Raises as
        ``rows_where`` does.
        """
        wanted = as_filters(filters)
        clause, values = where(wanted)
        if ids is not None:
            clause += " AND documents.id IN (SELECT value FROM json_each(?))"
            values = [*values, json.dumps([checked_id(id) for id in ids])]
        overlap = bool(self.contract.get("overlap"))
        with self._reading() as connection:
            if not are_checked:
                require_fields(connection, fields_in_doubt(wanted))
            return document_table.documents(connection, clause, values, overlap=overlap)

    def fields_among(self, filters: Filters) -> KnownFields:
        """Which of the fields that filters take for granted documents have."""
        with self._reading() as connection:
            return known_fields(connection, fields_in_doubt(as_filters(filters)))

    def rows_where(
        self, filters: Filters, *, text: TextPattern | None = None, are_checked: bool = False
    ) -> np.ndarray:
        """Rows (int64, rising) of the passages for which all ``filters`` hold and whose text matches.

        The rows of the latest filters are cached until the next commit. UsageError where a filter is
        malformed, or names a field that no document has, unless it also asks whether the field exists or the
        fields ``are_checked`` already, and where the texts take too long to match.
        """
        wanted = as_filters(filters)
        clause, values = where(wanted)
        with self._reading() as connection:
            key = self.state, are_checked, clause, *values
            if (rows := self._filtered.get(key)) is None:
                rows = document_table.rows_where(connection, clause, values)
                if not are_checked:
                    require_fields(connection, fields_in_doubt(wanted))
                self._filtered.put(key, rows)
        return rows if text is None else self._rows_that_match(text, rows, (*key, text))

    def _rows_that_match(self, text: TextPattern, rows: np.ndarray, key: Hashable) -> np.ndarray:
        if (found := self._filtered.get(key)) is not None:
            return found
        span, matching = text.spans(), list[int]()
        for start in range(0, len(rows), _TEXTS_AT_ONCE):
            with self._reading() as connection:
                texts = document_table.texts(connection, rows[start : start + _TEXTS_AT_ONCE])
            matching += [row for row, content in texts if span(content) is not None]
        found = np.sort(np.array(matching, np.int64))
        self._filtered.put(key, found)
        return found

    def places(self, rows: Sequence[int] | np.ndarray) -> dict[int, tuple[str, int]]:
        """The id of the document and the first line of each of ``rows`` that is there."""
        with self._reading() as connection:
            return document_table.places(connection, rows)

    def in_order(
        self, rows: np.ndarray, limit: int, *, by_document: bool = False
    ) -> list[tuple[int, int, tuple[str, int]]]:
        """The first ``limit`` of ``rows`` by document, and for how many each stands: ``in_order``."""
        with self._reading() as connection:
            return document_table.in_order(connection, rows, limit, by_document=by_document)

    def bm25(
        self, query: str, k: int, *, rows: np.ndarray | None = None, statistics: Statistics | None = None
    ) -> Hits[int]:
        """The best ``k`` passages by BM25 (ids are rows), among ``rows`` if given.

        ``statistics`` are those of all indexes that are searched together: ``Bm25Index.search``.
        """
        return self._bm25_index().search(query_terms(query), k, rows=rows, statistics=statistics)

    def bm25_statistics(self, query: str) -> Statistics:
        """What this index adds to the statistics of all that are searched together."""
        return self._bm25_index().statistics(query_terms(query))

    def coverage(self, query: str, row: int) -> float:
        """The share (0 to 1) of the terms of ``query`` that the passage ``row`` has."""
        return self._bm25_index().coverage(query_terms(query), row)

    def stats(self) -> Stats:
        """Sizes of the index, for people and dashboards."""
        with self._reading() as connection:
            return read_stats(connection, self.path)

    def verify(self) -> list[str]:
        """Everything that is wrong with the index, one line each: checksums, shapes, cross-references.

        No reader or writer waits for it: the database is copied in one read, to a temporary file, and checked
        there.
        """
        try:
            with TemporaryDirectory(prefix="flatcoat-verify-") as folder:
                copy = Path(folder) / schema.DATABASE
                with self._reading() as connection:
                    copy_database(connection, copy)
                found = problems(copy, self.path, names=self._names)
                return [" ".join(problem.split()) for problem in found]
        except (FlatcoatError, OSError) as error:
            return [str(error)]

    def _names(self) -> set[str]:
        """The files that make up the index as of now."""
        with self._reading() as connection:
            return schema.file_names(connection)

    def _bm25_index(self) -> Bm25Index:
        """BM25 as of now."""

        def take() -> Bm25Index:
            with self._reading() as connection:
                return self._reader.opened.bm25_snapshots.take(connection)

        return self.of_one_state(take)

    @property
    def _is_reading(self) -> bool:
        """Whether this thread is in a read."""
        return getattr(self._own, "reader", None) is not None

    @property
    def _reader(self) -> Reader:
        """The reader of this thread, in a read."""
        return self._own.reader

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One read transaction, or a part of the one that this thread is in.

        Errors of SQLite are raised as StorageError. Whoever reads a malformed row refuses it: an error of
        another kind is a fault of this code.
        """
        try:
            if self._is_reading:
                yield self._reader.database.connection
            else:
                with self._borrowed() as database:
                    yield database.connection
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"index {self.path} cannot be read: {explained(error)}") from error
        except UnicodeEncodeError as error:
            raise UsageError(f"half a surrogate pair is no text: {error.object!r:.80}") from error

    @contextmanager
    def _borrowed(self) -> Iterator[Database]:
        """A connection in a transaction, which is that of this thread meanwhile."""
        reader = self._readers.borrow()
        try:
            reader.database.connection.execute("BEGIN")
            self._own.reader = reader
            try:
                yield reader.database
            finally:
                self._own.reader = None
                reader.database.connection.execute("ROLLBACK")
            reader.database.require_unmoved()
        finally:
            self._readers.give_back(reader)
