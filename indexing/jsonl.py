"""Documents from JSON lines: one object a line, as BEIR and most data sets write them."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import FlatcoatError
from .documents import Document, Metadata

_NOT_METADATA = {"_id", "id", "title", "text", "metadata"}


def read_jsonl(path: Path) -> Iterator[Document]:
    """Rows ``{"_id" or "id", "text", "title"?, ...}`` of a file, one at a time.

    Other keys with a text, number or boolean become metadata, and so do those inside a "metadata" object;
    nulls, lists and further objects do not. A missing or null title is "". Raises FlatcoatError, naming
    file and line, where a row is malformed or an id comes twice.
    """
    seen: set[str] = set()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    document = _document(json.loads(line.decode("utf-8-sig"), parse_constant=_refuse))
                except (ValueError, RecursionError) as error:
                    raise FlatcoatError(f"{path}, line {number}: {error}") from error
                if document.id in seen:
                    raise FlatcoatError(f"{path}, line {number}: id {document.id!r} came before")
                seen.add(document.id)
                yield document
    except OSError as error:
        raise FlatcoatError(f"{path} cannot be read: {error.strerror}") from error


def _document(row: Any) -> Document:
    """The document of one row; ValueError where it is none."""
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object is needed, {type(row).__name__} came")
    id = row.get("_id", row.get("id"))
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise ValueError(f'"_id" or "id" must be a text or whole number, {id!r} came')
    text, title = row.get("text"), row.get("title")
    if not isinstance(text, str):
        raise ValueError(f'"text" must be a text, {text!r:.40} came')
    if not isinstance(title, str | None):
        raise ValueError(f'"title" must be a text or null, {title!r:.40} came')
    nested = row.get("metadata")
    metadata = _scalars(nested) if isinstance(nested, dict) else {}
    metadata |= _scalars({key: value for key, value in row.items() if key not in _NOT_METADATA})
    document = Document(str(id), text, title or "", metadata)
    for part in (document.id, text, document.title, *metadata, *map(str, metadata.values())):
        part.encode()  # half a surrogate pair is no text: UnicodeEncodeError is a ValueError
    return document


def _scalars(items: dict[str, Any]) -> Metadata:
    for key, value in items.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key!r} is beyond the range of a float")
    return {key: value for key, value in items.items() if isinstance(value, str | int | float)}


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
