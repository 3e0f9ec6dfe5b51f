"""Text in, results out: an index on disk together with the encoder that made it.

retriever = Retriever.create("my.index")
retriever.add_files("docs")
retriever.search("why is the sky blue?", k=5)
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import FlatcoatError
from ..indexing.chunking import chunk
from ..indexing.documents import Document, Metadata, Passage
from ..indexing.filters import Condition, parse_condition
from ..indexing.store import StaleRow, Stats, Store
from .contract import Contract

if TYPE_CHECKING:
    from ..indexing.exact import ExactIndex
    from ..indexing.writer import Writer
    from .encoding import Encoder

BATCH = 1_000
"""Passages encoded and committed together: what a cut-off run loses at most."""


@dataclass(frozen=True)
class Result:
    """A passage that was found. ``lines`` are those of its document, 1-based and inclusive."""

    rank: int
    score: float
    document_id: str
    title: str
    lines: tuple[int, int]
    text: str
    metadata: Metadata

    def to_json(self) -> dict[str, object]:
        """JSON values."""
        values: dict[str, object] = asdict(self)
        return values | {"lines": list(self.lines)}


class Skip(NamedTuple):
    """Something that was not indexed, and why."""

    path: str
    reason: str


@dataclass
class Added:
    """What an ``add`` did; documents whose content the index held already are ``unchanged``."""

    documents: int = 0
    passages: int = 0
    unchanged: int = 0
    skipped: list[Skip] = field(default_factory=list)


Progress = Callable[[Added], None]
"""Called after each batch with what was done so far."""


class Retriever:
    """Search over documents of one's own. Writing takes the index's one lock; readers never wait for it."""

    def __init__(self, store: Store, encoder: "Encoder | None" = None):
        self.store = store
        self._contract = Contract.from_json(store.contract["encoder"])
        self._passage_tokens = int(store.contract["passage_tokens"])
        if encoder is not None:
            self._contract.require(encoder.contract)
        self._encoder = encoder
        self._exact: _ExactIndexAt | None = None

    @staticmethod
    def create(
        path: str | Path, model: "str | Path | Encoder | None" = None, passage_tokens: int | None = None
    ) -> "Retriever":
        """Make an empty index at ``path``.

        ``model`` is an encoder, a checkpoint's folder or its name on the hub (None: the one inside flatcoat).
        ``passage_tokens`` bounds a passage; by default it is what the model reads of a document, 512 at most.
        Raises FlatcoatError where the path is taken or the model is unknown.
        """
        encoder = _load(model)
        limit = encoder.contract.document_length
        tokens = min(limit, 512) if passage_tokens is None else passage_tokens
        if not 16 <= tokens <= limit:
            raise FlatcoatError(
                f"passage_tokens {tokens}: from 16 to {limit}, what the model reads, is possible"
            )
        store = Store.create(path, {"encoder": encoder.contract.to_json(), "passage_tokens": tokens})
        return Retriever(store, encoder)

    @staticmethod
    def open(path: str | Path, model: "str | Path | Encoder | None" = None) -> "Retriever":
        """Open an index; its own model is loaded when first needed.

        Raises FlatcoatError where there is no index, or ``model`` is not the one that made it.
        """
        return Retriever(Store.open(path), None if model is None else _load(model))

    @property
    def encoder(self) -> "Encoder":
        """The encoder that made the index, loaded when first asked for and checked against its contract."""
        if self._encoder is None:
            encoder = _load(self._contract.model)
            self._contract.require(encoder.contract)
            self._encoder = encoder
        return self._encoder

    def add(
        self,
        documents: "Iterable[Document]",
        on_progress: Progress = lambda added: None,
    ) -> Added:
        """Encode and store documents as they come; an id that is there already is replaced.

        Each batch is committed by itself: what a cut-off run had committed stays, and the same call again
        goes on from there, since documents with unchanged content are passed over.
        """
        added = Added()
        with self.store.writer() as writer:
            hashes = self.store.document_hashes()
            for batch in _batches(self._chunked(documents, hashes, added)):
                self._write(writer, batch, added)
                on_progress(added)
        return added

    def add_files(self, path: str | Path, on_progress: Progress = lambda added: None) -> Added:
        """Add a folder (less what .gitignore excludes), a text file, a .jsonl file or a BEIR folder.

        What cannot be read is in ``skipped`` with its reason. Raises FlatcoatError where the path is missing
        or nothing in it could be read.
        """
        from ..indexing.readers import read_documents

        skipped: list[Skip] = []
        documents = read_documents(path, on_skip=lambda name, reason: skipped.append(Skip(name, reason)))
        added = self.add(documents, on_progress)
        added.skipped += skipped
        if not added.documents and not added.unchanged:
            reasons = ", ".join(sorted({skip.reason for skip in added.skipped}))
            why = f": {len(added.skipped)} skipped ({reasons})" if reasons else ": it holds no text"
            raise FlatcoatError(f"nothing to index in {path}{why}")
        return added

    def remove(self, document_ids: Iterable[str]) -> int:
        """Remove documents; returns how many of them were there."""
        with self.store.writer() as writer:
            return writer.remove([document_ids] if isinstance(document_ids, str) else document_ids)

    def search(self, query: str, k: int = 10, where: Sequence[str | Condition] = ()) -> list[Result]:
        """The ``k`` best passages, best first, among documents that meet every condition of ``where``.

        Conditions are written ``lang=python``, ``year>=2020``, ``path^=src/``. Raises FlatcoatError for an
        empty query, ``k`` below 1 or a malformed condition.
        """
        if not query.strip():
            raise FlatcoatError("the query is empty: say what to look for")
        conditions = [parse_condition(text) if isinstance(text, str) else text for text in where]
        vectors = self.encoder.encode_queries([query])
        while True:
            try:
                rows = self.store.rows_where(conditions) if conditions else None
                (hits,) = self._index().search(vectors, k, rows)
                passages = self.store.passages(hits.ids)
                break
            except StaleRow:  # A commit came between the two reads: look again.
                continue
        scores = hits.scores.tolist()
        return [_result(*found) for found in zip(range(1, k + 1), scores, passages, strict=False)]

    def info(self) -> Stats:
        """Sizes of the index."""
        return self.store.stats()

    def close(self) -> None:
        """Close the index's database."""
        self.store.close()

    def _index(self) -> "ExactIndex[int]":
        from ..indexing.exact import ExactIndex

        if self._exact is None or self._exact.generation != self.store.generation:
            snapshot = self.store.snapshot()
            self._exact = _ExactIndexAt(snapshot.generation, ExactIndex.from_snapshot(snapshot))
        return self._exact.index

    def _chunked(
        self, documents: Iterable[Document], hashes: dict[str, str], added: Added
    ) -> "Iterator[_Chunked]":
        for document in documents:
            digest = _content_hash(document)
            if hashes.get(document.id) == digest:
                added.unchanged += 1
                continue
            passages = chunk(document, self.encoder.token_counts, self._passage_tokens)
            if not passages:
                added.skipped.append(Skip(document.id, "empty"))
            if passages or document.id in hashes:
                hashes[document.id] = digest
                yield _Chunked(document.id, digest, passages)

    def _write(self, writer: "Writer", batch: "list[_Chunked]", added: Added) -> None:
        passages = [passage for chunked in batch for passage in chunked.passages]
        emptied = [chunked.document_id for chunked in batch if not chunked.passages]
        writer.remove(emptied)
        vectors = self.encoder.encode_documents([passage.searchable for passage in passages])
        writer.add(passages, vectors, {chunked.document_id: chunked.digest for chunked in batch})
        writer.commit()
        added.documents += len(batch) - len(emptied)
        added.passages += len(passages)


@dataclass(frozen=True)
class _ExactIndexAt:
    """The index as it was after so many commits."""

    generation: int
    index: "ExactIndex[int]"


class _Chunked(NamedTuple):
    document_id: str
    digest: str
    passages: list[Passage]


def _batches(chunked: Iterable[_Chunked]) -> Iterator[list[_Chunked]]:
    """Batches of about BATCH passages; an id that comes twice starts a new batch, which replaces the old."""
    batch: list[_Chunked] = []
    ids: set[str] = set()
    passages = 0
    for one in chunked:
        if batch and (passages + len(one.passages) > BATCH or one.document_id in ids):
            yield batch
            batch, ids, passages = [], set(), 0
        batch.append(one)
        ids.add(one.document_id)
        passages += len(one.passages)
    if batch:
        yield batch


def _content_hash(document: Document) -> str:
    content = json.dumps([document.title, document.text, document.metadata], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _result(rank: int, score: float, passage: Passage) -> Result:
    return Result(
        rank, score, passage.document_id, passage.title, passage.lines, passage.text, passage.metadata
    )


def _load(model: "str | Path | Encoder | None") -> "Encoder":
    if model is None or isinstance(model, str | Path):
        from .load import load_encoder

        return load_encoder(model)
    return model
