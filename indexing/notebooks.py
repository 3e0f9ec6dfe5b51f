"""The text of a Jupyter notebook (nbformat 4): what its cells say, not what they printed."""

import json
import re
from collections.abc import Iterator
from typing import Any

from .documents import Heading
from .extracted import Extracted, Unreadable, cleaned

_HEADING = re.compile(r"(#{1,6})\s+(.*\S)")
_FENCE = re.compile(r"\s*(```|~~~)")
_CELL_LEVEL = 7  # inside any heading


def notebook_text(source: str) -> Extracted:
    """The cells' sources with a blank line between; cells and Markdown headings are the outline.

    Unreadable where this is no notebook.
    """
    try:
        notebook = json.loads(source)
        sources = [_source(cell) for cell in notebook["cells"]]
        kinds = [cell["cell_type"] for cell in notebook["cells"]]
        lang = _language(notebook.get("metadata", {}))
    except RecursionError as error:
        raise Unreadable("malformed notebook: nested too deep") from error
    except ValueError as error:
        raise Unreadable(f"malformed notebook: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise Unreadable("malformed notebook: no cells of nbformat 4") from error
    outline, line = [], 1
    for number, (kind, text) in enumerate(zip(kinds, sources, strict=True), start=1):
        outline.append(Heading(line, _CELL_LEVEL, f"cell {number}"))
        if kind == "markdown":
            outline += _headings(text, line)
        line += text.count("\n") + 2
    return Extracted("\n\n".join(sources), lang=lang, outline=tuple(outline))


def _source(cell: dict[str, Any]) -> str:
    return cleaned("".join(cell["source"]))  # a text, or a list of lines with their ends


def _language(metadata: dict[str, Any]) -> str:
    named = metadata.get("kernelspec", {}).get("language") or metadata.get("language_info", {}).get("name")
    return cleaned(named).lower() if named else "python"


def _headings(markdown: str, first_line: int) -> Iterator[Heading]:
    fenced = False
    for line, text in enumerate(markdown.split("\n"), start=first_line):
        fenced ^= _FENCE.match(text) is not None
        if not fenced and (match := _HEADING.match(text)):
            yield Heading(line, len(match[1]), match[2].rstrip("#").rstrip())
