"""The SQLite file of an index: its tables, its creation, its settings, and the checksums of its rows.

The journal is a write-ahead log (WAL). Readers see the last commit and wait for nobody: not for a commit, not
for a writer that was stopped in the middle of one; and no reader, however slow or stopped, makes a commit
wait or fail. (With a rollback journal a reader's transaction holds off a commit, which in turn keeps new
readers out.) The costs: ``-wal`` and ``-shm`` stand beside the database while somebody has it open, one host
at a time where the folder is on a network, and a segment file may be gone by the time that a reader opens it,
which makes the reader look again. A commit is one fsync of the log (synchronous = EXTRA); a killed writer's
log is read and continued by the next process; a log that a stopped reader needs grows until the reader is
done.

At rest, once the last process closed it, the index is one database file again, and can be copied, moved and
read from a read-only medium: ``database`` says how.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterable
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np

from flatcoat.atomic_files import UNFINISHED, atomic_write, sync_folder
from flatcoat.errors import UsageError
from flatcoat.indexing.array_checks import damaged

FORMAT = 6
DATABASE = "index.sqlite"
SEGMENTS = "segments"
LOCK = "writer.lock"
_UNFINISHED = DATABASE + UNFINISHED
_BESIDE = ("-wal", "-shm", "-journal")

Value: TypeAlias = str | int | float | bytes | None
"""A value of a column."""

# AUTOINCREMENT: a passage row or segment number is never used twice, so that a row of an old snapshot is
# either still the same passage or gone. A passage's section and text stand in a table of their own, beside
# which a scan of passages is short; its title is its document's.
#
# A source is a folder or file that documents were read from, its path relative to the index; ``reading``
# holds its settings. A document of a source comes from one of its files or rows, called ``name`` there:
# ``state`` is the state of the file when it was read and ``digest`` of its content. They stand in the
# document's own row, so that no crash can leave a file known whose document is lost. ``skipped_files`` are
# the files without a document.
#
# Opening must not list every passage: ``segment_rows`` holds the passage row of each position (int64),
# ``passages`` and ``vectors`` count what was written, ``live`` and ``live_vectors`` what is no tombstone.
# Deleting a document deletes its passages, and the trigger ``passages_delete`` makes tombstones of them: it
# lowers these counts and drops the text; vectors and postings stay in their segment until a merge. Files
# without a segment are derived from all segments: the codec and the FAISS file.
#
# ``documents.metadata`` is a JSON object, ``passages.metadata`` one of the fields that are the passage's own:
# the names of definitions in an array, so that a condition may be met by any one of them.
#
# ``checksum`` is ``row_checksum`` of the other columns of its row; a document's covers its passages too. Rows
# without a checksum can be derived from the others, which ``verify`` does.
TEXTS = """CREATE TABLE "texts"(
    row INTEGER PRIMARY KEY,
    section TEXT NOT NULL,
    text TEXT NOT NULL
)"""
"""The name is quoted as by ALTER TABLE, with which ``upgrade`` makes the same table."""

TOMBSTONES = """CREATE TRIGGER passages_delete AFTER DELETE ON passages BEGIN
    DELETE FROM texts WHERE row = old.row;
    UPDATE segments SET live = live - 1, live_vectors = live_vectors - old.vectors WHERE number = old.segment;
