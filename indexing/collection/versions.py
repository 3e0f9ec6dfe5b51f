"""Versions of shards: published once, fetched by their checksums, swept when nobody names them.

    shards/0012/3fe4348e…/index.sqlite, segments/…

A version is complete before a manifest names it. What none names is an orphan of a writer that was cut off.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from flatcoat.errors import StorageError
from flatcoat.indexing.array_files import WrittenFile, checksum
from flatcoat.indexing.store.schema import DATABASE, SEGMENTS
from flatcoat.indexing.store.store import Store

from .folder import Folder
from .manifest import Manifest, ShardVersion, is_manifest

SHARDS, PARTS = "shards", "parts"
ORPHAN_SECONDS = 24 * 3600.0
"""The age from which an orphan is swept: the attempt of another writer may be younger."""


def publish(folder: Folder, shard: int, index: Path, *, content: str = "", codec: str = "") -> ShardVersion:
    """Copy a closed index folder into the collection as a new version of a shard.

    ``content`` and ``codec`` are as in ``ShardVersion``.
    StorageError where something in the index is wrong: it is verified before.
    """
    with Store.open(index) as store:
        if problems := store.verify():
            raise StorageError(f"shard {shard} is not published: {problems[0]}")
        stats = store.stats()
    version = uuid4().hex
    files = [index / DATABASE, *sorted((index / SEGMENTS).iterdir())]
    written = []
    for file in files:
        name = file.relative_to(index).as_posix()
        folder.upload(file, f"{_home(shard, version)}/{name}")
        written.append(WrittenFile(name, file.stat().st_size, checksum(file)))
    return ShardVersion(
        version,
        stats.documents,
        stats.passages,
        stats.passages_with_vectors,
        stats.vectors,
        content,
        codec,
        tuple(written),
    )


def fetch(folder: Folder, shard: int, version: ShardVersion, *, into: Path) -> None:
    """Copy a version to ``into``, an absent folder; StorageError where a file is not as published."""
    for name, size, sha256 in version.files:
        file = into / name
        file.parent.mkdir(parents=True, exist_ok=True)
        folder.download(f"{_home(shard, version.version)}/{name}", file)
        if file.stat().st_size != size or checksum(file) != sha256:
            raise StorageError(
                f"{folder.url}: {name} of shard {shard} is not as it was published: build the shard again"
            )
    (into / SEGMENTS).mkdir(parents=True, exist_ok=True)


def local_copy(folder: Folder, shard: int, version: ShardVersion, *, cache: Path | None = None) -> Path:
    """The index folder of a version on this machine, to be read only.

    That of a folder of this machine is opened in its place. Others are copied once, under a name that their
    checksums give, to ``cache``, by default $XDG_CACHE_HOME/flatcoat/shards (~/.cache).
    """
    if folder.local is not None:
        return folder.local / _home(shard, version.version)
    content = hashlib.sha256(repr(sorted(version.files)).encode()).hexdigest()
    home = (cache or _cache()) / content[:32]
    if not home.exists():
        unfinished = home.with_name(f"{home.name}.{uuid4().hex}")
        try:
            fetch(folder, shard, version, into=unfinished)
            with suppress(OSError):  # Another process was first.
                unfinished.rename(home)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return home


def sweep(folder: Folder, current: Manifest, *, older_than: float = ORPHAN_SECONDS) -> list[str]:
    """Delete versions and codecs that no manifest names; returns the names of what went.

    Only what is older than ``older_than`` seconds goes, since it may be of a writer at work. Manifests go
    that were replaced before that: readers have had so long to go over to the next.
    """
    manifests = sorted(name for name in folder.names() if is_manifest(name))
    kept = [
        name
        for name, after in zip(manifests, [*manifests[1:], None], strict=True)
        if after is None or folder.age(after) <= older_than
    ]
    named = {current.codec.name if current.codec else ""}
    versions = {(shard, version.version) for shard, version in current.versions.items()}
    for name in kept:
        before = Manifest.from_json(folder.read(name), f"{folder.url}/{name}")
        named.add(before.codec.name if before.codec else "")
        versions |= {(shard, version.version) for shard, version in before.versions.items()}
    orphans = [name for name in folder.names() if name.startswith("codec-") and name not in named]
    orphans += [name for name in manifests if name not in kept]
    homes = {_home(shard, version) for shard, version in versions}
    for shard in folder.names(SHARDS):
        below = f"{SHARDS}/{shard}"
        orphans += [home for name in folder.names(below) if (home := f"{below}/{name}") not in homes]
    orphans += [f"{PARTS}/{name}" for name in folder.names(PARTS)]
    swept = [name for name in orphans if _age(folder, name) > older_than]
    for name in swept:
        folder.delete(name)
    return swept


def problems(folder: Folder, manifest: Manifest, shards: Iterable[int] | None = None) -> list[str]:
    """Everything that is wrong with the files of shards (all by default), one line each."""
    found = []
    for shard in manifest.versions if shards is None else shards:
        version = manifest.versions[shard]
        try:
            with Store.open(local_copy(folder, shard, version), is_immutable=True) as store:
                found += [f"shard {shard}: {problem}" for problem in store.verify()]
                found += [f"shard {shard}: {problem}" for problem in _changed(store.path, version)]
        except Exception as error:
            found.append(f"shard {shard}: {error}")
    return found


def _changed(index: Path, version: ShardVersion) -> list[str]:
    return [
        f"{name} is not as it was published"
        for name, size, sha256 in version.files
        if (index / name).stat().st_size != size or checksum(index / name) != sha256
    ]


def _age(folder: Folder, name: str) -> float:
    """The age of a file, of a version by its database, which comes first, or of parts by the youngest."""
    if name.startswith(f"{SHARDS}/"):
        return folder.age(f"{name}/{DATABASE}")
    if name.startswith(f"{PARTS}/"):
        return min((folder.age(f"{name}/{file}") for file in folder.names(name)), default=0.0)
    return folder.age(name)


def _home(shard: int, version: str) -> str:
    return f"{SHARDS}/{shard:04d}/{version}"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flatcoat" / "shards"
