"""Compaction keeps an index small and fast as it changes, in one transaction of its writer.

It merges segments, which drops their tombstones (vectors of removed passages); rows of passages, by which
hits name them, stay. It encodes token vectors once PLAID is to search them, and builds the FAISS file of
dense ones. ``budget`` is the memory budget while building: segments stream through it block by block.

A segment merge never decodes. When a collection outgrows its codec a new codec is trained, also on the
vectors that are about to be added, and encodes the decoded vectors of the old one. Errors add up: in its
test, at 4 bits, unit vectors encoded once, twice and three times are off by 0.13, 0.26 and 0.40 % of their
squares. Three quarters of a collection that has grown fourfold have been encoded once.

Segments without vectors are merged with each other alone, and count for nothing else.
"""

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.atomic_files import sync_folder
from flatcoat.indexing.array_files import seal
from flatcoat.indexing.segments import MOST_PASSAGES, Stored, release
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.vectors import TokenVectors

from . import segment_table
from .engines import EngineSettings
from .merge import SegmentMerge
from .schema import json_of, read_meta, write_meta
from .segment_table import SegmentRecord
from .snapshots import Snapshots

if TYPE_CHECKING:
    from flatcoat.indexing.plaid.codec import Codec

BUDGET = 1 << 30
"""Memory budget while building, in bytes."""

RETRAIN_AT = 4
"""Growth of the number of tokens since the codec was trained at which a new one is."""

_GIVEN = "codec_is_given"  # in the table meta
_MOST_SMALL = 32  # small segments that are left unmerged
_MOST_DEAD = 0.3  # of a segment's vectors may be tombstones
_MOST_STALE = 0.2  # of the vectors of the FAISS file may be added or removed
_SAMPLE_BYTES_EACH = 8  # of working memory per component of the sample


def compact(connection: sqlite3.Connection, snapshots: Snapshots, *, full: bool, budget: int) -> None:
    """Compact as far as possible, or (not ``full``) as far as is due, within a memory budget in bytes."""
    folder = snapshots.folder
    shape = segment_table.shape(connection)
    bare = without_vectors(connection)
    chosen = all_but_full(bare) if full else due(bare)
    SegmentMerge(connection, folder, shape=None, budget=budget).merge(chosen, None)
    if shape is None:
        return
    settings = EngineSettings.from_json(read_meta(connection, "engine"))
    segments = _with_vectors(connection)
    vectors = sum(segment.live_vectors for segment in segments)
    engine = settings.engine_for(shape.kind, vectors)
    codec, before = snapshots.codec(connection), None
    if codec is None and engine == "plaid" and vectors > 0:
        before = snapshots.take(connection)
        _retrain(connection, folder, None, budget)
    elif codec and _has_outgrown(connection, codec, vectors):
        _retrain(connection, folder, codec, budget)
    else:
        chosen = all_but_full(segments) if full else due(segments)
        SegmentMerge(connection, folder, shape=shape, budget=budget).merge(chosen, codec)
    if snapshots.codec(connection) and not read_meta(connection, "calibration"):
        _calibrate(connection, folder, before)
    exists = segment_table.derived_file(connection, "faiss") is not None
    if (exists or engine == "faiss") and _is_stale(connection, segments, exists, full):
        _write_faiss(connection, folder, settings)


def all_but_full(segments: Sequence[SegmentRecord]) -> list[SegmentRecord]:
    """Segments for a full compaction: all but full ones without tombstones; none if one clean one is left."""
    rest = [segment for segment in segments if not (segment.is_clean and segment.live == MOST_PASSAGES)]
    return [] if len(rest) == 1 and rest[0].is_clean else rest


