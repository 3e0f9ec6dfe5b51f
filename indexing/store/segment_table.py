"""What the database holds of segments and files. Counts and rows come without listing passages.

Axes: N passages.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flatcoat.indexing.array_checks import damaged
from flatcoat.indexing.array_files import WrittenFile
from flatcoat.indexing.postings import Postings, open_postings
from flatcoat.indexing.segments import FILE_NAME, CodedSegment, Segment, open_segment
from flatcoat.indexing.vectors import Shape, TokenVectors

from .schema import read_meta, row_checksum

POSTINGS = "postings"
"""The kind of the file that is no part of a segment's vectors."""


@dataclass(frozen=True)
class SegmentRecord:
    """A segment: its passages and vectors as written, and how many live (the others are tombstones).

    A segment may be written without vectors, and be given those of all its passages later.
    """

    number: int
    passages: int
    vectors: int
    live: int
    live_vectors: int
    sizes: dict[str, int]
    """The size of its files of vectors in bytes, by name."""
    postings: "IndexFile | None" = None
    """The file of its postings; None in an index of the former format."""

    @property
    def has_vectors(self) -> bool:
        """Whether its vectors have been written."""
        return self.vectors > 0 or bool(self.sizes)

    @property
    def is_clean(self) -> bool:
        """Whether it has no tombstones."""
        return self.live == self.passages

    @property
    def dead_fraction(self) -> float:
        """The fraction of its vectors that are tombstones."""
        return 1 - self.live_vectors / self.vectors if self.vectors else 1 - self.live / self.passages

    def open(self, folder: Path, shape: Shape | None) -> Segment:
        """Map its files; StorageError unless they hold the passages and vectors written, in ``shape``."""
        segment = open_segment(folder, self.sizes)
        if isinstance(segment, CodedSegment):
            kind, vectors = "token", len(segment.tokens.codes_T)
        else:
            kind, width = Shape.of(segment)
            vectors = len(segment.values_TD) if isinstance(segment, TokenVectors) else len(segment)
            if shape is None or width != shape.width:
                raise damaged(f"segment {self.number}, with vectors of {width} components,")
        if shape is None or kind != shape.kind or (len(segment), vectors) != (self.passages, self.vectors):
            raise damaged(
                f"segment {self.number}, which holds {len(segment)} passages and {vectors} {kind} vectors"
                f" where {self.passages} and {self.vectors} were written,"
            )
        return segment

    def open_postings(self, folder: Path) -> Postings:
        """Map its postings; StorageError where they are missing or damaged, or of other passages."""
        if self.postings is None:
            raise damaged(f"segment {self.number}, which has no postings,")
        postings = open_postings(folder / self.postings.name, self.postings.bytes)
        if len(postings) != self.passages:
            raise damaged(f"segment {self.number}, with postings of {len(postings)} passages,")
        return postings


class Places(NamedTuple):
    """Live passages of a segment: their rows, and their positions in it, rising (int64 [N])."""

    rows: np.ndarray
    positions: np.ndarray


class IndexFile(NamedTuple):
    """A file of the index: of one segment, or made from all of them (the codec or the FAISS file)."""

    name: str
    bytes: int


def shape(connection: sqlite3.Connection) -> Shape | None:
    """The shape of the index's vectors; None before the first."""
    value = read_meta(connection, "shape")
    match value:
        case None:
            return None
        case ["dense" | "token" as kind, int(width)] if 0 < width < 1 << 20:
            return Shape(kind, width)
    raise damaged(f"the shape of the vectors, {value!r:.60},")


def segments(connection: sqlite3.Connection) -> list[SegmentRecord]:
    """All segments, by number."""
    sizes: dict[int, dict[str, int]] = {}
    postings: dict[int, IndexFile] = {}
    for number, name, kind, size in connection.execute(
        "SELECT segment, name, kind, bytes FROM files WHERE segment IS NOT NULL"
    ):
        file = IndexFile(_checked_name(name, kind, size), size)
        if kind == POSTINGS:
            postings[number] = file
        else:
            sizes.setdefault(number, {})[file.name] = file.bytes
    query = "SELECT number, passages, vectors, live, live_vectors FROM segments ORDER BY number"
    found = [
        SegmentRecord(*counts, sizes=sizes.get(counts[0], {}), postings=postings.get(counts[0]))
        for counts in connection.execute(query)
    ]
    for one in found:
        counts = one.live, one.passages, one.live_vectors, one.vectors
        if not all(type(count) is int for count in counts) or not (
            0 <= one.live <= one.passages and 0 <= one.live_vectors <= one.vectors and one.passages
        ):
            raise damaged(f"segment {one.number}, with counts {counts},")
    return found


def places(connection: sqlite3.Connection, segment: SegmentRecord) -> Places:
    """The live passages of a segment, without its tombstones."""
    rows = written_rows(connection, segment.number)
    if len(rows) != segment.passages:
        raise damaged(f"segment {segment.number}, with {len(rows)} rows for {segment.passages} passages,")
    if segment.is_clean:
        return Places(rows, np.arange(len(rows)))
    # One text of all rows is read in a third of the time that they take one by one.
    query = "SELECT coalesce(group_concat(row), '') FROM passages WHERE segment = ?"
    (live,) = connection.execute(query, [segment.number]).fetchone()
    positions = np.flatnonzero(np.isin(rows, np.fromstring(live, np.int64, sep=",")))
    return Places(rows[positions], positions)


