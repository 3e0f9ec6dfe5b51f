"""OpenAI's search of vector stores, whose ids are the names of indexes.

https://platform.openai.com/docs/api-reference/vector-stores/search
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from flatcoat.errors import UsageError
from flatcoat.indexing.filters.condition import And, Condition, Filter, Or

from .json_response import JsonResponse
from .requests import ForeignRequest, Name, Query, context_of

if TYPE_CHECKING:
    from flatcoat.retrieval.results import Result

    from .indexes import ServedIndex

router = APIRouter(tags=["OpenAI"])

Value = str | int | float | bool

_OPERATORS = {
    "eq": "=",
    "ne": "!=",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "in": "in",
    "nin": "not in",
}


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
    where = None if body.filters is None else filter_of(body.filters)
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


def filter_of(given: Comparison | Compound) -> Filter:
    """The same filter as the store has it.

    >>> filter_of(Comparison(key="lang", type="nin", value=["c", "go"]))
    Condition(field='lang', operator='not in', value=['c', 'go'])
    """
    if isinstance(given, Compound):
        parts = tuple(map(filter_of, given.filters))
        return And(parts) if given.type == "and" else Or(parts)
    takes_several = given.type in ("in", "nin")
    if isinstance(given.value, list) != takes_several:
        raise UsageError(f"{given.type} takes {'a list of values' if takes_several else 'one value'}")
    return Condition(given.key, _OPERATORS[given.type], given.value)
