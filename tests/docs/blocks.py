"""The code blocks of a page, in order, and what a comment before one says of it.

<!-- slow -->           takes long: runs with -m slow, after all blocks before it
<!-- hub -->            needs the hub or a large data set: options, imports and their methods are checked
<!-- theirs -->         of another library, which need not be installed: its syntax is checked
<!-- minilm -->         names a model of the hub: runs with the model inside in its place
<!-- background -->     a server, which runs until the page ends
<!-- served -->         needs that server
<!-- exit: 0 or 1 -->   the exit codes that are right
<!-- before: python … --> is not shown, and makes what the page takes for granted
"""

import re
from pathlib import Path
from typing import NamedTuple

LANGUAGES = {"python", "sh", "yaml", "json", "text", "toml"}
_BLOCK = re.compile(
    r"<!-- before: (?P<hidden>\w+)\n(?P<setup>.*?)-->"
    r"|(?:^<!-- (?P<note>[^\n]*?) -->\n)?"
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A block with its language, its note, the name of the file that it shows, and its first line."""

    language: str
    code: str
    note: str
    title: str
    line: int


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, those that are not shown too."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["hidden"]:
            found.append(Block(match["hidden"], match["setup"], "", "", line))
        else:
            found.append(
                Block(match["language"], match["code"], match["note"] or "", match["title"] or "", line)
            )
    return found
