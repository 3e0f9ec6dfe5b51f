"""The former format: how it differs, and its upgrade by the next writer, in one transaction.

Format 5 kept the texts in a full-text table of SQLite (FTS5), with titles and the parts of camelCase words,
and had no postings. It is read as it is (``bm25`` reads the words anew); the first writer brings it to this
format, all of it or, whatever cuts it off, nothing.
"""

import logging
import sqlite3
from pathlib import Path

from flatcoat.indexing.array_checks import damaged
from flatcoat.indexing.postings import write_postings
from flatcoat.indexing.segments import sweep

from . import segment_table
from .bm25 import segment_postings
from .document_table import write_checksums
from .schema import (
    FORMAT,
    TABLES,
    TEXTS,
    TOMBSTONES,
    document_checksum,
    file_names,
    read_generation,
    read_meta,
    write_meta,
)

FORMER = 5
"""The format before this one."""

_FORMER_TEXTS = """CREATE VIRTUAL TABLE texts USING fts5(
    title, section, text, parts,
    tokenize = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
)"""
FORMER_TABLES = TABLES.replace(TEXTS, _FORMER_TEXTS).replace(
    TOMBSTONES, TOMBSTONES.replace("WHERE row = old.row", "WHERE rowid = old.row")
)
"""The tables of the former format."""

FORMER_PASSAGES = """
    SELECT row, vectors, first_line, last_line, metadata, title, section, text, parts
    FROM passages JOIN texts ON texts.rowid = row WHERE document = ? ORDER BY row
"""
"""The passages of a document, as its checksum covered them."""

_log = logging.getLogger(__name__)


def is_former(connection: sqlite3.Connection) -> bool:
    """Whether the index has the former format."""
    return read_meta(connection, "format") == FORMER


def upgrade(connection: sqlite3.Connection, folder: Path) -> None:
    """Bring an index of the former format to this one; the files of its segments are in ``folder``.

    StorageError where a document is not what was written: what is damaged must not get a new checksum.
    """
    if not is_former(connection):
        return
    _log.info("the index at %s is brought from format %d to %d", folder.parent, FORMER, FORMAT)
    connection.execute("BEGIN IMMEDIATE")
    try:
        sweep(folder, file_names(connection))  # An upgrade that was cut off left files of the same names.
        keys = _checked_documents(connection)
        _move_texts(connection)
        for record in segment_table.segments(connection):
            rows_N = segment_table.written_rows(connection, record.number)
            postings = segment_postings(connection, record.number, rows_N)
            files = [write_postings(folder, record.number, postings)]
            segment_table.enter_files(connection, record.number, files)
        write_checksums(connection, keys)
        write_meta(connection, "generation", read_generation(connection) + 1)
        write_meta(connection, "format", FORMAT)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _checked_documents(connection: sqlite3.Connection) -> list[int]:
    documents = connection.execute("SELECT key, id, checksum FROM documents").fetchall()
    for key, id, checksum in documents:
        if document_checksum(connection, key, passages=FORMER_PASSAGES) != checksum:
            raise damaged(f"document {id!r:.60} of the index")
    return [key for key, *_ in documents]


def _move_texts(connection: sqlite3.Connection) -> None:
    connection.execute(TEXTS.replace('"texts"', "moved"))
    connection.execute("INSERT INTO moved SELECT rowid, section, text FROM texts")
    connection.execute("DROP TRIGGER passages_delete")
    connection.execute("DROP TABLE texts")
    connection.execute("ALTER TABLE moved RENAME TO texts")
    connection.execute(TOMBSTONES)
