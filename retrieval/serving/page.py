"""The page to search with: three files from the package, by names that stand here."""

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

_WEB = Path(__file__).parent / "web"
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
_HEADERS = {
    "content-security-policy": f"{_POLICY}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@cache
def _content(name: str) -> bytes:
    return (_WEB / name).read_bytes()


def _file(name: str, kind: str) -> Response:
    return Response(_content(name), media_type=kind, headers=_HEADERS)


@router.get("/")
async def page() -> Response:
    """The page."""
    return _file("index.html", "text/html")


@router.get("/web/style.css")
async def style() -> Response:
    """Its looks."""
    return _file("style.css", "text/css")


@router.get("/web/app.js")
async def script() -> Response:
    """What it does."""
    return _file("app.js", "text/javascript")


@router.get("/web/explain.js")
async def explain_script() -> Response:
    """How it shows a result and its explanation."""
    return _file("explain.js", "text/javascript")
