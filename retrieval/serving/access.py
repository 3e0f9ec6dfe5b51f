"""The outermost layer: one line in the access log and one count per request, and a request id."""

import json
import logging
import re
from time import perf_counter
from typing import TYPE_CHECKING
from uuid import uuid4

from .metrics import Metrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

access_log = logging.getLogger("flatcoat.access")
"""One JSON object per request: no query, no text and no key is in it."""

_ID = re.compile(rb"[\w.-]{1,64}")


class AccessLog:
    """Notes method, path, status, duration, bytes and client of each request."""

    def __init__(self, app: "ASGIApp", metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer by the app below."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, size = perf_counter(), 500, 0
        id = request_id(scope)

        async def noting(message: "Message") -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", id.encode())]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            seconds = perf_counter() - started
            self._metrics.note_request(scope["method"], route_of(scope), status, seconds=seconds)
            if access_log.isEnabledFor(logging.INFO):
                values = {
                    "id": id,
                    "client": (scope.get("client") or ["-"])[0],
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "ms": round(seconds * 1000, 2),
                    "bytes": size,
                }
                access_log.info(json.dumps(values))


def route_of(scope: "Scope") -> str:
    """The path with placeholders that answered; "unknown" keeps what clients make up out of the metrics."""
    return getattr(scope.get("route"), "path", "unknown")


def request_id(scope: "Scope") -> str:
    """The id that the client gave the request, if it is short and plain, or a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _ID.fullmatch(given) else uuid4().hex
