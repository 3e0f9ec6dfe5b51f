"""Text in, results out: an index on disk together with the encoder that made it.

retriever = Retriever.create("my.index")
retriever.add_files("docs")
retriever.search("why is the sky blue?", k=5)
"""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flatcoat.errors import ConflictError, FlatcoatError, NotFoundError, UsageError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.filters.forms import Filters
from flatcoat.indexing.fusion import Fusion
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.engines import Name as Engine
from flatcoat.indexing.store.sources import Reading
from flatcoat.indexing.store.stats import Encoded, Stats
from flatcoat.indexing.store.store import Store
from flatcoat.retrieval.encoders.contract import Contract, Precision
from flatcoat.retrieval.encoders.load import SHIPPED_NAME, as_encoder

from .index_model import IndexModel, contract_of, index_contract
from .ingest import Added, Progress
from .question import Question
from .results import Mode, Results
from .search import Searcher
from .shard import Shard, StoreShard

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from flatcoat.indexing.collection.collection import ShardCollection
    from flatcoat.indexing.filters.text_pattern import Case
    from flatcoat.indexing.reading.columns import Columns
    from flatcoat.indexing.reading.content import Content
    from flatcoat.retrieval.encoders.encoder import Encoder, QueryEncoder

    from .rerank import Reranker
    from .update import Update


