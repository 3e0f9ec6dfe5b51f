"""Text in, results out: an index on disk together with the encoder that made it.

retriever = Retriever.create("my.index")
retriever.add_files("docs")
retriever.search("why is the sky blue?", k=5)
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, get_args

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.chunking.chunk import chunk
from flatcoat.indexing.documents import Document
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.engines import Name as Engine
from flatcoat.indexing.store.filters import Condition
from flatcoat.indexing.store.sources import Reading
from flatcoat.indexing.store.stats import Stats
from flatcoat.indexing.store.store import Store
from flatcoat.retrieval.encoders.contract import Contract, Precision

from .ingest import Added, Adder, Progress, new_or_changed
from .results import Mode, Result
from .search import Fusion, Question, Searcher

if TYPE_CHECKING:
    from flatcoat.indexing.reading.columns import Columns
    from flatcoat.indexing.store.writer import Writer
    from flatcoat.retrieval.encoders.encoder import Encoder

    from .rerank import Reranker


class Retriever:
    """Search over documents of one's own. Writing takes the index's one lock; readers never wait for it."""

    def __init__(self, store: Store, encoder: "Encoder | None" = None):
        self.store = store
        self.contract = Contract.from_json(store.contract["encoder"])
        self.passage_tokens = int(store.contract["passage_tokens"])
        self.overlap = int(store.contract.get("overlap", 0))  # Earlier indexes do not name it.
        if encoder is not None:
            self.contract.require(encoder.contract)
        self._encoder = encoder
        self._loading = Lock()
        self._searcher = Searcher(store, lambda: self.encoder)

    @staticmethod
    def create(
        path: str | Path,
        model: "str | Path | Encoder | None" = None,
        passage_tokens: int | None = None,
        precision: Precision | None = None,
        index: Engine | EngineSettings = "auto",
        overlap: int = 0,
    ) -> "Retriever":
        """Make an empty index at ``path``.

        ``model`` is an encoder, a checkpoint's folder or its name on the hub (None: the one inside flatcoat).
        ``passage_tokens`` bounds a passage; by default it is what the model reads of a document, 512 at most.
        A model given by name reads on to where its positions end, which may hold whole documents.
        ``overlap`` is how many tokens of the passage before a passage of text may begin with, at most half of
        it; code is cut without. ``precision`` is what a model given by name computes in, here and when the
        index is opened. ``index`` searches it: "exact", "plaid", "faiss", or "auto", which is exact as long
        as that is as fast. Raises FlatcoatError where the path is taken, or the model or its precision is
        unknown.
        """
        if precision not in (None, *get_args(Precision)):
            raise FlatcoatError(f"precision {precision!r}: {', '.join(get_args(Precision))} are possible")
        encoder = _load(model, precision, passage_tokens)
        own = encoder.contract.precision
        if precision not in (None, own):
            raise FlatcoatError(
                f"the encoder given computes in {own}, not {precision}: load it in {precision}"
            )
        limit = encoder.contract.document_length
        tokens = min(limit, 512) if passage_tokens is None else passage_tokens
        if not (_is_integer(tokens) and 16 <= tokens <= limit):
            raise FlatcoatError(
                f"passage_tokens {tokens!r}: from 16 to {limit}, what the model reads, is possible"
            )
        if not (_is_integer(overlap) and 0 <= overlap <= tokens // 2):
            raise FlatcoatError(
                f"overlap {overlap!r}: from 0 to {tokens // 2}, half of a passage, is possible"
            )
        engine = index if isinstance(index, EngineSettings) else EngineSettings(index)
        engine.validate_for(encoder.contract.shape)
        contract = {
            "encoder": encoder.contract.to_json(),
            "passage_tokens": int(tokens),
            "overlap": int(overlap),
        }
        store = Store.create(path, contract, engine=engine)
        return Retriever(store, encoder)

    @staticmethod
    def open(path: str | Path, model: "str | Path | Encoder | None" = None) -> "Retriever":
        """Open an index; its own model is loaded when first needed.

        The model that an index names is read as data alone, by flatcoat itself and without the network; one
        that needs the code of another library is to be given as ``model``. A model given by name computes in
        the precision that made the index where this machine is fast in it. Raises FlatcoatError where there
        is no index, or ``model`` is not the one that made it.
        """
        retriever = Retriever(Store.open(path))
        if model is not None:
            retriever._encoder = retriever._checked(model)
        return retriever

    @property
    def encoder(self) -> "Encoder":
        """The encoder that made the index, loaded when first asked for and checked against its contract."""
        with self._loading:
            if self._encoder is None:
                self._encoder = self._checked(None)
        return self._encoder

    def _checked(self, model: "str | Path | Encoder | None") -> "Encoder":
        """None is the model that the index names: the index may be somebody else's, so that is only data."""
        from flatcoat.retrieval.encoders.load import fast_here, load_named

        precision, length = fast_here(self.contract.precision), self.contract.document_length
        if model is None:
            named = load_named(self.contract.model, f"index {self.store.path}", precision)
            encoder = _reading(named, length)
        else:
            encoder = _load(model, precision, length)
        self.contract.require(encoder.contract)
        return encoder

    def add(self, documents: Iterable[Document], on_progress: Progress = lambda added: None) -> Added:
        """Encode and store documents as they come; an id that is there already is replaced.

        Each batch is committed by itself: what a cut-off run had committed stays, and the same call again
        goes on from there, since documents with unchanged content are passed over.
        """
        documents = [documents] if isinstance(documents, Document) else documents
        if not isinstance(documents, Iterable):
            raise FlatcoatError(f"{type(documents).__name__} came: a Document or several are needed")
        with self._adding(on_progress) as (_, adder):
            adder.carry_out(new_or_changed(documents, self.store, added=adder.added))
        return adder.added

    def add_files(
        self,
        *roots: str | Path,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        columns: "Columns | None" = None,
        encoding: str | None = None,
        on_progress: Progress = lambda added: None,
    ) -> Added:
        """Add folders and files, and from then on bring them up to date; without any, all that were added.

        A root is a folder (less what .gitignore excludes), a file, rows (.jsonl, .csv, .parquet), a BEIR
        folder, "-" for stdin or "datasets:NAME" of the hub. Only what changed is read, and encoded; a renamed
        file keeps its vectors; documents whose file is gone are removed. ``include`` and ``exclude`` are
        patterns as in .gitignore, ``columns`` names those of rows, ``encoding`` the charset of texts (by
        default it is detected). A source remembers these; without them it is read as before.

        What cannot be read is in ``skipped`` with its reason, a source that is gone too: its documents stay
        until ``forget``. Raises FlatcoatError where a root that is named is missing, or nothing in all of
        them could be read.
        """
        from .sync import Sync, found

        reading = Reading(_patterns(include), _patterns(exclude), columns, encoding)
        reading.validate()
        named = [found(root) for root in roots]
        with self._adding(on_progress) as (writer, adder):
            sync = Sync(self.store, writer, adder=adder)
            for source in writer.enter_sources(named, reading) if named else sync.all_sources(reading):
                sync.bring_up_to_date(source)
            added = adder.added
            if not (added.documents or added.unchanged or added.renamed or added.removed):
                raise FlatcoatError(_nothing_in(roots or [self.store.path], added))
        return added

    def forget(self, root: str | Path) -> int:
        """Forget a folder, file or other source, and remove its documents; returns how many there were.

        It need not be there any more. FlatcoatError where the index has no such source.
        """
        with self.store.writer() as writer:
            return writer.forget_source(self.store.source_at(root).key)

    @contextmanager
    def _adding(self, on_progress: Progress) -> "Iterator[tuple[Writer, Adder]]":
        with self.store.writer() as writer:
            cut = partial(chunk, max_tokens=self.passage_tokens, overlap=self.overlap)
            yield writer, Adder(writer, lambda: self.encoder, cut, on_progress)
            writer.compact(full=False)

    def remove(self, document_ids: str | Iterable[str]) -> int:
        """Remove one document or several; returns how many of them were there."""
        with self.store.writer() as writer:
            return writer.remove(document_ids)

    def compact(self) -> None:
        """Merge what many additions and removals left behind, and train the index anew where it has grown."""
        self.store.compact()

    def search(
        self,
        query: str,
        k: int = 10,
        where: str | Condition | Iterable[str | Condition] | None = (),
        recall: float | None = None,
        *,
        mode: Mode | Fusion | None = None,
        rerank: "Reranker | str | Path | None" = None,
        group: bool = False,
        explain: bool = False,
    ) -> list[Result]:
        """The ``k`` best passages, best first, among documents that meet every condition of ``where``.

        Conditions are written ``lang=python``, ``year>=2020``, ``path^=src/``, ``lang in python,rust``.
        ``recall`` is the share of the truly best to be found where the index does not score all. ``mode``
        ranks by "vectors", by "bm25" (which needs no model) or by both ("hybrid", the default; a ``Fusion``
        says how). ``rerank``, a model or its name, scores the best max(5 ``k``, 50) of these again. Passages
        that say the same count as one. ``group`` gives one result a document, ``explain`` says which parts
        of a result answered which parts of the query. Of a query's words, BM25 looks for the first 1024.
        Raises FlatcoatError for an empty query, ``k`` below 1, an unknown mode, a malformed condition, a
        recall out of reach, or an argument of another type.
        """
        mode = "hybrid" if mode is None else mode
        question = Question(query, k, where, recall, mode, rerank, group, explain)
        return self._searcher.search(question)

    def info(self) -> Stats:
        """Sizes of the index."""
        return self.store.stats()

    def close(self) -> None:
        """Close the index's database."""
        self.store.close()


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _patterns(given: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if given is None else (given,) if isinstance(given, str) else tuple(given)


def _nothing_in(places: "Sequence[Path | str]", added: Added) -> str:
    reasons = ", ".join(sorted({skip.reason for skip in added.skipped}))
    why = f": {len(added.skipped)} skipped ({reasons})" if reasons else ": it holds no text"
    return f"nothing to index in {', '.join(map(str, places))}{why}"


def _load(model: "str | Path | Encoder | None", precision: Precision | None, length: int | None) -> "Encoder":
    """A model given by name reads documents of ``length`` tokens, where its own length is less."""
    if model is not None and not isinstance(model, str | Path):
        return model
    from flatcoat.retrieval.encoders.load import load_encoder

    return _reading(load_encoder(model, precision), length)


def _reading(encoder: "Encoder", length: int | None) -> "Encoder":
    if length is not None and length > encoder.contract.document_length:
        encoder.read_documents(length)
    return encoder
