"""Serve the shards of a collection on a cluster of Ray: groups of shards, each in several replicas.

Ray Serve starts the replicas on different nodes, asks one of each group, and starts a new one where one dies.
Who searches sends each call to all groups at once, and merges what comes back (``shards``).
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
    MissingShards,
    RankingRequest,
    Rankings,
    Shard,
    ShardStatistics,
    StoreShard,
)

from .ray_build import ray_at
from .shards import Member, Shards, shards_named

Read = TypeVar("Read")
Answer = TypeVar("Answer")

SECONDS, PARTIAL_SECONDS = 30.0, 3.0
"""How long a call waits for a group of which no replica answers, and where the answer may lack it."""

_AGAIN_SECONDS = 0.05
_CALLS_AT_ONCE = 16  # per group: those that wait for a dead one must not hold up the others

_CALLS = ("statistics", "rank", "coverage", "passages", "token_vectors", "filtered")


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
    """A group of shards behind a handle of Ray Serve; calls wait for so many ``seconds``."""

    name: str
    numbers: tuple[int, ...]
    handle: Any
    held: Encoded
    seconds: float

    @property
    def missing(self) -> frozenset[int]:
        """As ``Shard.missing``: none."""
        return frozenset()

    def of_one_state(self, read: Callable[[Shard], Read], *, partial: bool = False) -> Read:
        """As ``Shard.of_one_state``: a group is of one generation."""
        return read(self)

    def encoded(self) -> Encoded:
        """As ``Shard.encoded``: what the manifest says."""
        return self.held

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
        died = import_module("ray.exceptions").RayActorError
        until = time.monotonic() + self.seconds
        while True:
            try:
                asked = self.handle.ask.remote(call, *arguments, **options)
                answer = asked.result(timeout_s=max(0.0, until - time.monotonic()))
                break
            except Exception as error:  # Ray's errors are of many kinds, which it adds to.
                if isinstance(error, died) and time.monotonic() < until:
                    time.sleep(_AGAIN_SECONDS)  # The replica died at work: another is asked.
                    continue
                raise MissingShards(
                    f"{self.name}: no replica of {shards_named(self.numbers)} answers: "
                    f"{type(error).__name__} {error!s:.200}",
                    self.numbers,
                ) from error
        if isinstance(answer, FlatcoatError):
            raise answer
        return answer


class ServedShards(Shards):
    """The shards of one generation of a collection, served on a cluster; all groups are asked at once."""

    def __init__(self, name: str, groups: Sequence[RemoteShards]) -> None:
        super().__init__(
            name,
            [Member(group, frozenset(group.numbers)) for group in groups],
            threads=ThreadPoolExecutor(max(1, _CALLS_AT_ONCE * len(groups)), "flatcoat-shards"),
        )
        self.groups = groups

    def of_one_state(self, read: Callable[[Shard], Read], *, partial: bool = False) -> Read:
        """As ``Shard.of_one_state``; a partial answer is not held up for long by those that it lacks."""
        if not partial:
            return super().of_one_state(read)
        groups = [replace(group, seconds=PARTIAL_SECONDS) for group in self.groups]
        members = [Member(group, frozenset(group.numbers)) for group in groups]
        return Shards(self.name, members, threads=self._threads).of_one_state(read, partial=True)


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
    options: dict[str, Any] = {"num_replicas": replicas, "ray_actor_options": {"num_cpus": 0.1}}
    if replicas <= nodes:
        options["max_replicas_per_node"] = 1
    deployment = serve.deployment(ShardGroup)

    def start(place: int, some: Sequence[int]) -> RemoteShards:
        name = f"{_prefix(collection)}{place}"
        bound = deployment.options(name=name, **options).bind(collection.path, collection.generation, some)
        try:
            handle = serve.run(bound, name=name, route_prefix=None)
        except (RuntimeError, TimeoutError) as error:
            raise StorageError(
                f"{collection.path}: {shards_named(some)} cannot be served: {error!s:.300}"
            ) from error
        return RemoteShards(collection.path, tuple(some), handle, collection.encoded(some), SECONDS)

    filled = list(filter(None, several))
    return ServedShards(collection.path, _at_once(start, range(len(filled)), filled))


def stop_serving(collection: ShardCollection) -> None:
    """End the replicas of a collection's generation; StorageError where they do not end."""
    serve = import_module("ray.serve")
    names = [name for name in serve.status().applications if name.startswith(_prefix(collection))]
    try:
        _at_once(serve.delete, names)
    except TimeoutError as error:
        raise StorageError(f"{collection.path}: its replicas do not end: {error!s:.300}") from error


def _prefix(collection: ShardCollection) -> str:
    return f"flatcoat-{collection.key}-{collection.generation}-"


def _at_once(work: Callable[..., Answer], *arguments: Sequence[Any]) -> list[Answer]:
    """As ``map``, each in a thread: Ray Serve waits for one application after the other."""
    with ThreadPoolExecutor(max(1, len(arguments[0]))) as threads:
        return list(threads.map(work, *arguments))