class KeptPlaces:
    """The ``places`` of committed segments, which are read anew where passages were removed since.

    Between commits passages are only removed, and the number of a segment is never used twice: where as many
    are live as before, the same are. Threads may share it.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[int, Places]] = {}

    def __call__(self, connection: sqlite3.Connection, segment: SegmentRecord) -> Places:
        live, found = self._kept.get(segment.number, (-1, None))
        if found is None or live != segment.live:
            found = places(connection, segment)
            self._kept[segment.number] = segment.live, found
        return found

    def keep_only(self, segments: Iterable[SegmentRecord]) -> None:
        """Forget all other segments."""
        kept = self._kept
        self._kept = {one.number: kept[one.number] for one in segments if one.number in kept}


def written_rows(connection: sqlite3.Connection, number: int) -> np.ndarray:
    """The rows of a segment's passages, tombstones included (int64)."""
    query = "SELECT rows, checksum FROM segment_rows WHERE segment = ?"
    rows, checksum = connection.execute(query, [number]).fetchone() or (None, 0)
    if not isinstance(rows, bytes) or len(rows) % 8 or row_checksum(number, rows) != checksum:
        raise damaged(f"the list of passages of segment {number}")
    return np.frombuffer(rows, "<i8").astype(np.int64, copy=False)


def next_row(connection: sqlite3.Connection) -> int:
    """The first passage row that was never used."""
    query = "SELECT 1 + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'passages'), 0)"
    return connection.execute(query).fetchone()[0]


def new_segment(connection: sqlite3.Connection, rows: np.ndarray, vectors: int) -> int:
    """Enter a segment of these passages, all of them live; returns its number."""
    insert = "INSERT INTO segments(passages, vectors, live, live_vectors) VALUES (?1, ?2, ?1, ?2)"
    number = connection.execute(insert, [len(rows), vectors]).lastrowid
    assert number is not None
    written = rows.astype("<i8").tobytes()
    row = number, written, row_checksum(number, written)
    connection.execute("INSERT INTO segment_rows VALUES (?, ?, ?)", row)
    return number


def set_vectors(connection: sqlite3.Connection, number: int, rows: np.ndarray, sizes: np.ndarray) -> None:
    """Enter how many vectors (int64 [N]) each passage of a segment without tombstones was given."""
    counts = zip(sizes.tolist(), rows.tolist(), strict=True)
    connection.executemany("UPDATE passages SET vectors = ? WHERE row = ?", counts)
    update = "UPDATE segments SET vectors = ?1, live_vectors = ?1 WHERE number = ?2"
    connection.execute(update, (int(sizes.sum()), number))


def new_file_number(connection: sqlite3.Connection) -> int:
    """A number that no segment has or will have."""
    number = new_segment(connection, np.zeros(0, np.int64), 0)
    connection.execute("DELETE FROM segments WHERE number = ?", [number])
    return number


def enter_files(connection: sqlite3.Connection, number: int, files: Iterable[WrittenFile]) -> None:
    """Enter the files of a segment, which are orphans before."""
    for file in files:
        _enter_file(connection, number, file.name.split(".")[1], file)


def replace_postings(connection: sqlite3.Connection, number: int, file: WrittenFile) -> None:
    """Make ``file`` the postings of a segment; the old file becomes an orphan."""
    connection.execute("DELETE FROM files WHERE segment = ? AND kind = ?", (number, POSTINGS))
    _enter_file(connection, number, POSTINGS, file)


def derived_file(connection: sqlite3.Connection, kind: str) -> IndexFile | None:
    """Name and size in bytes of the collection's "codec" or "faiss" file; None where there is none."""
    query = "SELECT name, bytes FROM files WHERE segment IS NULL AND kind = ?"
    found = connection.execute(query, [kind]).fetchone()
    return found and IndexFile(_checked_name(found[0], kind, found[1]), found[1])


def replace_derived_file(connection: sqlite3.Connection, kind: str, file: WrittenFile | None) -> None:
    """Make ``file`` the only one of its kind (None: delete the kind); the old file becomes an orphan."""
    connection.execute("DELETE FROM files WHERE segment IS NULL AND kind = ?", [kind])
    if file:
        _enter_file(connection, None, kind, file)


def _checked_name(name: Any, kind: Any, size: Any) -> str:
    """The name, which must be one that flatcoat gives, so that it leads to no other place."""
    whole = isinstance(name, str) and FILE_NAME.fullmatch(name) and type(size) is int and size > 0
    if not whole or name.split(".")[1] != kind:
        raise damaged(f"the index's list of files, which names {name!r:.80} as {kind!r:.20},")
    return name


def _enter_file(connection: sqlite3.Connection, segment: int | None, kind: str, file: WrittenFile) -> None:
    row = file.name, segment, kind, file.bytes, file.sha256
    connection.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)", (*row, row_checksum(*row)))
