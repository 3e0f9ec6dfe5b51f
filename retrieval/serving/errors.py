"""Errors as the clients of each API read them."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flatcoat.errors import (
    ConflictError,
    DataError,
    FlatcoatError,
    MissingExtraError,
    NotFoundError,
    UsageError,
)
from flatcoat.retrieval.shard import MissingShards

from .json_response import JsonResponse

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

_log = logging.getLogger(__name__)

_STATUSES: dict[type[FlatcoatError], int] = {
    UsageError: 400,
    NotFoundError: 404,
    ConflictError: 409,
    DataError: 422,
    MissingExtraError: 501,
    MissingShards: 503,
}
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_TEI_TYPES = {413: "Validation", 422: "Validation", 424: "Backend", 429: "Overloaded", 503: "Unhealthy"}
_TEI_PATHS = re.compile(r"/(embed|embed_all|embed_sparse|rerank|similarity|tokenize|info|health)$")
_RETRY_SECONDS = 1


class Refused(FlatcoatError):
    """A request that is turned down for a reason of the server's own, with its HTTP ``status``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: FlatcoatError) -> int:
    """The HTTP status of an error.

    >>> status_of(Refused(429, "too many requests")), status_of(UsageError("k is 0"))
    (429, 400)
    """
    if isinstance(error, Refused):
        return error.status
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 500)


def error_response(path: str, status: int, message: str, *, param: str | None = None) -> JsonResponse:
    """The answer to a request that failed, in the form of the API that ``path`` belongs to."""
    if _TEI_PATHS.fullmatch(path):
        # The two other APIs that serve /rerank name it "message" and "detail".
        kind = _TEI_TYPES.get(status, "Validation" if status < 500 else "Backend")
        body: dict[str, Any] = {"error": message, "error_type": kind, "message": message, "detail": message}
    elif path.startswith("/v2/"):
        body = {"message": message}
    elif path in ("/v1/rerank", "/v1/multi-vector"):
        body = {"detail": message}
    else:
        kind = "server_error" if status >= 500 else _OPENAI_TYPES.get(status, "invalid_request_error")
        body = {"error": {"message": message, "type": kind, "param": param, "code": str(status)}}
    headers = {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    elif status in (429, 503):
        headers["retry-after"] = str(_RETRY_SECONDS)
    elif status in (408, 413):
        headers["connection"] = "close"
    return JsonResponse(body, status_code=status, headers=headers)


def _invalid(error: Mapping[str, Any], body: Any) -> tuple[str, str]:
    """Where in a request something is wrong, empty for the whole body, and what."""
    kind, text, (where, *parts) = error["type"], str(error["msg"]), error["loc"]
    if kind == "json_invalid":
        return "", f"the body is no JSON: {error['ctx']['error']}, at character {parts[0]}"
    if where == "body" and not parts and (kind == "missing" or isinstance(body, bytes)):
        return "", "no JSON came: send it with the header content-type: application/json"
    if where == "body":
        parts = [*_path(parts, body), *(parts[-1:] if kind == "missing" else ())]
    place, text = ".".join(map(str, parts)), text.removeprefix("Value error, ")
    return place, f"{place}: {text}" if place else text


def _path(parts: Sequence[Any], value: Any) -> list[Any]:
    """The parts that lead to something in ``value``; pydantic names the kinds of a union between them.

    >>> _path(["where", 0, "str"], {"where": [7]})
    ['where', 0]
    """
    path = []
    for part in parts:
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            path.append(part)
            value = value[part]
    return path


def answer_errors(app: "FastAPI", hidden: Mapping[str, str]) -> None:
    """Have the app answer every error by ``error_response``; ``hidden`` are paths and what to say instead."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    def known(request: "Request", error: Exception) -> JsonResponse:
        assert isinstance(error, FlatcoatError)
        message = str(error)
        for path, name in hidden.items():
            message = message.replace(path, name)
        if (status := status_of(error)) >= 500 and not isinstance(error, Refused):
            _log.error("%s: %s", request.url.path, error)
        return error_response(request.url.path, status, message)

    def invalid(request: "Request", error: Exception) -> JsonResponse:
        assert isinstance(error, RequestValidationError)
        # OpenAI's and Cohere's clients know 400 only.
        status = 400 if request.url.path.startswith(("/v1/embeddings", "/v1/vector_stores", "/v2/")) else 422
        place, message = _invalid(error.errors()[0], error.body)
        return error_response(request.url.path, status, message, param=place or None)

    def http(request: "Request", error: Exception) -> JsonResponse:
        assert isinstance(error, HTTPException)
        return error_response(request.url.path, error.status_code, str(error.detail))

    def unknown(request: "Request", error: Exception) -> JsonResponse:
        return error_response(request.url.path, 500, "the server failed at this request, and logged why")

    app.add_exception_handler(FlatcoatError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unknown)
