"""Checks of an index against itself: every checksum, shape and cross-reference."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import FlatcoatError
from .schema import read_meta
from .segments import checksum, open_segment
from .types import Shape, TokenVectors, Vectors

_CROSS_REFERENCES = {
    "passages without a text": "SELECT count(*) FROM passages WHERE row NOT IN (SELECT rowid FROM texts)",
    "texts without a passage": "SELECT count(*) FROM texts WHERE rowid NOT IN (SELECT row FROM passages)",
    "passages outside their segment": (
        "SELECT count(*) FROM passages JOIN segments ON number = segment"
        " WHERE position NOT BETWEEN 0 AND segments.passages - 1"
    ),
    "documents with unreadable metadata": "SELECT count(*) FROM documents WHERE NOT json_valid(metadata)",
}


def problems(connection: sqlite3.Connection, folder: Path) -> Iterator[str]:
    """Yield what is wrong, one line each; ``folder`` holds the segment files."""
    for (finding,) in connection.execute("PRAGMA integrity_check"):
        if finding != "ok":
            yield f"database: {finding}"
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"database: row {row} of {table} points at nothing in {parent}"
    for what, query in _CROSS_REFERENCES.items():
        (count,) = connection.execute(query).fetchone()
        if count:
            yield f"database: {count} {what}"
    for number, passages in connection.execute("SELECT number, passages FROM segments").fetchall():
        yield from _segment_problems(connection, folder, number, passages)


def _segment_problems(
    connection: sqlite3.Connection, folder: Path, number: int, passages: int
) -> Iterator[str]:
    query = "SELECT name, bytes, sha256 FROM files WHERE segment = ?"
    files = connection.execute(query, [number]).fetchall()
    try:
        vectors = open_segment(folder, {name: size for name, size, _ in files})
    except (FlatcoatError, KeyError) as error:
        yield f"segment {number}: {error}"
        return
    for name, _, sha256 in files:
        if checksum(folder / name) != sha256:
            yield f"segment {number}: {name} is not what was written: its sha256 differs"
    held = Shape(*read_meta(connection, "shape"))
    if Shape.of(vectors) != held:
        yield f"segment {number}: holds {Shape.of(vectors)}, the index {held}"
    if len(vectors) != passages:
        yield f"segment {number}: holds {len(vectors)} passages, {passages} were written"
    elif count := _count_wrong_sizes(connection, number, vectors):
        yield f"segment {number}: {count} passages have another number of vectors than was written"


def _count_wrong_sizes(connection: sqlite3.Connection, number: int, vectors: Vectors) -> int:
    query = "SELECT position, vectors FROM passages WHERE segment = ?"
    table = np.array(connection.execute(query, [number]).fetchall(), dtype=np.int64).reshape(-1, 2)
    table = table[(table[:, 0] >= 0) & (table[:, 0] < len(vectors))]
    if not isinstance(vectors, TokenVectors):
        return int(np.count_nonzero(table[:, 1] != 1))
    return int(np.count_nonzero(np.diff(vectors.offsets)[table[:, 0]] != table[:, 1]))
