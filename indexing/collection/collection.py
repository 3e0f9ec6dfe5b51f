"""A collection, opened: its manifest, and the indexes of its shards."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any

from flatcoat.errors import ConflictError, StorageError, UsageError
from flatcoat.indexing.array_files import WrittenFile, checksum
from flatcoat.indexing.store.engines import AUTO, EngineSettings
from flatcoat.indexing.store.stats import Encoded, Stats
from flatcoat.indexing.store.store import Store

from . import versions
from .folder import Folder, folder_at
from .manifest import (
    MOST_SHARDS,
    Manifest,
    ShardVersion,
    commit,
    last_generation,
    latest,
    of_generation,
)

if TYPE_CHECKING:
    from flatcoat.indexing.plaid.codec import Codec


class ShardCollection:
    """A folder of immutable shards; threads may share it.

    It reads one generation until ``refresh`` or a commit of its own. Shards are opened when first needed.

    >>> import tempfile
    >>> collection = ShardCollection.create(f"{tempfile.mkdtemp()}/wiki", {"encoder": None}, shards=4)
    >>> collection.stats().documents, collection.manifest.generation
    (0, 0)
    """

    def __init__(self, folder: Folder, manifest: Manifest, *, cache: Path | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self._cache = cache
        self._stores: dict[tuple[int, str], Store] = {}
        self._opening = Lock()

    @staticmethod
    def create(
        path: str | Path, contract: dict[str, Any], *, shards: int, engine: EngineSettings = AUTO
    ) -> "ShardCollection":
        """Make an empty collection at a path or URL.

        UsageError for a number of shards out of range, ConflictError where the folder holds anything.
        """
        if type(shards) is not int or not 1 <= shards <= MOST_SHARDS:
            raise UsageError(f"shards is {shards!r:.40}: from 1 to {MOST_SHARDS:,} are possible")
        engine.validate()
        folder = folder_at(path)
        if there := folder.names():
            raise ConflictError(f"{folder.url} holds {there[0]!r:.60}: choose a path that does not exist yet")
        manifest = Manifest(shards, contract, engine)
        commit(folder, manifest)
        return ShardCollection(folder, manifest)

    @staticmethod
    def open(
        path: str | Path, *, generation: int | None = None, cache: Path | None = None
    ) -> "ShardCollection":
        """Open a generation of a collection, the last by default; NotFoundError where there is none."""
        folder = folder_at(path)
        manifest = latest(folder) if generation is None else of_generation(folder, generation)
        return ShardCollection(folder, manifest, cache=cache)

    @property
    def key(self) -> str:
        """A short name of the collection's path."""
        return hashlib.sha256(self.path.encode()).hexdigest()[:8]

    @property
    def path(self) -> str:
        """The path or URL, for messages."""
        return self.folder.url

    @property
    def contract(self) -> dict[str, Any]:
        """The contract, as of an index."""
        return self.manifest.contract

    @property
    def generation(self) -> int:
        """The generation that is read."""
        return self.manifest.generation

    @property
    def engine(self) -> EngineSettings:
        """The engine as it was asked for."""
        return self.manifest.engine

    def store(self, shard: int) -> Store | None:
        """The index of a shard, read only; None where the shard is empty."""
        version = self.manifest.versions.get(shard)
        return None if version is None else self.open_version(shard, version)

    def open_version(self, shard: int, version: ShardVersion) -> Store:
        """The index of a version of a shard, read only."""
        key = shard, version.version
        if store := self._stores.get(key):  # Searches do not wait for the shards of a new generation.
            return store
        with self._opening:
            if key not in self._stores:
                copy = versions.local_copy(self.folder, shard, version, cache=self._cache)
                self._stores[key] = Store.open(copy, is_immutable=True)
            return self._stores[key]

    def stores(self) -> Iterator[tuple[int, Store]]:
        """The shards that hold anything, by number."""
        for shard in sorted(self.manifest.versions):
            if store := self.store(shard):
                yield shard, store

    @contextmanager
    def codec_file(self) -> "Iterator[Codec | None]":
        """The codec that all shards share; None before there is one."""
        file = self.manifest.codec
        if file is None:
            yield None
            return
        from flatcoat.indexing.plaid.codec import Codec

        with TemporaryDirectory(prefix="flatcoat-codec-") as folder:
            path = Path(folder) / file.name
            self.folder.download(file.name, path)
            if checksum(path) != file.sha256:
                raise StorageError(f"{self.path}: {file.name} is not as it was published: restore it")
            yield Codec.load(path)

    def save_codec(self, codec: "Codec") -> WrittenFile:
        """Write a codec into the collection, named by its content; a manifest must name it."""
        with TemporaryDirectory(prefix="flatcoat-codec-") as folder:
            path = Path(folder) / "codec.npz"
            codec.save(path)
            sha256, size = checksum(path), path.stat().st_size
            file = WrittenFile(f"codec-{sha256[:16]}.npz", size, sha256)
            self.folder.upload(path, file.name)
        return file

    def commit(self, versions: Mapping[int, ShardVersion | None], **changes: Any) -> None:
        """Commit new versions of shards (None: empty) and other ``changes`` of the manifest.

        ConflictError where another writer committed since the collection was opened.
        """
        merged = {**self.manifest.versions, **versions}
        kept = {shard: version for shard, version in merged.items() if version is not None}
        manifest = self.manifest.next(versions=kept, **changes)
        commit(self.folder, manifest)
        self._adopt(manifest)

    def refresh(self) -> bool:
        """Go over to the last generation once its shards are open; returns whether there was a newer one.

        ConflictError where the collection was made anew with another model or number of shards.
        """
        if last_generation(self.folder) == self.generation:
            return False
        manifest = latest(self.folder)
        if (manifest.contract, manifest.shards) != (self.contract, self.manifest.shards):
            raise ConflictError(f"collection {self.path} was made anew in another way: open it again")
        for shard, version in manifest.versions.items():
            self.open_version(shard, version)
        self._adopt(manifest)
        return True

    def sweep(self, *, older_than: float = versions.ORPHAN_SECONDS) -> list[str]:
        """Delete what no manifest names any more, as ``versions.sweep``."""
        return versions.sweep(self.folder, self.manifest, older_than=older_than)

    def verify(self) -> list[str]:
        """Everything that is wrong with the shards and the codec, one line each."""
        found = versions.problems(self.folder, self.manifest)
        try:
            with self.codec_file():
                pass
        except Exception as error:
            found.append(str(error))
        return found

    def encoded(self, some: Iterable[int] | None = None) -> Encoded:
        """How many passages have vectors, of all shards or of ``some``."""
        versions = self.manifest.versions
        shards = [versions[shard] for shard in (versions if some is None else some)]
        encoded = sum(shard.passages_with_vectors for shard in shards)
        return Encoded(encoded, of=sum(shard.passages for shard in shards))

    def stats(self) -> Stats:
        """Sizes of the collection; ``segments`` counts the shards that hold anything."""
        shards = list(self.manifest.versions.values())
        first = next(self.stores(), None)
        one = first and first[1].stats()
        return Stats(
            sum(shard.documents for shard in shards),
            sum(shard.passages for shard in shards),
            sum(shard.passages_with_vectors for shard in shards),
            sum(shard.vectors for shard in shards),
            len(shards),
            sum(shard.bytes for shard in shards),
            one.kind if one else None,
            one.width if one else None,
            one.engine if one else "exact",
        )

    def close(self) -> None:
        """Close all indexes; the collection cannot be used afterwards."""
        with self._opening:
            for store in self._stores.values():
                store.close()
            self._stores.clear()

    def _adopt(self, manifest: Manifest) -> None:
        """Read another generation; indexes that it does not name close once no search is at work on them."""
        with self._opening:
            named = {(shard, version.version) for shard, version in manifest.versions.items()}
            self._stores = {key: store for key, store in self._stores.items() if key in named}
            self.manifest = manifest


@contextmanager
def private_copy(
    folder: Folder, shard: int, version: ShardVersion | None, *, work: Path | None = None
) -> Iterator[Path]:
    """The index folder of a shard to be changed, on this machine, gone at the end; absent if it is empty."""
    with TemporaryDirectory(prefix=f"flatcoat-shard-{shard:04d}-", dir=work) as home:
        index = Path(home) / "index"
        if version is not None:
            versions.fetch(folder, shard, version, into=index)
        yield index
