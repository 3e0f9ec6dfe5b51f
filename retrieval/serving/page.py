"""The page to search with: a few files of the package, by names that stand here."""

from functools import cache, partial
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

FILES = {
    "/": ("index.html", "text/html"),
    "/web/style.css": ("style.css", "text/css"),
    "/web/app.js": ("app.js", "text/javascript"),
    "/web/api.js": ("api.js", "text/javascript"),
    "/web/results.js": ("results.js", "text/javascript"),
}
"""Paths, and the name and type of what they show."""

_WEB = Path(__file__).parent / "web"
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
_HEADERS = {
    "content-security-policy": f"{_POLICY}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@cache
def _content(name: str) -> bytes:
    return (_WEB / name).read_bytes()


async def _answer(name: str, kind: str) -> Response:
    return Response(_content(name), media_type=kind, headers=_HEADERS)


for _path, (_name, _kind) in FILES.items():
    router.add_api_route(
        _path, partial(_answer, _name, _kind), methods=["GET", "HEAD"], response_class=Response
    )
