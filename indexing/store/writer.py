"""The index on disk, write side: the SQLite transaction is the only commit, and orphan files are swept.

Files of segments are written before the transaction that names them commits. Whatever cuts a write off, an
error or a power cut, leaves the last commit and perhaps orphan files, which the next writer sweeps.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from flatcoat.errors import ConflictError, NotFoundError, StorageError, UsageError
from flatcoat.indexing.documents import Document, Passage, checked_id
from flatcoat.indexing.postings import write_postings
from flatcoat.indexing.reading.scan import FileState
from flatcoat.indexing.segments import MOST_PASSAGES, Stored, as_stored, sweep, take, write_segment
from flatcoat.indexing.vectors import Shape, TokenVectors, Vectors
from flatcoat.threads import pieces

from . import compaction, document_table, schema, segment_table, sources
from .bm25 import postings_of, rewrite_postings
from .database import connect_to_write, explained
from .document_table import PassagePlace
from .engines import EngineSettings
from .schema import row_checksum
from .snapshots import Snapshots
from .source_paths import Root
from .upgrade import upgrade

if TYPE_CHECKING:
    from flatcoat.indexing.plaid.codec import Codec

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Writer:
    """Adds to and removes from one index; ``Store.writer()`` makes it and holds the lock.

    An example is at ``Store``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._segments = path / schema.SEGMENTS
        self._snapshots = Snapshots(self._segments)
        self._changed: set[int] = set()  # keys of changed documents, of deleted ones too
        self._retitled: set[int] = set()  # of those, the ones whose postings hold another title
        self._committed: set[str] = set()  # the files of the last commit
        try:
            self._connection = connect_to_write(path)
            self._connection.execute("PRAGMA synchronous = EXTRA")
            upgrade(self._connection, self._segments)
            self._begin()
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"index {path} cannot be written: {explained(error)}") from error

    def add(
        self,
        passages: Sequence[Passage],
        vectors: Vectors | None,
        *,
        hashes: Mapping[str, str] = _NOTHING,
        source: int | None = None,
        names: Mapping[str, str] = _NOTHING,
    ) -> None:
        """Add documents, each with all its passages; a document that is there already is replaced.

        ``vectors`` holds one text per passage, in the same order, and becomes one segment, or several beyond
        65,536 passages; with None, ``add_vectors`` may bring them later. ``hashes`` gives the content hash of
        these documents by id; hashes of others are ignored. ``source`` is the key of the source that they
        were read from, ``names`` their names there, by id (by default the id less the source's prefix). Adds
        nothing and raises UsageError where passages and vectors do not fit, ConflictError where the vectors
        do not fit the index, or an id is that of a document of another source.
        """
        documents = document_table.by_document(passages)
        if vectors is not None and len(vectors) != len(passages):
            raise UsageError(f"{len(vectors)} vectors came for {len(passages)} passages: one each is needed")
        if not passages:
            return
        with self._all_or_nothing():
            self._require_unclaimed(documents, source)
            document_table.delete(self._connection, documents)
            prefix = self._prefix(source)
            keys = {
                id: document_table.insert_document(
                    self._connection,
                    passage,
                    hash=hashes.get(id, ""),
                    source=source,
                    name=names.get(id, id.removeprefix(prefix)),
                )
                for id, passage in documents.items()
            }
            self._changed.update(keys.values())
            stored = None if vectors is None else self._prepared(vectors)
            for here in pieces(len(passages), MOST_PASSAGES):
                part = stored
                if stored is not None and len(passages) > MOST_PASSAGES:
                    part = take(stored, np.arange(here.start, here.stop))
                self._add_segment(passages[here], part, keys)

    def without_vectors(self, most: int) -> list[int]:
        """The segments without vectors, made into ones of ``most`` live passages and a last one; commits."""
        with self._all_or_nothing():
            compaction.even_out(self._connection, self._segments, most)
            numbers = [segment.number for segment in compaction.without_vectors(self._connection)]
        self.commit()
        return numbers

    def add_vectors(self, segment: int, vectors: Vectors) -> None:
        """Give the passages of a segment of ``without_vectors`` theirs, one text each, in their order.

        UsageError where their number is another, ConflictError where the segment is not as it was given there
        or the vectors do not fit the index.
        """
        with self._all_or_nothing():
            known = {one.number: one for one in compaction.without_vectors(self._connection)}
            record = known.get(segment)
            if record is None or not record.is_clean:
                raise ConflictError(f"segment {segment} of index {self._path} takes no vectors: ask again")
            if len(vectors) != record.live:
                raise UsageError(
                    f"{len(vectors)} vectors came for {record.live} passages: one each is needed"
                )
            stored = self._prepared(vectors)
            rows = segment_table.written_rows(self._connection, segment)
            segment_table.set_vectors(self._connection, segment, rows, _sizes(stored))
            self._write_vectors(segment, stored)
            self._changed.update(document_table.keys_of_segment(self._connection, segment))

    def remove(self, document_ids: str | Iterable[str]) -> int:
        """Remove one document or several; returns how many of them were there.

        Their vectors become tombstones until compaction. UsageError where an id is no text or whole number.
        """
        ids = [document_ids] if isinstance(document_ids, str) else document_ids
        if not isinstance(ids, Iterable):
            raise UsageError(f"{type(ids).__name__} came: the ids of documents are needed")
        with self._all_or_nothing():
            return document_table.delete(self._connection, map(checked_id, ids))

    def rename(self, old_id: str, document: Document, *, hash: str, name: str | None = None) -> None:
        """Give a document another id, title and metadata; its passages keep their vectors.

        ``name`` is its name in its source from now on (by default the id less the source's prefix). The
        vectors still encode the old title, BM25 finds the new one. NotFoundError where there is
        no such document, ConflictError where the new id is that of a document of another source.
        """
        with self._all_or_nothing():
            query = "SELECT key, source, title FROM documents WHERE id = ?"
            key, source, title = self._connection.execute(query, [old_id]).fetchone() or (None, None, None)
            if key is None:
                raise NotFoundError(f"document {old_id!r} is not in the index: add it instead")
            if document.id != old_id:
                self._require_unclaimed([document.id], source)
                document_table.delete(self._connection, [document.id])
            if name is None:
                name = document.id.removeprefix(self._prefix(source))
            document_table.rename(self._connection, key, document, hash=hash, name=name)
            self._changed.add(key)
            if document.title != title:
                self._retitled.add(key)

    def enter_sources(
        self, roots: Sequence[Root], reading: sources.Reading | None = None
    ) -> list[sources.Source]:
        """The sources at these roots, new ones made: ``sources.enter``."""
        with self._all_or_nothing():
            return sources.enter(self._connection, self._path, roots, reading=reading)

    def forget_source(self, source: int) -> int:
        """Drop a source and its documents; returns how many documents there were."""
        with self._all_or_nothing():
            documents = document_table.count_of_source(self._connection, source)
            self._connection.execute("DELETE FROM sources WHERE key = ?", [source])
            return documents

    def finish_source(self, source: sources.Source, state: str) -> None:
        """Remember the state of a file of rows, once all of it has been read."""
        with self._all_or_nothing():
            sources.set_state(self._connection, source, state)

    def remember(self, source: int, states: Iterable[tuple[str, FileState]]) -> None:
        """Set the states of a source's files when they were read, by name.

        A skipped file loses its document; NotFoundError where a file that was read has none.
        """
        with self._all_or_nothing():
            for name, state in states:
                self._forget(source, name)
                if state.skipped:
                    document_table.delete_named(self._connection, source, name)
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
                    raise NotFoundError(f"{name!r} has no document in the index: add that first")
                self._changed.add(document[0])

    def remove_named(self, source: int, names: Iterable[str]) -> int:
        """Remove documents and skipped files of a source by name; returns how many documents there were."""
        removed = 0
        with self._all_or_nothing():
            for name in names:
                self._forget(source, name)
                removed += document_table.delete_named(self._connection, source, name)
        return removed

    def give_codec(self, codec: "Codec", calibration: Sequence[Sequence[float]] = ()) -> None:
        """Give PLAID's codec, trained elsewhere, to an index that has none; it is never trained anew.

        Vectors that are there are coded. ``calibration`` are its operating points
        (``plaid.operating_points``), measured elsewhere; without them they are measured here where the index
        is large enough. ConflictError where the index has a codec, or vectors of another shape.
        """
        self.commit()
        with self._all_or_nothing():
            shape = segment_table.shape(self._connection)
            if shape is not None:
                shape.require(Shape("token", codec.width), "coded")
            if self._snapshots.codec(self._connection):
                raise ConflictError(f"index {self._path} has a codec: it stays")
            compaction.give_codec(self._connection, self._snapshots, codec, calibration=calibration)
        self.commit()

    def change_contract(self, contract: dict[str, Any]) -> None:
        """Replace the contract of an index without vectors; ConflictError where it has some."""
        with self._all_or_nothing():
            if segment_table.shape(self._connection) is not None:
                raise ConflictError(f"index {self._path} has vectors, which another contract would not fit")
            schema.write_meta(self._connection, "contract", contract)

    def compact(self, full: bool = True, budget: int = compaction.BUDGET) -> None:
        """Commit, then merge segments and train the engine anew as ``compaction`` says, and commit that.

        ``full`` does all that can be done, otherwise what is due. ``budget`` is the memory budget while
        building, in bytes. Changes nothing and raises StorageError where the disk is full, ConflictError
        where FAISS's settings do not fit the vectors.
        """
        self.commit()
        with self._all_or_nothing():
            compaction.compact(self._connection, self._snapshots, full=full, budget=budget)
        self.commit()

    def commit(self) -> None:
        """Make everything so far durable, and drop segments that hold nothing but tombstones."""
        self._require_transaction()
        try:
            self._connection.execute("DELETE FROM segments WHERE live = 0")
            rewrite_postings(self._connection, self._segments, documents=self._retitled)
            document_table.write_checksums(self._connection, self._changed)
            if self._connection.total_changes > self._changes_at_begin:
                generation = schema.read_generation(self._connection)
                schema.write_meta(self._connection, "generation", generation + 1)
            self._connection.execute("COMMIT")
            self._begin()
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"index {self._path}: the commit failed: {explained(error)}") from error

    def close(self) -> None:
        """Roll back to the last commit, sweep orphan files, and empty the log into the database."""
        self._roll_back()
        # Which files to keep comes from the database, never from a list of our own alone: an interrupt that
        # arrives just after a COMMIT must not take the committed files with it.
        self._sweep()
        self._connection.execute("PRAGMA busy_timeout = 0")  # A stopped reader may need the log.
        with suppress(sqlite3.Error):  # What stays in the log is as durable there.
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._committed = schema.file_names(self._connection)
        self._sweep()
        self._changes_at_begin = self._connection.total_changes
        self._changed.clear()
        self._retitled.clear()

    def _sweep(self) -> None:
        """Delete orphan files: files of segments that neither this transaction nor the last commit names."""
        sweep(self._segments, schema.file_names(self._connection) | self._committed)

    def _roll_back(self) -> None:
        if self._connection.in_transaction:  # SQLite rolls back by itself where it cannot go on.
            self._connection.execute("ROLLBACK")

    def _require_transaction(self) -> None:
        if not self._connection.in_transaction:
            raise StorageError(
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
                raise UsageError(f"not text, it holds half a surrogate pair: {error.object!r:.80}") from error
            if isinstance(error, OSError | sqlite3.Error):
                raise StorageError(f"index {self._path} cannot be written: {explained(error)}") from error
            raise

    def _prepared(self, vectors: Vectors) -> TokenVectors | np.ndarray:
        """Vectors as they are stored, of the shape of the index, whose codec is fit for them."""
        self._require_shape(vectors)
        stored = as_stored(vectors)
        if isinstance(stored, TokenVectors):
            compaction.prepare(self._connection, self._snapshots, stored)
        return stored

    def _require_shape(self, vectors: Vectors) -> None:
        shape = Shape.of(vectors)
        known = segment_table.shape(self._connection)
        if known is None:
            EngineSettings.from_json(schema.read_meta(self._connection, "engine")).validate_for(shape)
            schema.write_meta(self._connection, "shape", shape)
        else:
            known.require(shape, "passage")

    def _add_segment(
        self, passages: Sequence[Passage], stored: Stored | None, keys: Mapping[str, int]
    ) -> None:
        sizes = np.zeros(len(passages), int) if stored is None else _sizes(stored)
        rows = segment_table.next_row(self._connection) + np.arange(len(passages))
        segment = segment_table.new_segment(self._connection, rows, int(sizes.sum()))
        if stored is not None:
            self._write_vectors(segment, stored)
        self._add_postings(segment, passages)
        for row, passage, size in zip(rows.tolist(), passages, sizes.tolist(), strict=True):
            place = PassagePlace(row, keys[passage.document_id], segment, size)
            document_table.insert_passage(self._connection, passage, place)

    def _write_vectors(self, segment: int, stored: Stored) -> None:
        codec = self._snapshots.codec(self._connection)
        coded = codec.encode(stored) if codec and isinstance(stored, TokenVectors) else stored
        files = write_segment(self._segments, segment, stored=coded, lists_of=codec and codec.inverted_lists)
        segment_table.enter_files(self._connection, segment, files)

    def _add_postings(self, segment: int, passages: Sequence[Passage]) -> None:
        postings = postings_of(passage.searchable for passage in passages)
        file = write_postings(self._segments, segment, postings)
        segment_table.enter_files(self._connection, segment, [file])

    def _forget(self, source: int, name: str) -> None:
        self._connection.execute("DELETE FROM skipped_files WHERE source = ? AND name = ?", (source, name))

    def _prefix(self, source: int | None) -> str:
        found = self._connection.execute("SELECT prefix FROM sources WHERE key = ?", [source]).fetchone()
        return found[0] if found else ""

    def _require_unclaimed(self, ids: Iterable[str], source: int | None) -> None:
        for id in ids:
            if claim := document_table.other_claim(self._connection, id, source):
                raise ConflictError(
                    f"document {id!r} is in index {self._path} already, from {claim}: "
                    "give the new one another id, or remove that one first"
                )


def _sizes(stored: Stored) -> np.ndarray:
    """The number of vectors of each passage (int64)."""
    return np.ones(len(stored), int) if isinstance(stored, np.ndarray) else np.diff(stored.offsets)


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the lock of the one writer; ConflictError at once where another process holds it."""
    lock = FileLock(path / schema.LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConflictError(f"index {path} is being written by another process: try again later") from error
    except OSError as error:
        raise StorageError(f"index {path} cannot be written: {error}") from error
    try:
        yield
    finally:
        lock.release()
