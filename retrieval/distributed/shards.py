"""Several shards searched as one index: statistics are summed first, then rankings are merged.

Every shard ranks with the statistics of all, so that a passage has the same scores wherever it is stored. The
best of all shards are among the best of each. Equal scores come by document and line, whichever shard has
them. What follows (fusion, signals, folding, reranking, grouping) sees the merged rankings alone.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import numpy as np

from flatcoat.errors import FlatcoatError, StorageError, UsageError
from flatcoat.indexing.bm25 import Statistics
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.filters.condition import Filter
from flatcoat.indexing.filters.forms import Filters, as_filters
from flatcoat.indexing.filters.text_pattern import TextPattern
from flatcoat.indexing.store.fields import KnownFields
from flatcoat.indexing.store.stats import Encoded
from flatcoat.indexing.terms import query_terms
from flatcoat.indexing.top_k import reaching
from flatcoat.retrieval.shard import (
    SHARD_BITS,
    Found,
    MissingShards,
    Ranking,
    RankingRequest,
    Rankings,
    Shard,
    ShardStatistics,
    StoreShard,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from flatcoat.indexing.collection.collection import ShardCollection

Read = TypeVar("Read")
Answer = TypeVar("Answer")


class Member(NamedTuple):
    """A shard, or several behind one, and their numbers."""

    shard: Shard
    numbers: frozenset[int]


class Shards:
    """Several shards as one; they may hold further ones themselves.

    >>> from flatcoat.indexing.store.store import Store
    >>> with Store.create("one.index", {"encoder": None}) as store:
    ...     shards = Shards("all", [Member(StoreShard(store, 3), frozenset([3]))])
    ...     shards.statistics("cat").bm25.passages
    0
    """

    def __init__(
        self,
        name: str,
        members: Sequence[Member] = (),
        *,
        missing: frozenset[int] = frozenset(),
        threads: "Executor | None" = None,
    ) -> None:
        """``threads`` ask several at once; without them one is asked after the other."""
        self.name = name
        self.missing = missing
        self._members = members
        self._threads = threads

    @property
    def members(self) -> Sequence[Member]:
        """The shards that are asked."""
        return self._members

    def of_one_state(self, read: Callable[[Shard], Read], *, partial: bool = False) -> Read:
        """As ``Shard.of_one_state``: shards never change."""
        state = self
        while True:
            try:
                return read(state)
            except MissingShards as error:
                if not partial:
                    raise
                state = state._without(error)

    def encoded(self) -> Encoded:
        """As ``Shard.encoded``."""
        parts = self.each(lambda shard: shard.encoded())
        return Encoded(sum(part.passages for part in parts), sum(part.of for part in parts))

    def statistics(self, text: str, filters: Sequence[Filter] = ()) -> ShardStatistics:
        """As ``Shard.statistics``."""
        parts = self.each(lambda shard: shard.statistics(text, filters))
        bm25 = Statistics(0, 0, dict.fromkeys(query_terms(text), 0))
        for part in parts:
            bm25 += part.bm25
        known = frozenset(chain.from_iterable(part.fields.known for part in parts))
        errors = {field: error for part in parts for field, error in part.fields.errors.items()}
        encoded = Encoded(sum(one.encoded.passages for one in parts), sum(one.encoded.of for one in parts))
        fields = KnownFields(known, {field: error for field, error in errors.items() if field not in known})
        return ShardStatistics(encoded, bm25, fields)

    def rank(self, request: RankingRequest) -> Rankings:
        """As ``Shard.rank``; UsageError for a filter on a field that no document of any shard has."""
        if request.statistics is None:
            request = replace(request, statistics=self._checked(request.text or "", request.filters).bm25)
        request = replace(request, with_places=True)
        parts = self.each(lambda shard: shard.rank(request))
        return Rankings(
            None if request.vectors is None else merged([part.vectors for part in parts], request.depth),
            None if request.text is None else merged([part.bm25 for part in parts], request.depth),
            frozenset(chain.from_iterable(part.lacking for part in parts)),
        )

    def coverage(self, query: str, row: int) -> float:
        """As ``Shard.coverage``."""
        (coverage,) = self.each(lambda shard: shard.coverage(query, row), [row >> SHARD_BITS])
        return coverage

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        """As ``Shard.passages``."""
        return self._by_row(rows, lambda shard, some: shard.passages(some))

    def token_vectors(self, rows: Sequence[int]) -> Sequence[np.ndarray | None]:
        """As ``Shard.token_vectors``."""
        return self._by_row(rows, lambda shard, some: shard.token_vectors(some))

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
        if not are_checked:
            self.require_fields(filters)
        parts = self.each(
            lambda shard: shard.filtered(
                filters, pattern, limit=limit, by_document=by_document, are_checked=True
            )
        )
        found = chain.from_iterable(parts)
        return sorted(found, key=lambda one: (one.place[0], one.row))[:limit]

    def each(self, ask: Callable[[Shard], Answer], only: Collection[int] | None = None) -> list[Answer]:
        """The answers of all members, or of those that hold one of some numbers.

        MissingShards, which names all that do not answer.
        """
        asked = [one for one in self.members if only is None or not one.numbers.isdisjoint(only)]
        return self._answers(asked, lambda member: ask(member.shard))

    def require_fields(self, filters: Sequence[Filter]) -> None:
        """UsageError for a filter on a field that no document of any shard has."""
        self._checked("", filters)

    def _checked(self, text: str, filters: Sequence[Filter]) -> ShardStatistics:
        statistics = self.statistics(text, filters)
        for error in statistics.fields.errors.values():
            raise UsageError(error)
        return statistics

    def _answers(self, asked: Sequence[Member], ask: Callable[[Member], Answer]) -> list[Answer]:
        def answer(member: Member) -> Answer | MissingShards:
            try:
                return ask(member)
            except MissingShards as error:
                return error
            except StorageError as error:
                return _missing(self.name, member.numbers, error)

        run = self._threads.map if self._threads and len(asked) > 1 else map
        answers = list(run(answer, asked))
        if errors := [one for one in answers if isinstance(one, MissingShards)]:
            raise _all_of(self.name, errors)
        return cast(list[Answer], answers)

    def _without(self, error: MissingShards) -> "Shards":
        """What is left without the members that hold missing shards; the error where that is nothing."""
        left = [one for one in self.members if one.numbers.isdisjoint(error.numbers)]
        if not left or len(left) == len(self.members):
            raise error
        gone = (one.numbers for one in self.members if not one.numbers.isdisjoint(error.numbers))
        return Shards(self.name, left, missing=self.missing.union(*gone), threads=self._threads)

    def _by_row(
        self, rows: Sequence[int], fetch: Callable[[Shard, list[int]], Sequence[Answer]]
    ) -> list[Answer]:
        """What is fetched for each row, from the shards that hold them."""
        parts: dict[frozenset[int], list[int]] = {}
        for member in self.members:
            if some := [row for row in rows if row >> SHARD_BITS in member.numbers]:
                parts[member.numbers] = some
        asked = [member for member in self.members if member.numbers in parts]
        fetched = self._answers(asked, lambda member: fetch(member.shard, parts[member.numbers]))
        found = dict(zip(chain(*parts.values()), chain.from_iterable(fetched), strict=True))
        return [found[row] for row in rows]


class CollectionShards(Shards):
    """The shards of a collection, all in this process; a search reads the generation that it began with."""

    def __init__(self, collection: "ShardCollection") -> None:
        super().__init__(collection.path)
        self._collection = collection
        self._opened: dict[tuple[int, str], StoreShard] = {}

    @property
    def members(self) -> Sequence[Member]:
        """The shards of the collection's generation."""
        return self._generation(partial=False).members

    def of_one_state(self, read: Callable[[Shard], Read], *, partial: bool = False) -> Read:
        """As ``Shard.of_one_state``."""
        return self._generation(partial=partial).of_one_state(read, partial=partial)

    def encoded(self) -> Encoded:
        """As ``Shard.encoded``: what the manifest says."""
        return self._collection.encoded()

    def _generation(self, *, partial: bool) -> Shards:
        """The shards of the present generation, which stay whatever is committed."""
        versions, members, errors = self._collection.manifest.versions, [], []
        for number, version in sorted(versions.items()):
            try:
                store = self._collection.open_version(number, version)
            except FlatcoatError as error:
                errors.append(_missing(self.name, [number], error))
                continue
            opened = self._opened.setdefault((number, version.version), StoreShard(store, number))
            members.append(Member(opened, frozenset([number])))
        for key in self._opened.keys() - {(number, one.version) for number, one in versions.items()}:
            self._opened.pop(key, None)
        if errors and not (partial and members):
            raise _all_of(self.name, errors)
        missing = frozenset().union(*(error.numbers for error in errors))
        return Shards(self.name, members, missing=missing)


