"""Sizes of an index, for people and dashboards."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from flatcoat.console import counted

from . import segment_table
from .schema import DATABASE


class Encoded(NamedTuple):
    """How many ``passages`` have vectors, ``of`` all live ones.

    >>> Encoded(3000, of=12000).describe()
    'vectors for 3,000 of 12,000 passages'
    """

    passages: int
    of: int

    @property
    def is_complete(self) -> bool:
        """Whether all have vectors."""
        return self.passages == self.of

    @property
    def is_ranked_by(self) -> bool:
        """Whether vectors rank beside BM25: half of the passages have some.

        Passages are encoded in their order. Of a first few those that answer best would come before better
        ones that have no vectors yet.

        >>> Encoded(1000, of=19_000).is_ranked_by, Encoded(9_600, of=19_000).is_ranked_by
        (False, True)
        """
        return 2 * self.passages >= self.of > 0

    def describe(self) -> str:
        """The same in words."""
        return f"vectors for {self.passages:,} of {counted(self.of, 'passage')}"


@dataclass(frozen=True)
class Stats:
    """Sizes of an index: ``vectors`` counts the vectors of live passages, ``bytes`` is all of it on disk.

    ``passages_with_vectors`` are fewer than the ``passages`` until all are encoded. ``engine`` is what
    searches the vectors as of now: "exact", "plaid" or "faiss".

    >>> Stats(2, 3, 2, 200, 1, 81920, kind="token", width=128, engine="exact").describe()
    '2 documents, 3 passages, 200 vectors for 2 of 3 passages, 0.1 MB'
    """

    documents: int
    passages: int
    passages_with_vectors: int
    vectors: int
    segments: int
    bytes: int
    kind: str | None
    width: int | None
    engine: str

    def to_json(self) -> dict[str, object]:
        """JSON values."""
        names = ("documents", "passages", "passages_with_vectors", "vectors", "segments", "bytes", "engine")
        return {name: getattr(self, name) for name in names}

    def describe(self) -> str:
        """Sizes in words."""
        done = self.passages_with_vectors
        vectors = counted(self.vectors, "vector") if done or not self.passages else "no vectors"
        if 0 < done < self.passages:
            vectors += f" for {done:,} of {counted(self.passages, 'passage')}"
        return (
            f"{counted(self.documents, 'document')}, {counted(self.passages, 'passage')}, "
            f"{vectors}, {self.bytes / 1e6:,.1f} MB"
        )


def read_encoded(connection: sqlite3.Connection) -> Encoded:
    """How many passages have vectors, without a look at each."""
    segments = segment_table.segments(connection)
    encoded = sum(segment.live for segment in segments if segment.has_vectors)
    return Encoded(encoded, of=sum(segment.live for segment in segments))


def read_stats(connection: sqlite3.Connection, path: Path) -> Stats:
    """The sizes of the index at ``path``, as ``connection`` sees it."""
    documents, passages = connection.execute(
        "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages)"
    ).fetchone()
    segments = segment_table.segments(connection)
    vectors = sum(segment.live_vectors for segment in segments)
    (vector_bytes,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()
    kind, width = segment_table.shape(connection) or (None, None)
    engine = "exact"
    for derived, name in (("faiss", "faiss"), ("codec", "plaid")):
        if segment_table.derived_file(connection, derived):
            engine = name
    size = vector_bytes + (path / DATABASE).stat().st_size
    encoded = read_encoded(connection).passages
    return Stats(documents, passages, encoded, vectors, len(segments), size, kind, width, engine)
