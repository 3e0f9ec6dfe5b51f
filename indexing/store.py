"""The index on disk, read side: text, metadata, filters, BM25 and snapshots of the vectors."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from .. import FlatcoatError
from . import catalog, schema
from . import sources as tables
from .documents import Passage, Scalar
from .engines import AUTO, EngineSettings, open_index
from .filters import Condition, where
from .lexical import query_terms
from .segments import Snapshot
from .snapshots import Snapshots
from .types import Hits, Shape, VectorIndex
from .verify import problems
from .writer import Writer


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


class Store:
    """One index folder, open for reading; ``writer()`` opens it for writing. Threads may share it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()
        self._snapshots = Snapshots(path / schema.SEGMENTS)
        self.contract: dict[str, Any] = self._meta("contract")
        self.engine = EngineSettings.from_json(self._meta("engine"))

    @staticmethod
    def create(path: str | Path, contract: dict[str, Any], engine: EngineSettings = AUTO) -> "Store":
        """Make an empty index; FlatcoatError where ``path`` holds anything, or cannot be written."""
        path = Path(path)
        engine.validate()
        if (path / schema.DATABASE).exists():
            raise FlatcoatError(f"{path} is already an index: open it, or choose another path")
        if not schema.may_become_index(path):
            raise FlatcoatError(f"{path} holds something else: choose a path that does not exist yet")
        try:
            path.mkdir(parents=True, exist_ok=True)
            with _writer_lock(path):
                schema.create(path, contract, engine.to_json())
        except (OSError, sqlite3.Error) as error:
            raise FlatcoatError(f"cannot create an index at {path}: {error}") from error
        return Store.open(path)

    @staticmethod
    def open(path: str | Path) -> "Store":
        """Open an index; FlatcoatError where there is none, or one that another flatcoat wrote."""
        path = Path(path)
        database = path / schema.DATABASE
        if not database.is_file():
            raise FlatcoatError(f"{path} is not an index: it has no {schema.DATABASE}")
        connection: sqlite3.Connection | None = None
        try:
            connection = schema.connect(database)
            version = schema.read_meta(connection, "format")
        except (sqlite3.Error, ValueError) as error:
            if connection:
                connection.close()
            raise FlatcoatError(f"{database} cannot be read as an index: {error}") from error
        if version != schema.FORMAT:
            connection.close()
            advice = "upgrade flatcoat" if version > schema.FORMAT else "index again, in another folder"
            raise FlatcoatError(
                f"index {path} has format {version}, this flatcoat reads {schema.FORMAT}: {advice}"
            )
        return Store(path, connection)

    def close(self) -> None:
        """Close the database; the store is of no use afterwards."""
        self._connection.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """The one writer of this index, across processes; FlatcoatError at once where there is another.

        Leaving the block commits. An exception, KeyboardInterrupt included, rolls back to the last commit.
        """
        with _writer_lock(self.path):
            writer = Writer(self.path)
            try:
                yield writer
                writer.commit()
            finally:
                writer.close()

    @property
    def generation(self) -> int:
        """Counts the commits so far: a snapshot of another generation is out of date."""
        return self._meta("generation")

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
        column = "id" if source is None else "name"
        query = f"SELECT id, hash FROM documents WHERE source IS ? AND {column} = ?"
        with self._reading() as connection:
            return connection.execute(query, (source, name)).fetchone()

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

    def source_at(self, root: tables.Root) -> tables.Source:
        """The source that was read from ``root``; FlatcoatError where there is none."""
        held = self.sources()
        root = root if isinstance(root, str) and tables.is_name(root) else Path(root)
        wanted = tables.canonical(root, self.path)
        for source in held:
            if tables.place(self.path, source) == wanted:
                return source
        known = ", ".join(str(tables.place(self.path, source)) for source in held) or "none"
        raise FlatcoatError(f"{root} is no source of index {self.path}; its sources: {known}")

    def file_states(self, source: int) -> dict[str, tables.FileState]:
        """What the files of a source were when they were read, by name."""
        with self._reading() as connection:
            return tables.file_states(connection, source)

    def snapshot(self) -> Snapshot:
        """All live passages and their vectors as of now, unmoved by later commits."""
        with self._reading() as connection:
            return self._snapshots.take(connection)

    def index(self) -> VectorIndex[int]:
        """What searches the index as of now; its hits are passage rows."""
        while True:
            snapshot = self.snapshot()
            try:
                return open_index(snapshot, self.engine)
            except FlatcoatError:
                # A commit may have taken the FAISS file between the two.
                if snapshot.generation == self.generation:
                    raise

    def compact(self, full: bool = True) -> None:
        """Merge segments, code or index what is large enough: ``Writer.compact``."""
        with self.writer() as writer:
            writer.compact(full)

    def passages(self, rows: Sequence[int] | np.ndarray) -> list[Passage]:
        """The passages of ``rows``, in that order; StaleRow where one has been removed since."""
        query = """
            SELECT passages.row, documents.id, text, texts.title, first_line, last_line, metadata, section
            FROM json_each(?) AS wanted
            JOIN passages ON passages.row = wanted.value
            JOIN documents ON documents.key = passages.document
            JOIN texts ON texts.rowid = passages.row
        """
        with self._reading() as connection:
            found = {
                row: Passage(id, text, title, (first, last), json.loads(metadata), section)
                for row, id, text, title, first, last, metadata, section in connection.execute(
                    query, [_json(rows)]
                )
            }
        missing = [int(row) for row in rows if int(row) not in found]
        if missing:
            raise StaleRow(f"passage {missing[0]} is no longer in index {self.path}: search again")
        return [found[int(row)] for row in rows]

    def rows_where(self, conditions: Sequence[Condition]) -> np.ndarray:
        """Rows (int64, rising) of the passages whose document meets all ``conditions``."""
        clause, values = where(conditions)
        query = f"SELECT row FROM passages JOIN documents ON key = document WHERE {clause} ORDER BY row"
        with self._reading() as connection:
            return schema.integers(connection.execute(query, values))

    def bm25(self, query: str, k: int, rows: np.ndarray | None = None) -> Hits[int]:
        """The best ``k`` passages (ids are rows) that share a term with ``query``, of ``rows`` if given.

        Scores are FTS5's Okapi BM25 (k1 1.2, b 0.75) over title, section, text and the parts of camelCase
        words, English words stemmed, positive, larger is better. Stop words count where there is nothing
        else.
        """
        terms = query_terms(query)
        among = "" if rows is None else "AND rowid IN (SELECT value FROM json_each(?))"
        values: list[Scalar] = [" OR ".join(f'"{term}"' for term in terms)]
        if rows is not None:
            values.append(_json(rows))
        sql = f"""
            SELECT rowid, -bm25(texts) AS score FROM texts WHERE texts MATCH ? {among}
            ORDER BY score DESC, rowid LIMIT ?
        """
        with self._reading() as connection:
            found = connection.execute(sql, [*values, max(k, 0)]).fetchall() if terms else []
        return Hits([row for row, _ in found], np.array([score for _, score in found], dtype=np.float32))

    def stats(self) -> Stats:
        """Sizes of the index, for people and dashboards."""
        with self._reading() as connection:
            documents, passages, vectors, segments = connection.execute(
                "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages),"
                " (SELECT coalesce(sum(live_vectors), 0) FROM segments), (SELECT count(*) FROM segments)"
            ).fetchone()
            (vector_bytes,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()
            shape = schema.read_meta(connection, "shape")
            derived = [kind for kind in ("codec", "faiss") if catalog.derived_file(connection, kind)]
        engine = {"codec": "plaid", "faiss": "faiss"}[derived[0]] if derived else "exact"
        size = vector_bytes + (self.path / schema.DATABASE).stat().st_size
        kind, width = Shape(*shape) if shape else (None, None)
        return Stats(documents, passages, vectors, segments, size, kind, width, engine)

    def verify(self) -> list[str]:
        """Everything that is wrong with the index, one line each: checksums, shapes, cross-references."""
        try:
            with self._reading() as connection:
                return list(problems(connection, self.path / schema.SEGMENTS))
        except FlatcoatError as error:
            return [str(error)]

    def _meta(self, key: str) -> Any:
        with self._reading() as connection:
            return schema.read_meta(connection, key)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One read transaction; what SQLite has to say against it comes as a FlatcoatError."""
        with self._lock:
            try:
                self._connection.execute("BEGIN")
                try:
                    yield self._connection
                finally:
                    self._connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise FlatcoatError(f"index {self.path} cannot be read: {error}") from error


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


def _json(rows: Iterable[int]) -> str:
    return json.dumps([int(row) for row in rows])
