"""The app: all APIs over one context, behind keys, limits and the access log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from flatcoat import __version__

from . import embed_api, openai_api, page, rerank_api, search_api, tei_api, vector_stores_api
from .access import AccessLog
from .auth import Auth
from .bodies import Bodies
from .context import Context
from .errors import answer_errors

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def create_app(context: Context) -> "ASGIApp":
    """An ASGI app that answers from the context, and closes it at its own end.

    OpenTelemetry is FastAPI's: spans and metrics go to the providers that are configured, and with
    FASTAPI_OTEL_AUTO_CONFIGURE=true to the exporters that the environment names.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        context.is_closing = True
        context.close()

    options: dict[str, Any] = {"docs_url": None, "redoc_url": None}  # Both load scripts from elsewhere.
    app = FastAPI(title="flatcoat", version=__version__, lifespan=lifespan, **options)
    app.state.context = context
    for api in (search_api, openai_api, vector_stores_api, embed_api, rerank_api, tei_api, page):
        app.include_router(api.router)
    answer_errors(app, context.served.hidden_paths)
    guarded = Auth(Bodies(app, context.settings), context.settings)
    return AccessLog(guarded, context.metrics)
