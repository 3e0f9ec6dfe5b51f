"""Request bodies, read whole before anything else happens: in bounded size and time."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from .errors import Refused, error_response
from .settings import Settings

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 1.0


class Bodies:
    """Answers 413 to a body that is too large, and 408 to one that does not come."""

    def __init__(self, app: "ASGIApp", settings: Settings) -> None:
        self._app = app
        self._most = settings.max_body
        self._seconds = settings.body_seconds

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer by the app below, or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self._seconds)
        except Refused as error:
            await _refuse(error_response(scope["path"], error.status, str(error)), receive, send)
        except TimeoutError:
            message = f"the request has not come within {self._seconds:g} seconds"
            await _refuse(error_response(scope["path"], 408, message), receive, send)
        else:
            if body is not None:
                await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: "Scope", receive: "Receive") -> bytes | None:
        """The body; None where the client went away."""
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._most:
            raise self._too_large()
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._most:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> Refused:
        return Refused(413, f"a request has {self._most:,} bytes at most: send several smaller ones")


async def _refuse(response: "Response", receive: "Receive", send: "Send") -> None:
    """Answer, and read on for a while: closed with bytes unread, the connection would be reset."""
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    await send({"type": "http.response.body"})


def _replay(body: bytes, receive: "Receive") -> "Receive":
    """A receive that has the whole body at once, then what comes after it."""
    is_read = False

    async def replay() -> "Message":
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
