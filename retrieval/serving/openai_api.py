"""OpenAI's API: embeddings and models. https://platform.openai.com/docs/api-reference/embeddings"""

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field

from flatcoat.errors import UsageError
from flatcoat.indexing.exact import unit_length

from .context import Context
from .errors import Refused
from .indexes import ServedModel
from .json_response import JsonResponse
from .requests import ForeignRequest, Name, Text, context_of, token_usage

router = APIRouter(tags=["OpenAI"])


class EmbeddingsRequest(ForeignRequest):
    """Texts to one vector each. ``input_type`` is NVIDIA's and Cohere's addition to OpenAI's fields."""

    input: Text | list[Text] | list[int] | list[list[int]]
    model: Name | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(ge=1)] = None
    input_type: Literal["query", "document", "passage"] = "document"


@router.post("/v1/embeddings", summary="One vector per text")
async def embeddings(body: EmbeddingsRequest, request: Request) -> JsonResponse:
    """Vectors of length 1, in the order of the texts."""
    context = context_of(request)
    model = context.served.model(body.model)
    texts = _texts(body.input)
    return await context.encoding.run(lambda: JsonResponse(_embeddings(context, model, texts, body)))


def _texts(given: str | list[str] | list[int] | list[list[int]]) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise UsageError(
            "input: texts that are not empty are wanted, and no token ids "
            "(check_embedding_ctx_length=False in LangChain's OpenAIEmbeddings)"
        )
    return [text for text in texts if isinstance(text, str)]


def _embeddings(
    context: Context, model: ServedModel, texts: list[str], body: EmbeddingsRequest
) -> dict[str, Any]:
    is_query = body.input_type == "query"
    tokens = context.count_tokens(model, texts, is_query=is_query)
    vectors_ND = embedded(model, texts, is_query=is_query, width=body.dimensions)
    encode = _base64 if body.encoding_format == "base64" else np.ndarray.tolist
    data = [
        {"object": "embedding", "index": index, "embedding": encode(vector_D)}
        for index, vector_D in enumerate(vectors_ND)
    ]
    return {"object": "list", "data": data, "model": model.name, "usage": token_usage(tokens)}


def _base64(vector_D: np.ndarray) -> str:
    return base64.b64encode(vector_D.astype("<f4").tobytes()).decode()


def embedded(model: ServedModel, texts: list[str], *, is_query: bool, width: int | None = None) -> np.ndarray:
    """One vector per text [N, D], of length 1; the first ``width`` components if given.

    Raises Refused with 424 where the model has a vector per token, and UsageError for a width that it does
    not have.
    """
    contract = model.contract
    if contract.kind != "dense":
        raise Refused(
            424, f"{model.name} has a vector per token: use /v1/multi-vector, /embed_all or /v2/rerank"
        )
    if width is not None and width > contract.width:
        raise UsageError(f"{width} dimensions: {model.name} has {contract.width}")
    vectors = model.encode_queries(texts) if is_query else model.encode_documents(texts)
    assert isinstance(vectors, np.ndarray)
    return vectors if width in (None, contract.width) else unit_length(vectors[:, :width])


@router.get("/v1/models", summary="List the models")
async def models(request: Request) -> JsonResponse:
    """The models of the indexes."""
    return JsonResponse(
        {"object": "list", "data": [_model(one) for one in context_of(request).served.models]}
    )


@router.get("/v1/models/{model:path}", summary="Describe a model")
async def one_model(model: str, request: Request) -> JsonResponse:
    """By its name, or by that of an index that it made."""
    return JsonResponse(_model(context_of(request).served.model(model)))


def _model(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "flatcoat"}
