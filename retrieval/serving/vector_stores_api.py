"""OpenAI's search of vector stores, whose ids are the names of indexes.

https://platform.openai.com/docs/api-reference/vector-stores/search
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from flatcoat.errors import UsageError
from flatcoat.indexing.store.filters import AnyOf, Condition

from .json_response import JsonResponse
from .requests import ForeignRequest, Name, Query, context_of

if TYPE_CHECKING:
    from flatcoat.retrieval.results import Result

    from .indexes import ServedIndex

router = APIRouter(tags=["OpenAI"])

Value = str | int | float | bool

_OPERATORS = {"eq": "=", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Comparison(ForeignRequest):
    """A condition on one field."""

    key: Name
    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    value: Value | Annotated[list[Value], Field(max_length=10_000)]


class Compound(ForeignRequest):
    """Conditions that all hold, or of which one holds."""

    type: Literal["and", "or"]
    filters: Annotated[list["Comparison | Compound"], Field(min_length=1, max_length=100)]


class RankingOptions(ForeignRequest):
    """What is left out; the ranker is the index's own."""

    score_threshold: float | None = None


class StoreSearchRequest(ForeignRequest):
    """What to search for."""

    query: Query | Annotated[list[Query], Field(min_length=1, max_length=100)]
    filters: Comparison | Compound | None = None
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    ranking_options: RankingOptions | None = None


@router.post("/v1/vector_stores/{index}/search", summary="Search an index")
async def search_store(index: str, body: StoreSearchRequest, request: Request) -> JsonResponse:
    """The best passages, best first."""
    context = context_of(request)
    served = context.served.index(index)
    return await context.searching.run(lambda: JsonResponse(_search(served, body)))


def _search(index: "ServedIndex", body: StoreSearchRequest) -> dict[str, Any]:
    query = body.query if isinstance(body.query, str) else " ".join(body.query)
    where = [] if body.filters is None else conditions(body.filters)
    results = index.retriever.search(query, body.max_num_results, where=where)
    threshold = body.ranking_options and body.ranking_options.score_threshold
    return {
        "object": "vector_store.search_results.page",
        "search_query": query,
        "data": [_found(one) for one in results if threshold is None or one.score >= threshold],
        "has_more": False,
        "next_page": None,
    }


def _found(result: "Result") -> dict[str, Any]:
    return {
        "file_id": result.document_id,
        "filename": result.title or result.document_id,
        "score": result.score,
        "attributes": result.metadata | {"first_line": result.lines[0], "last_line": result.lines[1]},
        "content": [{"type": "text", "text": result.text}],
    }


def conditions(filter: Comparison | Compound) -> list[Condition | AnyOf]:
    """The conditions of the store that all hold where the filter does.

    >>> conditions(Comparison(key="lang", type="nin", value=["c", "go"]))
    [Condition(field='lang', operator='!=', value='c'), Condition(field='lang', operator='!=', value='go')]
    """
    if isinstance(filter, Compound):
        parts = [conditions(part) for part in filter.filters]
        if filter.type == "or":
            return [AnyOf(tuple(map(tuple, parts)))]
        return [condition for part in parts for condition in part]
    values = filter.value if isinstance(filter.value, list) else [filter.value]
    if filter.type == "in":
        return [Condition(filter.key, "in", tuple(values))]
    if filter.type != "nin" and isinstance(filter.value, list):
        raise UsageError(f"{filter.type} compares with one value: only in and nin take several")
    return [Condition(filter.key, _OPERATORS.get(filter.type, "!="), value) for value in values]
