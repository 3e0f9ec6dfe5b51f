"""flatcoat's own API: search, documents, what the indexes hold, health and metrics."""

from asyncio import to_thread
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from pydantic import Field

from flatcoat.errors import FlatcoatError, NotFoundError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.filters.text_pattern import Case
from flatcoat.indexing.reading.content import Content
from flatcoat.retrieval.evidence import as_prompt
from flatcoat.retrieval.highlight import marks
from flatcoat.retrieval.results import Mode, checked_query

from .errors import error_response
from .json_response import JsonResponse
from .requests import Name, OwnRequest, Query, Text, context_of

if TYPE_CHECKING:
    from .context import Context
    from .indexes import ServedIndex

router = APIRouter(tags=["flatcoat"])


class SearchRequest(OwnRequest):
    """What to search for, and how: the arguments of ``Retriever.search``."""

    query: Query | None = None
    k: Annotated[int, Field(ge=1, le=1000)] = 10
    where: Annotated[
        list[Text | dict[str, Any]],
        Field(
            max_length=100,
            description='Filters that all hold: "lang=python and year>=2020", or {"year": {"$gte": 2020}}',
        ),
    ] = Field(default_factory=list)
    regex: Annotated[Text | None, Field(description="A regular expression that texts must match")] = None
    fixed: Annotated[Text | None, Field(description="A text that must be in texts")] = None
    case: Case = "smart"
    mode: Mode = "hybrid"
    content: Content | Literal["all"] = "all"
    recall: Annotated[float | None, Field(gt=0, le=1)] = None
    rerank: bool = False
    group: bool = False
    explain: bool = False
    best_lines: bool = True
    signals: bool = True
    budget: Annotated[
        int | None, Field(ge=1, le=1_000_000, description="Tokens of evidence, of all results together")
    ] = None
    partial: Annotated[bool, Field(description="Search the other shards where some do not answer")] = False
    highlight: Annotated[bool, Field(description="Add where words of the query stand in each text")] = False


class NewDocument(OwnRequest):
    """A document to add, or to put in the place of the one of the same id."""

    id: Annotated[Name, Field(min_length=1)]
    text: Text
    title: Text = ""
    metadata: dict[str, str | int | float | bool] = Field(default_factory=dict)


class NewDocuments(OwnRequest):
    """Documents that are committed together."""

    documents: Annotated[list[NewDocument], Field(min_length=1, max_length=10_000)]


class DocumentIds(OwnRequest):
    """Documents by id."""

    ids: Annotated[list[Annotated[Name, Field(min_length=1)]], Field(min_length=1, max_length=10_000)]


@router.post("/indexes/{index}/search", summary="Search an index")
async def search(index: str, body: SearchRequest, request: Request) -> JsonResponse:
    """The best passages, best first. Spans are in characters (code points) of the query and of each text."""
    context = context_of(request)
    served = context.served.index(index)
    return await context.searching.run(lambda: JsonResponse(_search(context, served, body)))


def _search(context: "Context", index: "ServedIndex", body: SearchRequest) -> dict[str, Any]:
    started = perf_counter()
    query = None if body.query is None else checked_query(body.query)
    results = index.retriever.search(
        query,
        body.k,
        where=body.where,
        regex=body.regex,
        fixed=body.fixed,
        case=body.case,
        recall=body.recall,
        mode=body.mode,
        rerank=context.served.reranker(index.model) if body.rerank else None,
        group=body.group,
        explain=body.explain,
        signals=None if body.signals else (),
        content=body.content,
        best_lines=body.best_lines,
        budget=body.budget,
        partial=body.partial,
    )
    values = [result.to_json() for result in results]
    if body.highlight and query is not None:
        for value, result in zip(values, results, strict=True):
            value["highlights"] = [list(mark) for mark in marks(result, query)]
    return {
        "index": index.name,
        "query": query,
        "results": values,
        "missing_shards": results.missing_shards,
        "prompt": None if body.budget is None else as_prompt(results),
        "milliseconds": round((perf_counter() - started) * 1000, 2),
    }


@router.post("/indexes/{index}/documents", summary="Add or replace documents")
async def add_documents(index: str, body: NewDocuments, request: Request) -> JsonResponse:
    """The answer comes after the commit: what it counts is on disk."""
    context = context_of(request)
    retriever = context.served.index(index).retriever
    documents = [Document(one.id, one.text, one.title, dict(one.metadata)) for one in body.documents]
    added = await context.write(lambda: retriever.add(documents))
    skipped = [skip._asdict() for skip in added.skipped]
    return JsonResponse(
        {
            "added": added.documents,
            "passages": added.passages,
            "unchanged": added.unchanged,
            "skipped": skipped,
        }
    )


@router.post("/indexes/{index}/documents/remove", summary="Remove documents")
async def remove_documents(index: str, body: DocumentIds, request: Request) -> JsonResponse:
    """Ids that the index does not hold are not counted."""
    return JsonResponse({"removed": await _remove(request, index, body.ids)})


@router.delete("/indexes/{index}/documents/{id:path}", summary="Remove a document")
async def remove_document(index: str, id: str, request: Request) -> JsonResponse:
    """404 where the index does not hold it."""
    if not await _remove(request, index, [id]):
        raise NotFoundError(f"index {index} holds no document {id!r:.200}")
    return JsonResponse({"removed": 1})


async def _remove(request: Request, index: str, ids: Sequence[str]) -> int:
    context = context_of(request)
    retriever = context.served.index(index).retriever
    return await context.write(lambda: retriever.remove(ids))


@router.get("/indexes", summary="List the indexes")
async def indexes(request: Request) -> JsonResponse:
    """Names and sizes."""
    context = context_of(request)
    served = list(context.served.indexes.values())
    return await context.searching.run(lambda: JsonResponse({"indexes": [*map(_info, served)]}))


@router.get("/indexes/{index}", summary="Describe an index")
async def info(index: str, request: Request) -> JsonResponse:
    """Sizes, engine, and the model that made it."""
    context = context_of(request)
    served = context.served.index(index)
    return await context.searching.run(lambda: JsonResponse(_info(served)))


def _info(index: "ServedIndex") -> dict[str, Any]:
    retriever, model = index.retriever, index.model
    return {
        "name": index.name,
        **retriever.info().to_json(),
        "model": model and model.name,
        "kind": model and model.contract.kind,
        "width": model and model.contract.width,
        "passage_tokens": retriever.passage_tokens,
    }


@router.get("/health", summary="Whether the server can answer")
@router.head("/health", include_in_schema=False)
async def health(request: Request) -> JsonResponse:
    """200, or 503 while it shuts down and where an index cannot be read."""
    context = context_of(request)
    if context.is_closing:
        return error_response("/health", 503, "the server is shutting down")
    try:
        # Not among the searches, which may be many, nor in the event loop, which would wait for one of them.
        await to_thread(lambda: [one.retriever.generation for one in context.served.indexes.values()])
    except FlatcoatError:
        return error_response("/health", 503, "an index cannot be read")
    return JsonResponse({"status": "ok"})


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> PlainTextResponse:
    """Requests, durations, queues and batches."""
    context = context_of(request)
    text = await context.searching.run(lambda: context.metrics.exposition(context.gauges()))
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
