"""Build shards on a cluster of Ray: one task per shard, on whatever node is free.

A task is one attempt (``build``): it gets the documents of its shard from the collection's folder, works on
its own node, and publishes a new version. Ray runs it again where its worker or node dies. Only the driver
writes the manifest, so that an attempt that was given up and comes back changes nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flatcoat.errors import FlatcoatError, MissingExtraError, StorageError
from flatcoat.indexing.collection.collection import ShardCollection
from flatcoat.indexing.collection.versions import PARTS
from flatcoat.retrieval.index_model import IndexModel
from flatcoat.retrieval.ingest import Progress

from .build import Built, ShardTask, build_shard

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder

RETRIES = 5
"""How often a shard is begun again whose worker or node died."""


def ray_at(address: str) -> Any:
    """Ray, connected to the cluster at an address, the one that runs here ("auto"), or a new one ("local").

    MissingExtraError where Ray is not installed, StorageError where there is no such cluster.
    """
    try:
        ray = import_module("ray")
    except ImportError as error:
        raise MissingExtraError("building on a cluster needs Ray: pip install flatcoat[ray]") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise StorageError(f"there is no Ray cluster at {address!r}: {error!s:.200}") from error
    return ray


@dataclass
class RayRun:
    """Carries out tasks on a cluster: the ``run`` of a ``CollectionUpdate``.

    ``model`` is an encoder, or the name of a model that every node can read; None is the one that the
    collection's contract names. Each task takes ``cpus`` and ``gpus``.
    """

    collection: ShardCollection
    model: "str | Path | Encoder | None"
    ray: Any
    cpus: int = 1
    gpus: float = 0

    @staticmethod
    def on(address: str, collection: ShardCollection, model: "str | Path | Encoder | None") -> "RayRun":
        """On the cluster at an address, a GPU for each task where it has some."""
        ray = ray_at(address)
        gpus = 1 if collection.contract["encoder"] and ray.cluster_resources().get("GPU", 0) else 0
        return RayRun(collection, model, ray, gpus=gpus)

    @property
    def at_once(self) -> int:
        """How many shards are built at the same time."""
        resources = self.ray.cluster_resources()
        by_cpus = int(resources.get("CPU", 1) // self.cpus)
        return max(1, min(by_cpus, int(resources["GPU"] // self.gpus)) if self.gpus else by_cpus)

    def __call__(self, tasks: Sequence[ShardTask], on_progress: Progress) -> Iterator[Built]:
        """The shards in the order in which they are done. StorageError where one cannot be built."""
        home = f"{PARTS}/{uuid4().hex}"
        build = self.ray.remote(_build).options(
            num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES, runtime_env=self._environment()
        )
        model = self.ray.put(self.model)
        running: dict[Any, int] = {}
        try:
            for task in tasks:
                name = ""
                if task.part is not None:
                    name = f"{home}/{task.part.name}"
                    self.collection.folder.upload(task.part, name)
                running[build.remote(self.collection.path, task._replace(part=None), name, model)] = (
                    task.shard
                )
            while running:
                (done, *_), _ = self.ray.wait(list(running), num_returns=1)
                yield self._result(done, running.pop(done))
        finally:
            for left in running:
                self.ray.cancel(left, force=True)
            with suppress(FlatcoatError):
                self.collection.folder.delete(home)

    def _result(self, done: Any, shard: int) -> Built:
        try:
            return self.ray.get(done)
        except FlatcoatError:
            raise
        except self.ray.exceptions.RayError as error:
            raise StorageError(f"shard {shard} could not be built: {error!s:.300}") from error

    def _environment(self) -> dict[str, Any]:
        """A task's threads are as many as its cores, of whatever library they are."""
        names = ("FLATCOAT_CORES", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
        return {"env_vars": {name: str(self.cpus) for name in names}}


def _build(path: str, task: ShardTask, part: str, model: "str | Path | Encoder | None") -> Built:
    """One attempt, on a worker; ``part`` is the name of the documents' file in the collection's folder."""
    collection = ShardCollection.open(path)
    with TemporaryDirectory(prefix="flatcoat-part-") as folder:
        if part:
            file = Path(folder) / Path(part).name
            collection.folder.download(part, file)
            task = task._replace(part=file)
        base = collection.manifest.versions.get(task.shard)
        named = model if model is None or isinstance(model, str | Path) else None
        index_model = _model(path, named) if named is model else IndexModel(collection, model)
        return build_shard(collection, task, base=base, model=index_model)


@lru_cache(maxsize=1)
def _model(path: str, name: str | Path | None) -> IndexModel:
    """The model of a collection, loaded once in each worker."""
    return IndexModel(ShardCollection.open(path), name)
