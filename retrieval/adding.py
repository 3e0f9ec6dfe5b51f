"""Documents into passages, passages into vectors, both into the index: each batch while the next is made."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..indexing.cutting import CountTokens
from ..indexing.documents import Document, Passage
from ..indexing.sources import FileState
from .pipeline import ahead

if TYPE_CHECKING:
    from ..indexing.types import Vectors
    from ..indexing.writer import Writer
    from .encoding import Encoder

BATCH = 1_000
"""Passages encoded and committed together: what a cut-off run loses at most."""


class Skip(NamedTuple):
    """Something that was not indexed, and why."""

    path: str
    reason: str


@dataclass
class Added:
    """What a call did; documents whose content the index held already are ``unchanged``.

    ``bytes`` are of the texts that were encoded.
    """

    documents: int = 0
    passages: int = 0
    unchanged: int = 0
    renamed: int = 0
    removed: int = 0
    bytes: int = 0
    skipped: list[Skip] = field(default_factory=list)


Cut = Callable[[Document, CountTokens], list[Passage]]
"""A document to its passages, ``indexing.chunking.chunk`` with its lengths chosen."""

Progress = Callable[[Added], None]
"""Called after each batch with what was done so far."""


class Change(NamedTuple):
    """What is to become of a document, and what is to be remembered of its ``file`` in the same commit.

    A document is stored, under ``renamed_from`` without being encoded. Without one, the document of that id
    stays as it is, or is taken out where ``state`` says why its file was skipped.
    """

    id: str
    document: Document | None = None
    hash: str = ""
    file: str = ""
    state: FileState | None = None
    renamed_from: str | None = None


class Adder:
    """Carries out changes over one writer, counting in ``added``."""

    def __init__(
        self, writer: "Writer", encoder: "Callable[[], Encoder]", cut: Cut, on_progress: Progress
    ) -> None:
        """``encoder`` is called when there is something to encode, and not before."""
        self.added = Added()
        self._writer = writer
        self._encoder = encoder
        self._cut = cut
        self._on_progress = on_progress

    def carry_out(self, changes: Iterable[Change], source: int | None = None) -> None:
        """Carry out changes as they come, committing batch by batch; all are of one source, or of none."""
        written: Future[None] | None = None
        batches = closing(ahead(_batches(map(self._chunked, changes))))
        with batches as prepared, ThreadPoolExecutor(1, "flatcoat-writer") as pool:
            for batch in prepared:
                vectors = self._encoded(batch)
                if written is not None:
                    written.result()
                    self._on_progress(self.added)
                written = pool.submit(self._write, batch, vectors, source)
            if written is not None:
                written.result()
                self._on_progress(self.added)

    def _chunked(self, change: Change) -> "_Chunked":
        if change.document is None or change.renamed_from is not None:
            return _Chunked(change, [])
        passages = self._cut(change.document, self._encoder().token_counts)
        if not passages:
            self.added.skipped.append(Skip(change.id, "empty"))
            change = change._replace(state=change.state and change.state._replace(skipped="empty"))
        return _Chunked(change, passages)

    def _encoded(self, batch: "list[_Chunked]") -> "Vectors | None":
        texts = [passage.searchable for chunked in batch for passage in chunked.passages]
        return self._encoder().encode_documents(texts) if texts else None

    def _write(self, batch: "list[_Chunked]", vectors: "Vectors | None", source: int | None) -> None:
        self._take_out(batch)
        for change, _ in batch:
            if change.renamed_from is not None and change.document is not None:
                self._writer.rename(change.renamed_from, change.document, change.hash)
                self.added.renamed += 1
        if vectors is not None:
            passages = [passage for chunked in batch for passage in chunked.passages]
            hashes = {change.id: change.hash for change, _ in batch}
            self._writer.add(passages, vectors, hashes, source)
            self.added.passages += len(passages)
            self.added.documents += sum(bool(chunked.passages) for chunked in batch)
            self.added.bytes += sum(len(passage.text.encode()) for passage in passages)
        if source is not None:
            states = ((change.file, change.state) for change, _ in batch if change.state is not None)
            self._writer.remember(source, states)
        self._writer.commit()

    def _take_out(self, batch: "list[_Chunked]") -> None:
        """Documents that have lost their text, or whose file is skipped now."""
        self._writer.remove(
            change.id
            for change, passages in batch
            if not passages
            and change.renamed_from is None
            and (change.document is not None or (change.state is not None and change.state.skipped))
        )


class _Chunked(NamedTuple):
    change: Change
    passages: list[Passage]


def _batches(chunked: Iterable[_Chunked]) -> Iterator[list[_Chunked]]:
    """Batches of about BATCH passages; an id that comes twice starts a new batch, which replaces the old."""
    batch: list[_Chunked] = []
    ids: set[str] = set()
    size = 0
    for one in chunked:
        if batch and (size + len(one.passages) > BATCH or len(batch) == BATCH or one.change.id in ids):
            yield batch
            batch, ids, size = [], set(), 0
        batch.append(one)
        ids.add(one.change.id)
        size += len(one.passages)
    if batch:
        yield batch


def content_hash(document: Document) -> str:
    """A digest of everything that decides what a document's passages are."""
    content = [document.title, document.text, document.metadata, document.outline]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def new_or_changed(documents: Iterable[Document], hashes: dict[str, str], added: Added) -> Iterator[Change]:
    """Changes for the documents that an index with these ``hashes`` by id does not hold as they are."""
    for document in documents:
        digest = content_hash(document)
        if hashes.get(document.id) == digest:
            added.unchanged += 1
        else:
            hashes[document.id] = digest
            yield Change(document.id, document, digest)
