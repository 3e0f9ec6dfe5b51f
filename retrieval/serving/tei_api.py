"""The API of text-embeddings-inference 1.9, but for /rerank, which others have too.

https://huggingface.github.io/text-embeddings-inference
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from .context import Context
from .embed_api import token_vectors
from .errors import Refused
from .indexes import ServedModel
from .json_response import JsonResponse
from .openai_api import embedded
from .requests import ForeignRequest, Text, context_of

router = APIRouter(tags=["text-embeddings-inference"])

_QUERY_PROMPTS = ("query", "search_query")


class EmbedRequest(ForeignRequest):
    """Texts to one vector each. ``prompt_name`` "query" is for queries; vectors are always of length 1."""

    inputs: Text | list[Text]
    truncate: bool = True
    prompt_name: str | None = None
    dimensions: Annotated[int | None, Field(ge=1)] = None
    normalize: Literal[True] = True

    @property
    def texts(self) -> list[str]:
        """The texts as a list."""
        return [self.inputs] if isinstance(self.inputs, str) else self.inputs

    @property
    def is_query(self) -> bool:
        """Whether the texts are queries."""
        return self.prompt_name in _QUERY_PROMPTS


@router.post("/embed", summary="One vector per text")
async def embed(body: EmbedRequest, request: Request) -> JsonResponse:
    """Vectors in the order of the texts."""
    context, model = _admitted(request)

    def work() -> JsonResponse:
        _check(context, model, body)
        vectors_ND = embedded(model, body.texts, is_query=body.is_query, width=body.dimensions)
        return JsonResponse(vectors_ND.tolist())

    return await context.encoding.run(work)


@router.post("/embed_all", summary="One vector per token")
async def embed_all(body: EmbedRequest, request: Request) -> JsonResponse:
    """Matrices in the order of the texts."""
    context, model = _admitted(request)

    def work() -> JsonResponse:
        _check(context, model, body)
        vectors = token_vectors(model, body.texts, is_query=body.is_query)
        return JsonResponse([matrix_TD.tolist() for matrix_TD in vectors])

    return await context.encoding.run(work)


@router.post("/embed_sparse", summary="Sparse vectors, which no model here has")
async def embed_sparse(body: EmbedRequest) -> JsonResponse:
    """Always 424."""
    raise Refused(424, "the model has no sparse vectors: use /embed or /embed_all")


@router.get("/info", summary="The first model and the limits of the server")
async def info(request: Request) -> JsonResponse:
    """As text-embeddings-inference names them."""
    from flatcoat import __version__

    context, model = _admitted(request)
    contract, settings = model.contract, context.settings
    late = contract.kind == "colbert"
    return JsonResponse(
        {
            "model_id": model.name,
            "model_sha": contract.weights,
            "model_dtype": {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}.get(
                contract.precision, contract.precision
            ),
            "model_type": {"embedding": {"pooling": "token" if late else contract.pooling}},
            "max_input_length": contract.document_length,
            "max_batch_tokens": settings.batch_tokens,
            "max_client_batch_size": settings.max_texts,
            "max_concurrent_requests": settings.queue,
            "tokenization_workers": 1,
            "auto_truncate": True,
            "version": __version__,
        }
    )


def _admitted(request: Request) -> tuple[Context, ServedModel]:
    context = context_of(request)
    return context, context.served.model(None)


def _check(context: Context, model: ServedModel, body: EmbedRequest) -> None:
    """Raises Refused with 413 or 422 for more than is allowed, and UsageError for no texts."""
    context.count_tokens(model, body.texts, is_query=body.is_query)
    if body.truncate:
        return
    contract: Any = model.contract
    length = contract.query_length if body.is_query else contract.document_length
    longest = max(model.token_counts(body.texts, is_query=body.is_query))
    if longest > length:
        raise Refused(413, f"a text has {longest:,} tokens, {length:,} are read: truncate is false")
