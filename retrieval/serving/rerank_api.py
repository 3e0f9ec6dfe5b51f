"""Reranking, as Cohere, Jina and text-embeddings-inference ask for it: one handler for all.

https://docs.cohere.com/reference/rerank, https://jina.ai/reranker
"""

from typing import Annotated, Any, Literal
from uuid import uuid4

import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field

from flatcoat.errors import UsageError

from .context import Context
from .indexes import ServedModel
from .json_response import JsonResponse
from .relevance import RelevantSpan, relevant_spans
from .relevance import scores as scores_of
from .requests import ForeignRequest, Name, Query, Text, context_of, token_usage

router = APIRouter(tags=["Rerank"])


class TextDocument(ForeignRequest):
    """A document in its longer form."""

    text: Text


class SpanOptions(ForeignRequest):
    """Which parts of each document to name: those that score at least ``threshold``."""

    mode: Literal["enabled", "disabled"] = "enabled"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    max_spans: Annotated[int, Field(ge=1, le=100)] = 3


class RerankRequest(ForeignRequest):
    """A query and ``documents`` (Cohere's and Jina's) or ``texts`` (text-embeddings-inference's)."""

    query: Query
    documents: list[Text | TextDocument] | None = None
    texts: list[Text] | None = None
    model: Name | None = None
    top_n: Annotated[int | None, Field(ge=1)] = None
    return_documents: bool | None = None
    return_text: bool = False
    raw_scores: bool = False
    relevant_spans: SpanOptions | None = None


@router.post("/rerank", summary="Score documents for a query")
@router.post("/v1/rerank", summary="Score documents for a query (Jina)")
@router.post("/v2/rerank", summary="Score documents for a query (Cohere)")
async def rerank(body: RerankRequest, request: Request) -> JsonResponse:
    """The documents by falling score, which is between 0 and 1 unless ``raw_scores`` are asked for."""
    context = context_of(request)
    model = context.served.model(body.model)
    returns = body.return_documents
    if returns is None:
        returns = request.url.path == "/v1/rerank"  # Jina's default, where Cohere has no such field.
    return await context.encoding.run(lambda: JsonResponse(_rerank(context, model, body, returns)))


def _rerank(context: Context, model: ServedModel, body: RerankRequest, returns: bool) -> Any:
    texts = _texts_of(body)
    tokens = context.count_tokens(model, texts)
    reranker = context.served.reranker(model)
    scores_N = scores_of(reranker, body.query, texts, raw=body.raw_scores)
    best = np.argsort(-scores_N, kind="stable")[: body.top_n].tolist()
    if body.texts is not None:
        return [
            {"index": index, "score": float(scores_N[index])}
            | ({"text": texts[index]} if body.return_text else {})
            for index in best
        ]
    results: list[dict[str, Any]] = [
        {"index": index, "relevance_score": float(scores_N[index])}
        | ({"document": {"text": texts[index]}} if returns else {})
        for index in best
    ]
    if body.relevant_spans and body.relevant_spans.mode == "enabled":
        _add_spans(reranker, body, results, texts=[texts[index] for index in best])
    return {
        "id": str(uuid4()),
        "model": reranker.name if reranker.name in context.served.hidden_paths else model.name,
        "results": results,
        "usage": token_usage(tokens),
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }


def _texts_of(body: RerankRequest) -> list[str]:
    if (body.documents is None) == (body.texts is None):
        raise UsageError(
            "documents: the documents to rank are wanted, as a list (or as texts, one of the two)"
        )
    given = body.documents if body.texts is None else body.texts
    return [one if isinstance(one, str) else one.text for one in given or ()]


def _add_spans(
    reranker: Any, body: RerankRequest, results: list[dict[str, Any]], *, texts: list[str]
) -> None:
    assert body.relevant_spans
    options = body.relevant_spans
    spans: list[list[RelevantSpan]] = relevant_spans(
        reranker, body.query, texts, threshold=options.threshold, most=options.max_spans
    )
    for result, found in zip(results, spans, strict=True):
        result["relevant_spans"] = [span._asdict() for span in found]
