"""Answers in JSON, written by pydantic's encoder: vectors have many numbers."""

from typing import Any

from pydantic_core import to_json
from starlette.responses import Response


class JsonResponse(Response):
    """JSON of plain Python values; a number that JSON does not have becomes null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The JSON in UTF-8; half a surrogate pair, which no UTF-8 has, becomes a question mark."""
        try:
            return to_json(content)
        except (UnicodeEncodeError, ValueError):
            import json

            text = json.dumps(content, ensure_ascii=False, allow_nan=False)
            return text.encode("utf-8", "replace")
