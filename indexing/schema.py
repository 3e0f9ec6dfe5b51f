"""The SQLite file of an index: its tables, how it is opened, how it is made.

The journal is SQLite's rollback journal (DELETE), not WAL: at rest the index is one database file that
opens from a read-only directory, by another user or over a network, and a reader's transaction holds
off a commit, so that no segment file goes away between reading its name and mapping it. A killed writer
leaves a hot journal, which the next connection that may write rolls back. The price is that readers wait
for the milliseconds in which a commit is flushed.
"""

import json
import sqlite3
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from .. import FlatcoatError
from .checksums import row_checksum
from .lexical import TOKENIZER

FORMAT = 4
DATABASE = "index.sqlite"
SEGMENTS = "segments"
LOCK = "writer.lock"
_UNFINISHED = "index.sqlite.new"

# AUTOINCREMENT: a passage row or segment number is never used twice, so that what an old snapshot found
# is either still that passage or gone. Title, section and text live in the FTS5 table alone, beside the parts
# of their camelCase words.
#
# A source is a folder or file that documents were read from, its path relative to the index; ``reading`` says
# how it is read. A document of a source is that of one of its files or rows, called ``name`` there: ``state``
# is what the file was when it was read and ``digest`` its content. They stand in the document's own row, so
# that no cut can leave a file known whose document is lost. ``skipped_files`` are those without a document.
#
# Opening must not list every passage: ``segment_rows`` holds the passage row of each position (int64), and a
# trigger keeps count of what lives, ``passages`` and ``vectors`` being what was written. Files without a
# segment are derived from all of them: the codec and FAISS's.
#
# ``checksum`` is ``checksums.row_checksum`` of the other columns of its row; a document's is that of its
# passages too. What has none can be told from the rest: ``verify`` does.
_TABLES = f"""
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
    last_line INTEGER NOT NULL
);
CREATE INDEX passages_by_document ON passages(document);
CREATE INDEX passages_by_segment ON passages(segment);
CREATE VIRTUAL TABLE texts USING fts5(
    title, section, text, parts,
    tokenize = "{TOKENIZER}"
);
CREATE TRIGGER passages_delete AFTER DELETE ON passages BEGIN
    DELETE FROM texts WHERE rowid = old.row;
    UPDATE segments SET live = live - 1, live_vectors = live_vectors - old.vectors WHERE number = old.segment;
END;
"""


def connect(database: Path) -> sqlite3.Connection:
    """Open an existing database in autocommit; transactions are begun by name. Waits 30 s for a lock."""
    connection = sqlite3.connect(
        f"{database.resolve().as_uri()}?mode=rw",
        uri=True,
        timeout=30.0,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def create(path: Path, contract: dict[str, Any], engine: dict[str, Any]) -> None:
    """Make the folder of an empty index; the rename of its database is the moment it exists."""
    (path / SEGMENTS).mkdir(parents=True, exist_ok=True)
    unfinished = path / _UNFINISHED
    unfinished.unlink(missing_ok=True)
    unfinished.touch()
    connection = connect(unfinished)
    try:
        connection.executescript(_TABLES)
        values = {"format": FORMAT, "contract": contract, "engine": engine, "generation": 0}
        for key, value in {**values, "uuid": uuid4().hex}.items():
            write_meta(connection, key, value)
        connection.execute("COMMIT")
    except (TypeError, ValueError) as error:
        raise FlatcoatError(f"the contract of {path} cannot be written as JSON: {error}") from error
    finally:
        connection.close()
    unfinished.replace(path / DATABASE)


def may_become_index(path: Path) -> bool:
    """Whether ``path`` is free: nothing, an empty folder, or what a killed ``create`` left."""
    if not path.exists():
        return True
    ours = {SEGMENTS, LOCK, _UNFINISHED, f"{_UNFINISHED}-journal"}
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= ours


def read_meta(connection: sqlite3.Connection, key: str) -> Any:
    """The value of ``key`` in the meta table, or None."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else json.loads(row[0])


def write_meta(connection: sqlite3.Connection, key: str, value: Any) -> None:
    """Set ``key`` in the meta table; ValueError where ``value`` is no JSON."""
    text = json.dumps(value, allow_nan=False)
    row = key, text, row_checksum(key, text)
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", row)


def integers(cursor: Iterable[tuple[int, ...]]) -> np.ndarray:
    """What a query finds, value after value (int64)."""
    return np.fromiter(chain.from_iterable(cursor), dtype=np.int64)
