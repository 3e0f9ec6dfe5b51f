"""The index on disk, read side: text, metadata, filters, BM25 and snapshots of the vectors."""

import json
import logging
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import numpy as np
from filelock import FileLock, Timeout

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.array_checks import damaged
from flatcoat.indexing.documents import Passage, Scalar
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.vectors import Hits, VectorIndex

from . import schema, segment_table
from . import sources as tables
from .database import Database, explained
from .engines import AUTO, EngineSettings, open_index
from .filters import Conditions, KeptRows, among, json_of, where
from .snapshots import Snapshots
from .terms import query_terms
from .verify import copy_database, problems
from .writer import Writer

Read = TypeVar("Read")

_writing: ContextVar[frozenset[int]] = ContextVar("writing", default=frozenset())
"""The stores that are being written further up among the calls, which to wait for would never end."""

_MOST_TRIES = 100  # of reads that commits come between
_MOST_HITS = 2**63 - 1
_log = logging.getLogger(__name__)


class StaleRow(FlatcoatError):
    """A passage was removed or replaced after the snapshot that found it: take a new one and search again."""


@dataclass(frozen=True)
class Stats:
    """What an index holds; ``vectors`` counts those of live passages, ``bytes`` is all of it on disk.

    ``engine`` is what searches it as of now: "exact", "plaid" or "faiss".
    """

    documents: int
    passages: int
    vectors: int
    segments: int
    bytes: int
    kind: str | None
    width: int | None
    engine: str

    def to_json(self) -> dict[str, object]:
        """JSON values."""
        names = ("documents", "passages", "vectors", "segments", "bytes", "engine")
        return {name: getattr(self, name) for name in names}

    def describe(self) -> str:
        """Sizes in words."""
        return (
            f"{self.documents:,} documents, {self.passages:,} passages, {self.vectors:,} vectors, "
            f"{self.bytes / 1e6:,.1f} MB"
        )


class State(NamedTuple):
    """What a store reads: how often another index took the place of the first, and this one's commits."""

    replacements: int
    generation: int