def due(segments: Sequence[SegmentRecord]) -> list[SegmentRecord]:
    """Segments whose merge is due: those with many tombstones, and small ones where there are many.

    A segment is merged with smaller ones only where it is at most twice as large as all of them together: its
    passages end up in a segment half as large again, so that no passage is rewritten often.
    """
    dead = [segment for segment in segments if segment.dead_fraction > _MOST_DEAD]
    small = [segment for segment in segments if segment.live <= MOST_PASSAGES // 2 and segment not in dead]
    if len(small) <= _MOST_SMALL:
        return dead
    small.sort(key=lambda segment: segment.live)
    sizes = np.array([segment.live for segment in small])
    worth = np.flatnonzero(sizes[1:] <= 2 * np.cumsum(sizes)[:-1])
    merged = small[: worth[-1] + 2] if len(worth) else []
    return sorted(dead + merged, key=lambda segment: segment.number)


def without_vectors(connection: sqlite3.Connection) -> list[SegmentRecord]:
    """The live segments without vectors."""
    return [one for one in segment_table.segments(connection) if one.live and not one.has_vectors]


def even_out(connection: sqlite3.Connection, folder: Path, most: int) -> None:
    """Make the segments without vectors ones of ``most`` passages and a last one, without tombstones."""
    bare = without_vectors(connection)
    uneven = [segment for segment in bare if not (segment.is_clean and segment.live == most)]
    if len(uneven) > 1 or any(not segment.is_clean or segment.live > most for segment in uneven):
        SegmentMerge(connection, folder, shape=None, budget=0).merge(uneven, None, most=most)


def prepare(connection: sqlite3.Connection, snapshots: Snapshots, added: TokenVectors) -> None:
    """Train a new codec where the collection outgrows its own by ``added``, before that is encoded."""
    codec = snapshots.codec(connection)
    vectors = sum(segment.live_vectors for segment in _with_vectors(connection))
    if codec and _has_outgrown(connection, codec, vectors + len(added.values_TD)):
        _retrain(connection, snapshots.folder, codec, BUDGET, added)


def give_codec(
    connection: sqlite3.Connection,
    snapshots: Snapshots,
    codec: "Codec",
    *,
    calibration: Sequence[Sequence[float]],
) -> None:
    """Make ``codec``, which was trained elsewhere, that of an index without one, for good."""
    before = snapshots.take(connection)
    _save_codec(connection, snapshots.folder, codec)
    write_meta(connection, "calibration", calibration)
    write_meta(connection, _GIVEN, True)
    if segments := _with_vectors(connection):
        shape = segment_table.shape(connection)
        merge = SegmentMerge(connection, snapshots.folder, shape=shape, budget=BUDGET)
        merge.merge(segments, codec, change=lambda block: _reencode(block, None, codec))
        if not calibration:
            _calibrate(connection, snapshots.folder, before)


def _has_outgrown(connection: sqlite3.Connection, codec: "Codec", vectors: int) -> bool:
    """Whether a new codec is due; one that was given is shared with other indexes, and stays."""
    return vectors > RETRAIN_AT * codec.tokens and not read_meta(connection, _GIVEN)


def _save_codec(connection: sqlite3.Connection, folder: Path, codec: "Codec") -> None:
    path = folder / f"{segment_table.new_file_number(connection):06d}.codec.npz"
    codec.save(path)
    segment_table.replace_derived_file(connection, "codec", seal(path))


def _with_vectors(connection: sqlite3.Connection) -> list[SegmentRecord]:
    return [one for one in segment_table.segments(connection) if one.live and one.has_vectors]


def _retrain(
    connection: sqlite3.Connection,
    folder: Path,
    old: "Codec | None",
    budget: int,
    added: TokenVectors | None = None,
) -> None:
    """Train a codec on the live vectors (encoded by ``old``) and ``added``; encode the live ones with it."""
    from flatcoat.indexing.plaid.codec import Codec, sample_size

    shape = segment_table.shape(connection)
    assert shape
    settings = EngineSettings.from_json(read_meta(connection, "engine"))
    segments = _with_vectors(connection)
    merge = SegmentMerge(connection, folder, shape=shape, budget=budget)
    vectors = sum(segment.live_vectors for segment in segments) + (len(added.values_TD) if added else 0)
    most = max(1, budget // (_SAMPLE_BYTES_EACH * shape.width))
    count = min(sample_size(vectors, settings.centroids), most)
    sample_TD = merge.sample(segments, count, codec=old, added=added)
    new = Codec.train(sample_TD, vectors, bits=settings.bits, centroids=settings.centroids)
    _save_codec(connection, folder, new)
    write_meta(connection, "calibration", ())
    merge.merge(segments, new, change=lambda block: _reencode(block, old, new))


def _reencode(block: Stored, old: "Codec | None", new: "Codec") -> Stored:
    assert not isinstance(block, np.ndarray)
    if isinstance(block, TokenVectors):
        return new.encode(block)
    assert old
    return new.encode(old.decode(block))


def _calibrate(connection: sqlite3.Connection, folder: Path, before: Snapshot | None) -> None:
    """Measure PLAID's operating points, against the original vectors of ``before`` if there are any."""
    from flatcoat.indexing.plaid.calibration import THOROUGH, calibrate
    from flatcoat.indexing.plaid.index import PlaidIndex

    after = Snapshots(folder).take(connection)
    if len(after) > THOROUGH:
        exact = partial(_exact_ids, before) if before else None
        write_meta(connection, "calibration", calibrate(PlaidIndex.from_snapshot(after), exact))


def _exact_ids(before: Snapshot, query: TokenVectors, k: int, rows: np.ndarray) -> list[int]:
    from flatcoat.indexing.exact import ExactIndex

    (hits,) = ExactIndex[int](before, None, keep_bytes=0).search(query, k, allowed=rows)
    release(before.segments)  # Otherwise all of a large collection ends up in memory.
    return hits.ids


def _is_stale(
    connection: sqlite3.Connection, segments: Sequence[SegmentRecord], exists: bool, full: bool
) -> bool:
    if not exists:
        return True
    match read_meta(connection, "faiss_covers"):
        case [int(covered), int(last_row)]:
            pass
        case _:
            return True
    query = "SELECT count(*) FROM passages WHERE row > ? AND segment IN (SELECT value FROM json_each(?))"
    numbers = json_of(segment.number for segment in segments)
    (added,) = connection.execute(query, (last_row, numbers)).fetchone()
    # Below 0 where vectors came late to passages that had been added early.
    removed = abs(covered - (sum(segment.live for segment in segments) - added))
    return added + removed > (0 if full else _MOST_STALE * covered)


def _write_faiss(connection: sqlite3.Connection, folder: Path, settings: EngineSettings) -> None:
    from flatcoat.indexing.faiss.build import write_faiss

    snapshot = Snapshots(folder).take(connection)
    if not len(snapshot):
        segment_table.replace_derived_file(connection, "faiss", None)
        return
    path = folder / f"{segment_table.new_file_number(connection):06d}.faiss"
    write_faiss(path, snapshot, settings=settings.faiss())
    segment_table.replace_derived_file(connection, "faiss", seal(path))
    write_meta(connection, "faiss_covers", [len(snapshot), int(snapshot.rows.max())])
    sync_folder(folder)