END"""

TABLES = f"""
BEGIN;
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sources(
    key INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    reading TEXT NOT NULL,
    state TEXT NOT NULL,
    seal TEXT NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE documents(
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    hash TEXT NOT NULL,
    metadata TEXT NOT NULL,
    source INTEGER REFERENCES sources(key) ON DELETE CASCADE,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    digest TEXT NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE UNIQUE INDEX documents_by_source ON documents(source, name) WHERE source IS NOT NULL;
CREATE TABLE skipped_files(
    source INTEGER NOT NULL REFERENCES sources(key) ON DELETE CASCADE,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (source, name)
) WITHOUT ROWID;
CREATE TABLE segments(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    passages INTEGER NOT NULL,
    vectors INTEGER NOT NULL,
    live INTEGER NOT NULL,
    live_vectors INTEGER NOT NULL
);
CREATE TABLE segment_rows(
    segment INTEGER PRIMARY KEY REFERENCES segments(number) ON DELETE CASCADE,
    rows BLOB NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE TABLE files(
    name TEXT PRIMARY KEY,
    segment INTEGER REFERENCES segments(number) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    checksum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX files_by_segment ON files(segment);
CREATE UNIQUE INDEX one_of_a_kind ON files(kind) WHERE segment IS NULL;
CREATE TABLE passages(
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL REFERENCES documents(key) ON DELETE CASCADE,
    segment INTEGER NOT NULL REFERENCES segments(number),
    vectors INTEGER NOT NULL,
    first_line INTEGER NOT NULL,
    last_line INTEGER NOT NULL,
    metadata TEXT NOT NULL
);
CREATE INDEX passages_by_document ON passages(document);
CREATE INDEX passages_by_segment ON passages(segment);
{TEXTS};
{TOMBSTONES};
"""


_DOCUMENT = "SELECT id, title, hash, metadata, source, name, state, digest FROM documents WHERE key = ?"
# Not the segment, whose number a merge changes: ``segment_rows`` says which passages are in it.
PASSAGES = """
    SELECT passages.row, vectors, first_line, last_line, metadata, section, text
    FROM passages JOIN texts ON texts.row = passages.row WHERE document = ? ORDER BY passages.row
"""
"""The passages of a document, as its checksum covers them."""


def create(path: Path, contract: dict[str, Any], engine: dict[str, Any]) -> None:
    """Make the folder of an empty index, which exists from the moment that its database is renamed."""
    (path / SEGMENTS).mkdir(parents=True, exist_ok=True)
    for name in (_UNFINISHED, *(_UNFINISHED + suffix for suffix in _BESIDE)):
        (path / name).unlink(missing_ok=True)
    try:
        with (
            atomic_write(path / DATABASE) as unfinished,
            closing(sqlite3.connect(unfinished, isolation_level=None)) as connection,
        ):
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.executescript(TABLES)
            values = {"format": FORMAT, "contract": contract, "engine": engine, "generation": 0}
            for key, value in {**values, "uuid": uuid4().hex}.items():
                write_meta(connection, key, value)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
    except (TypeError, ValueError) as error:
        raise UsageError(f"the contract of {path} cannot be written as JSON: {error}") from error
    with suppress(PermissionError):  # The parent may be closed to reading.
        sync_folder(path.absolute().parent)


def may_become_index(path: Path) -> bool:
    """Whether ``path`` is free: nothing, an empty folder, or the remains of a killed ``create``."""
    if not path.exists():
        return True
    ours = {SEGMENTS, LOCK, ".gitignore", _UNFINISHED, *(_UNFINISHED + suffix for suffix in _BESIDE)}
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= ours


def read_meta(connection: sqlite3.Connection, key: str) -> Any:
    """The value of ``key`` in the meta table, or None; StorageError where it is not as it was written."""
    row = connection.execute("SELECT value, checksum FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    value, checksum = row
    try:
        if row_checksum(key, value) == checksum:
            return json.loads(value)
    except (TypeError, ValueError, RecursionError):
        pass
    raise damaged(f"the setting {key!r} of the index")


def read_generation(connection: sqlite3.Connection) -> int:
    """The number of commits so far."""
    generation = read_meta(connection, "generation")
    if type(generation) is not int:
        raise damaged("the generation of the index")
    return generation


def write_meta(connection: sqlite3.Connection, key: str, value: Any) -> None:
    """Set ``key`` in the meta table; ValueError where ``value`` is no JSON."""
    text = json.dumps(value, allow_nan=False)
    row = key, text, row_checksum(key, text)
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", row)


def file_names(connection: sqlite3.Connection) -> set[str]:
    """The files that make up the index."""
    return {name for (name,) in connection.execute("SELECT name FROM files")}


def integers(cursor: Iterable[tuple[int, ...]]) -> np.ndarray:
    """All values that a query finds (int64)."""
    return np.fromiter(chain.from_iterable(cursor), dtype=np.int64)


def json_of(rows: Iterable[int]) -> str:
    """Rows for ``json_each``, which takes more of them than SQLite binds."""
    return json.dumps([int(row) for row in rows])


def row_checksum(*values: Value) -> int:
    """CRC-32 of the values of one row."""
    crc = 0
    for value in values:
        # JSON tells types and ends of values apart, and is the same in every version of Python.
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        crc = zlib.crc32(b"%d:" % len(data), crc)
        crc = zlib.crc32(data, crc)
    return crc


def document_checksum(connection: sqlite3.Connection, key: int, *, passages: str = PASSAGES) -> int:
    """CRC-32 of a document and its passages as the database holds them; KeyError where there is none.

    ``passages`` is the query for its passages.
    """
    document = connection.execute(_DOCUMENT, [key]).fetchone()
    if document is None:
        raise KeyError(key)
    found = connection.execute(passages, [key]).fetchall()
    return row_checksum(*document, *(value for passage in found for value in passage))
