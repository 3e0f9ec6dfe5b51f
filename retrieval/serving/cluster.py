"""Served collections of shards, here or on a Ray cluster: new generations take over while requests go on."""

import logging
from collections.abc import Callable
from threading import Event, Thread
from typing import TYPE_CHECKING

from flatcoat.indexing.collection.collection import ShardCollection
from flatcoat.indexing.collection.manifest import last_generation
from flatcoat.retrieval.distributed.ray_serve import serve_shards, stop_serving
from flatcoat.retrieval.retriever import Retriever

if TYPE_CHECKING:
    from .indexes import ServedIndex

POLL_SECONDS, GRACE_SECONDS = 10.0, 60.0
"""Time between two looks for a new generation, and for requests at work before the old one ends."""

_log = logging.getLogger(__name__)


class Follower:
    """Goes over to the last generation of a collection, again and again, in a thread of its own.

    ``go_over`` looks for one; where it fails, the collection stays as it is, and the log says why.
    """

    def __init__(self, name: str, go_over: Callable[[], object]) -> None:
        self._name, self._go_over = name, go_over
        self._ended = Event()
        self._thread = Thread(target=self._follow, name="flatcoat-generations", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Let some time pass; returns at once, with True, when it is closed."""
        return self._ended.wait(seconds)

    def close(self) -> None:
        """Look for no more generations."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self.wait(POLL_SECONDS):
            try:
                self._go_over()
            except Exception as error:  # Of storage and clusters, of many kinds: the next look may do better.
                _log.warning("%s stays at its generation: %s", self._name, error)


class ClusterIndex:
    """Keeps ``index`` on the last generation of its collection; a request sees one generation.

    The shards of a new generation are started beside those of the old one, which end once requests that began
    with them are done.
    """

    def __init__(self, index: "ServedIndex", address: str, *, replicas: int) -> None:
        self._index, self._address, self._replicas = index, address, replicas
        self._serve(self._collection)
        self._follower = Follower(self._collection.path, self._go_over)

    def close(self) -> None:
        """Look for no more generations; the replicas stay, for another server."""
        self._follower.close()

    @property
    def _collection(self) -> ShardCollection:
        collection = self._index.retriever.collection
        assert collection is not None
        return collection

    def _go_over(self) -> None:
        old = self._collection
        if last_generation(old.folder) == old.generation:
            return
        self._serve(ShardCollection.open(old.path))
        self._follower.wait(GRACE_SECONDS)
        stop_serving(old)

    def _serve(self, collection: ShardCollection) -> None:
        shards = serve_shards(collection, self._address, replicas=self._replicas)
        model = self._index.model
        self._index.retriever = Retriever(collection, model, shards=shards)
