"""Haystack 3: a document store, and retriever and ranker components over flatcoat.

>>> from flatcoat.retrieval.adapters.haystack import FlatcoatDocumentRetriever, FlatcoatDocumentStore
>>> store = FlatcoatDocumentStore("my.index")  # doctest: +SKIP
>>> FlatcoatDocumentRetriever(store).run("why is the sky blue?")  # doctest: +SKIP
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from flatcoat.errors import MissingExtraError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.filters.condition import And, Condition, Filter, Not, Or
from flatcoat.retrieval.rerank import as_reranker, order
from flatcoat.retrieval.results import Mode

from .documents import opened_or_created, original_metadata, result_metadata, stored_metadata

try:
    from haystack import Document as HaystackDocument
    from haystack import component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy
    from haystack.errors import FilterError
except ImportError as error:
    raise MissingExtraError("Haystack is not installed: pip install flatcoat[haystack]") from error

_OPERATORS = {"==": "=", "!=": "=", ">": ">", ">=": ">=", "<": "<", "<=": "<=", "in": "in", "not in": "in"}
_ORDERED = (">", ">=", "<", "<=")


class FlatcoatDocumentStore:
    """An index as Haystack's document store; a new one is made where there is none at the path.

    The index makes its own vectors, by the model in the package or any other that ``model`` names: those of
    documents that come are not kept, nor are documents without text.
    """

    def __init__(self, index: str, model: str | None = None) -> None:
        self.index, self.model = str(index), model
        self.retriever = opened_or_created(self.index, model)

    def to_dict(self) -> dict[str, Any]:
        """What ``from_dict`` makes the same store of."""
        return default_to_dict(self, index=self.index, model=self.model)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FlatcoatDocumentStore":
        """The store that ``to_dict`` came from."""
        return default_from_dict(cls, data)

    def count_documents(self) -> int:
        """How many documents there are."""
        return self.retriever.info().documents

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[HaystackDocument]:
        """All documents that meet the filters, in the order of writing; FilterError for malformed filters."""
        return [
            HaystackDocument(id=one.id, content=one.text, meta=original_metadata(one.metadata))
            for one in self.retriever.documents(where=as_where(filters))
        ]

    def write_documents(
        self, documents: list[HaystackDocument], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Write documents; returns how many were written.

        Without a policy a document replaces that of the same id. Raises DuplicateDocumentError as the policy
        says, and ValueError for what is no document with a text.
        """
        if not isinstance(documents, list) or not all(isinstance(one, HaystackDocument) for one in documents):
            raise ValueError(f"{documents!r:.60} came: a list of haystack's Documents is needed")
        for one in documents:
            if not (one.content or "").strip():
                raise ValueError(f"document {one.id!r} has no text: flatcoat indexes text alone")
        ids = [one.id for one in documents]
        known = {one.id for one in self.retriever.documents(ids)}
        repeated = known | {id for id in ids if ids.count(id) > 1}
        if policy == DuplicatePolicy.FAIL and repeated:
            raise DuplicateDocumentError(f"document {min(repeated)!r} is there already, or came twice")
        chosen = {one.id: one for one in reversed(documents)}  # The first of those that came twice.
        if policy == DuplicatePolicy.SKIP:
            chosen = {id: one for id, one in chosen.items() if id not in known}
        elif policy != DuplicatePolicy.FAIL:
            chosen = {one.id: one for one in documents}
        self._add([chosen[id] for id in dict.fromkeys(ids) if id in chosen])
        return len(chosen)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents; ids that are not there are passed over."""
        self.retriever.remove(document_ids)

    # Haystack runs the components below in threads; its own ask a store of asynchronous pipelines for these.
    async def count_documents_async(self) -> int:
        """As ``count_documents``."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[HaystackDocument]:
        """As ``filter_documents``."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[HaystackDocument], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """As ``write_documents``."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """As ``delete_documents``."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    def _add(self, documents: list[HaystackDocument]) -> None:
        self.retriever.add(
            Document(one.id, one.content or "", metadata=stored_metadata(one.meta)) for one in documents
        )


