"""Build one shard: from its last version, on this machine alone, to a new version in the collection.

An attempt works on a private copy, adds what the shard lacks by content hash, removes what is gone, compacts,
verifies and publishes. It may be cut off anywhere, or run twice: only the manifest says which version counts.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flatcoat.errors import StorageError
from flatcoat.indexing.collection.collection import ShardCollection, private_copy
from flatcoat.indexing.collection.manifest import ShardVersion
from flatcoat.indexing.collection.versions import publish
from flatcoat.indexing.documents import Document
from flatcoat.indexing.plaid.sampling import Sample, content_keys
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.store.writer import Writer
from flatcoat.indexing.vectors import TokenVectors
from flatcoat.retrieval.chunking import Chunker
from flatcoat.retrieval.encoding import PassageEncoding
from flatcoat.retrieval.index_model import IndexModel
from flatcoat.retrieval.ingest import Added, Adder, Progress, new_or_changed

from .parts import read_part

if TYPE_CHECKING:
    from flatcoat.indexing.plaid.codec import Codec


_READ_PER_SAMPLED = 4
"""Vectors that are read for each one of the sample: more would only take longer."""


class ShardTask(NamedTuple):
    """What is to change in a shard: nothing but its codec, where neither documents nor ids are given.

    The documents of ``part`` are added; where it ``is_whole`` all others are removed, and ``content`` is its
    digest. Documents of ``removed`` ids are removed.
    """

    shard: int
    part: Path | None = None
    is_whole: bool = False
    content: str = ""
    removed: tuple[str, ...] = ()


class Built(NamedTuple):
    """A shard after a task: its new version (None: it is empty), and what was added."""

    shard: int
    version: ShardVersion | None
    added: Added


class Trained(NamedTuple):
    """A codec, and its operating points as JSON values."""

    codec: "Codec"
    calibration: tuple[tuple[float, ...], ...]


def build_shard(
    collection: ShardCollection,
    task: ShardTask,
    *,
    base: ShardVersion | None,
    model: IndexModel,
    on_progress: Progress = lambda added: None,
) -> Built:
    """Carry out a task on the version ``base`` of its shard, and publish what comes out."""
    is_same = task.part is None and not task.removed and not task.is_whole
    with private_copy(collection.folder, task.shard, base) as index:
        if base is None:
            # A codec is given, or comes later for all shards at once: none trains its own.
            name = "faiss" if collection.engine.name == "faiss" else "exact"
            settings = replace(collection.engine, name=name)
            store = Store.create(index, collection.contract, engine=settings)
        else:
            store = Store.open(index)
        with store:
            added = _change(store, collection, task, model=model, on_progress=on_progress)
            is_empty = not store.stats().documents
        if is_empty:
            return Built(task.shard, None, added)
        codec = collection.manifest.codec
        version = publish(
            collection.folder,
            task.shard,
            index,
            content=base.content if base and is_same else task.content,
            codec=codec.name if codec else "",
        )
    return Built(task.shard, version, added)


def _change(
    store: Store, collection: ShardCollection, task: ShardTask, *, model: IndexModel, on_progress: Progress
) -> Added:
    with store.writer() as writer:
        _give_codec(store, writer, collection)
        adder = Adder(writer, chunker=Chunker(model, store.contract), on_progress=on_progress)
        kept: set[str] = set()
        if task.part is not None:
            adder.carry_out(new_or_changed(_noted(task.part, kept), store, added=adder.added))
        writer.commit()
        gone: Iterable[str] = task.removed
        if task.is_whole:
            gone = [id for id in store.document_ids() if id not in kept]
        adder.added.removed += writer.remove(gone)
        writer.commit()
        if model.exists:
            encoded = store.encoded()
            adder.added.waiting = encoded.of - encoded.passages
            encoding = PassageEncoding(store, writer, added=adder.added, on_progress=on_progress)
            encoding.carry_out(lambda: model.encoder)
        writer.compact()
    return adder.added


def _noted(part: Path, ids: set[str]) -> Iterator[Document]:
    """The documents of a part, their ids being noted."""
    for document in read_part(part):
        ids.add(document.id)
        yield document


def _give_codec(store: Store, writer: Writer, collection: ShardCollection) -> None:
    """Give the shard the collection's codec where it has none yet."""
    if collection.manifest.codec is None or store.snapshot().codec is not None:
        return
    with collection.codec_file() as codec:
        assert codec
        writer.give_codec(codec, collection.manifest.calibration)


def train_codec(collection: ShardCollection, versions: Mapping[int, ShardVersion], *, tokens: int) -> Trained:
    """Train the codec of a collection of ``tokens`` token vectors on those of some shards, and calibrate it.

    The shards hold the vectors themselves, not yet coded. StorageError where they hold none.
    """
    from flatcoat.indexing.plaid.codec import Codec, sample_size

    settings = collection.engine
    size, read = sample_size(tokens, settings.centroids), 0
    sample: Sample | None = None
    for shard, version in versions.items():
        store = collection.open_version(shard, version)
        for segment in store.snapshot().vectors:
            if isinstance(segment, TokenVectors):
                sample = sample or Sample(size, segment.width)
                sample.add(content_keys([segment.values_TD], segment.offsets), segment.values_TD.__getitem__)
                read += len(segment.values_TD)
        if read >= _READ_PER_SAMPLED * size:
            break
    if sample is None:
        raise StorageError(f"collection {collection.path} has no token vectors to train a codec on")
    codec = Codec.train(sample.vectors(), tokens, bits=settings.bits, centroids=settings.centroids)
    return Trained(codec, _calibrated(collection, codec, versions))


def _calibrated(
    collection: ShardCollection, codec: "Codec", versions: Mapping[int, ShardVersion]
) -> tuple[tuple[float, ...], ...]:
    """The operating points of the codec, measured on the largest of some shards."""
    shard = max(versions, key=lambda shard: versions[shard].vectors)
    with private_copy(collection.folder, shard, versions[shard]) as index, Store.open(index) as store:
        with store.writer() as writer:
            writer.give_codec(codec)
        return tuple(tuple(point) for point in store.snapshot().calibration)
