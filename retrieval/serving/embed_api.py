"""Embeddings as Cohere and Jina ask for them, with queries told from documents.

https://docs.cohere.com/reference/embed, https://api.jina.ai/redoc
"""

import base64
from collections.abc import Callable
from typing import Annotated, Any, Literal
from uuid import uuid4

import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field

from flatcoat.errors import UsageError
from flatcoat.indexing.vectors import TokenVectors

from .context import Context
from .errors import Refused
from .indexes import ServedModel
from .json_response import JsonResponse
from .openai_api import embedded
from .requests import ForeignRequest, Name, Text, context_of, token_usage

router = APIRouter(tags=["Embed"])

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]

_LARGEST = 0.5
"""The component that int8 stands at 127 for; in vectors of length 1 few are larger, and those are cut."""


class CohereEmbedRequest(ForeignRequest):
    """Texts to one vector each."""

    model: Name | None = None
    input_type: Name
    texts: list[Text]
    embedding_types: list[EmbeddingType] = Field(default_factory=lambda: ["float"])
    output_dimension: Annotated[int | None, Field(ge=1)] = None


@router.post("/v2/embed", summary="One vector per text (Cohere)")
async def embed(body: CohereEmbedRequest, request: Request) -> JsonResponse:
    """Vectors of length 1, in each of the types asked for."""
    context = context_of(request)
    model = context.served.model(body.model)
    return await context.encoding.run(lambda: JsonResponse(_embed(context, model, body)))


def _embed(context: Context, model: ServedModel, body: CohereEmbedRequest) -> dict[str, Any]:
    is_query = body.input_type == "search_query"
    tokens = context.count_tokens(model, body.texts, is_query=is_query)
    vectors_ND = embedded(model, body.texts, is_query=is_query, width=body.output_dimension)
    return {
        "id": str(uuid4()),
        "embeddings": {kind: _TYPES[kind](vectors_ND) for kind in body.embedding_types},
        "texts": body.texts,
        "response_type": "embeddings_by_type",
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}},
    }


def _int8(vectors_ND: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(vectors_ND * (127 / _LARGEST)), -127, 127).astype(np.int8)


def _bits(vectors_ND: np.ndarray) -> np.ndarray:
    return np.packbits(vectors_ND > 0, axis=1)


_TYPES: dict[str, Callable[[np.ndarray], list[Any]]] = {
    "float": lambda vectors_ND: vectors_ND.tolist(),
    "int8": lambda vectors_ND: _int8(vectors_ND).tolist(),
    "uint8": lambda vectors_ND: (_int8(vectors_ND).astype(np.int16) + 128).tolist(),
    "ubinary": lambda vectors_ND: _bits(vectors_ND).tolist(),
    "binary": lambda vectors_ND: (_bits(vectors_ND).astype(np.int16) - 128).tolist(),
    "base64": lambda vectors_ND: [
        base64.b64encode(vector_D.astype("<f4").tobytes()).decode() for vector_D in vectors_ND
    ],
}


class MultiVectorRequest(ForeignRequest):
    """Texts to one vector per token."""

    model: Name | None = None
    input: Text | list[Text | dict[str, Text]]
    input_type: Literal["document", "query"] = "document"
    embedding_type: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(ge=1)] = None


@router.post("/v1/multi-vector", summary="One vector per token (Jina)")
async def multi_vector(body: MultiVectorRequest, request: Request) -> JsonResponse:
    """Matrices in the order of the texts; base64 has their float32 row by row."""
    context = context_of(request)
    model = context.served.model(body.model)
    return await context.encoding.run(lambda: JsonResponse(_multi_vector(context, model, body)))


def _multi_vector(context: Context, model: ServedModel, body: MultiVectorRequest) -> dict[str, Any]:
    listed = [body.input] if isinstance(body.input, str) else body.input
    texts = [one if isinstance(one, str) else one.get("text", "") for one in listed]
    if body.dimensions not in (None, model.contract.width):
        raise UsageError(
            f"dimensions {body.dimensions}: the vectors of {model.name} have {model.contract.width}"
        )
    is_query = body.input_type == "query"
    tokens = context.count_tokens(model, texts, is_query=is_query)
    matrices = token_vectors(model, texts, is_query=is_query)
    encode = _base64 if body.embedding_type == "base64" else np.ndarray.tolist
    data = [
        {"object": "embeddings", "index": index, "embeddings": encode(matrix_TD)}
        for index, matrix_TD in enumerate(matrices)
    ]
    return {"object": "list", "model": model.name, "data": data, "usage": token_usage(tokens)}


def _base64(matrix_TD: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(matrix_TD, "<f4").tobytes()).decode()


def token_vectors(model: ServedModel, texts: list[str], *, is_query: bool) -> TokenVectors:
    """The vectors of the tokens of each text; Refused with 424 where the model has one per text."""
    if model.contract.kind != "colbert":
        raise Refused(424, f"{model.name} has one vector per text: use /v1/embeddings, /v2/embed or /embed")
    vectors = model.encode_queries(texts) if is_query else model.encode_documents(texts)
    assert isinstance(vectors, TokenVectors)
    return vectors
