"""The process: a socket, an app, and an end that finishes what was accepted."""

import asyncio
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from flatcoat.errors import UsageError

from .access import access_log
from .bodies import LINGER_SECONDS

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from .settings import Settings

_GRACE_SECONDS = 600
_MOST_CONNECTIONS = 2000
_BACKLOG = 1024


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any that is free. UsageError where that is impossible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        at = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # Connections inherit it, and asyncio sets it only where a socket names its protocol. Head and body of
        # an answer are two writes: the second would wait 40 ms for the acknowledgement of the first.
        at.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return at
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise UsageError(f"cannot listen on {host}, port {port}: {reason}") from error


def serve(app: "ASGIApp", settings: "Settings", at: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM, then finish those that were accepted."""
    _log_to_stderr()
    make_server(app, settings).run(sockets=[at])


def make_server(app: "ASGIApp", settings: "Settings") -> uvicorn.Server:
    """A server that is yet to run."""
    config = uvicorn.Config(
        app,
        http=_protocol(settings.header_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    access = logging.StreamHandler(sys.stderr)
    access.setFormatter(logging.Formatter("%(message)s"))
    access_log.addHandler(access)
    access_log.setLevel(logging.INFO)
    access_log.propagate = False


def _protocol(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, which answers 408 where the head of a request is not whole after ``seconds``."""

    class TimedProtocol(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None
        _is_refused = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            if self._is_refused:
                return
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._stop_waiting()
            elif self._waiting is None:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            self._refuse("400 Bad Request", msg)

        def _wait(self) -> None:
            self._waiting = self.loop.call_later(seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _give_up(self) -> None:
            self._waiting = None
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self._refuse("408 Request Timeout", f"No request has come within {seconds:g} seconds.")

        def _refuse(self, status: str, message: str) -> None:
            # Closed with bytes of the client unread, a connection is reset and the answer lost.
            self._is_refused = True
            self._stop_waiting()
            lines = [f"HTTP/1.1 {status}", "content-type: text/plain", f"content-length: {len(message)}"]
            self.transport.write("\r\n".join([*lines, "connection: close", "", message]).encode())
            self.transport.write_eof()
            self.loop.call_later(LINGER_SECONDS, self.transport.close)

    return TimedProtocol
