"""Serve the shards of a collection on a cluster of Ray: groups of shards, each in several replicas.

Ray Serve starts the replicas on different nodes, asks one of each group, and starts a new one where one dies.
Who searches sends each call to all groups at once, and merges what comes back (``shards``).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from flatcoat.errors import FlatcoatError, MissingExtraError, StorageError
from flatcoat.indexing.collection.collection import ShardCollection
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.filters.condition import Filter
from flatcoat.indexing.filters.text_pattern import TextPattern
from flatcoat.indexing.store.stats import Encoded
from flatcoat.retrieval.shard import (
    Found,
    RankingRequest,
    Rankings,
    Shard,
    ShardStatistics,
    StoreShard,
)

from .ray_build import ray_at
from .shards import Member, Shards

Read = TypeVar("Read")
Answer = TypeVar("Answer")

SECONDS = 30.0
"""How long a call waits for a group of which no replica answers."""

_CALLS = ("encoded", "statistics", "rank", "coverage", "passages", "token_vectors", "filtered")


class ShardGroup:
    """A replica: some shards of one generation of a collection, opened on its node."""

    def __init__(self, path: str, generation: int, numbers: Sequence[int]) -> None:
        collection = ShardCollection.open(path, generation=generation)
        stores = {number: store for number in numbers if (store := collection.store(number))}
        members = [Member(StoreShard(store, one), frozenset([one])) for one, store in stores.items()]
        self._shards = Shards(path, members)

    def ask(self, call: str, *arguments: Any, **options: Any) -> Any:
        """The answer to one of the calls of ``Shard``, or the error that it raises."""
        assert call in _CALLS
        try:
            return getattr(self._shards, call)(*arguments, **options)
        except FlatcoatError as error:
            return error


@dataclass(frozen=True)
class RemoteShards:
    """A group of shards behind a handle of Ray Serve."""

    name: str
    numbers: tuple[int, ...]
    handle: Any

    def of_one_state(self, read: Callable[[], Read]) -> Read:
        """As ``Shard.of_one_state``: a group is of one generation."""
        return read()

    def encoded(self) -> Encoded:
        """As ``Shard.encoded``."""
        return self._ask("encoded")

    def statistics(self, text: str, filters: Sequence[Filter] = ()) -> ShardStatistics:
        """As ``Shard.statistics``."""
        return self._ask("statistics", text, filters)

    def rank(self, request: RankingRequest) -> Rankings:
        """As ``Shard.rank``."""
        return self._ask("rank", request)

    def coverage(self, query: str, row: int) -> float:
        """As ``Shard.coverage``."""
        return self._ask("coverage", query, row)

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        """As ``Shard.passages``."""
        return self._ask("passages", rows)

    def token_vectors(self, rows: Sequence[int]) -> Sequence[np.ndarray | None]:
        """As ``Shard.token_vectors``."""
        return self._ask("token_vectors", rows)

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
        options = {"limit": limit, "by_document": by_document, "are_checked": are_checked}
        return self._ask("filtered", filters, pattern, **options)

    def _ask(self, call: str, *arguments: Any, **options: Any) -> Any:
        try:
            answer = self.handle.ask.remote(call, *arguments, **options).result(timeout_s=SECONDS)
        except Exception as error:  # Ray's errors are of many kinds, which it adds to.
            numbers = ", ".join(map(str, self.numbers))
            raise StorageError(
                f"{self.name}: no replica of shard {numbers} answers: {type(error).__name__} {error!s:.200}"
            ) from error
        if isinstance(answer, FlatcoatError):
            raise answer
        return answer


class ServedShards(Shards):
    """The shards of one generation of a collection, served on a cluster; all groups are asked at once."""

    def __init__(self, name: str, groups: Sequence[RemoteShards]) -> None:
        super().__init__(name, [Member(group, frozenset(group.numbers)) for group in groups])
        self._threads = ThreadPoolExecutor(max(1, 4 * len(groups)), "flatcoat-shards")

    def each(self, ask: Callable[[Shard], Answer]) -> list[Answer]:
        """As ``Shards.each``; StorageError, which names the shards, where a group does not answer."""
        asked = [one.shard for one in self.members]
        return list(self._threads.map(ask, asked)) if len(asked) > 1 else super().each(ask)


def serve_shards(
    collection: ShardCollection, address: str, *, replicas: int = 2, groups: int | None = None
) -> ServedShards:
    """Start the shards of a collection's generation on the cluster at an address, and connect to them.

    There is a group for each node unless ``groups`` are given. Raises as ``ray_at`` does.
    """
    ray = ray_at(address)
    try:
        serve = import_module("ray.serve")
    except ImportError as error:
        raise MissingExtraError("serving on a cluster needs Ray Serve: pip install flatcoat[ray]") from error
    serve.start(proxy_location="Disabled")  # Only handles ask: HTTP is the business of flatcoat's own server.
    nodes = sum(node["Alive"] for node in ray.nodes())
    numbers = sorted(collection.manifest.versions)
    several = [numbers[start :: groups or nodes] for start in range(groups or nodes)]
    deployment = serve.deployment(ShardGroup)
    found = []
    for place, some in enumerate(filter(None, several)):
        name = f"flatcoat-{collection.key}-{collection.generation}-{place}"
        options = {"name": name, "num_replicas": replicas, "ray_actor_options": {"num_cpus": 0.1}}
        if replicas <= nodes:
            options["max_replicas_per_node"] = 1
        bound = deployment.options(**options).bind(collection.path, collection.generation, some)
        handle = serve.run(bound, name=name, route_prefix=None)
        found.append(RemoteShards(collection.path, tuple(some), handle))
    return ServedShards(collection.path, found)


def stop_serving(collection: ShardCollection) -> None:
    """End the replicas of a collection's generation."""
    serve = import_module("ray.serve")
    prefix = f"flatcoat-{collection.key}-{collection.generation}-"
    for name in list(serve.status().applications):
        if name.startswith(prefix):
            serve.delete(name)
