"""Changes to an index: documents and files added, brought up to date and removed."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flatcoat.errors import DataError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.store.sources import Reading
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.store.writer import Writer

from .chunking import chunker_for
from .encoding import PassageEncoding
from .index_model import IndexModel
from .ingest import Added, Adder, Progress, new_or_changed
from .sync import Sync


class Update(Protocol):
    """What changes an index, or a collection of shards; ``Retriever`` says what each call does."""

    def add(self, documents: Iterable[Document], *, vectors: bool, on_progress: Progress) -> Added:
        """Add documents; one with the id of a stored one replaces it."""
        ...

    def add_files(
        self, roots: Sequence[str | Path], reading: Reading, *, vectors: bool, on_progress: Progress
    ) -> Added:
        """Add roots, or bring them up to date."""
        ...

    def forget(self, root: str | Path) -> int:
        """Remove a root; returns the number of documents that went with it."""
        ...

    def remove(self, ids: str | Iterable[str]) -> int:
        """Remove documents by id; returns how many there were."""
        ...

    def compact(self) -> None:
        """Merge what is small, and drop what is removed."""
        ...


@dataclass
class IndexUpdate:
    """Changes to one index, each under its lock."""

    store: Store
    model: IndexModel

    def add(self, documents: Iterable[Document], *, vectors: bool, on_progress: Progress) -> Added:
        """As ``Update.add``."""
        with self._adding(vectors, on_progress) as (_, adder):
            adder.carry_out(new_or_changed(documents, self.store, added=adder.added))
        return adder.added

    def add_files(
        self, roots: Sequence[str | Path], reading: Reading, *, vectors: bool, on_progress: Progress
    ) -> Added:
        """As ``Update.add_files``; without roots, all sources of the index."""
        with self._adding(vectors, on_progress) as (writer, adder):
            sync = Sync(self.store, writer, adder=adder)
            for source in writer.enter_sources(roots, reading) if roots else sync.all_sources(reading):
                sync.bring_up_to_date(source)
            added = adder.added
            if not (added.documents or added.unchanged or added.renamed or added.removed):
                raise DataError(_nothing_in(roots or [self.store.path], added))
        return added

    def forget(self, root: str | Path) -> int:
        """As ``Update.forget``."""
        with self.store.writer() as writer:
            return writer.forget_source(self.store.source_at(root).key)

    def remove(self, ids: str | Iterable[str]) -> int:
        """As ``Update.remove``."""
        with self.store.writer() as writer:
            return writer.remove(ids)

    def compact(self) -> None:
        """As ``Update.compact``."""
        self.store.compact()

    @contextmanager
    def _adding(self, vectors: bool, on_progress: Progress) -> Iterator[tuple[Writer, Adder]]:
        """Store texts in the block; then encode what waits for vectors, and merge segments."""
        with self.store.writer() as writer:
            with chunker_for(self.model, self.store) as chunker:
                adder = Adder(writer, chunker=chunker, on_progress=on_progress)
                yield writer, adder
            encoded = self.store.encoded()
            adder.added.waiting = encoded.of - encoded.passages if self.model.exists else 0
            if vectors and self.model.exists:
                encoding = PassageEncoding(self.store, writer, added=adder.added, on_progress=on_progress)
                encoding.carry_out(lambda: self.model.encoder)
            if vectors or not self.model.exists:
                writer.compact(full=False)


def _nothing_in(places: Sequence[Path | str], added: Added) -> str:
    reasons = ", ".join(sorted({skip.reason for skip in added.skipped}))
    why = f": {len(added.skipped)} skipped ({reasons})" if reasons else ": it holds no text"
    return f"nothing to index in {', '.join(map(str, places))}{why}"
