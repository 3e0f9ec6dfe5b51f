"""The index on disk, write side. The SQLite transaction is the only commit; files are swept to match it."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import numpy as np

from .. import FlatcoatError
from . import schema
from .documents import Metadata, Passage
from .segments import as_stored, sweep, write_segment
from .types import Shape, TokenVectors, Vectors

_NO_HASHES: Mapping[str, str] = MappingProxyType({})


class Writer:
    """Adds to and removes from one index; made by ``Store.writer()``, which holds the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._segments = path / schema.SEGMENTS
        try:
            self._connection = schema.connect(path / schema.DATABASE)
            # EXTRA also fsyncs the folder when the journal goes: a commit survives a power cut. Without
            # cache_spill=OFF a large transaction would shut readers out before its commit.
            self._connection.execute("PRAGMA synchronous = EXTRA")
            self._connection.execute("PRAGMA cache_spill = OFF")
            self._begin()
        except (OSError, sqlite3.Error) as error:
            raise FlatcoatError(f"index {path} cannot be written: {error}") from error

    def add(
        self, passages: Sequence[Passage], vectors: Vectors, hashes: Mapping[str, str] = _NO_HASHES
    ) -> None:
        """Add documents, each with all its passages; a document that is there already is replaced.

        ``vectors`` holds one text a passage, in the same order, and becomes one segment. ``hashes`` gives
        the content hash of these documents by id; those of others are passed over. Raises FlatcoatError,
        and adds nothing, where passages, vectors and index do not fit together.
        """
        documents = _by_document(passages)
        if len(vectors) != len(passages):
            raise FlatcoatError(
                f"{len(vectors)} vectors came for {len(passages)} passages: one each is needed"
            )
        if not passages:
            return
        sizes = np.diff(vectors.offsets) if isinstance(vectors, TokenVectors) else np.ones(len(vectors))
        with self._all_or_nothing():
            self._delete(documents)
            keys = {
                id: self._insert_document(passage, hashes.get(id, "")) for id, passage in documents.items()
            }
            segment = self._write_segment(vectors)
            for position, (passage, size) in enumerate(zip(passages, sizes, strict=True)):
                self._insert_passage(passage, (keys[passage.document_id], segment, position, int(size)))

    def remove(self, document_ids: Iterable[str]) -> int:
        """Remove documents; returns how many of them were there."""
        with self._all_or_nothing():
            return self._delete(document_ids)

    def commit(self) -> None:
        """Make everything so far durable; segments whose last passage is gone go with it."""
        unused = "DELETE FROM segments WHERE NOT EXISTS (SELECT 1 FROM passages WHERE segment = number)"
        try:
            self._connection.execute(unused)
            if self._connection.total_changes > self._changes_at_begin:
                schema.write_meta(
                    self._connection, "generation", schema.read_meta(self._connection, "generation") + 1
                )
            self._connection.execute("COMMIT")
            self._begin()
        except (OSError, sqlite3.Error) as error:
            raise FlatcoatError(f"index {self._path}: the commit failed: {error}") from error

    def close(self) -> None:
        """Drop what is not committed, and the files it wrote."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        # What to keep comes from the database, never from a list of our own: an interrupt that arrives
        # just after a COMMIT must not take the committed files with it.
        self._sweep()
        self._connection.close()

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._sweep()
        self._changes_at_begin = self._connection.total_changes

    def _sweep(self) -> None:
        sweep(self._segments, {name for (name,) in self._connection.execute("SELECT name FROM files")})

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self._connection.execute("SAVEPOINT change")
        try:
            yield
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO change")
                self._connection.execute("RELEASE change")
                self._sweep()
            if isinstance(error, UnicodeEncodeError):
                raise FlatcoatError(
                    f"not text, it holds half a surrogate pair: {error.object!r:.80}"
                ) from error
            if isinstance(error, OSError | sqlite3.Error):
                raise FlatcoatError(f"index {self._path} cannot be written: {error}") from error
            raise
        self._connection.execute("RELEASE change")

    def _write_segment(self, vectors: Vectors) -> int:
        shape = Shape.of(vectors)
        held = schema.read_meta(self._connection, "shape")
        if held is None:
            schema.write_meta(self._connection, "shape", shape)
        else:
            Shape(*held).require(shape, "passage")
        insert = "INSERT INTO segments(passages) VALUES (?)"
        number = self._connection.execute(insert, [len(vectors)]).lastrowid
        assert number is not None
        for file in write_segment(self._segments, number, as_stored(vectors)):
            row = (file.name, number, file.bytes, file.sha256)
            self._connection.execute(
                "INSERT INTO files(name, segment, bytes, sha256) VALUES (?, ?, ?, ?)", row
            )
        return number

    def _delete(self, document_ids: Iterable[str]) -> int:
        delete = "DELETE FROM documents WHERE id = ?"
        return sum(self._connection.execute(delete, [id]).rowcount for id in document_ids)

    def _insert_document(self, passage: Passage, hash: str) -> int:
        insert = "INSERT INTO documents(id, title, hash, metadata) VALUES (?, ?, ?, ?)"
        id = passage.document_id
        row = (id, passage.title, hash, _metadata_json(id, passage.metadata))
        key = self._connection.execute(insert, row).lastrowid
        assert key is not None
        return key

    def _insert_passage(self, passage: Passage, place: tuple[int, int, int, int]) -> None:
        """``place`` is the document's key, the segment, the position in it and the number of vectors."""
        insert = (
            "INSERT INTO passages(document, segment, position, vectors, first_line, last_line)"
            " VALUES (?, ?, ?, ?, ?, ?)"
        )
        row = self._connection.execute(insert, (*place, *passage.lines)).lastrowid
        text = (row, passage.title, passage.text)
        self._connection.execute("INSERT INTO texts(rowid, title, text) VALUES (?, ?, ?)", text)


def _by_document(passages: Sequence[Passage]) -> dict[str, Passage]:
    """The first passage of each document, whose title and metadata all its passages share."""
    first: dict[str, Passage] = {}
    for passage in passages:
        known = first.setdefault(passage.document_id, passage)
        if (known.title, known.metadata) != (passage.title, passage.metadata):
            raise FlatcoatError(
                f"passages of {passage.document_id!r} differ in title or metadata: give all the same"
            )
    return first


def _metadata_json(id: str, metadata: Metadata) -> str:
    for name, value in metadata.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float):
            raise FlatcoatError(
                f"metadata {name!r} of {id!r} is {value!r}: a text, number or boolean is needed"
            )
    try:
        return json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise FlatcoatError(f"metadata of {id!r} holds NaN or infinity: {metadata}") from error
