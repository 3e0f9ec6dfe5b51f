"""Verification of an index: every row, file, checksum, count and cross-reference.

The database is checked in a private copy, so that no reader or writer waits for it. Files are read where they
are; files that were swept after a later commit are passed over.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.errors import FlatcoatError, StorageError
from flatcoat.indexing.array_files import checksum
from flatcoat.indexing.postings import Part, Postings
from flatcoat.indexing.segments import CodedSegment, Segment, require_file
from flatcoat.indexing.vectors import Shape, TokenVectors

from . import database, segment_table
from .bm25 import segment_postings
from .schema import PASSAGES, SEGMENTS, document_checksum, row_checksum
from .segment_table import SegmentRecord
from .snapshots import Snapshots
from .upgrade import FORMER_PASSAGES, is_former

if TYPE_CHECKING:
    from flatcoat.indexing.plaid.codec import Codec

Names = Callable[[], set[str]]
"""Gives the files that make up the index as of now."""

_COUNTS = "SELECT segment, count(*) AS live, sum(vectors) AS vectors FROM passages GROUP BY segment"
_BLOCK = 1 << 14  # vectors
_CROSS_REFERENCES = {
    "passages without a text": (
        "SELECT count(*) FROM passages WHERE NOT EXISTS (SELECT 1 FROM texts WHERE texts.rowid = row)"
    ),
    "texts without a passage": (
        "SELECT count(*) FROM texts WHERE NOT EXISTS (SELECT 1 FROM passages WHERE row = texts.rowid)"
    ),
    "segments with another number of live passages than counted": (
        f"SELECT count(*) FROM segments LEFT JOIN ({_COUNTS}) AS found ON segment = number"
        " WHERE segments.live != coalesce(found.live, 0) OR live_vectors != coalesce(found.vectors, 0)"
    ),
    "segments without a list of passages": (
        "SELECT count(*) FROM segments WHERE number NOT IN (SELECT segment FROM segment_rows)"
    ),
    "coded segments without a codec": (
        "SELECT count(*) FROM files WHERE kind = 'codes'"
        " AND NOT EXISTS (SELECT 1 FROM files WHERE kind = 'codec')"
    ),
    "segments that are not coded, beside a codec": (
        "SELECT count(*) FROM files WHERE kind = 'values'"
        " AND EXISTS (SELECT 1 FROM files WHERE kind = 'codec')"
    ),
    "documents with unreadable metadata": "SELECT count(*) FROM documents WHERE NOT json_valid(metadata)",
    "passages with unreadable metadata": "SELECT count(*) FROM passages WHERE NOT json_valid(metadata)",
    "counters behind the numbers that they gave": (
        "SELECT (SELECT coalesce(max(row), 0) FROM passages)"
        " > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'passages')"
        " OR (SELECT coalesce(max(number), 0) FROM segments)"
        " > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'segments')"
        " OR EXISTS (SELECT 1 FROM sqlite_sequence WHERE typeof(seq) != 'integer'"
        " OR name NOT IN ('passages', 'segments'))"
    ),
}
_CHECKSUMS = {
    "meta": "SELECT key, value, checksum FROM meta",
    "sources": "SELECT key, path, prefix, reading, state, seal, checksum FROM sources",
    "skipped_files": "SELECT source, name, state, reason, checksum FROM skipped_files",
    "segment_rows": "SELECT segment, rows, checksum FROM segment_rows",
    "files": "SELECT name, segment, kind, bytes, sha256, checksum FROM files",
}
"""The rows that carry their own checksum, in the last column."""


def copy_database(connection: sqlite3.Connection, path: Path) -> None:
    """Copy the database as ``connection`` sees it to a new file; StorageError where there is no room."""
    try:
        with closing(sqlite3.connect(path)) as copy:
            connection.backup(copy)
    except sqlite3.OperationalError as error:
        raise StorageError(
            f"the database cannot be copied to {path.parent} to be checked ({error}): set TMPDIR to where "
            "there is room for it"
        ) from error


def problems(copy: Path, index: Path, *, names: Names) -> Iterator[str]:
    """Yield each problem in one line; ``copy`` is a copy of the database, ``index`` holds the files."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        try:
            yield from _database_problems(connection, index)
            yield from _files_problems(connection, index / SEGMENTS, names)
        except (sqlite3.Error, FlatcoatError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            yield f"database: {error}"


def _database_problems(connection: sqlite3.Connection, index: Path) -> Iterator[str]:
    database.check(connection, index)
    for (finding,) in connection.execute("PRAGMA integrity_check"):
        if finding != "ok":
            yield f"database: {finding}"
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"database: row {row} of {table} points at nothing in {parent}"
    for what, query in _CROSS_REFERENCES.items():
        (count,) = connection.execute(query).fetchone()
        if count:
            yield f"database: {count} {what}"
    for table, query in _CHECKSUMS.items():
        wrong = sum(row_checksum(*row) != checksum for *row, checksum in connection.execute(query))
        if wrong:
            yield f"database: {wrong} rows of {table} are not what was written: their checksums differ"
    passages = FORMER_PASSAGES if is_former(connection) else PASSAGES
    for key, id, written in connection.execute("SELECT key, id, checksum FROM documents"):
        if document_checksum(connection, key, passages=passages) != written:
            yield f"database: document {id!r:.60} is not what was written: its checksum differs"


def _files_problems(connection: sqlite3.Connection, folder: Path, names: Names) -> Iterator[str]:
    derived = list(_file_problems(connection, folder, None, names))
    yield from derived
    codec = None if derived else _codec(connection, folder, names)
    shape = segment_table.shape(connection)
    for segment in segment_table.segments(connection):
        found = list(_file_problems(connection, folder, segment.number, names))
        found = found or list(_segment_problems(connection, folder, segment, shape, codec))
        found += [] if found or is_former(connection) else _postings_problems(connection, folder, segment)
        files = {*segment.sizes, *([segment.postings.name] if segment.postings else [])}
        if found and files <= names():
            yield from (f"segment {segment.number}: {problem}" for problem in found)


def _codec(connection: sqlite3.Connection, folder: Path, names: Names) -> "Codec | None":
    try:
        return Snapshots(folder).codec(connection)
    except FlatcoatError:
        file = segment_table.derived_file(connection, "codec")
        if file and file.name in names():
            raise
        return None


def _file_problems(
    connection: sqlite3.Connection, folder: Path, segment: int | None, names: Names
) -> Iterator[str]:
    query = "SELECT name, bytes, sha256 FROM files WHERE segment IS ?"
    for name, size, sha256 in connection.execute(query, [segment]).fetchall():
        try:
            same = checksum(require_file(folder / name, size)) == sha256
            problem = "" if same else f"{name} is not what was written: its sha256 differs"
        except (FlatcoatError, OSError) as error:
            problem = str(error)
        if problem and name in names():
            yield problem


def _segment_problems(
    connection: sqlite3.Connection,
    folder: Path,
    segment: SegmentRecord,
    shape: Shape | None,
    codec: "Codec | None",
) -> Iterator[str]:
    try:
        rows = segment_table.written_rows(connection, segment.number)
        opened = segment.open(folder, shape) if segment.has_vectors else None
    except FlatcoatError as error:
        yield f"cannot be opened: {error}"
        return
    if len(np.unique(rows)) != len(rows):
        yield "two of its passages have one row"
    if opened is None:
        yield from _place_problems(connection, segment, rows, np.zeros(segment.passages, np.int64))
        return
    if isinstance(opened, CodedSegment):
        yield from _code_problems(opened, codec) if codec else ()
    elif not all(np.isfinite(block).all() for block in _blocks(opened)):
        yield "holds NaN or infinity"
    yield from _place_problems(connection, segment, rows, np.diff(_offsets(opened)))


def _place_problems(
    connection: sqlite3.Connection, segment: SegmentRecord, rows: np.ndarray, sizes: np.ndarray
) -> Iterator[str]:
    """What does not fit together of passages, their rows, and their numbers of vectors (int64 [N])."""
    if len(rows) != len(sizes):
        yield f"holds {len(sizes)} passages, {len(rows)} have rows"
        return
    query = "SELECT row, vectors FROM passages WHERE segment = ?"
    written = dict(zip(rows.tolist(), sizes.tolist(), strict=True))
    wrong = sum(written.get(row) != size for row, size in connection.execute(query, [segment.number]))
    if wrong:
        yield f"{wrong} passages are not in it, or with another number of vectors than was written"


def _postings_problems(connection: sqlite3.Connection, folder: Path, segment: SegmentRecord) -> Iterator[str]:
    try:
        rows_N = segment_table.written_rows(connection, segment.number)
        positions = segment_table.places(connection, segment).positions
        live = Part(segment.open_postings(folder), positions, positions)
        found = Postings.merge([live], segment.passages)
        wanted = segment_postings(connection, segment.number, rows_N)
    except FlatcoatError as error:
        yield f"its postings cannot be read: {error}"
        return
    if not found.equals(wanted):
        yield "its postings are not those of its texts"


def _blocks(vectors: np.ndarray | TokenVectors) -> Iterator[np.ndarray]:
    values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
    return (values[first : first + _BLOCK] for first in range(0, len(values), _BLOCK))


def _code_problems(segment: CodedSegment, codec: "Codec") -> Iterator[str]:
    from flatcoat.indexing.plaid.kernels import inverted_lists
    from flatcoat.indexing.plaid.parts import require_valid

    tokens = segment.tokens
    try:
        require_valid(segment, codec)
    except FlatcoatError as error:
        yield str(error)
        return
    if segment.lists is not None and segment.list_offsets is not None:
        lists, list_offsets = inverted_lists(
            tokens.codes_T, tokens.offsets, centroids=len(codec.centroids_KP)
        )
        if not (np.array_equal(lists, segment.lists) and np.array_equal(list_offsets, segment.list_offsets)):
            yield "its inverted lists are not those of its codes"


def _offsets(segment: Segment) -> np.ndarray:
    if isinstance(segment, CodedSegment):
        return segment.tokens.offsets
    return segment.offsets if isinstance(segment, TokenVectors) else np.arange(len(segment) + 1)
