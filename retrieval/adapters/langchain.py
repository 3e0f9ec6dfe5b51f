"""LangChain: a retriever, embeddings, a vector store and a document compressor over flatcoat.

>>> from flatcoat.retrieval.adapters.langchain import FlatcoatRetriever
>>> FlatcoatRetriever(index="my.index", k=3).invoke("why is the sky blue?")  # doctest: +SKIP
"""

from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from pydantic import ConfigDict, Field, PlainValidator

from flatcoat.errors import MissingExtraError, UsageError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.filters.forms import Filters
from flatcoat.retrieval.encoders.encoder import Encoder
from flatcoat.retrieval.rerank import as_reranker, order
from flatcoat.retrieval.results import Mode, Result
from flatcoat.retrieval.retriever import Retriever

from .documents import opened, opened_or_created, original_metadata, result_metadata, stored_metadata
from .embeddings import EmbeddingsEncoder, dense_encoder, floats

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
        Callbacks,
    )
    from langchain_core.documents import BaseDocumentCompressor
    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import run_in_executor
    from langchain_core.vectorstores import VectorStore
except ImportError as error:
    raise MissingExtraError("LangChain is not installed: pip install flatcoat[langchain]") from error


class FlatcoatRetriever(BaseRetriever):
    """The ``k`` best passages of an index, as documents whose metadata say where they are.

    ``index`` is a path or a Retriever, ``mode``, ``rerank``, ``group`` and ``where`` are those of
    ``Retriever.search``; each may be given to ``invoke`` and ``ainvoke`` too.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: Annotated[Retriever, PlainValidator(opened)]
    k: int = 5
    mode: Mode = "hybrid"
    rerank: Any = None
    group: bool = False
    where: Any = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[LangChainDocument]:
        chosen = {"mode": self.mode, "rerank": self.rerank, "group": self.group, "where": self.where}
        chosen |= {name: value for name, value in options.items() if name in chosen}
        results = self.index.search(query, options.get("k", self.k), **chosen)
        return [
            LangChainDocument(result.text, id=_place(result), metadata=result_metadata(result))
            for result in results
        ]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[LangChainDocument]:
        # LangChain's own takes no options.
        return await run_in_executor(
            None, self._get_relevant_documents, query, run_manager=run_manager.get_sync(), **options
        )


class FlatcoatEmbeddings(Embeddings):
    """A dense model as LangChain's embeddings, by checkpoint folder, hub name or Encoder."""

    def __init__(self, model: str | Path | Encoder) -> None:
        self.encoder = dense_encoder(model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector of length 1 per text, with the model's prompt for documents."""
        return floats(self.encoder.encode_documents(texts))

    def embed_query(self, text: str) -> list[float]:
        """One vector of length 1, with the model's prompt for queries."""
        return floats(self.encoder.encode_queries([text]))[0]


class FlatcoatVectorStore(VectorStore):
    """An index as LangChain's vector store: made by flatcoat's model, or by any ``embedding`` of LangChain.

    ``index`` is a path, where a new index is made if there is none, or a Retriever. A document whose text is
    longer than a passage is found by its best passage, which is then the text of the result; ``get_by_ids``
    gives the whole text.
    """

    def __init__(
        self,
        index: str | Path | Retriever,
        embedding: Embeddings | None = None,
        *,
        model: str | None = None,
        mode: Mode = "hybrid",
    ) -> None:
        if embedding is not None and model is not None:
            raise UsageError(f"an embedding and the model {model!r} came: give one of the two")
        encoder = embedding.encoder if isinstance(embedding, FlatcoatEmbeddings) else None
        if embedding is not None and encoder is None:
            encoder = EmbeddingsEncoder(_name(embedding), embedding.embed_query, embedding.embed_documents)
        self.retriever = opened_or_created(index, model or encoder)
        self.mode: Mode = mode
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings | None:
        """The embedding that was given; None where flatcoat's model encodes."""
        return self._embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts, in place of those with the same ids; returns the ids, new ones where none came."""
        texts = list(texts)
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given and len(given) != len(texts):
                raise UsageError(f"{len(given)} {name} came for {len(texts)} texts: give one per text")
        given_ids = [id or str(uuid4()) for id in ids or [None] * len(texts)]
        self.retriever.add(
            Document(id, text, metadata=stored_metadata(metadata or {}))
            for id, text, metadata in zip(given_ids, texts, metadatas or repeat({}), strict=False)
        )
        return given_ids

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents by id, all of them without ids; ids that are not there are passed over."""
        if ids is None:
            ids = list(self.retriever.store.document_ids())
        self.retriever.remove(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[LangChainDocument]:
        """The documents of these ids with their whole texts; those that are not there are passed over."""
        return [
            LangChainDocument(found.text, id=found.id, metadata=original_metadata(found.metadata))
            for found in self.retriever.documents(ids)
        ]

    def similarity_search(
        self, query: str, k: int = 4, filter: Filters = None, **kwargs: Any
    ) -> list[LangChainDocument]:
        """The ``k`` best documents that meet ``filter``, a dict as LangChain's stores take it or a text."""
        return [found for found, _ in self.similarity_search_with_score(query, k, filter)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filters = None, **kwargs: Any
    ) -> list[tuple[LangChainDocument, float]]:
        """The ``k`` best documents that meet ``filter``, with their scores: more is better."""
        results = self.retriever.search(query, k, where=filter, mode=self.mode, group=True)
        return [
            (
                LangChainDocument(one.text, id=one.document_id, metadata=original_metadata(one.metadata)),
                one.score,
            )
            for one in results
        ]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        index: str | Path | Retriever = "flatcoat.index",
        **kwargs: Any,
    ) -> "FlatcoatVectorStore":
        """A store at ``index`` with these texts; other options are those of the constructor."""
        store = cls(index, embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store


class FlatcoatCompressor(BaseDocumentCompressor):
    """Keeps the ``top_n`` documents that answer the query best, by a cross-encoder or an encoder.

    ``model`` is its folder, hub name or a Reranker; by default the late-interaction model in the package.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Annotated[Any, PlainValidator(as_reranker)] = Field(default=None, validate_default=True)
    top_n: int = 3

    def compress_documents(
        self,
        documents: Sequence[LangChainDocument],
        query: str,
        callbacks: Callbacks | None = None,
    ) -> list[LangChainDocument]:
        """The best documents, best first, with a ``relevance_score`` in their metadata."""
        ranked = order(self.model, query, texts=[document.page_content for document in documents])
        return [
            documents[place].model_copy(
                update={"metadata": documents[place].metadata | {"relevance_score": score}}
            )
            for place, score in ranked[: self.top_n]
        ]


def _name(embedding: Embeddings) -> str:
    """What tells one embedding from another: its class, and the model that it names."""
    model = getattr(embedding, "model", None) or getattr(embedding, "model_name", None) or ""
    return f"{type(embedding).__name__} {model}".strip()


def _place(result: Result) -> str:
    return f"{result.document_id}:{result.lines[0]}"
