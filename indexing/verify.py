"""Checks of an index against itself: every checksum, shape and cross-reference."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import FlatcoatError
from . import catalog
from .array_files import checksum
from .catalog import SegmentRecord
from .schema import read_meta
from .segments import CodedSegment, Segment, open_segment, require_file
from .snapshots import Snapshots
from .types import Shape, TokenVectors

if TYPE_CHECKING:
    from .residual import Codec

_COUNTS = "SELECT segment, count(*) AS live, sum(vectors) AS vectors FROM passages GROUP BY segment"
_CROSS_REFERENCES = {
    "passages without a text": "SELECT count(*) FROM passages WHERE row NOT IN (SELECT rowid FROM texts)",
    "texts without a passage": "SELECT count(*) FROM texts WHERE rowid NOT IN (SELECT row FROM passages)",
    "segments with another number of live passages than counted": (
        f"SELECT count(*) FROM segments LEFT JOIN ({_COUNTS}) AS found ON segment = number"
        " WHERE segments.live != coalesce(found.live, 0) OR live_vectors != coalesce(found.vectors, 0)"
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
    derived = list(_file_problems(connection, folder, None))
    yield from derived
    codec = None if derived else Snapshots(folder).codec(connection)
    for segment in catalog.segments(connection):
        found = list(_file_problems(connection, folder, segment.number))
        found = found or _segment_problems(connection, folder, segment, codec)
        yield from (f"segment {segment.number}: {problem}" for problem in found)


def _file_problems(connection: sqlite3.Connection, folder: Path, segment: int | None) -> Iterator[str]:
    query = "SELECT name, bytes, sha256 FROM files WHERE segment IS ?"
    for name, size, sha256 in connection.execute(query, [segment]).fetchall():
        try:
            if checksum(require_file(folder / name, size)) != sha256:
                yield f"{name} is not what was written: its sha256 differs"
        except FlatcoatError as error:
            yield str(error)


def _segment_problems(
    connection: sqlite3.Connection, folder: Path, segment: SegmentRecord, codec: "Codec | None"
) -> Iterator[str]:
    try:
        opened = open_segment(folder, segment.sizes)
    except (FlatcoatError, KeyError) as error:
        yield f"cannot be opened: {error}"
        return
    if isinstance(opened, CodedSegment):
        yield from _code_problems(opened, codec) if codec else ()
    elif (came := Shape.of(opened)) != (held := Shape(*read_meta(connection, "shape"))):
        yield f"holds {came}, the index {held}"
    rows = catalog.written_rows(connection, segment.number)
    if not len(opened) == segment.passages == len(rows):
        yield f"holds {len(opened)} passages, {segment.passages} were written, {len(rows)} have rows"
        return
    sizes = np.diff(_offsets(opened))
    if sizes.sum() != segment.vectors:
        yield f"holds {sizes.sum()} vectors, {segment.vectors} were written"
    query = "SELECT row, vectors FROM passages WHERE segment = ?"
    written = dict(zip(rows.tolist(), sizes.tolist(), strict=True))
    wrong = sum(written.get(row) != size for row, size in connection.execute(query, [segment.number]))
    if wrong:
        yield f"{wrong} passages are not in it, or with another number of vectors than was written"


def _code_problems(segment: CodedSegment, codec: "Codec") -> Iterator[str]:
    from .inverted_lists import inverted_lists

    tokens, centroids = segment.tokens, len(codec.centroids_KP)
    lengths = len(tokens.codes_T), len(tokens.residuals_TB), len(tokens.scales_T2), int(tokens.offsets[-1])
    if len(set(lengths)) > 1 or tokens.offsets[0] != 0 or np.any(np.diff(tokens.offsets) < 0):
        yield f"codes, residuals, scales and offsets do not fit together: they end at {lengths}"
    elif len(tokens.codes_T) and (largest := int(tokens.codes_T.max())) >= centroids:
        yield f"names centroid {largest}, the codec has {centroids}"
    elif segment.lists is not None and segment.list_offsets is not None:
        lists, list_offsets = inverted_lists(tokens.codes_T, tokens.offsets, centroids)
        if not (np.array_equal(lists, segment.lists) and np.array_equal(list_offsets, segment.list_offsets)):
            yield "its inverted lists are not those of its codes"


def _offsets(segment: Segment) -> np.ndarray:
    if isinstance(segment, CodedSegment):
        return segment.tokens.offsets
    return segment.offsets if isinstance(segment, TokenVectors) else np.arange(len(segment) + 1)
