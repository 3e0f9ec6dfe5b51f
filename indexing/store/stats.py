"""Sizes of an index, for people and dashboards."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from flatcoat.console import counted

from . import segment_table
from .schema import DATABASE


@dataclass(frozen=True)
class Stats:
    """Sizes of an index: ``vectors`` counts the vectors of live passages, ``bytes`` is all of it on disk.

    ``engine`` is what searches it as of now: "exact", "plaid" or "faiss".

    >>> Stats(2, 3, 300, 1, 81920, kind="token", width=128, engine="exact").describe()
    '2 documents, 3 passages, 300 vectors, 0.1 MB'
    """

    documents: int
    passages: int
    vectors: int
    segments: int
    bytes: int
    kind: str | None
    width: int | None
    engine: str

    def to_json(self) -> dict[str, object]:
        """JSON values."""
        names = ("documents", "passages", "vectors", "segments", "bytes", "engine")
        return {name: getattr(self, name) for name in names}

    def describe(self) -> str:
        """Sizes in words."""
        return (
            f"{counted(self.documents, 'document')}, {counted(self.passages, 'passage')}, "
            f"{counted(self.vectors, 'vector')}, {self.bytes / 1e6:,.1f} MB"
        )


def read_stats(connection: sqlite3.Connection, path: Path) -> Stats:
    """The sizes of the index at ``path``, as ``connection`` sees it."""
    documents, passages, vectors, segments = connection.execute(
        "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages),"
        " (SELECT coalesce(sum(live_vectors), 0) FROM segments), (SELECT count(*) FROM segments)"
    ).fetchone()
    (vector_bytes,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()
    kind, width = segment_table.shape(connection) or (None, None)
    engine = "exact"
    for derived, name in (("faiss", "faiss"), ("codec", "plaid")):
        if segment_table.derived_file(connection, derived):
            engine = name
    size = vector_bytes + (path / DATABASE).stat().st_size
    return Stats(documents, passages, vectors, segments, size, kind, width, engine)
