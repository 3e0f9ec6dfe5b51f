"""The parts that the requests of several APIs have in common."""

from typing import Annotated, Any

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from .context import Context


def _no_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair is no text") from None
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return text


Text = Annotated[str, AfterValidator(_no_surrogates)]
Query = Annotated[str, Field(max_length=50_000), AfterValidator(_no_surrogates), AfterValidator(_not_blank)]
Name = Annotated[str, Field(max_length=500), AfterValidator(_no_surrogates)]


class OwnRequest(BaseModel):
    """A request to flatcoat's own API: what it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ForeignRequest(BaseModel):
    """A request of another API's clients: what means nothing here is ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, protected_namespaces=())


def context_of(request: Request) -> Context:
    """The context of the app that got the request."""
    context: Any = request.app.state.context
    return context


def token_usage(tokens: int) -> dict[str, int]:
    """Tokens as OpenAI and Jina report them."""
    return {"prompt_tokens": tokens, "total_tokens": tokens}
