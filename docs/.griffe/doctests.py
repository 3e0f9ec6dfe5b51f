"""Shows the examples of docstrings as code: an extension of griffe, by which the API reference is read."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
_DIRECTIVE = re.compile(r" *# doctest: .*")


class FencedDoctests(griffe.Extension):
    """Puts a fence around each run of lines from ``>>>`` to the next blank line."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object once its docstring is known."""
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = _EXAMPLE.sub(_fenced, text)


def _fenced(example: re.Match[str]) -> str:
    return f"```pycon\n{_DIRECTIVE.sub('', example[0])}\n```"
