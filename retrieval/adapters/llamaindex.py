"""LlamaIndex: a retriever, an embedding and a node postprocessor over flatcoat.

>>> from flatcoat.retrieval.adapters.llamaindex import FlatcoatNodeRetriever
>>> FlatcoatNodeRetriever("my.index", k=3).retrieve("why is the sky blue?")  # doctest: +SKIP
"""

import asyncio
from pathlib import Path
from typing import Any

from flatcoat.errors import MissingExtraError, UsageError
from flatcoat.indexing.filters.condition import And, Condition, Filter, Not, Or
from flatcoat.indexing.filters.forms import Filters
from flatcoat.retrieval.encoders.encoder import Encoder
from flatcoat.retrieval.rerank import Reranker, as_reranker, order
from flatcoat.retrieval.results import Mode, Result
from flatcoat.retrieval.retriever import Retriever

from .documents import opened, result_metadata
from .embeddings import dense_encoder, floats

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import (
        NodeRelationship,
        NodeWithScore,
        QueryBundle,
        RelatedNodeInfo,
        TextNode,
    )
    from llama_index.core.vector_stores.types import (
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
    )
except ImportError as error:
    raise MissingExtraError("LlamaIndex is not installed: pip install flatcoat[llamaindex]") from error

_OPERATORS = {
    FilterOperator.EQ: "=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.IN: "in",
    FilterOperator.ANY: "in",
    FilterOperator.ALL: "=",
    FilterOperator.CONTAINS: "=",  # Of a list any member counts.
    FilterOperator.NE: "=",
    FilterOperator.NIN: "in",
}


class FlatcoatNodeRetriever(BaseRetriever):
    """The ``k`` best passages of an index, as nodes whose metadata say where they are.

    ``index`` is a path or a Retriever, ``mode``, ``rerank`` and ``group`` are those of ``Retriever.search``,
    ``filters`` LlamaIndex's MetadataFilters, or filters as ``Retriever.search`` takes them.
    """

    def __init__(
        self,
        index: str | Path | Retriever,
        k: int = 5,
        *,
        filters: "MetadataFilters | Filters" = None,
        mode: Mode = "hybrid",
        rerank: Reranker | str | None = None,
        group: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.index, self.k = opened(index), k
        self._where: Filters = as_where(filters) if isinstance(filters, MetadataFilters) else filters
        self._mode: Mode = mode
        self._rerank, self._group = rerank, group

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        results = self.index.search(
            query_bundle.query_str,
            self.k,
            where=self._where,
            mode=self._mode,
            rerank=self._rerank,
            group=self._group,
        )
        return [NodeWithScore(node=_node(result), score=result.score) for result in results]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


class FlatcoatEmbedding(BaseEmbedding):
    """A dense model as LlamaIndex's embedding, by checkpoint folder, hub name or Encoder."""

    _encoder: Encoder = PrivateAttr()

    def __init__(self, model: str | Path | Encoder, **options: Any) -> None:
        encoder = dense_encoder(model)
        named: dict[str, Any] = {"model_name": encoder.name}
        super().__init__(**(named | options))
        self._encoder = encoder

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serializes."""
        return "FlatcoatEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return floats(self._encoder.encode_queries([query]))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return floats(self._encoder.encode_documents(texts))

    # LlamaIndex's own would hold up the event loop, and encode one text at a time.
    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class FlatcoatPostprocessor(BaseNodePostprocessor):
    """Keeps the ``top_n`` nodes that answer the query best, by a cross-encoder or an encoder.

    ``model`` is its folder, hub name or a Reranker; by default the late-interaction model in the package.
    """

    top_n: int = 3
    _reranker: Reranker = PrivateAttr()

    def __init__(self, model: str | Path | Reranker | None = None, *, top_n: int = 3, **options: Any) -> None:
        chosen: dict[str, Any] = {"top_n": top_n}
        super().__init__(**(chosen | options))
        self._reranker = as_reranker(model)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serializes."""
        return "FlatcoatPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise UsageError("no query came, and nodes are ranked by a query: give query_str or query_bundle")
        texts = [node.node.get_content() for node in nodes]
        ranked = order(self._reranker, query_bundle.query_str, texts=texts)
        return [NodeWithScore(node=nodes[place].node, score=score) for place, score in ranked[: self.top_n]]


def as_where(filters: MetadataFilters) -> Filter:
    """LlamaIndex's filters as an index has them; UsageError for what it does not have.

    A document without the field meets "!=", "nin" and "is_empty" alone, as in LlamaIndex's own store.
    """
    parts = tuple(
        as_where(one) if isinstance(one, MetadataFilters) else _comparison(one) for one in filters.filters
    )
    joined = Or(parts) if filters.condition in (FilterCondition.OR, FilterCondition.NOT) else And(parts)
    return Not(joined) if filters.condition == FilterCondition.NOT else joined


def _comparison(filter: MetadataFilter) -> Filter:
    field, operator, value = filter.key, filter.operator, filter.value
    exists = Condition(field, "exists", True)
    if operator == FilterOperator.IS_EMPTY:
        return Or((Not(exists), Condition(field, "=", "")))
    if operator not in _OPERATORS or value is None:
        known = ", ".join(one.value for one in (*_OPERATORS, FilterOperator.IS_EMPTY))
        raise UsageError(
            f"filter {field} {operator.value} {value!r:.60} is not possible: a value, and one of {known} are"
        )
    if operator == FilterOperator.ALL:
        values = value if isinstance(value, list) else [value]
        return And((exists, *(Condition(field, "=", one) for one in values)))
    met = And((exists, Condition(field, _OPERATORS[operator], value)))
    return Not(met) if operator in (FilterOperator.NE, FilterOperator.NIN) else met


def _node(result: Result) -> TextNode:
    """A passage as a node of its document; only title and section go to a prompt beside the text."""
    metadata = result_metadata(result)
    hidden = [name for name in metadata if name not in ("title", "section")]
    return TextNode(
        id_=f"{result.document_id}:{result.lines[0]}",
        text=result.text,
        metadata=metadata,
        excluded_llm_metadata_keys=hidden,
        excluded_embed_metadata_keys=hidden,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=result.document_id)},
    )
