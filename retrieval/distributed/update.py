"""Bring a collection up to date: partition documents, build the shards that changed, commit the manifest.

The driver alone writes the manifest: every ten seconds while shards are built, and at the end. Whatever dies,
the same command goes on: shards whose content the manifest has are not built again, and a shard that was
begun is begun anew from its last version.

PLAID's codec is trained once, on the first shards: documents are spread over shards by a hash, so that each
shard is a sample of all. Shards built before that are coded again, those built after it are coded at once.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from flatcoat.errors import ConflictError, DataError, NotFoundError, UsageError
from flatcoat.indexing.collection.collection import ShardCollection
from flatcoat.indexing.collection.manifest import ShardVersion, shard_of
from flatcoat.indexing.documents import Document, checked_id
from flatcoat.indexing.store.engines import PLAID_FROM
from flatcoat.indexing.store.source_paths import as_root
from flatcoat.indexing.store.sources import Reading
from flatcoat.retrieval.index_model import IndexModel
from flatcoat.retrieval.ingest import Added, Progress, combined

from .build import Built, ShardTask, build_shard, train_codec
from .parts import Part, partition
from .sources import read_roots

COMMIT_SECONDS = 10.0
"""Time between two manifests while shards are built; a driver that dies loses the shards of so long."""

Run = Callable[[Sequence[ShardTask], Progress], Iterator[Built]]
"""Carries out tasks, in any order, each on the shard's version in the collection's manifest."""


@dataclass
class CollectionUpdate:
    """Changes to one collection; ``run`` builds the shards, by default one after the other in this process.

    ``at_once`` is how many it builds at the same time.
    """

    collection: ShardCollection
    model: IndexModel
    run: Run | None = None
    at_once: int = 1
    _uncommitted: dict[int, ShardVersion | None] = field(default_factory=dict, init=False)
    _committed_at: float = field(default=0.0, init=False)
    _total: Added = field(default_factory=Added, init=False)

    def add(self, documents: Iterable[Document], *, vectors: bool, on_progress: Progress) -> Added:
        """As ``Update.add``.

        ConflictError where the collection is made of files.
        """
        _require(vectors)
        if self.collection.manifest.sources:
            raise ConflictError(
                f"collection {self.collection.path} is made of files, which would replace what is added: "
                "add it to them, and index them again"
            )
        with TemporaryDirectory(prefix="flatcoat-parts-") as folder:
            parts = partition(documents, self.collection.manifest.shards, folder=Path(folder))
            tasks = [ShardTask(shard, part.path) for shard, part in sorted(parts.items())]
            added = self._carry_out(tasks, on_progress)
        added.found = sum(part.content.documents for part in parts.values())
        return added

    def add_files(
        self, roots: Sequence[str | Path], reading: Reading, *, vectors: bool, on_progress: Progress
    ) -> Added:
        """Make the collection hold the documents of these roots, and no others.

        UsageError where it was made of a root that is not named, ConflictError where documents were added one
        by one: they would be removed. DataError where there is no document.
        """
        _require(vectors)
        named = tuple(map(_named, roots))
        self._require_all(named)
        added = Added()
        with TemporaryDirectory(prefix="flatcoat-parts-") as folder:
            documents = read_roots(roots, reading, added=added)
            parts = partition(documents, self.collection.manifest.shards, folder=Path(folder))
            if not parts:
                raise DataError(f"nothing to index in {', '.join(named)}: no document was read")
            tasks = self._stale(parts)
            changed = {task.shard for task in tasks}
            added.unchanged = sum(parts[one].content.documents for one in parts.keys() - changed)
            if self.collection.manifest.sources != (sources := tuple(sorted(named))):
                self.collection.commit({}, sources=sources)
            done = self._carry_out(tasks, on_progress)
        found = sum(part.content.documents for part in parts.values())
        added = combined(added, done)
        added.found = found + len(added.skipped)
        return added

    def _stale(self, parts: Mapping[int, Part]) -> list[ShardTask]:
        """What makes the shards those of their parts; shards whose content is the same are left out."""
        versions, tasks = self.collection.manifest.versions, []
        for shard in sorted(parts.keys() | versions.keys()):
            part, version = parts.get(shard), versions.get(shard)
            digest = part.content.digest if part else ""
            if not (part and version and version.content == digest):
                tasks.append(ShardTask(shard, part and part.path, True, digest))
        return tasks

    def remove(self, ids: str | Iterable[str]) -> int:
        """Remove documents by id; returns how many there were."""
        by_shard: dict[int, list[str]] = {}
        for id in [ids] if isinstance(ids, str) else ids:
            id = checked_id(id)
            by_shard.setdefault(shard_of(id, self.collection.manifest.shards), []).append(id)
        tasks = []
        for shard, several in sorted(by_shard.items()):
            store = self.collection.store(shard)
            held = tuple(id for id in several if store and store.holds(id))
            if held:
                tasks.append(ShardTask(shard, removed=held))
        return self._carry_out(tasks, lambda added: None).removed

    def _require_all(self, named: Sequence[str]) -> None:
        """UsageError unless all roots are named: documents of others would be removed."""
        if not named:
            raise UsageError(f"name the files that collection {self.collection.path} is to be made of")
        known = self.collection.manifest.sources
        if missing := sorted(set(known) - set(named)):
            raise UsageError(
                f"collection {self.collection.path} is made of {', '.join(known)}: name {missing[0]} too, "
                "whose documents would be removed otherwise, or forget it first"
            )
        if (
            not known
            and self.collection.manifest.versions
            and not all(version.content for version in self.collection.manifest.versions.values())
        ):
            raise ConflictError(
                f"collection {self.collection.path} holds documents that were added one by one, which would "
                "be removed: make another collection of files"
            )

    def forget(self, root: str | Path) -> int:
        """Drop a root, whose documents go when the collection is next made of the others: none yet."""
        known, named = self.collection.manifest.sources, _named(root)
        if named not in known:
            names = ", ".join(known) or "none"
            raise NotFoundError(
                f"{root} is no source of collection {self.collection.path}; its sources: {names}"
            )
        self.collection.commit({}, sources=tuple(name for name in known if name != named))
        return 0

    def compact(self) -> None:
        """Code what is not coded yet, and delete what no manifest names any more."""
        self._carry_out([], lambda added: None)

    def _carry_out(self, tasks: Sequence[ShardTask], on_progress: Progress) -> Added:
        """Build shards and commit them, training the codec on the way where it is due."""
        self._total, done, waiting = Added(), 0, list(tasks)
        self._committed_at = time.monotonic()
        while waiting:
            count = self.at_once if self._may_train() else len(waiting)
            wave, waiting = waiting[:count], waiting[count:]
            self._build(wave, on_progress)
            done += len(wave)
            self._train(share=done / len(tasks))
        self._train(share=1.0)
        versions = self.collection.manifest.versions
        if codec := self.collection.manifest.codec:
            stale = [ShardTask(shard) for shard, version in versions.items() if version.codec != codec.name]
            self._build(stale, on_progress)
        self.collection.sweep()
        return self._total

    def _build(self, tasks: Sequence[ShardTask], on_progress: Progress) -> None:
        """Build shards, count them in, and commit what is built in the end, whatever happens."""
        run = self.run or self._run_here
        try:
            for built in run(tasks, lambda added: on_progress(combined(self._total, added))):
                self._uncommitted[built.shard] = built.version
                self._total = combined(self._total, built.added)
                on_progress(self._total)
                if time.monotonic() - self._committed_at >= COMMIT_SECONDS:
                    self._commit()
        finally:
            self._commit()

    def _run_here(self, tasks: Sequence[ShardTask], on_progress: Progress) -> Iterator[Built]:
        for task in tasks:
            base = self.collection.manifest.versions.get(task.shard)
            yield build_shard(self.collection, task, base=base, model=self.model, on_progress=on_progress)

    def _commit(self) -> None:
        if self._uncommitted:
            self.collection.commit(self._uncommitted)
            self._uncommitted.clear()
        self._committed_at = time.monotonic()

    def _may_train(self) -> bool:
        encoder = self.collection.contract["encoder"]
        is_late_interaction = encoder is not None and encoder["kind"] == "colbert"
        is_plaid = self.collection.engine.name in ("auto", "plaid")
        return is_plaid and is_late_interaction and self.collection.manifest.codec is None

    def _train(self, *, share: float) -> None:
        """Train the codec where ``share`` of the collection is enough of a sample, or is all of it."""
        versions = self.collection.manifest.versions
        vectors = sum(version.vectors for version in versions.values())
        if not vectors or not self._may_train():
            return
        from flatcoat.indexing.plaid.codec import sample_size

        settings, tokens = self.collection.engine, round(vectors / share)
        is_enough = share == 1 or vectors >= sample_size(tokens, settings.centroids)
        if is_enough and (settings.name == "plaid" or tokens >= PLAID_FROM):
            trained = train_codec(self.collection, versions, tokens=tokens)
            file = self.collection.save_codec(trained.codec)
            self.collection.commit({}, codec=file, calibration=trained.calibration)


def _require(vectors: bool) -> None:
    if not vectors:
        raise UsageError("a shard is published with its vectors: vectors must be True")


def _named(root: str | Path) -> str:
    """A root as the manifest names it: the absolute path of a file or folder, or the name of a data set."""
    found = as_root(root)
    return found if isinstance(found, str) else str(found.absolute())
