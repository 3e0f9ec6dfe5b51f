"""BM25 over the passages of an index: the terms of texts and queries, and the postings of its segments."""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from flatcoat.indexing.array_checks import damaged
from flatcoat.indexing.bm25 import Bm25Index, LivePostings
from flatcoat.indexing.postings import Part, Postings, write_postings
from flatcoat.indexing.terms import index_terms

from . import document_table, segment_table
from .schema import read_generation
from .segment_table import SegmentRecord

_log = logging.getLogger(__name__)


def postings_of(texts: Iterable[str]) -> Postings:
    """The postings of passages, given their searchable texts."""
    return Postings.build(map(index_terms, texts))


class Bm25Snapshots:
    """Takes BM25 snapshots of the index whose files are in ``folder``; each file is opened once.

    ``kept`` remembers places. Threads may share it.
    """

    def __init__(self, folder: Path, kept: segment_table.KeptPlaces) -> None:
        self._folder = folder
        self._kept = kept
        self._opened: dict[str, Postings] = {}
        self._latest: tuple[int, Bm25Index] | None = None
        self._lock = Lock()

    def take(self, connection: sqlite3.Connection) -> Bm25Index:
        """The index as ``connection`` sees it, in a transaction.

        StorageError where a file is damaged, or was swept after a later commit.
        """
        generation = read_generation(connection)
        with self._lock:
            if self._latest is None or self._latest[0] != generation:
                records = segment_table.segments(connection)
                names = {record.postings.name for record in records if record.postings}
                self._opened = {name: one for name, one in self._opened.items() if name in names}
                live = [self._live(connection, record) for record in records]
                self._latest = generation, Bm25Index(live)
            return self._latest[1]

    def _live(self, connection: sqlite3.Connection, record: SegmentRecord) -> LivePostings:
        rows_N = segment_table.written_rows(connection, record.number)
        postings = self._postings(connection, record, rows_N)
        if record.is_clean:
            return LivePostings(postings, rows_N)
        live_N = np.zeros(len(rows_N), np.bool_)
        live_N[self._kept(connection, record).positions] = True
        return LivePostings(postings, rows_N, live_N)

    def _postings(
        self, connection: sqlite3.Connection, record: SegmentRecord, rows_N: np.ndarray
    ) -> Postings:
        if record.postings is None:
            _log.info("segment %d has no postings yet: its words are read anew", record.number)
            return segment_postings(connection, record.number, rows_N)
        if record.postings.name not in self._opened:
            self._opened[record.postings.name] = record.open_postings(self._folder)
        return self._opened[record.postings.name]


def segment_postings(connection: sqlite3.Connection, segment: int, rows_N: np.ndarray) -> Postings:
    """The postings of a segment's live passages, read from their texts; ``rows_N`` are all its rows."""
    rows: list[int] = []

    def texts() -> Iterator[str]:
        for row, text in document_table.searchable(connection, segment):
            rows.append(row)
            yield text

    live = postings_of(texts())
    part = Part(live, np.arange(len(live)), positions_of(rows, rows_N))
    return Postings.merge([part], len(rows_N))


def rewrite_postings(connection: sqlite3.Connection, folder: Path, *, documents: Iterable[int]) -> None:
    """Write postings anew where passages of these documents (keys) are, whose texts have changed."""
    changed = document_table.segments_of(connection, documents)
    for record in segment_table.segments(connection):
        if record.number in changed:
            rows_N = segment_table.written_rows(connection, record.number)
            texts = dict(document_table.searchable(connection, record.number))
            rows = changed[record.number]
            into = positions_of(rows, rows_N)
            others = np.delete(np.arange(len(rows_N)), into)
            parts = (
                Part(record.open_postings(folder), others, others),
                Part(postings_of(texts[row] for row in rows), np.arange(len(rows)), into),
            )
            number = segment_table.new_file_number(connection)
            file = write_postings(folder, number, Postings.merge(parts, len(rows_N)))
            segment_table.replace_postings(connection, record.number, file)


def positions_of(rows: Sequence[int], rows_N: np.ndarray) -> np.ndarray:
    """Where in ``rows_N`` each of these rows is (int64); StorageError where one is not there."""
    wanted, order = np.array(rows, np.int64), np.argsort(rows_N)
    found = order[np.searchsorted(rows_N[order], wanted).clip(max=len(order) - 1)]
    if not np.array_equal(rows_N[found], wanted):
        raise damaged("the list of passages of a segment")
    return found