@component
class FlatcoatDocumentRetriever:
    """The ``top_k`` best passages of a document store; ``mode`` is that of ``Retriever.search``."""

    def __init__(
        self,
        document_store: FlatcoatDocumentStore,
        filters: dict[str, Any] | None = None,
        *,
        top_k: int = 10,
        mode: Mode = "hybrid",
    ) -> None:
        self.document_store, self.filters = document_store, filters
        self.top_k = top_k
        self.mode: Mode = mode

    def to_dict(self) -> dict[str, Any]:
        """What ``from_dict`` makes the same component of."""
        return default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            mode=self.mode,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FlatcoatDocumentRetriever":
        """The component that ``to_dict`` came from."""
        options = dict(data["init_parameters"])
        if isinstance(options["document_store"], Mapping):
            options["document_store"] = FlatcoatDocumentStore.from_dict(dict(options["document_store"]))
        return cls(**options)

    @component.output_types(documents=list[HaystackDocument])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[HaystackDocument]]:
        """The best passages, best first; ``filters`` and ``top_k`` in place of those of the constructor."""
        chosen = self.filters if filters is None else filters
        results = self.document_store.retriever.search(
            query, top_k or self.top_k, where=as_where(chosen), mode=self.mode
        )
        found = [
            HaystackDocument(
                id=f"{result.document_id}:{result.lines[0]}",
                content=result.text,
                meta=result_metadata(result),
                score=result.score,
            )
            for result in results
        ]
        return {"documents": found}


@component
class FlatcoatRanker:
    """The ``top_k`` documents that answer the query best, by a cross-encoder or an encoder.

    ``model`` is its folder or hub name; by default the late-interaction model in the package.
    """

    def __init__(self, model: str | None = None, *, top_k: int = 10) -> None:
        self.model, self.top_k = model, top_k
        self._reranker = None

    def warm_up(self) -> None:
        """Load the model."""
        self._reranker = self._reranker or as_reranker(self.model)

    def to_dict(self) -> dict[str, Any]:
        """What ``from_dict`` makes the same component of."""
        return default_to_dict(self, model=self.model, top_k=self.top_k)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "FlatcoatRanker":
        """The component that ``to_dict`` came from."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[HaystackDocument])
    def run(
        self, query: str, documents: list[HaystackDocument], top_k: int | None = None
    ) -> dict[str, list[HaystackDocument]]:
        """The best documents, best first, with their scores."""
        self.warm_up()
        assert self._reranker
        ranked = order(self._reranker, query, texts=[one.content or "" for one in documents])
        best = [replace(documents[place], score=score) for place, score in ranked[: top_k or self.top_k]]
        return {"documents": best}


def as_where(filters: Mapping[str, Any] | None) -> Filter:
    """Filters of Haystack as an index has them; FilterError for malformed ones."""
    if not filters:
        return And(())
    if "field" in filters:
        return _comparison(filters)
    for key in ("operator", "conditions"):
        if key not in filters:
            raise FilterError(f"filter {filters!r:.100} has no {key!r}")
    parts = tuple(as_where(one) for one in filters["conditions"])
    match filters["operator"]:
        case "AND":
            return And(parts)
        case "OR":
            return Or(parts)
        case "NOT":
            return Not(And(parts))
    raise FilterError(f"filter {filters!r:.100}: {filters['operator']!r} is none of AND, OR, NOT")


def _comparison(filter: Mapping[str, Any]) -> Filter:
    """A comparison; a document without the field meets "!=" and "not in" alone, and "==" with None."""
    for key in ("operator", "value"):
        if key not in filter:
            raise FilterError(f"filter {filter!r:.100} has no {key!r}")
    field, operator, value = str(filter["field"]).removeprefix("meta."), filter["operator"], filter["value"]
    if operator not in _OPERATORS:
        raise FilterError(f"filter {filter!r:.100}: operator {operator!r} is none of {', '.join(_OPERATORS)}")
    if operator in ("in", "not in") and not isinstance(value, list):
        raise FilterError(f"filter {filter!r:.100}: operator {operator!r} needs a list of values")
    if operator in _ORDERED and (isinstance(value, list) or (isinstance(value, str) and not _is_date(value))):
        raise FilterError(f"filter {filter!r:.100}: {operator} compares numbers and ISO dates")
    exists = Condition(field, "exists", True)
    if value is None:
        return Or(()) if operator in _ORDERED else exists if operator == "!=" else Not(exists)
    met = And((exists, Condition(field, _OPERATORS[operator], value)))
    return Not(met) if operator in ("!=", "not in") else met


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
