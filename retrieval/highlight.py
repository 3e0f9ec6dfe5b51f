"""Results on a terminal: the lines of a passage that match the query best, with highlighted words."""

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from flatcoat.indexing.store.terms import find_terms, is_word_character, query_terms

if TYPE_CHECKING:
    from rich.text import Text

    from flatcoat.indexing.store.terms import Span

    from .results import Result

SNIPPET_LINES = 6
LINE_WIDTH = 160
"""Characters shown per line."""

_STRENGTHS = ("dim yellow", "yellow", "bold yellow")
_INDENT = " " * 5
_CONTEXT = 30  # characters before the first match
_SHOWN_DUPLICATES = 3

# A terminal would obey control characters, and rich would drop some, which shifts all later spans.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], " ")


class _Mark(NamedTuple):
    """Characters that match a ``part`` of the query, and the weight of the match."""

    start: int
    end: int
    part: Hashable
    weight: float


class _Line(NamedTuple):
    """A line, or a piece of one, and its first character in the passage."""

    start: int
    text: str


def show_result(result: "Result", query: str) -> "Text":
    """Rank, score, place, and the lines of the passage that match the query best, highlighted.

    A result with an explanation is highlighted by it, in three strengths, and followed by one line of the
    matched words: query word -> passage word, and the score.

    >>> from flatcoat.retrieval.results import Result
    >>> result = Result(1, 0.5, "sky.md", "", (1, 1), "The sky is blue.", {})
    >>> print(show_result(result, "why is the sky blue?").plain)
      1  0.50  sky.md:1  (lines 1-1)
         The sky is blue.
    """
    from rich.text import Text

    text = (result.text or result.title).translate(_CONTROLS)
    marks = _words_in(text, query) if result.explanation is None else _matches_in(result)
    first, lines = _snippet(text, marks)
    shown = Text.assemble(*_header(result, result.lines[0] + first))
    for line in lines:
        shown.append(f"\n{_INDENT}").append_text(_highlighted(_fitted(line, marks), marks))
    for note in _notes(result, query):
        shown.append(f"\n{_INDENT}{note.translate(_CONTROLS)}", style="dim")
    return shown


def _header(result: "Result", line: int) -> list[tuple[str, str]]:
    parts = [
        (f"{result.rank:>3}  ", "bold"),
        (f"{result.score:.2f}  ", "dim"),
        (f"{result.document_id}:{line}", "bold cyan"),
        (f"  {result.section}" if result.section else "", "cyan"),
        (f"  (lines {result.lines[0]}-{result.lines[1]})", "dim"),
    ]
    return [(text.translate(_CONTROLS | {ord("\n"): " "}), style) for text, style in parts]


def _notes(result: "Result", query: str) -> Iterable[str]:
    if result.explanation is not None:
        yield ", ".join(_matched_words(result, query))
    if result.duplicates:
        others = len(result.duplicates) - _SHOWN_DUPLICATES
        more = f" and {others} more" if others > 0 else ""
        yield f"also in {', '.join(result.duplicates[:_SHOWN_DUPLICATES])}{more}"
    if result.more:
        yield f"{result.more} more passage{'s' if result.more > 1 else ''} of it"


def _matched_words(result: "Result", query: str) -> Iterable[str]:
    """Query word -> best matching word of the passage, and the share of the score, largest first."""
    scores: dict[str, float] = {}
    best: dict[str, tuple[float, str]] = {}
    for match in result.explanation or ():
        if match.query_span:
            word = _word_at(query, match.query_span)
            matched = _word_at(result.text, match.text_span) if match.text_span else "(beside the text)"
            scores[word] = scores.get(word, 0.0) + match.score
            best[word] = max(best.get(word, (0.0, matched)), (match.score, matched))
    for word in sorted(scores, key=lambda word: -scores[word]):
        yield f"{word} -> {best[word][1]} {scores[word]:.2f}"


def _word_at(text: str, span: "Span") -> str:
    """The word around a span, or the characters of the span outside words."""
    start, end = span
    while start > 0 and all(map(is_word_character, text[start - 1 : start + 1])):
        start -= 1
    while end < len(text) and all(map(is_word_character, text[end - 1 : end + 1])):
        end += 1
    return " ".join(text[start:end].split())


def _matches_in(result: "Result") -> list[_Mark]:
    """Marks of the matches of query words; special tokens match anything, so they are left out."""
    return [
        _Mark(*match.text_span, match.query_span, match.score)
        for match in result.explanation or ()
        if match.query_span and match.text_span and match.score > 0
    ]


def _words_in(text: str, query: str) -> list[_Mark]:
    """Marks of the words that match a term of the query, as full-text search matches them."""
    found = find_terms(text, query_terms(query))
    return sorted(_Mark(*span, term, 1.0) for term, spans in found.items() for span in spans)


def _snippet(text: str, marks: Sequence[_Mark]) -> tuple[int, list[_Line]]:
    """The best run of SNIPPET_LINES lines: the index of its first line, and the lines."""
    lines = []
    start = 0
    for line in text.split("\n"):
        lines.append(_Line(start, line))
        start += len(line) + 1
    firsts = range(max(1, len(lines) - SNIPPET_LINES + 1))
    windows = [lines[first : first + SNIPPET_LINES] for first in firsts]
    values = [_value(marks, window[0].start, _end(window[-1])) for window in windows]
    best = max(firsts, key=lambda first: (round(values[first], 6), -first))
    return best, windows[best]


def _fitted(line: _Line, marks: Sequence[_Mark]) -> _Line:
    """The best LINE_WIDTH characters of a line."""
    within = [mark.start - line.start for mark in marks if line.start <= mark.start < _end(line)]
    starts = {0, *(_before(line.text, place) for place in within)}
    values = {start: _value(marks, line.start + start, line.start + start + LINE_WIDTH) for start in starts}
    best = max(starts, key=lambda start: (round(values[start], 6), -start))
    return _Line(line.start + best, line.text[best : best + LINE_WIDTH].rstrip())


def _before(text: str, place: int) -> int:
    """The start of a piece of text some words before ``place``."""
    start = min(max(0, place - _CONTEXT), max(0, len(text) - LINE_WIDTH))
    return start and (text.find(" ", start, place) + 1 or start)


def _value(marks: Iterable[_Mark], start: int, end: int) -> float:
    """The weight of the marks between two characters, with each part of the query counted once."""
    parts: dict[Hashable, float] = {}
    for mark in marks:
        if start <= mark.start and mark.end <= end:
            parts[mark.part] = max(parts.get(mark.part, 0.0), mark.weight)
    return sum(parts.values())


def _highlighted(line: _Line, marks: Sequence[_Mark]) -> "Text":
    """The line with its marks, styled by weight relative to the heaviest mark of the passage."""
    from rich.text import Text

    weights: dict[tuple[int, int], float] = {}
    for mark in marks:
        weights[mark.start, mark.end] = weights.get((mark.start, mark.end), 0.0) + mark.weight
    heaviest = max(weights.values(), default=0.0)
    text = Text(line.text)
    for (start, end), weight in weights.items():
        if line.start <= start and end <= _end(line):
            level = min(int(weight / heaviest * len(_STRENGTHS)), len(_STRENGTHS) - 1)
            text.stylize(_STRENGTHS[level], start - line.start, end - line.start)
    return text


def _end(line: _Line) -> int:
    return line.start + len(line.text)