def shards_named(numbers: Iterable[int]) -> str:
    """Shards for a message.

    >>> shards_named([7]), shards_named({5, 2})
    ('shard 7', 'shards 2, 5')
    """
    first = sorted(numbers)
    return f"shard{'s' if len(first) > 1 else ''} {', '.join(map(str, first))}"


def documents_of(
    collection: "ShardCollection", ids: Iterable[str] | None, filters: Filters
) -> list[Document]:
    """The documents of these ids (all by default) for which all ``filters`` hold, shard by shard."""
    wanted, named = as_filters(filters), None if ids is None else list(ids)
    if wanted:
        CollectionShards(collection).require_fields(wanted)
    stores = [store for _, store in collection.stores()]
    found = (store.documents(named, filters=wanted, are_checked=True) for store in stores)
    return list(chain.from_iterable(found))


def merged(rankings: Sequence[Ranking | None], depth: int) -> Ranking:
    """The ``depth`` best of rankings that have no row in common, equal scores by their places."""
    some = [one for one in rankings if one is not None and one.rows]
    if not some:
        return Ranking([], np.zeros(0, np.float32), [])
    rows = [row for one in some for row in one.rows]
    places = [place for one in some for place in one.places or ()]
    scores = np.concatenate([one.scores for one in some])
    near = reaching(scores, depth).tolist()
    order = sorted(near, key=lambda at: (-scores[at], places[at], rows[at]))[:depth]
    return Ranking([rows[at] for at in order], scores[order], [places[at] for at in order])


def _missing(name: str, numbers: Iterable[int], error: FlatcoatError) -> MissingShards:
    return MissingShards(f"{name}: {shards_named(numbers)} cannot be read: {error}", numbers)


def _all_of(name: str, errors: Sequence[MissingShards]) -> MissingShards:
    """One error of several."""
    if len(errors) == 1:
        return errors[0]
    numbers = frozenset(chain.from_iterable(error.numbers for error in errors))
    return MissingShards(f"{name}: {shards_named(numbers)} are missing: {errors[0]}", numbers)