class Retriever:
    """Search over your own documents. Writers take the one lock of the index; readers never wait for it.

    >>> retriever = Retriever.create("my.index")  # doctest: +SKIP
    >>> retriever.add([Document("sky", "Air scatters blue light.")]).documents  # doctest: +SKIP
    1
    >>> retriever.search("why is the sky blue?", k=1)[0].document_id  # doctest: +SKIP
    'sky'
    """

    def __init__(
        self,
        store: "Store | ShardCollection",
        model: "str | Path | Encoder | None" = None,
        *,
        shards: "Shard | None" = None,
    ) -> None:
        """``shards`` answer for those of a collection, by default all of them in this process."""
        self._index = store
        self.passage_tokens = int(store.contract["passage_tokens"])
        self.overlap = int(store.contract.get("overlap", 0))  # Earlier indexes do not name it.
        self.token_pooling = int(store.contract.get("token_pooling", 1))
        self._shards = shards or (StoreShard(store) if isinstance(store, Store) else _shards(store))
        self._take(IndexModel(store, model))

    def _take(self, model: IndexModel) -> None:
        """Search by this model. Nothing refers back to the retriever: its models go when it goes."""
        self._model = model
        self._searcher = Searcher(
            self._shards,
            lambda: model.query_encoder,
            lambda: model.encoder,
            count_tokens=model.token_counts,
        )

    @staticmethod
    def create(
        path: str | Path,
        model: "str | Path | Encoder | SentenceTransformer | None" = SHIPPED_NAME,
        *,
        passage_tokens: int | None = None,
        precision: Precision | None = None,
        index: Engine | EngineSettings = "auto",
        overlap: int = 0,
        shards: int | None = None,
        token_pooling: int = 1,
    ) -> "Retriever":
        """Make an empty index at ``path``.

        ``model`` is an encoder, a checkpoint folder or hub name, by default the model shipped with flatcoat;
        or a ``SentenceTransformer`` or ``MultiVectorEncoder`` of sentence-transformers, which ``open`` takes
        too. None is no model: such an index is searched by BM25 alone. ``passage_tokens`` is the maximum
        length of a passage; by default the document length of the model, at most 512. A model given by name
        can read passages as long as its positions allow, whole documents perhaps; without a model lengths are
        counted as the shipped one does. ``overlap`` is the number of tokens repeated from the previous
        passage of a text, at most half a passage; passages of code do not overlap. ``precision`` is the
        precision of a model given by name, here and when the index is opened. ``index`` is the engine:
        "exact", "plaid", "faiss", or "auto", which is exact search as long as that is as fast. ``shards``
        makes a collection of so many shards, at a path or a URL that fsspec knows (s3://bucket/wiki): indexes
        that are built one by one and searched as one. Its dense vectors are searched exactly by "auto".
        ``token_pooling`` stores the mean of about so many similar token vectors of a passage instead of each
        (``encoders.token_pooling``).

        Raises UsageError for an option out of range, ConflictError if there is an index at ``path`` or the
        encoder has another precision, and NotFoundError or DataError for a model that cannot be loaded.
        """
        engine = index if isinstance(index, EngineSettings) else EngineSettings(index)
        encoder = None if model is None else as_encoder(model)
        contract = index_contract(
            encoder,
            precision=precision,
            passage_tokens=passage_tokens,
            overlap=overlap,
            token_pooling=token_pooling,
            engine=engine,
        )
        if shards is not None:
            from flatcoat.indexing.collection.collection import ShardCollection

            return Retriever(ShardCollection.create(path, contract, shards=shards, engine=engine), encoder)
        return Retriever(Store.create(path, contract, engine=engine), encoder)

    @staticmethod
    def open(
        path: str | Path, model: "str | Path | Encoder | SentenceTransformer | None" = None
    ) -> "Retriever":
        """Open an index, or a collection of shards; its model is loaded when first needed.

        The model that the index names is read by flatcoat itself, as data alone and without the network; a
        model that needs the code of another library must be given as ``model``. A model given by name
        encodes queries as ``query_encoder`` says, and documents in the precision of the index if that is fast
        on this machine. Raises NotFoundError if there is no index, and ConflictError if ``model`` did not
        make it.
        """
        retriever = Retriever(opened(path), None if model is None else as_encoder(model))
        if isinstance(model, str | Path):
            _ = retriever.query_encoder  # Which raises for another model.
        return retriever

    @property
    def store(self) -> Store:
        """The one index; ConflictError for a collection of shards."""
        if isinstance(self._index, Store):
            return self._index
        raise ConflictError(f"{self.path} is a collection of shards: this is done with single indexes alone")

    @property
    def collection(self) -> "ShardCollection | None":
        """The collection of shards; None for a single index."""
        return None if isinstance(self._index, Store) else self._index

    @property
    def path(self) -> "Path | str":
        """The folder of the index, or the path or URL of the collection."""
        return self._index.path

    @property
    def generation(self) -> int:
        """The number of commits so far, of those that it reads."""
        return self._index.generation

    def with_model(self, model: "str | Path | Encoder") -> "Retriever":
        """The same index searched through another object of its model; ConflictError where it is another."""
        return Retriever(self._index, model)

    @property
    def engine(self) -> EngineSettings:
        """The engine as it was asked for."""
        return self._index.engine

    def encoded(self) -> Encoded:
        """How many passages there are, and how many have vectors."""
        return self._index.encoded()

    @property
    def has_model(self) -> bool:
        """Whether the index has a model, by which its passages have vectors or will have them."""
        return self._model.exists

    @property
    def contract(self) -> Contract:
        """The contract of the model; ConflictError where the index was made without."""
        return self._model.contract

    @property
    def encoder(self) -> "Encoder":
        """The encoder that made the index, loaded at the first use and checked against the contract."""
        return self._model.encoder

    @property
    def query_encoder(self) -> "QueryEncoder":
        """What encodes queries: an encoder that was given, else the named model in NumPy and float32.

        Where only torch or another library can read the model, its encoder is loaded.
        """
        return self._model.query_encoder

    def add_model(
        self, model: "str | Path | Encoder" = SHIPPED_NAME, *, precision: Precision | None = None
    ) -> None:
        """Give a model to an index that was made without; the next ``add_files()`` or ``add()`` encodes.

        Retrievers that have it open go on without the model until they are opened again. Raises ConflictError
        where the index has a model or its engine does not search such vectors, UsageError where the model
        does not read passages as long as the index has, and as ``create`` for the model itself.
        """
        if self.has_model:
            raise ConflictError(f"index {self.store.path} has the model {self.contract.model}: it stays")
        contract = contract_of(model, precision, self.passage_tokens)
        if self.passage_tokens > contract.document_length:
            raise UsageError(
                f"the passages of index {self.store.path} have up to {self.passage_tokens} tokens, the model "
                f"reads {contract.document_length}: make a new index with it"
            )
        self.store.engine.validate_for(contract.shape)
        self.store.change_contract(self.store.contract | {"encoder": contract.to_json()})
        self._take(IndexModel(self.store, model))

    def add(
        self,
        documents: Iterable[Document],
        *,
        vectors: bool = True,
        on_progress: Progress = lambda added: None,
    ) -> Added:
        """Store and encode documents; a document with the id of a stored one replaces it.

        All texts are stored first, so that searches have answers by BM25, then all passages that have no
        vectors are encoded. With ``vectors`` False that is left to a later call. Each batch is one commit,
        and documents with unchanged content are not encoded again: the same call resumes an interrupted one.
        Raises UsageError for anything that is no valid document.
        """
        documents = [documents] if isinstance(documents, Document) else documents
        if not isinstance(documents, Iterable):
            raise UsageError(f"{type(documents).__name__} came: a Document or several are needed")
        return self._update().add(documents, vectors=vectors, on_progress=on_progress)

    def add_files(
        self,
        *roots: str | Path,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        hidden: bool | None = None,
        columns: "Columns | None" = None,
        encoding: str | None = None,
        vectors: bool = True,
        ray: str | None = None,
        on_progress: Progress = lambda added: None,
    ) -> Added:
        """Add folders and files, or bring them up to date; without roots, all sources of the index.

        A root is a folder (without the files that .gitignore excludes), a file, a file of rows (.jsonl, .csv,
        .tsv, .parquet), a BEIR folder, "-" for stdin or "datasets:NAME" for a data set of the hub. Only new
        and changed files are read and encoded; a renamed file keeps its vectors; documents of deleted files
        are removed. ``include`` and ``exclude`` are .gitignore patterns, ``hidden`` reads hidden files too
        (by default only those whose dot a pattern of ``include`` spells), ``columns`` names the columns of
        rows, ``encoding`` is the character encoding of texts (detected by default). A source remembers these
        options. ``vectors`` is as for ``add``.

        A collection of shards is made of the roots given, all of which must be named each time: documents
        that they have no more are removed. ``ray`` builds its shards on the Ray cluster at that address
        ("auto": the one that runs here, "local": a new one).

        Files and sources that cannot be read are in ``skipped`` with the reason; the documents of a source
        that does not exist any more stay until ``forget``. Raises NotFoundError for a missing root,
        UsageError for a malformed option, and DataError if no root has anything to index.
        """
        from .sync import existing_root

        reading = Reading(_patterns(include), _patterns(exclude), columns, encoding, hidden)
        reading.validate()
        named = [existing_root(root) for root in roots]
        return self._update(ray).add_files(named, reading, vectors=vectors, on_progress=on_progress)

    def forget(self, root: str | Path) -> int:
        """Remove a source (a folder, file or data set) and all its documents; returns their number.

        The files need not exist any more. Of a collection the documents go with the next ``add_files``.
        Raises NotFoundError if the index has no such source.
        """
        return self._update().forget(root)

    def refresh(self, *, seconds: float = 1.0) -> str | None:
        """Store the texts of files that changed, where that is done in a moment; says what was left undone.

        Files are compared by their times, folders by whether anything came or went. Vectors, and what takes
        longer than ``seconds``, are left to ``add_files()``. None where all that can be read is up to date.
        Sources that ``add_files()`` would not read unasked are not looked at, and none of a collection. No
        error of the index or its files is raised: the index can be searched as it is.
        """
        if self.collection:
            return None
        from .refresh import refresh

        return refresh(self.store, self._model, seconds=seconds)

    def _update(self, ray: str | None = None) -> "Update":
        """What changes the index; a collection on the Ray cluster at ``ray``, where that is named."""
        if isinstance(self._index, Store):
            if ray is not None:
                raise UsageError("Ray builds collections: give the number of shards when the index is made")
            from .update import IndexUpdate

            return IndexUpdate(self._index, self._model)
        from .distributed.update import CollectionUpdate

        if ray is None:
            return CollectionUpdate(self._index, self._model)
        from .distributed.ray_build import RayRun

        run = RayRun.on(ray, self._index, self._model.given)
        return CollectionUpdate(self._index, self._model, run, run.at_once)

    def remove(self, document_ids: str | Iterable[str]) -> int:
        """Remove documents by id, one or several; returns the number of documents removed."""
        return self._update().remove(document_ids)

    def documents(
        self,
        ids: Iterable[str] | None = None,
        *,
        where: Filters = None,
    ) -> list[Document]:
        """The documents of these ids (all by default) that meet all filters of ``where``, as stored.

        They come in the order in which they were added, those of a collection shard by shard; ids that the
        index does not hold are passed over. Blank lines at the end of a text are lost.
        """
        if self.collection:
            from .distributed.shards import documents_of

            return documents_of(self.collection, ids, where)
        return self.store.documents(ids, filters=where)

    def compact(self) -> None:
        """Merge segments, drop removed passages, and retrain PLAID or FAISS if the index has grown."""
        self._update().compact()

    def search(
        self,
        query: str | None = None,
        k: int = 10,
        *,
        where: Filters = None,
        regex: str | None = None,
        fixed: str | None = None,
        case: "Case" = "smart",
        recall: float | None = None,
        mode: Mode | Fusion | None = None,
        rerank: "Reranker | str | Path | None" = None,
        group: bool = False,
        explain: bool = False,
        signals: Collection[str] | None = None,
        content: "Content | Literal['all']" = "all",
        best_lines: bool = False,
        budget: int | None = None,
        partial: bool = False,
    ) -> Results:
        """The ``k`` best passages, best first, of the documents that meet all filters of ``where``.

        Filters are written ``lang=python``, ``year>=2020 and not (lang in go,rust or path^=src/)``, as in
        ``indexing.filters.grammar``, or as dicts: ``{"year": {"$gte": 2020}}``. ``regex`` and ``fixed`` are
        a regular expression and a text that the text of a passage must match, ``case`` says whether capitals
        count ("smart": where the pattern has one). Without a query all that is let through is found, by the
        ids of documents.

        ``recall`` is the target recall@10 against exact search, for PLAID. ``mode`` ranks by "vectors", by
        "bm25" (which needs no model) or by both fused ("hybrid", the default; a ``Fusion`` says how).
        ``rerank`` is a cross-encoder or encoder, or its name, that scores the best max(5 ``k``, 50) passages
        again. Near-duplicate passages are folded into one result. ``group`` gives one result per document,
        ``explain`` the matches of query tokens with words of each result, ``best_lines`` the lines of each
        that answer the query, which costs a few milliseconds per result. ``budget`` gives each its evidence:
        the fewest lines that hold most of its score, those of all results in so many tokens of the model
        (``retrieval.evidence.as_prompt`` quotes them). BM25 uses the first 1024 terms of a query. ``signals``
        names the signals of ``retrieval.ranking`` that rank files of code (all by default, ``()`` for none),
        ``content`` restricts results to files of "code", "docs" or "config". Where shards of a collection
        cannot be read or do not answer, ``partial`` searches the others, and ``missing_shards`` of what is
        returned names them.

        Raises UsageError for an empty query, ``k`` below 1, an unknown mode, a malformed filter, a malformed
        or slow pattern, a recall out of reach, or an argument of another type, and StorageError that names
        the shards that are missing.
        """
        mode = "hybrid" if mode is None else mode
        question = Question(
            query,
            k,
            where=where,
            regex=regex,
            fixed=fixed,
            case=case,
            recall=recall,
            mode=mode,
            rerank=rerank,
            group=group,
            explain=explain,
            signals=signals,
            content=content,
            best_lines=best_lines,
            budget=budget,
            partial=partial,
        )
        return self._searcher.search(question)

    def info(self) -> Stats:
        """Numbers of documents, passages, vectors and segments, bytes on disk, and the engine."""
        return self._index.stats()

    def close(self) -> None:
        """Close the index's database; ``with`` does so at its end."""
        self._index.close()

    def __enter__(self) -> "Retriever":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def opened(path: str | Path) -> "Store | ShardCollection":
    """The index at a path, or the collection at a path or URL."""
    if "://" in str(path):
        from flatcoat.indexing.collection.collection import ShardCollection

        return ShardCollection.open(path)
    try:
        return Store.open(path)
    except NotFoundError:
        from flatcoat.indexing.collection.collection import ShardCollection

        with suppress(FlatcoatError):
            return ShardCollection.open(path)
        raise


def _shards(collection: "ShardCollection") -> "Shard":
    from .distributed.shards import CollectionShards

    return CollectionShards(collection)


def _patterns(given: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if given is None else (given,) if isinstance(given, str) else tuple(given)
