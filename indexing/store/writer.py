"""The index on disk, write side. The SQLite transaction is the only commit; files are swept to match it."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import numpy as np

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.documents import Document, Metadata, Passage, normalized
from flatcoat.indexing.segments import MOST_PASSAGES, Stored, as_stored, sweep, take, write_segment
from flatcoat.indexing.threads import pieces
from flatcoat.indexing.vectors import Shape, TokenVectors, Vectors

from . import compaction, schema, segment_table, sources
from .database import connect_to_write, explained
from .engines import EngineSettings
from .schema import document_checksum, row_checksum
from .snapshots import Snapshots
from .terms import camel_parts

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Writer:
    """Adds to and removes from one index; made by ``Store.writer()``, which holds the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._segments = path / schema.SEGMENTS
        self._snapshots = Snapshots(self._segments)
        self._changed: set[int] = set()  # keys of documents, or of such as are gone by now
        self._committed: set[str] = set()  # the files of the last commit
        try:
            self._connection = connect_to_write(path)
            self._connection.execute("PRAGMA synchronous = EXTRA")
            self._begin()
        except (OSError, sqlite3.Error) as error:
            raise FlatcoatError(f"index {path} cannot be written: {explained(error)}") from error

    def add(
        self,
        passages: Sequence[Passage],
        vectors: Vectors,
        hashes: Mapping[str, str] = _NOTHING,
        source: int | None = None,
        names: Mapping[str, str] = _NOTHING,
    ) -> None:
        """Add documents, each with all its passages; a document that is there already is replaced.

        ``vectors`` holds one text per passage, in the same order, and becomes one segment, or several beyond
        65,536 passages. ``hashes`` gives the content hash of these documents by id; those of others are
        passed over. ``source`` is the key of what they were read from, ``names`` what they are called there,
        by id (by default the id less the source's prefix). Raises FlatcoatError, and adds nothing, where
        passages, vectors and index do not fit, or an id is that of a document of another source.
        """
        documents = _by_document(passages)
        if len(vectors) != len(passages):
            raise FlatcoatError(
                f"{len(vectors)} vectors came for {len(passages)} passages: one each is needed"
            )
        if not passages:
            return
        with self._all_or_nothing():
            self._require_unclaimed(documents, source)
            self._delete(documents)
            prefix = self._prefix(source)
            keys = {
                id: self._insert_document(
                    passage, hashes.get(id, ""), source, names.get(id, id.removeprefix(prefix))
                )
                for id, passage in documents.items()
            }
            self._require_shape(vectors)
            stored = as_stored(vectors)
            if isinstance(stored, TokenVectors):
                compaction.prepare(self._connection, self._snapshots, stored)
            for here in pieces(len(passages), MOST_PASSAGES):
                whole = len(passages) <= MOST_PASSAGES
                part = stored if whole else take(stored, np.arange(here.start, here.stop))
                self._add_segment(passages[here], part, keys)

    def remove(self, document_ids: Iterable[str]) -> int:
        """Remove documents; returns how many of them were there."""
        with self._all_or_nothing():
            return self._delete(map(_checked_id, document_ids))

    def rename(self, old_id: str, document: Document, hash: str, name: str | None = None) -> None:
        """Give a document another id, title and metadata; its passages keep their vectors.

        ``name`` is what it is called in its source now (by default the id less the source's prefix). The
        vectors still speak of the old title, full-text search of the new. FlatcoatError where there is no
        such document, or the new id is that of a document of another source.
        """
        with self._all_or_nothing():
            held = self._connection.execute("SELECT key, source FROM documents WHERE id = ?", [old_id])
            key, source = held.fetchone() or (None, None)
            if key is None:
                raise FlatcoatError(f"document {old_id!r} is not in the index: add it instead")
            if document.id != old_id:
                self._require_unclaimed([document.id], source)
                self._delete([document.id])
            called = document.id.removeprefix(self._prefix(source)) if name is None else name
            metadata = _metadata_json(document.id, document.metadata)
            self._connection.execute(
                "UPDATE documents SET id = ?, title = ?, hash = ?, metadata = ?, name = ? WHERE key = ?",
                (document.id, document.title, hash, metadata, called, key),
            )
            self._retitle(key, document.title)
            self._changed.add(key)

    def enter_sources(
        self, roots: Sequence[sources.Root], reading: sources.Reading | None = None
    ) -> list[sources.Source]:
        """The sources at these places, new ones made: ``sources.enter``."""
        with self._all_or_nothing():
            return sources.enter(self._connection, self._path, roots, reading)

    def forget_source(self, source: int) -> int:
        """Drop a source and its documents; returns how many there were."""
        with self._all_or_nothing():
            count = "SELECT count(*) FROM documents WHERE source = ?"
            (documents,) = self._connection.execute(count, [source]).fetchone()
            self._connection.execute("DELETE FROM sources WHERE key = ?", [source])
            return documents

    def finish_source(self, source: sources.Source, state: str) -> None:
        """Remember what a file of rows was when all of it had been read."""
        with self._all_or_nothing():
            sources.set_state(self._connection, source, state)

    def remember(self, source: int, states: Iterable[tuple[str, sources.FileState]]) -> None:
        """Set what the files of a source were when they were read, by name.

        A file that was skipped has no document any more; FlatcoatError where one that was read has none.
        """
        with self._all_or_nothing():
            for name, state in states:
                self._forget(source, name)
                if state.skipped:
                    self._connection.execute(
                        "DELETE FROM documents WHERE source = ? AND name = ?", (source, name)
                    )
                    row = source, name, state.state, state.skipped
                    insert = "INSERT INTO skipped_files VALUES (?, ?, ?, ?, ?)"
                    self._connection.execute(insert, (*row, row_checksum(*row)))
                    continue
                update = (
                    "UPDATE documents SET state = ?, digest = ? WHERE source = ? AND name = ? RETURNING key"
                )
                values = state.state, state.digest, source, name
                document = self._connection.execute(update, values).fetchone()
                if document is None:
                    raise FlatcoatError(f"{name!r} has no document in the index: add that first")
                self._changed.add(document[0])

    def remove_named(self, source: int, names: Iterable[str]) -> int:
        """Remove what a source calls so, documents and skipped files; returns how many documents."""
        delete = "DELETE FROM documents WHERE source = ? AND name = ?"
        removed = 0
        with self._all_or_nothing():
            for name in names:
                self._forget(source, name)
                removed += self._connection.execute(delete, (source, name)).rowcount
        return removed

    def compact(self, full: bool = True, budget: int = compaction.BUDGET) -> None:
        """Commit, then merge segments, train and index anew as ``compaction`` says, and commit that.

        ``full`` does all that can be done, otherwise what is due. ``budget`` bounds working memory, in bytes.
        Raises FlatcoatError, and changes nothing, where the disk is full or FAISS's settings do not fit the
        vectors.
        """
        self.commit()
        with self._all_or_nothing():
            compaction.compact(self._connection, self._snapshots, full, budget)
        self.commit()

    def commit(self) -> None:
        """Make everything so far durable; segments whose last passage is gone go with it."""
        self._require_transaction()
        try:
            self._connection.execute("DELETE FROM segments WHERE live = 0")
            self._write_checksums()
            if self._connection.total_changes > self._changes_at_begin:
                generation = schema.read_generation(self._connection)
                schema.write_meta(self._connection, "generation", generation + 1)
            self._connection.execute("COMMIT")
            self._begin()
        except (OSError, sqlite3.Error) as error:
            raise FlatcoatError(f"index {self._path}: the commit failed: {explained(error)}") from error

    def close(self) -> None:
        """Drop what is not committed, and the files it wrote; what is goes from the log to the database."""
        self._roll_back()
        # What to keep comes from the database, never from a list of our own alone: an interrupt that arrives
        # just after a COMMIT must not take the committed files with it.
        self._sweep()
        self._connection.execute("PRAGMA busy_timeout = 0")  # A stopped reader may need the log.
        with suppress(sqlite3.Error):  # What stays in the log is as durable there.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._committed = self._names()
        self._sweep()
        self._changes_at_begin = self._connection.total_changes
        self._changed.clear()

    def _names(self) -> set[str]:
        return {name for (name,) in self._connection.execute("SELECT name FROM files")}

    def _sweep(self) -> None:
        sweep(self._segments, self._names() | self._committed)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite rolls back by itself where it cannot go on.
            self._connection.execute("ROLLBACK")

    def _require_transaction(self) -> None:
        if not self._connection.in_transaction:
            raise FlatcoatError(
                f"index {self._path}: an error undid all since the last commit: open another writer"
            )

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self._require_transaction()
        try:
            self._connection.execute("SAVEPOINT change")
            yield
            self._connection.execute("RELEASE change")
        except BaseException as error:
            if isinstance(error, sqlite3.OperationalError):
                self._roll_back()
            else:
                self._connection.execute("ROLLBACK TO change")
                self._connection.execute("RELEASE change")
            self._sweep()
            if isinstance(error, UnicodeEncodeError):
                raise FlatcoatError(
                    f"not text, it holds half a surrogate pair: {error.object!r:.80}"
                ) from error
            if isinstance(error, OSError | sqlite3.Error):
                raise FlatcoatError(f"index {self._path} cannot be written: {explained(error)}") from error
            raise

    def _require_shape(self, vectors: Vectors) -> None:
        shape = Shape.of(vectors)
        held = segment_table.shape(self._connection)
        if held is None:
            EngineSettings.from_json(schema.read_meta(self._connection, "engine")).validate_for(shape)
            schema.write_meta(self._connection, "shape", shape)
        else:
            held.require(shape, "passage")

    def _add_segment(self, passages: Sequence[Passage], stored: Stored, keys: Mapping[str, int]) -> None:
        sizes = np.ones(len(stored), int) if isinstance(stored, np.ndarray) else np.diff(stored.offsets)
        rows = segment_table.next_row(self._connection) + np.arange(len(passages))
        segment = segment_table.new_segment(self._connection, rows, int(sizes.sum()))
        codec = self._snapshots.codec(self._connection)
        coded = codec.encode(stored) if codec and isinstance(stored, TokenVectors) else stored
        files = write_segment(self._segments, segment, coded, lists_of=codec and codec.inverted_lists)
        segment_table.enter_files(self._connection, segment, files)
        for row, passage, size in zip(rows.tolist(), passages, sizes.tolist(), strict=True):
            self._insert_passage(passage, (row, keys[passage.document_id], segment, size))

    def _delete(self, document_ids: Iterable[str]) -> int:
        delete = "DELETE FROM documents WHERE id = ?"
        return sum(self._connection.execute(delete, [id]).rowcount for id in document_ids)

    def _retitle(self, document: int, title: str) -> None:
        query = "SELECT row, section, text FROM passages JOIN texts ON texts.rowid = row WHERE document = ?"
        for row, section, text in self._connection.execute(query, [document]).fetchall():
            parts = camel_parts(Passage("", text, title, section=section).searchable)
            self._connection.execute(
                "UPDATE texts SET title = ?, parts = ? WHERE rowid = ?", (title, parts, row)
            )

    def _forget(self, source: int, name: str) -> None:
        self._connection.execute("DELETE FROM skipped_files WHERE source = ? AND name = ?", (source, name))

    def _prefix(self, source: int | None) -> str:
        found = self._connection.execute("SELECT prefix FROM sources WHERE key = ?", [source]).fetchone()
        return found[0] if found else ""

    def _require_unclaimed(self, ids: Iterable[str], source: int | None) -> None:
        query = (
            "SELECT coalesce(path, 'add()') FROM documents LEFT JOIN sources ON sources.key = source"
            " WHERE id = ? AND source IS NOT ?"
        )
        for id in ids:
            if other := self._connection.execute(query, (id, source)).fetchone():
                raise FlatcoatError(
                    f"document {id!r} is in index {self._path} already, from {other[0]}: "
                    "give the new one another id, or remove that one first"
                )

    def _write_checksums(self) -> None:
        update = "UPDATE documents SET checksum = ? WHERE key = ?"
        for key in self._changed:
            with suppress(KeyError):  # It has been removed since.
                self._connection.execute(update, (document_checksum(self._connection, key), key))

    def _insert_document(self, passage: Passage, hash: str, source: int | None, name: str) -> int:
        insert = "INSERT INTO documents VALUES (NULL, ?, ?, ?, ?, ?, ?, '', '', 0)"
        id = passage.document_id
        row = (id, passage.title, hash, _metadata_json(id, passage.metadata), source, name)
        key = self._connection.execute(insert, row).lastrowid
        assert key is not None
        self._changed.add(key)
        return key

    def _insert_passage(self, passage: Passage, place: tuple[int, int, int, int]) -> None:
        """``place`` is its row, the document's key, the segment and the number of vectors."""
        self._connection.execute("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)", (*place, *passage.lines))
        text = (place[0], passage.title, passage.section, passage.text, camel_parts(passage.searchable))
        self._connection.execute(
            "INSERT INTO texts(rowid, title, section, text, parts) VALUES (?, ?, ?, ?, ?)", text
        )


def _checked_id(id: object) -> str:
    if not isinstance(id, str):
        raise FlatcoatError(f"document ids are texts, {id!r:.60} came: give ids as search names them")
    return normalized(id)


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
