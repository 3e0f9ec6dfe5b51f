"""What a search asks of an index: four calls, answered by one index or by several shards of a collection.

``statistics``   what all passages that are searched together decide: counts for BM25, known fields
``rank``         the best passages by vectors and by BM25
``passages``     the texts of rows, and ``token_vectors`` their vectors
``filtered``     what filters let through, where there is no query

A row names a passage among all that are searched together: in its upper bits stands the number of the shard.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np

from flatcoat.errors import StorageError
from flatcoat.indexing.bm25 import Statistics
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.filters.condition import Filter
from flatcoat.indexing.filters.text_pattern import TextPattern
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.store.engines import open_index
from flatcoat.indexing.store.fields import KnownFields
from flatcoat.indexing.store.stats import Encoded
from flatcoat.indexing.store.store import Store

if TYPE_CHECKING:
    from flatcoat.indexing.vectors import Hits, VectorIndex, Vectors

Read = TypeVar("Read")

Place = tuple[str, int]
"""The id of a passage's document and its first line, by which equal scores are ordered."""

SHARD_BITS = 40
"""Bits of a row below the number of its shard."""


class MissingShards(StorageError):
    """Shards of a collection cannot be read, or do not answer; ``numbers`` says which."""

    def __init__(self, message: str, numbers: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.numbers = frozenset(numbers)


class ShardStatistics(NamedTuple):
    """What a shard adds to the statistics of all: its passages, BM25's counts for a query, its fields."""

    encoded: Encoded
    bm25: Statistics
    fields: KnownFields


class Ranking(NamedTuple):
    """Rows and their scores (float32), best first; ``places`` where they were asked for."""

    rows: list[int]
    scores: np.ndarray
    places: list[Place] | None = None


class Rankings(NamedTuple):
    """The rankings that were asked for, and the rows in them that have no vectors (yet)."""

    vectors: Ranking | None
    bm25: Ranking | None
    lacking: frozenset[int] = frozenset()


@dataclass(frozen=True)
class RankingRequest:
    """Which rankings of how many passages; those of several shards are merged by scores and places.

    ``vectors`` are of one query, None for no ranking by vectors; ``text`` is the query of BM25, None for no
    such ranking. ``statistics`` are those of all shards, None for the shard's own; with them filters have
    been checked.
    """

    text: str | None
    vectors: "Vectors | None"
    depth: int
    filters: Sequence[Filter] = ()
    pattern: TextPattern | None = None
    recall: float | None = None
    statistics: Statistics | None = None
    with_places: bool = False

    @property
    def is_narrowed(self) -> bool:
        """Whether filters or a pattern choose the passages."""
        return bool(self.filters or self.pattern)


class Found(NamedTuple):
    """A row that filters let through, and its place; it stands for ``rows`` rows of its document, or one."""

    row: int
    rows: int
    place: Place


class Shard(Protocol):
    """An index, or several, on this machine or on others, as a search sees it."""

    @property
    def name(self) -> str:
        """The path or URL for messages."""
        ...

    @property
    def missing(self) -> frozenset[int]:
        """The numbers of the shards that it should have and that are left out."""
        ...

    def of_one_state(self, read: "Callable[[Shard], Read]", *, partial: bool = False) -> Read:
        """The result of several calls of one state of the index, to the shard that ``read`` is given.

        MissingShards where one cannot be read; with ``partial`` those are left out, unless none is left.
        """
        ...

    def encoded(self) -> Encoded:
        """How many passages there are, and how many have vectors."""
        ...

    def statistics(self, text: str, filters: Sequence[Filter] = ()) -> ShardStatistics:
        """What this shard adds to the statistics of all for a query and filters."""
        ...

    def rank(self, request: RankingRequest) -> Rankings:
        """The best passages, best first."""
        ...

    def coverage(self, query: str, row: int) -> float:
        """The share (0 to 1) of the terms of ``query`` that the passage ``row`` has."""
        ...

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        """The passages of ``rows``, in that order; StaleRow where one has been removed since."""
        ...

    def token_vectors(self, rows: Sequence[int]) -> Sequence[np.ndarray | None]:
        """The token vectors (float32 [T, D]) of ``rows``; None for dense vectors and where there are none."""
        ...

    def filtered(
        self,
        filters: Sequence[Filter],
        pattern: TextPattern | None,
        *,
        limit: int,
        by_document: bool,
        are_checked: bool = False,
    ) -> list[Found]:
        """The first ``limit`` passages that filters let through, or documents, by document and line."""
        ...


class _Opened(NamedTuple):
    """The index of one state of the store, its snapshot, and how many passages that holds."""

    state: Hashable
    snapshot: Snapshot
    encoded: Encoded
    engine: "VectorIndex[int]"


@dataclass
class StoreShard:
    """One index as a shard, the only one (number 0) or one of a collection.

    >>> with Store.create("a.index", {"encoder": None}) as store:
    ...     StoreShard(store).encoded()
    Encoded(passages=0, of=0)
    """

    store: Store
    number: int = 0
    _opened: _Opened | None = field(default=None, init=False)
    _opening: Lock = field(default_factory=Lock, init=False)  # Indexes may be large: one thread opens them.

    @property
    def name(self) -> str:
        """As ``Shard.name``."""
        return str(self.store.path)

    @property
    def missing(self) -> frozenset[int]:
        """As ``Shard.missing``: none."""
        return frozenset()

    def of_one_state(self, read: Callable[[Shard], Read], *, partial: bool = False) -> Read:
        """As ``Shard.of_one_state``: made again where the index changed in the meantime."""
        return self.store.of_one_state(lambda: read(self))

    def encoded(self) -> Encoded:
        """As ``Shard.encoded``."""
        return self._open().encoded if self.store.contract.get("encoder") else self.store.encoded()

    def statistics(self, text: str, filters: Sequence[Filter] = ()) -> ShardStatistics:
        """As ``Shard.statistics``."""
        fields = self.store.fields_among(filters) if filters else KnownFields(frozenset(), {})
        return ShardStatistics(self.encoded(), self.store.bm25_statistics(text), fields)

    def rank(self, request: RankingRequest) -> Rankings:
        """As ``Shard.rank``."""
        rows = None
        if request.is_narrowed:
            rows = self.store.rows_where(
                request.filters, text=request.pattern, are_checked=request.statistics is not None
            )
        vectors = bm25 = None
        lacking: Iterable[int] = ()
        if request.vectors is not None:
            (vectors,) = self._open().engine.search(
                request.vectors, request.depth, allowed=rows, recall=request.recall
            )
        if request.text is not None:
            bm25 = self.store.bm25(request.text, request.depth, rows=rows, statistics=request.statistics)
        if vectors and bm25 and not self._open().encoded.is_complete:
            lacking = self.store.without_vectors([*vectors.ids, *bm25.ids])
        places: dict[int, Place] | None = None
        if request.with_places:
            places = self.store.places([*(vectors.ids if vectors else ()), *(bm25.ids if bm25 else ())])
        return Rankings(
            vectors and self._ranking(vectors, places),
            bm25 and self._ranking(bm25, places),
            frozenset(self._first + row for row in lacking),
        )

    def coverage(self, query: str, row: int) -> float:
        """As ``Shard.coverage``."""
        return self.store.coverage(query, row - self._first)

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        """As ``Shard.passages``."""
        return self.store.passages(self._own(rows))

    def token_vectors(self, rows: Sequence[int]) -> Sequence[np.ndarray | None]:
        """As ``Shard.token_vectors``."""
        return self._open().snapshot.token_vectors(self._own(rows))

    def filtered(
        self,
        filters: Sequence[Filter],
        pattern: TextPattern | None,
        *,
        limit: int,
        by_document: bool,
        are_checked: bool = False,
    ) -> list[Found]:
        """As ``Shard.filtered``."""
        rows = self.store.rows_where(filters, text=pattern, are_checked=are_checked)
        found = self.store.in_order(rows, limit, by_document=by_document)
        return [Found(self._first + row, count, place) for row, count, place in found]

    @property
    def _first(self) -> int:
        return self.number << SHARD_BITS

    def _own(self, rows: Sequence[int]) -> Sequence[int]:
        return [row - self._first for row in rows] if self.number else rows

    def _ranking(self, hits: "Hits[int]", places: dict[int, Place] | None) -> Ranking:
        rows = [self._first + row for row in hits.ids] if self.number else hits.ids
        return Ranking(rows, hits.scores, None if places is None else [places[row] for row in hits.ids])

    def _open(self) -> _Opened:
        opened, state = self._opened, self.store.state
        if opened is not None and opened.state == state:
            return opened
        with self._opening:
            opened, state = self._opened, self.store.state
            if opened is None or opened.state != state:
                opened = self._opened = self.store.of_one_state(self._open_anew)
            return opened

    def _open_anew(self) -> _Opened:
        snapshot = self.store.snapshot()
        engine = open_index(snapshot, self.store.engine)
        return _Opened(self.store.state, snapshot, self.store.encoded(), engine)
