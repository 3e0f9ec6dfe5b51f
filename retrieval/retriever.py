"""Text in, results out: an index on disk together with the encoder that made it.

retriever = Retriever.create("my.index")
retriever.add_files("docs")
retriever.search("why is the sky blue?", k=5)
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from flatcoat.errors import ConflictError, DataError, UsageError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.fusion import Fusion
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.engines import Name as Engine
from flatcoat.indexing.store.filters import Conditions
from flatcoat.indexing.store.sources import Reading
from flatcoat.indexing.store.stats import Stats
from flatcoat.indexing.store.store import Store
from flatcoat.retrieval.encoders.contract import Contract, Precision

from .ingest import Added, Adder, Progress, new_or_changed
from .results import Mode, Result
from .search import Question, Searcher

if TYPE_CHECKING:
    from flatcoat.indexing.reading.columns import Columns
    from flatcoat.indexing.reading.content import Content
    from flatcoat.indexing.store.writer import Writer
    from flatcoat.retrieval.encoders.encoder import Encoder, QueryEncoder

    from .rerank import Reranker

AnyEncoder = TypeVar("AnyEncoder", bound="QueryEncoder")


class Retriever:
    """Search over your own documents. Writers take the one lock of the index; readers never wait for it.

    >>> retriever = Retriever.create("my.index")  # doctest: +SKIP
    >>> retriever.add([Document("sky", "Air scatters blue light.")]).documents  # doctest: +SKIP
    1
    >>> retriever.search("why is the sky blue?", k=1)[0].document_id  # doctest: +SKIP
    'sky'
    """

    def __init__(self, store: Store, encoder: "Encoder | None" = None) -> None:
        self.store = store
        self.contract = Contract.from_json(store.contract["encoder"])
        self.passage_tokens = int(store.contract["passage_tokens"])
        self.overlap = int(store.contract.get("overlap", 0))  # Earlier indexes do not name it.
        if encoder is not None:
            self.contract.require(encoder.contract)
        self._model: str | Path | None = None
        self._encoder = encoder
        self._queries: QueryEncoder | None = encoder
        self._loading = Lock()
        self._searcher = Searcher(store, lambda: self.query_encoder, lambda: self.encoder)

    @staticmethod
    def create(
        path: str | Path,
        model: "str | Path | Encoder | None" = None,
        *,
        passage_tokens: int | None = None,
        precision: Precision | None = None,
        index: Engine | EngineSettings = "auto",
        overlap: int = 0,
    ) -> "Retriever":
        """Make an empty index at ``path``.

        ``model`` is an encoder, a checkpoint folder or hub name (None: the model shipped with flatcoat).
        ``passage_tokens`` is the maximum length of a passage; by default the document length of the model, at
        most 512. A model given by name can read passages as long as its positions allow, whole documents
        perhaps. ``overlap`` is the number of tokens repeated from the previous passage of a text, at most
        half a passage; passages of code do not overlap. ``precision`` is the precision of a model given by
        name, here and when the index is opened. ``index`` is the engine: "exact", "plaid", "faiss", or
        "auto", which is exact search as long as that is as fast.

        Raises UsageError for an option out of range, ConflictError if there is an index at ``path`` or the
        encoder has another precision, and NotFoundError or DataError for a model that cannot be loaded.
        """
        if precision not in (None, *get_args(Precision)):
            raise UsageError(f"precision {precision!r}: {', '.join(get_args(Precision))} are possible")
        encoder = _load(model, precision, passage_tokens)
        own = encoder.contract.precision
        if precision not in (None, own):
            raise ConflictError(
                f"the encoder given computes in {own}, not {precision}: load it in {precision}"
            )
        limit = encoder.contract.document_length
        tokens = min(limit, 512) if passage_tokens is None else passage_tokens
        if not (_is_integer(tokens) and 16 <= tokens <= limit):
            raise UsageError(
                f"passage_tokens {tokens!r}: from 16 to {limit}, what the model reads, is possible"
            )
        if not (_is_integer(overlap) and 0 <= overlap <= tokens // 2):
            raise UsageError(f"overlap {overlap!r}: from 0 to {tokens // 2}, half of a passage, is possible")
        engine = index if isinstance(index, EngineSettings) else EngineSettings(index)
        engine.validate_for(encoder.contract.shape)
        contract = {
            "encoder": encoder.contract.to_json(),
            "passage_tokens": int(tokens),
            "overlap": int(overlap),
        }
        store = Store.create(path, contract, engine=engine)
        if model is not None and not isinstance(model, str | Path):
            return Retriever(store, model)
        retriever = Retriever(store)
        retriever._model, retriever._encoder = model, encoder
        return retriever

    @staticmethod
    def open(path: str | Path, model: "str | Path | Encoder | None" = None) -> "Retriever":
        """Open an index; its model is loaded when first needed.

        The model that the index names is read by flatcoat itself, as data alone and without the network; a
        model that needs the code of another library must be given as ``model``. A model given by name
        encodes queries as ``query_encoder`` says, and documents in the precision of the index if that is fast
        on this machine. Raises NotFoundError if there is no index, and ConflictError if ``model`` did not
        make it.
        """
        if model is not None and not isinstance(model, str | Path):
            return Retriever(Store.open(path), model)
        retriever = Retriever(Store.open(path))
        if model is not None:
            retriever._model = model
            _ = retriever.query_encoder  # Which raises for another model.
        return retriever

    @property
    def encoder(self) -> "Encoder":
        """The encoder that made the index, loaded at the first use and checked against the contract."""
        with self._loading:
            if self._encoder is None:
                self._encoder = self._checked(self._model)
        return self._encoder

    @property
    def query_encoder(self) -> "QueryEncoder":
        """What encodes queries: an encoder that was given, else the named model in NumPy and float32.

        Importing torch would take longer than the search. Where only torch or another library can read the
        model, its encoder is loaded.
        """
        with self._loading:
            if self._queries is None:
                self._queries = self._in_numpy()
        return self.encoder if self._queries is None else self._queries

    def _in_numpy(self) -> "QueryEncoder | None":
        from flatcoat.retrieval.encoders.load import load_query_encoder

        name = str(self._model or self.contract.model)
        queries = load_query_encoder(name, is_trusted=self._model is not None)
        if queries is not None:
            queries = _reading(queries, self.contract.document_length)
            self.contract.require(queries.contract)
        return queries

    def _checked(self, model: "str | Path | Encoder | None") -> "Encoder":
        """The encoder; None is the model that the index names, read as data since anyone may have made it."""
        from flatcoat.retrieval.encoders.load import fast_here, load_untrusted

        precision, length = fast_here(self.contract.precision), self.contract.document_length
        if model is None:
            named = load_untrusted(
                self.contract.model, named_by=f"index {self.store.path}", precision=precision
            )
            encoder = _reading(named, length)
        else:
            encoder = _load(model, precision, length)
        self.contract.require(encoder.contract)
        return encoder

    def add(self, documents: Iterable[Document], *, on_progress: Progress = lambda added: None) -> Added:
        """Encode and store documents; a document with the id of a stored one replaces it.

        Each batch is one commit, and documents with unchanged content are not encoded again: the same call
        resumes an interrupted one. Raises UsageError for anything that is no valid document.
        """
        documents = [documents] if isinstance(documents, Document) else documents
        if not isinstance(documents, Iterable):
            raise UsageError(f"{type(documents).__name__} came: a Document or several are needed")
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
        """Add folders and files, or bring them up to date; without roots, all sources of the index.

        A root is a folder (without the files that .gitignore excludes), a file, a file of rows (.jsonl, .csv,
        .tsv, .parquet), a BEIR folder, "-" for stdin or "datasets:NAME" for a data set of the hub. Only new
        and changed files are read and encoded; a renamed file keeps its vectors; documents of deleted files
        are removed. ``include`` and ``exclude`` are .gitignore patterns, ``columns`` names the columns of
        rows, ``encoding`` is the character encoding of texts (detected by default). A source remembers these
        options.

        Files and sources that cannot be read are in ``skipped`` with the reason; the documents of a source
        that does not exist any more stay until ``forget``. Raises NotFoundError for a missing root,
        UsageError for a malformed option, and DataError if no root has anything to index.
        """
        from .sync import Sync, existing_root

        reading = Reading(_patterns(include), _patterns(exclude), columns, encoding)
        reading.validate()
        named = [existing_root(root) for root in roots]
        with self._adding(on_progress) as (writer, adder):
            sync = Sync(self.store, writer, adder=adder)
            for source in writer.enter_sources(named, reading) if named else sync.all_sources(reading):
                sync.bring_up_to_date(source)
            added = adder.added
            if not (added.documents or added.unchanged or added.renamed or added.removed):
                raise DataError(_nothing_in(roots or [self.store.path], added))
        return added

    def forget(self, root: str | Path) -> int:
        """Remove a source (a folder, file or data set) and all its documents; returns their number.

        The files need not exist any more. Raises NotFoundError if the index has no such source.
        """
        with self.store.writer() as writer:
            return writer.forget_source(self.store.source_at(root).key)

    @contextmanager
    def _adding(self, on_progress: Progress) -> "Iterator[tuple[Writer, Adder]]":
        from flatcoat.indexing.chunking.chunk import chunk

        with self.store.writer() as writer:
            cut = partial(chunk, max_tokens=self.passage_tokens, overlap=self.overlap)
            yield writer, Adder(writer, lambda: self.encoder, cut=cut, on_progress=on_progress)
            writer.compact(full=False)

    def remove(self, document_ids: str | Iterable[str]) -> int:
        """Remove documents by id, one or several; returns the number of documents removed."""
        with self.store.writer() as writer:
            return writer.remove(document_ids)

    def compact(self) -> None:
        """Merge segments, drop removed passages, and retrain PLAID or FAISS if the index has grown."""
        self.store.compact()

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        where: Conditions = (),
        recall: float | None = None,
        mode: Mode | Fusion | None = None,
        rerank: "Reranker | str | Path | None" = None,
        group: bool = False,
        explain: bool = False,
        signals: Collection[str] | None = None,
        content: "Content | Literal['all']" = "all",
        best_lines: bool = False,
        budget: int | None = None,
    ) -> list[Result]:
        """The ``k`` best passages, best first, of the documents that meet all conditions of ``where``.

        Conditions are written ``lang=python``, ``year>=2020``, ``path^=src/``, ``lang in python,rust``.
        ``recall`` is the target recall@10 against exact search, for PLAID. ``mode`` ranks by "vectors", by
        "bm25" (which needs no model) or by both fused ("hybrid", the default; a ``Fusion`` says how).
        ``rerank`` is a cross-encoder or encoder, or its name, that scores the best max(5 ``k``, 50) passages
        again. Near-duplicate passages are folded into one result. ``group`` gives one result per document,
        ``explain`` the matches of query tokens with words of each result, ``best_lines`` the lines of each
        that answer the query, which costs a few milliseconds per result. ``budget`` gives each its evidence:
        the fewest lines that hold most of its score, those of all results in so many tokens of the model
        (``retrieval.evidence.as_prompt`` quotes them). BM25 uses the first 1024 terms of a query. ``signals``
        names the signals of ``retrieval.ranking`` that rank files of code (all by default, ``()`` for none),
        ``content`` restricts results to files of "code", "docs" or "config".

        Raises UsageError for an empty query, ``k`` below 1, an unknown mode, a malformed condition, a
        recall out of reach, or an argument of another type.
        """
        mode = "hybrid" if mode is None else mode
        question = Question(
            query,
            k,
            where=where,
            recall=recall,
            mode=mode,
            rerank=rerank,
            group=group,
            explain=explain,
            signals=signals,
            content=content,
            best_lines=best_lines,
            budget=budget,
        )
        return self._searcher.search(question)

    def info(self) -> Stats:
        """Numbers of documents, passages, vectors and segments, bytes on disk, and the engine."""
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
    """The encoder; a model given by name reads at least ``length`` tokens per document."""
    if model is not None and not isinstance(model, str | Path):
        return model
    from flatcoat.retrieval.encoders.load import load_encoder

    return _reading(load_encoder(model, precision), length)


def _reading(encoder: AnyEncoder, length: int | None) -> AnyEncoder:
    if length is not None and length > encoder.contract.document_length:
        encoder.truncate_documents(length)
    return encoder
