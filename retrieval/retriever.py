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
from ..indexing.engines import EngineSettings
from ..indexing.engines import Name as Engine
from ..indexing.filters import Condition, parse_condition
from ..indexing.store import StaleRow, Stats, Store
from .contract import Contract, Precision

if TYPE_CHECKING:
    from ..indexing.types import VectorIndex
    from ..indexing.writer import Writer
    from .encoding import Encoder

BATCH = 1_000
"""Passages encoded and committed together: what a cut-off run loses at most."""


@dataclass(frozen=True)
class Result:
    """A passage that was found. ``lines`` are those of its document, 1-based and inclusive.

    ``section`` is its path of headings, or the names of the classes and functions around it.
    """

    rank: int
    score: float
    document_id: str
    title: str
    lines: tuple[int, int]
    text: str
    metadata: Metadata
    section: str = ""

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
        self.contract = Contract.from_json(store.contract["encoder"])
        self.passage_tokens = int(store.contract["passage_tokens"])
        if encoder is not None:
            self.contract.require(encoder.contract)
        self._encoder = encoder
        self._opened: _IndexAt | None = None

    @staticmethod
    def create(
        path: str | Path,
        model: "str | Path | Encoder | None" = None,
        passage_tokens: int | None = None,
        precision: Precision | None = None,
        index: Engine | EngineSettings = "auto",
    ) -> "Retriever":
        """Make an empty index at ``path``.

        ``model`` is an encoder, a checkpoint's folder or its name on the hub (None: the one inside flatcoat).
        ``passage_tokens`` bounds a passage; by default it is what the model reads of a document, 512 at most.
        ``precision`` is what a model given by name computes in, here and when the index is opened. ``index``
        searches it: "exact", "plaid", "faiss", or "auto", which is exact as long as that is as fast.
        Raises FlatcoatError where the path is taken, or the model or its precision is unknown.
        """
        encoder = _load(model, precision)
        own = encoder.contract.precision
        if precision not in (None, own):
            raise FlatcoatError(
                f"the encoder given computes in {own}, not {precision}: load it in {precision}"
            )
        limit = encoder.contract.document_length
        tokens = min(limit, 512) if passage_tokens is None else passage_tokens
        if not 16 <= tokens <= limit:
            raise FlatcoatError(
                f"passage_tokens {tokens}: from 16 to {limit}, what the model reads, is possible"
            )
        engine = EngineSettings(index) if isinstance(index, str) else index
        engine.validate_for(encoder.contract.shape)
        contract = {"encoder": encoder.contract.to_json(), "passage_tokens": tokens}
        store = Store.create(path, contract, engine)
        return Retriever(store, encoder)

    @staticmethod
    def open(path: str | Path, model: "str | Path | Encoder | None" = None) -> "Retriever":
        """Open an index; its own model is loaded when first needed.

        A model given by name computes in the precision that made the index where this machine is fast in it.
        Raises FlatcoatError where there is no index, or ``model`` is not the one that made it.
        """
        retriever = Retriever(Store.open(path))
        if model is not None:
            retriever._encoder = retriever._checked(model)
        return retriever

    @property
    def encoder(self) -> "Encoder":
        """The encoder that made the index, loaded when first asked for and checked against its contract."""
        if self._encoder is None:
            self._encoder = self._checked(self.contract.model)
        return self._encoder

    def _checked(self, model: "str | Path | Encoder") -> "Encoder":
        from .load import fast_here

        encoder = _load(model, fast_here(self.contract.precision))
        self.contract.require(encoder.contract)
        return encoder

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
            writer.compact(full=False)
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

    def compact(self) -> None:
        """Merge what many additions and removals left behind, and train the index anew where it has grown."""
        self.store.compact()

    def search(
        self,
        query: str,
        k: int = 10,
        where: Sequence[str | Condition] = (),
        recall: float | None = None,
    ) -> list[Result]:
        """The ``k`` best passages, best first, among documents that meet every condition of ``where``.

        Conditions are written ``lang=python``, ``year>=2020``, ``path^=src/``, ``lang in python,rust``.
        ``recall`` is the share of the truly best to be found where the index does not score all. Raises
        FlatcoatError for an empty query, ``k`` below 1, a malformed condition or a recall out of reach.
        """
        if not query.strip():
            raise FlatcoatError("the query is empty: say what to look for")
        conditions = [parse_condition(text) if isinstance(text, str) else text for text in where]
        vectors = self.encoder.encode_queries([query])
        while True:
            try:
                rows = self.store.rows_where(conditions) if conditions else None
                (hits,) = self._index().search(vectors, k, rows, recall=recall)
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

    def _index(self) -> "VectorIndex[int]":
        generation = self.store.generation
        if self._opened is None or self._opened.generation != generation:
            self._opened = _IndexAt(generation, self.store.index())
        return self._opened.index

    def _chunked(
        self, documents: Iterable[Document], hashes: dict[str, str], added: Added
    ) -> "Iterator[_Chunked]":
        for document in documents:
            digest = _content_hash(document)
            if hashes.get(document.id) == digest:
                added.unchanged += 1
                continue
            passages = chunk(document, self.encoder.token_counts, self.passage_tokens)
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
class _IndexAt:
    """The index as it was after so many commits, or a few more."""

    generation: int
    index: "VectorIndex[int]"


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
        rank,
        score,
        passage.document_id,
        passage.title,
        passage.lines,
        passage.text,
        passage.metadata,
        passage.section,
    )


def _load(model: "str | Path | Encoder | None", precision: Precision | None) -> "Encoder":
    if model is None or isinstance(model, str | Path):
        from .load import load_encoder

        return load_encoder(model, precision)
    return model
