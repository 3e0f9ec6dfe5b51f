"""A served collection whose shards are on a Ray cluster: new generations take over while requests go on."""

import logging
from threading import Event, Thread
from typing import TYPE_CHECKING

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.collection.collection import ShardCollection
from flatcoat.retrieval.distributed.ray_serve import serve_shards, stop_serving
from flatcoat.retrieval.retriever import Retriever

if TYPE_CHECKING:
    from .indexes import ServedIndex

POLL_SECONDS, GRACE_SECONDS = 10.0, 60.0
"""Time between two looks for a new generation, and for requests at work before the old one ends."""

_log = logging.getLogger(__name__)


class ClusterIndex:
    """Keeps ``index`` on the last generation of its collection; a request sees one generation.

    The shards of a new generation are started beside those of the old one, which end once requests that began
    with them are done.
    """

    def __init__(self, index: "ServedIndex", address: str, *, replicas: int) -> None:
        collection = index.retriever.collection
        assert collection is not None
        self._index, self._address, self._replicas = index, address, replicas
        self._ended = Event()
        self._serve(collection)
        self._thread = Thread(target=self._follow, name="flatcoat-generations", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look for no more generations; the replicas stay, for another server."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            old = self._index.retriever.collection
            assert old is not None
            try:
                new = ShardCollection.open(old.path)
                if new.generation == old.generation:
                    continue
                self._serve(new)
                self._ended.wait(GRACE_SECONDS)
                stop_serving(old)
            except FlatcoatError as error:
                _log.warning("%s stays at generation %d: %s", old.path, old.generation, error)

    def _serve(self, collection: ShardCollection) -> None:
        shards = serve_shards(collection, self._address, replicas=self._replicas)
        model = self._index.model
        self._index.retriever = Retriever(collection, model, shards=shards)
