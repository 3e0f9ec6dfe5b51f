"""What the command lines of every folder share: progress on stderr, and results as a person reads them."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.text import Text

    from .retriever import Result

SNIPPET_LINES = 6

_WORD = re.compile(r"[^\W_]{2,}")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_COMMON = frozenset(
    "a an and are as at be by do does for from how in is it of on or that the this to what why with".split()  # noqa: SIM905
)


def progress_bar() -> "Progress":
    """A rich progress display on stderr, gone when done, silent where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def show_result(result: "Result", query: str) -> "Text":
    """Rank, score, place, and the lines of the passage that say most of the query, its words highlighted."""
    from rich.text import Text

    first, snippet = _snippet(result.text, _words(query))
    start = result.lines[0] + first
    text = Text.assemble(
        (f"{result.rank:>3}  ", "bold"),
        (f"{result.score:.2f}  ", "dim"),
        (f"{result.document_id}:{start}", "bold cyan"),
        (f"  (lines {result.lines[0]}-{result.lines[1]})", "dim"),
    )
    body = Text("\n".join(f"     {line}" for line in snippet))
    for match in _WORD.finditer(body.plain):
        if _stem(match[0]) in _words(query) or _words(match[0]) & _words(query):
            body.stylize("bold yellow", *match.span())
    return text.append("\n").append_text(body)


def _snippet(text: str, words: set[str]) -> tuple[int, list[str]]:
    """The first of the SNIPPET_LINES lines that hold most of the words, and those lines."""
    lines = text.split("\n")
    found = [_words(line) & words for line in lines]
    starts = range(max(1, len(lines) - SNIPPET_LINES + 1))
    best = max(starts, key=lambda start: (len(set().union(*found[start : start + SNIPPET_LINES])), -start))
    return best, [line[:160].rstrip() for line in lines[best : best + SNIPPET_LINES]]


def _words(text: str) -> set[str]:
    return {_stem(word) for word in _WORD.findall(_CAMEL.sub(" ", text))} - _COMMON


def _stem(word: str) -> str:
    word = word.lower()
    return re.sub(r"(ing|ed|es|s|e)$", "", word) if len(word) > 3 else word
