"""The text of a Jupyter notebook: the sources of its cells, not their outputs."""

import json
import re
from collections.abc import Iterator
from typing import Any

from flatcoat.indexing.documents import Heading

from .extracted import Extracted, Unreadable, cleaned

_HEADING = re.compile(r"(#{1,6})\s+(.*\S)")
_FENCE = re.compile(r"\s*(```|~~~)")
_CELL_LEVEL = 7  # inside any heading


def notebook_text(source: str) -> Extracted:
    """The cells' sources with a blank line between; cells and Markdown headings are the outline.

    Cells, sources and lines of odd types, which some programs write, are passed over. Raises Unreadable where
    this is no notebook.

    >>> cells = [{"cell_type": "markdown", "source": ["# Sky"]}, {"cell_type": "code", "source": "x = 1"}]
    >>> notebook_text(json.dumps({"cells": cells})).text
    '# Sky\\n\\nx = 1'
    """
    try:
        notebook = json.loads(source)
    except RecursionError as error:
        raise Unreadable("malformed notebook: nested too deep") from error
    except ValueError as error:
        raise Unreadable(f"malformed notebook: {error}") from error
    cells = _cells(notebook)
    outline, texts, line = [], [], 1
    for number, cell in enumerate(cells, start=1):
        if not isinstance(cell, dict):
            continue
        text = _source(cell)
        outline.append(Heading(line, _CELL_LEVEL, f"cell {number}"))
        if cell.get("cell_type") in ("markdown", "heading"):
            outline += _headings(text, line)
        texts.append(text)
        line += text.count("\n") + 2
    return Extracted("\n\n".join(texts), lang=_language(notebook, cells), outline=tuple(outline))


def _cells(notebook: Any) -> list[Any]:
    """All cells; nbformat 3 and before keeps them in worksheets."""
    if not isinstance(notebook, dict):
        raise Unreadable(f"malformed notebook: a JSON object is needed, {type(notebook).__name__} came")
    worksheets = notebook.get("worksheets")
    sheets = [notebook, *(worksheets if isinstance(worksheets, list) else [])]
    lists = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
    if not any(isinstance(cells, list) for cells in lists):
        raise Unreadable("malformed notebook: no list of cells")
    return [cell for cells in lists if isinstance(cells, list) for cell in cells]


def _source(cell: dict[str, Any]) -> str:
    """A cell's source: a text, or a list of lines with their ends; "input" for code in nbformat 3."""
    source = cell.get("source") or cell.get("input")
    lines = source if isinstance(source, list) else [source]
    text = cleaned("".join(line for line in lines if isinstance(line, str)))
    level = cell.get("level", 1)
    if cell.get("cell_type") == "heading" and isinstance(level, int):  # nbformat 3 too
        return "#" * min(max(level, 1), 6) + f" {' '.join(text.split())}"
    return text


def _language(notebook: dict[str, Any], cells: list[Any]) -> str:
    metadata = notebook.get("metadata")
    places = [(metadata, "kernelspec", "language"), (metadata, "language_info", "name")]
    named = [_entry(_entry(place, part), key) for place, part, key in places]
    named += [_entry(cell, "language") for cell in cells]  # nbformat 3
    found = next((name for name in named if isinstance(name, str) and name.strip()), "python")
    return cleaned(found).lower()


def _entry(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _headings(markdown: str, first_line: int) -> Iterator[Heading]:
    fenced = False
    for line, text in enumerate(markdown.split("\n"), start=first_line):
        fenced ^= _FENCE.match(text) is not None
        if not fenced and (match := _HEADING.match(text)):
            yield Heading(line, len(match[1]), match[2].rstrip("#").rstrip())
