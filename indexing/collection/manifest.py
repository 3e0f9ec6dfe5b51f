"""The manifest of a collection: what its shards are as of one generation.

    collection.000007.json     read whole; written once, never changed

A shard is listed with the version of it that counts, the files of that version and their checksums. The
write of the next manifest is the commit: it fails where another writer was first, and readers meet one
generation or the other.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from flatcoat.errors import ConflictError, NotFoundError, StorageError
from flatcoat.indexing.array_files import WrittenFile
from flatcoat.indexing.segments import FILE_NAME
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.schema import DATABASE, SEGMENTS

from .folder import Folder

FORMAT = 1
MOST_SHARDS = 1 << 20

_NAME = re.compile(r"collection\.(\d{6,12})\.json", re.ASCII)
_VERSION = re.compile(r"[0-9a-f]{32}", re.ASCII)
_CODEC = re.compile(r"codec-[0-9a-f]{16}\.npz", re.ASCII)


def shard_of(document_id: str, shards: int) -> int:
    """The shard of a document, the same on every machine: BLAKE2b of its id, modulo the number of shards.

    >>> [shard_of(id, 64) for id in ("sky", "sea", "7")]
    [53, 53, 2]
    """
    digest = hashlib.blake2b(document_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards


class ShardVersion(NamedTuple):
    """An immutable version of a shard: its sizes, and its files with their checksums.

    ``content`` tells whether documents differ from those that it was made of (``Content`` in
    ``retrieval.distributed.parts``); it is empty where nobody compared them all. ``codec`` is the name of the
    collection's codec that codes its vectors, empty where they are not coded.
    """

    version: str
    documents: int
    passages: int
    passages_with_vectors: int
    vectors: int
    content: str
    codec: str
    files: tuple[WrittenFile, ...]

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Manifest:
    """One generation of a collection; a shard without a version is empty.

    ``codec`` is the file of the codec that all shards share, None before there is one, ``calibration`` its
    operating points as JSON values, ``sources`` the roots that the collection was made of.
    """

    shards: int
    contract: dict[str, Any]
    engine: EngineSettings
    generation: int = 0
    codec: WrittenFile | None = None
    calibration: tuple[tuple[float, ...], ...] = ()
    sources: tuple[str, ...] = ()
    versions: Mapping[int, ShardVersion] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its file."""
        return _name(self.generation)

    def next(self, **changes: Any) -> "Manifest":
        """The manifest of the generation behind this one; ``changes`` are fields."""
        return replace(self, generation=self.generation + 1, **changes)

    def to_json(self) -> bytes:
        """Its file."""
        values = {
            "format": FORMAT,
            "generation": self.generation,
            "shards": self.shards,
            "contract": self.contract,
            "engine": self.engine.to_json(),
            "codec": self.codec,
            "calibration": self.calibration,
            "sources": self.sources,
            "versions": {str(shard): version for shard, version in self.versions.items()},
        }
        return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()

    @staticmethod
    def from_json(content: bytes, where: str) -> "Manifest":
        """The inverse of ``to_json``; StorageError where it is damaged, ConflictError for another format."""
        try:
            values = json.loads(content)
            if values["format"] != FORMAT:
                raise ConflictError(
                    f"{where} has format {values['format']!r:.20}, this flatcoat reads {FORMAT}: upgrade it"
                )
            manifest = Manifest(
                values["shards"],
                values["contract"],
                EngineSettings.from_json(values["engine"]),
                values["generation"],
                values["codec"] and WrittenFile(*values["codec"]),
                tuple(tuple(point) for point in values["calibration"]),
                tuple(values["sources"]),
                {int(shard): _version(version) for shard, version in values["versions"].items()},
            )
            _require_plain(manifest)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise StorageError(f"{where} is damaged ({error!s:.100}): restore it from a backup") from error
        return manifest


def last_generation(folder: Folder) -> int:
    """The number of the last generation, without reading it; NotFoundError where there is no collection."""
    generations = [int(found[1]) for name in folder.names() if (found := _NAME.fullmatch(name))]
    if not generations:
        raise NotFoundError(f"{folder.url} is no collection of shards: it has no collection.*.json")
    return max(generations)


def latest(folder: Folder) -> Manifest:
    """The manifest of the last generation; NotFoundError where there is no collection."""
    return of_generation(folder, last_generation(folder))


def of_generation(folder: Folder, generation: int) -> Manifest:
    """The manifest of a generation; NotFoundError where it is gone, or not there yet."""
    name = _name(generation)
    return Manifest.from_json(folder.read(name), f"{folder.url}/{name}")


def commit(folder: Folder, manifest: Manifest) -> None:
    """Make ``manifest`` the last generation; ConflictError where another writer committed it before."""
    try:
        folder.create(manifest.name, manifest.to_json())
    except ConflictError as error:
        raise ConflictError(
            f"collection {folder.url} was changed by another writer (generation {manifest.generation}): "
            "nothing of it is lost; run the command again"
        ) from error


def is_manifest(name: str) -> bool:
    """Whether a file of the collection's folder is a manifest."""
    return _NAME.fullmatch(name) is not None


def _name(generation: int) -> str:
    return f"collection.{generation:06d}.json"


def _version(values: Any) -> ShardVersion:
    *sizes, files = values
    return ShardVersion(*sizes, files=tuple(WrittenFile(*file) for file in files))


def _require_plain(manifest: Manifest) -> None:
    """ValueError unless numbers are in range and every name is one that flatcoat gives."""
    if type(manifest.shards) is not int or not 1 <= manifest.shards <= MOST_SHARDS:
        raise ValueError(f"{manifest.shards!r} shards")
    if not isinstance(manifest.contract, dict) or type(manifest.generation) is not int:
        raise ValueError("its contract or generation")
    if manifest.codec and not _CODEC.fullmatch(manifest.codec.name):
        raise ValueError(f"a codec {manifest.codec.name!r:.60}")
    for shard, version in manifest.versions.items():
        if not 0 <= shard < manifest.shards or not _VERSION.fullmatch(version.version):
            raise ValueError(f"shard {shard} in version {version.version!r:.60}")
        for name, size, sha256 in version.files:
            folder, _, file = name.rpartition("/")
            is_ours = name == DATABASE or (folder == SEGMENTS and FILE_NAME.fullmatch(file))
            if not is_ours or type(size) is not int or not isinstance(sha256, str):
                raise ValueError(f"a file {name!r:.60} of shard {shard}")
