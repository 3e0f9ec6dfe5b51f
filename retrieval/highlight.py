"""The words of a passage that match the query, highlighted on a terminal by the strength of their match."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from flatcoat.indexing.terms import find_query
from flatcoat.indexing.words import is_word_character

if TYPE_CHECKING:
    from rich.text import Text

    from flatcoat.indexing.terms import Span

    from .results import Result

# A terminal would obey control characters, and rich would drop some, which shifts all later spans.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], " ")
_STRENGTHS = ("dim yellow", "yellow", "bold yellow")


class Mark(NamedTuple):
    """Characters of a text that match the query, and the weight of the match."""

    start: int
    end: int
    weight: float


def printable(text: str) -> str:
    """The text with a blank for each control character, so that places in it stay the same."""
    return text.translate(_CONTROLS)


def marks(result: "Result", query: str) -> list[Mark]:
    """What of the text matches: by the explanation, or the words that full-text search matches.

    >>> from flatcoat.retrieval.results import Result
    >>> result = Result(1, 0.5, "sky.md", "", (1, 1), "The sky is blue.", {})
    >>> [result.text[mark.start : mark.end] for mark in marks(result, "why is the sky blue?")]
    ['sky', 'blue']
    """
    if result.explanation is None:
        found = find_query(result.text or result.title, query).values()
        return [Mark(*span, 1.0) for span in joined(span for spans in found for span in spans)]
    weights: dict[Span, float] = {}
    for match in result.explanation:
        # Special tokens of the query, which have no span, match anything.
        if match.query_span and match.text_span and match.score > 0:
            word = word_around(result.text, match.text_span)
            weights[word] = weights.get(word, 0.0) + match.score
    return [
        Mark(start, end, sum(weight for (first, _), weight in weights.items() if start <= first < end))
        for start, end in joined(weights)
    ]


def joined(spans: "Iterable[Span]") -> "list[Span]":
    """Spans in their order, those that overlap as one: pairs of characters as the run that they make up.

    >>> joined([(4, 6), (0, 2), (5, 7), (2, 4)])
    [(0, 2), (2, 4), (4, 7)]
    """
    runs: list[Span] = []
    for start, end in sorted(spans):
        if runs and start < runs[-1][1]:
            runs[-1] = runs[-1][0], max(end, runs[-1][1])
        else:
            runs.append((start, end))
    return runs


def word_around(text: str, span: "Span") -> "Span":
    """The span of the word around a span, which tokens are parts of; the span itself outside words.

    >>> word_around("cats purring", (5, 9))
    (5, 12)
    """
    start, end = span
    while start > 0 and all(map(is_word_character, text[start - 1 : start + 1])):
        start -= 1
    while end < len(text) and all(map(is_word_character, text[end - 1 : end + 1])):
        end += 1
    return start, end


def highlighted(text: str, span: "Span", marks: Sequence[Mark]) -> "Text":
    """The characters of ``span`` with their marks, styled by weight relative to the heaviest of all marks."""
    from rich.text import Text

    start, end = span
    heaviest = max((mark.weight for mark in marks), default=0.0)
    shown = Text(printable(text[start:end]))
    for mark in marks:
        if start < mark.end and mark.start < end:
            level = min(int(mark.weight / heaviest * len(_STRENGTHS)), len(_STRENGTHS) - 1)
            shown.stylize(_STRENGTHS[level], max(mark.start, start) - start, min(mark.end, end) - start)
    return shown