class Store:
    """One index folder, open for reading; ``writer()`` opens it for writing. Threads may share it.

    Where another index is put in its place, made with the same contract and engine, the store reads that one
    from then on; FlatcoatError where it was made otherwise, or where there is none any more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._is_writing = False
        self._replacements = 0
        self._kept = KeptRows()
        self._adopt(Database(path))
        self.contract, self.engine = _made_with(self._connection)

    @staticmethod
    def create(path: str | Path, contract: dict[str, Any], engine: EngineSettings = AUTO) -> "Store":
        """Make an empty index; FlatcoatError where ``path`` holds anything, or cannot be written."""
        path = tables.as_path(path)
        engine.validate()
        try:
            if (path / schema.DATABASE).exists():
                raise FlatcoatError(f"{path} is already an index: open it, or choose another path")
            if not schema.may_become_index(path):
                raise FlatcoatError(f"{path} holds something else: choose a path that does not exist yet")
            path.mkdir(parents=True, exist_ok=True)
            with _writer_lock(path):
                schema.create(path, contract, engine.to_json())
        except (OSError, ValueError, sqlite3.Error) as error:
            raise FlatcoatError(f"cannot create an index at {str(path)!r:.200}: {error!s:.200}") from error
        return Store.open(path)

    @staticmethod
    def open(path: str | Path) -> "Store":
        """Open an index; FlatcoatError where there is none, or one that another flatcoat wrote."""
        path = tables.as_path(path)
        try:
            return Store(path)
        except (OSError, sqlite3.Error) as error:
            raise FlatcoatError(
                f"{path / schema.DATABASE} cannot be read as an index: {explained(error)}"
            ) from error

    def close(self) -> None:
        """Close the database; the store is of no use afterwards."""
        with self._lock:
            self._closing()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """The one writer of this index, across processes; FlatcoatError at once where another one has it.

        Threads that share the store wait for each other. Leaving the block commits. An exception,
        KeyboardInterrupt included, rolls back to the last commit.
        """
        writing = _writing.get()
        if id(self) in writing:
            raise FlatcoatError(f"index {self.path} is being written by the caller of this: end that first")
        with self._turn, _writer_lock(self.path):
            with self._reading():
                pass  # It may have been replaced.
            writer = Writer(self.path)
            self._is_writing = True
            _writing.set(writing | {id(self)})
            try:
                yield writer
                writer.commit()
            finally:
                writer.close()
                self._is_writing = False
                _writing.set(writing)

    @property
    def generation(self) -> int:
        """Counts the commits so far: a snapshot of another generation is out of date."""
        return self.state.generation

    @property
    def state(self) -> State:
        """What tells whether two reads saw the same: as long as it is equal, nothing has changed."""
        with self._reading() as connection:
            return State(self._replacements, schema.read_generation(connection))

    def of_one_state(self, read: Callable[[], Read]) -> Read:
        """The result of several reads of this store, again where the index changed while they were made."""
        for _ in range(_MOST_TRIES):
            before = self.state
            try:
                found = read()
            except FlatcoatError:
                if self.state == before:
                    raise
                continue
            if self.state.replacements == before.replacements:
                return found
        return read()

    def document_hashes(self) -> dict[str, str]:
        """The content hash that each document was added with, by document id."""
        with self._reading() as connection:
            return dict(connection.execute("SELECT id, hash FROM documents"))

    def documents_of(self, source: int) -> list[str]:
        """The ids of the documents that were read from a source."""
        with self._reading() as connection:
            query = "SELECT id FROM documents WHERE source = ? ORDER BY key"
            return [id for (id,) in connection.execute(query, [source])]

    def names_of(self, source: int, after: str = "", limit: int = 10_000) -> list[str]:
        """What a source calls its documents: the next ``limit`` names behind ``after``, in their order."""
        query = "SELECT name FROM documents WHERE source = ? AND name > ? ORDER BY name LIMIT ?"
        with self._reading() as connection:
            return [name for (name,) in connection.execute(query, (source, after, limit))]

    def document(self, source: int | None, name: str) -> tuple[str, str] | None:
        """Id and content hash of what a source calls so (None: of a document without one, by its id)."""
        # With "source IS ?" SQLite would use no index: it might ask for NULL, which is in none.
        asked, values = "id = ? AND source IS NULL", [name]
        if source is not None:
            asked, values = "source = ? AND name = ?", [source, name]
        with self._reading() as connection:
            return connection.execute(f"SELECT id, hash FROM documents WHERE {asked}", values).fetchone()

    def count_of(self, source: int) -> int:
        """How many documents were read from a source."""
        with self._reading() as connection:
            query = "SELECT count(*) FROM documents WHERE source = ?"
            return connection.execute(query, [source]).fetchone()[0]

    def holds(self, id: str) -> bool:
        """Whether there is a document of this id."""
        with self._reading() as connection:
            return connection.execute("SELECT 1 FROM documents WHERE id = ?", [id]).fetchone() is not None

    def sources(self) -> list[tables.Source]:
        """The folders and files that documents were read from."""
        with self._reading() as connection:
            return tables.sources(connection)

    def source_at(self, root: str | Path) -> tables.Source:
        """The source that was read from ``root``; FlatcoatError where there is none."""
        held = {tables.place(self.path, source): source for source in self.sources()}
        source = tables.source_at(held, tables.canonical(tables.as_root(root), self.path))
        if source is None:
            known = ", ".join(map(str, held)) or "none"
            raise FlatcoatError(f"{root} is no source of index {self.path}; its sources: {known}")
        return source

    def file_states(self, source: int) -> dict[str, tables.FileState]:
        """What the files of a source were when they were read, by name."""
        with self._reading() as connection:
            return tables.file_states(connection, source)

    def snapshot(self) -> Snapshot:
        """All live passages and their vectors as of now, unmoved by later commits."""

        def taken() -> Snapshot:
            with self._reading() as connection:
                return self._snapshots.take(connection)

        return self.of_one_state(taken)

    def index(self) -> VectorIndex[int]:
        """What searches the index as of now; its hits are passage rows."""
        return self.of_one_state(lambda: open_index(self.snapshot(), self.engine))

    def compact(self, full: bool = True) -> None:
        """Merge segments, code or index what is large enough: ``Writer.compact``."""
        with self.writer() as writer:
            writer.compact(full)

    def passages(self, rows: Sequence[int] | np.ndarray) -> list[Passage]:
        """The passages of ``rows``, in that order; StaleRow where one has been removed since."""
        query = """
            SELECT passages.row, documents.id, text, texts.title, section, first_line, last_line, metadata
            FROM json_each(?) AS wanted
            JOIN passages ON passages.row = wanted.value
            LEFT JOIN documents ON documents.key = passages.document
            LEFT JOIN texts ON texts.rowid = passages.row
        """
        wanted = json_of(rows)
        with self._reading() as connection:
            found = {row: _passage(row, *parts) for row, *parts in connection.execute(query, [wanted])}
        missing = [int(row) for row in rows if int(row) not in found]
        if missing:
            raise StaleRow(f"passage {missing[0]} is no longer in index {self.path}: search again")
        return [found[int(row)] for row in rows]

    def rows_where(self, conditions: Conditions) -> np.ndarray:
        """Rows (int64, rising) of the passages whose document meets all ``conditions``.

        Those of the last conditions asked for are kept as long as nothing is committed.
        """
        clause, values = where(conditions)
        # Each document is looked at once, whatever SQLite would choose.
        query = f"SELECT row FROM documents CROSS JOIN passages ON document = key WHERE {clause}"
        with self._reading() as connection:
            asked = self._replacements, schema.read_generation(connection), clause, *values
            if (rows := self._kept.get(asked)) is None:
                rows = np.sort(schema.integers(connection.execute(query, values)))
                self._kept.keep(asked, rows)
        return rows

    def bm25(self, query: str, k: int, rows: np.ndarray | None = None) -> Hits[int]:
        """The best ``k`` passages (ids are rows) that share a term with ``query``, of ``rows`` if given.

        Scores are FTS5's Okapi BM25 (k1 1.2, b 0.75) over title, section, text and the parts of camelCase
        words, English words stemmed, positive, larger is better. Stop words count where there is nothing
        else.
        """
        terms = query_terms(query)
        allowed, values = ("1", []) if rows is None else among(rows)
        match = " OR ".join(f'"{term}"' for term in terms)
        sql = f"""
            SELECT rowid, -bm25(texts) AS score FROM texts WHERE texts MATCH ? AND {allowed}
            ORDER BY score DESC, rowid LIMIT ?
        """
        most = min(max(k, 0), _MOST_HITS)
        with self._reading() as connection:
            found = connection.execute(sql, [match, *values, most]).fetchall() if terms else []
        return Hits([row for row, _ in found], np.array([score for _, score in found], dtype=np.float32))

    def stats(self) -> Stats:
        """Sizes of the index, for people and dashboards."""
        with self._reading() as connection:
            documents, passages, vectors, segments = connection.execute(
                "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages),"
                " (SELECT coalesce(sum(live_vectors), 0) FROM segments), (SELECT count(*) FROM segments)"
            ).fetchone()
            (vector_bytes,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()
            shape = segment_table.shape(connection)
            derived = [kind for kind in ("codec", "faiss") if segment_table.derived_file(connection, kind)]
        engine = {"codec": "plaid", "faiss": "faiss"}[derived[0]] if derived else "exact"
        size = vector_bytes + (self.path / schema.DATABASE).stat().st_size
        kind, width = shape or (None, None)
        return Stats(documents, passages, vectors, segments, size, kind, width, engine)

    def verify(self) -> list[str]:
        """Everything that is wrong with the index, one line each: checksums, shapes, cross-references.

        Nobody waits for it: the database is copied in one read, to a temporary file, and checked there.
        """
        try:
            with TemporaryDirectory(prefix="flatcoat-verify-") as folder:
                copy = Path(folder) / schema.DATABASE
                with self._reading() as connection:
                    copy_database(connection, copy)
                found = problems(copy, self.path, self._names)
                return [" ".join(problem.split()) for problem in found]
        except (FlatcoatError, OSError) as error:
            return [str(error)]

    def _names(self) -> set[str]:
        """The files that the index is made of as of now."""
        with self._reading() as connection:
            return {name for (name,) in connection.execute("SELECT name FROM files")}

    @property
    def _connection(self) -> sqlite3.Connection:
        return self._database.connection

    def _adopt(self, database: Database) -> None:
        self._database = database
        self._closing = weakref.finalize(self, database.close)
        self._snapshots = Snapshots(self.path / schema.SEGMENTS)

    def _follow(self) -> None:
        """Go over to the index that was put in the place of ours."""
        if not self._database.was_replaced():
            return
        if self._is_writing:
            # Were it the last to close, the writer's connection would delete the log of the new index.
            raise FlatcoatError(f"index {self.path} was replaced while it was written: write again")
        database = Database(self.path)
        try:
            if _made_with(database.connection) != (self.contract, self.engine):
                raise FlatcoatError(
                    f"index {self.path} was replaced by one that another model or engine made: open it again"
                )
        except BaseException:
            database.close()
            raise
        _log.info("index %s was replaced and is read anew", self.path)
        self._closing()
        self._adopt(database)
        self._replacements += 1

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One read transaction; what SQLite has to say against it is a FlatcoatError.

        Whoever reads a malformed row refuses it: an error of another kind is a fault of this code.
        """
        with self._lock:
            try:
                self._follow()
                connection = self._connection
                connection.execute("BEGIN")
                try:
                    yield connection
                finally:
                    connection.execute("ROLLBACK")
                self._database.require_unmoved()
            except (OSError, sqlite3.Error) as error:
                raise FlatcoatError(f"index {self.path} cannot be read: {explained(error)}") from error
            except UnicodeEncodeError as error:
                raise FlatcoatError(f"half a surrogate pair is no text: {error.object!r:.80}") from error


def _made_with(connection: sqlite3.Connection) -> tuple[dict[str, Any], EngineSettings]:
    contract = schema.read_meta(connection, "contract")
    if not isinstance(contract, dict):
        raise damaged(f"the contract of the index, {contract!r:.40},")
    return contract, EngineSettings.from_json(schema.read_meta(connection, "engine"))


def _passage(row: int, *parts: Any) -> Passage:
    *texts, first, last, metadata = parts
    if isinstance(first, int) and isinstance(last, int) and all(isinstance(text, str) for text in texts):
        id, text, title, section = texts
        with suppress(TypeError, ValueError, RecursionError):
            values = json.loads(metadata)
            if isinstance(values, dict) and all(isinstance(value, Scalar) for value in values.values()):
                return Passage(id, text, title, (first, last), values, section)
    raise damaged(f"passage {row} of the index")


@contextmanager
def _writer_lock(path: Path) -> Iterator[None]:
    lock = FileLock(path / schema.LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise FlatcoatError(f"index {path} is being written by another process: try again later") from error
    except OSError as error:
        raise FlatcoatError(f"index {path} cannot be written: {error}") from error
    try:
        yield
    finally:
        lock.release()
