"""Results as people read them, on a terminal or in a pipe: place, best lines, scores, matched words."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flatcoat.console import counted
from flatcoat.indexing.reading.languages import PROSE
from flatcoat.indexing.terms import query_spans

from .highlight import Mark, highlighted, joined, marks, printable, word_around
from .ranking import RANKED, SIGNALS
from .snippets import best_span, snippet_span, words_of_query

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from flatcoat.indexing.store.store import Store
    from flatcoat.indexing.terms import Span

    from .results import Result

_NUMBER = 5  # characters of a line number
_INDENT = " " * (_NUMBER + 2)
_NEAR = 2  # lines: a signature as near as this is shown with what is between
_WIDTH = 80  # columns of notes, where no terminal says how many it has
_NOTE_LINES = 2  # per kind of note
_SHOWN_DUPLICATES = 3
_STAGES = ("vectors", "bm25", "fused", *SIGNALS, RANKED, "rerank")
"""The names in ``Result.scores``, in the order of the stages."""


class Place(NamedTuple):
    """Where a document is: a path that a shell or an editor opens, and its URI if it is to be a link."""

    path: str
    uri: str | None = None


@dataclass(frozen=True)
class Layout:
    """How results are printed.

    ``width`` is that of the terminal; None is a pipe, whose lines are never broken. ``context`` is the number
    of lines before and behind the best ones; None fills a snippet of fixed length. ``least`` lines are shown,
    where a passage has so many. ``places`` are those of documents by id, ``stages`` the names of scores with
    the width of their columns.
    """

    width: int | None = None
    context: int | None = None
    least: int = 0
    places: Mapping[str, Place] = field(default_factory=dict)
    stages: Mapping[str, int] = field(default_factory=dict)

    def place(self, id: str) -> Place:
        """The place of a document; its id where no other is known."""
        return self.places.get(id) or Place(_one_line(id))


_PIPE = Layout()


def print_results(
    console: "Console",
    results: Sequence["Result"],
    query: str,
    *,
    store: "Store | None",
    context: int | None = None,
) -> None:
    """Print results, wrapped and with links where the console is a terminal.

    ``store`` knows their files; None for a collection of shards, which names documents alone.
    """
    is_terminal = console.file.isatty()
    others = [place.rpartition(":")[0] for result in results for place in result.duplicates]
    files = store.files_of([*(result.document_id for result in results), *others]) if store else {}
    layout = Layout(
        width=console.width if is_terminal else None,
        context=context,
        places={
            id: Place(_one_line(shown_path(file.path)), file.path.as_uri() if is_terminal else None)
            for id, file in files.items()
            if not file.is_shared
        },
        stages=_columns(results),
    )
    for result in results:
        console.print(show_result(result, query, layout))


def matching_files(results: Iterable["Result"], store: "Store | None") -> list[str]:
    """The files of results that are there now, best first and each once, as a shell reads them.

    Without a ``store``, of a collection of shards, the ids of the documents.
    """
    ids = [result.document_id for result in results]
    if store is None:
        return list(dict.fromkeys(ids))
    files = store.files_of(ids)
    return list(dict.fromkeys(shown_path(files[id].path) for id in ids if id in files))


def shown_path(path: Path) -> str:
    """The path from the working directory if it is below that, otherwise the whole path."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def show_result(result: "Result", query: str, layout: Layout = _PIPE) -> "Text":
    """Rank, score, place and the best lines of a result, with the words of the query highlighted.

    A colon stands behind the numbers of the best lines. Above them is the line that begins the definition
    around them. The scores and the matched words of an explained result follow.

    >>> from flatcoat.retrieval.results import Result
    >>> result = Result(1, 0.5, "sky.md", "", (1, 2), "Why?\\nThe sky is blue.", {})
    >>> print(show_result(result, "blue sky").plain)
      1  0.50  sky.md:2  (lines 1-2)
        1  Why?
        2: The sky is blue.
    """
    from rich.text import Text

    text = result.text or result.title
    best = result.best_span if result.text else None
    best = best or best_span(text, words_of_query(text, query))
    line = result.lines[0] + text.count("\n", 0, best[0])
    notes = [Text(f"{_INDENT}{note}", "dim") for note in _notes(result, query, layout)]
    return Text("\n").join([_header(result, line, layout), *_body(result, text, query, best, layout), *notes])


def _header(result: "Result", line: int, layout: Layout) -> "Text":
    """Rank, score and place; of a narrow terminal the section gets what is left."""
    from rich.style import Style
    from rich.text import Text

    path, uri = layout.place(result.document_id)
    is_ranked = result.score or result.scores  # What filters list is not.
    score = f"{result.score:.2f}  " if is_ranked else ""
    header = Text.assemble((f"{result.rank:>3}  ", "bold"), (score, "dim"))
    header.append(f"{path}:{line}", Style(bold=True, color="cyan", link=uri))
    lines = f"  (lines {result.lines[0]}-{result.lines[1]})"
    section = _one_line(result.section)
    room = len(section) if layout.width is None else layout.width - len(header) - len(lines) - 2
    if section and room > 1:
        header.append("  " + (section if len(section) <= room else f"…{section[1 - room :]}"), "cyan")
    if layout.width is None or len(header) + len(lines) <= layout.width:
        header.append(lines, "dim")
    return header


def _body(result: "Result", text: str, query: str, best: "Span", layout: Layout) -> Iterator["Text"]:
    """The lines of the snippet behind their numbers, below the signature if that is not among them."""
    from rich.text import Text

    found = marks(result, query)
    start, end = snippet_span(text, best, layout.context, least=layout.least)
    signature = _signature(result, start)
    if signature:
        between = text.count("\n", signature[1], start) - 1
        if between <= _NEAR:
            start = signature[0]
        else:
            yield from _numbered(result, text, signature, None, found, layout)
            yield Text(f"{'…':>{_NUMBER}}", "dim")
    for line in _lines(text, (start, end)):
        yield from _numbered(result, text, line, best, found, layout)


def _numbered(
    result: "Result", text: str, span: "Span", best: "Span | None", found: Sequence[Mark], layout: Layout
) -> Iterator["Text"]:
    """A line, or the part of one in ``span``, in as many rows as the terminal needs."""
    from rich.console import Console
    from rich.text import Text

    start, end = span
    line = highlighted(text, span, found)
    if start and text[start - 1] != "\n":
        line = Text("…") + line
    if end < len(text) and text[end] != "\n":
        line.rstrip()
        line.append("…")
    number = result.lines[0] + text.count("\n", 0, start)
    is_best = best is not None and _overlap(span, best)
    rows = [line]
    if layout.width is not None and line.cell_len > (room := max(1, layout.width - len(_INDENT))):
        rows = list(line.wrap(Console(), room, overflow="fold"))
    for place, row in enumerate(rows):
        gutter = _INDENT if place else f"{number:>{_NUMBER}}{':' if is_best else ' '} "
        style = "bold" if is_best else "dim"
        yield Text.assemble((gutter, style), row) if row else Text(gutter.rstrip(), style)


def _lines(text: str, span: "Span") -> Iterator["Span"]:
    """The lines of a text within a span; the first and the last may be parts of lines."""
    start, last = span
    for line in text[start:last].split("\n"):
        yield start, start + len(line)
        start += len(line) + 1


def _signature(result: "Result", place: int) -> "Span | None":
    """The line before ``place`` that begins the definition around it, in code.

    It is the last line that is first to name a part of the section; None where ``place`` is in such a line.
    """
    if str(result.metadata.get("lang", "text")) in PROSE:
        return None
    names = {words[-1] for name in result.section.split(", ") if (words := re.findall(r"\w+", name))}
    found = None
    for line in _lines(result.text, (0, len(result.text))):
        if line[0] > place:
            break
        if named := names.intersection(re.findall(r"\w+", result.text[slice(*line)])):
            names -= named
            found = line
    return found if found and found[1] < place else None


def _notes(result: "Result", query: str, layout: Layout) -> Iterator[str]:
    width = (layout.width or _WIDTH) - len(_INDENT)
    if result.explanation is not None:
        yield from _filled([*_scores(result, layout.stages or _columns([result]))], "  ", width)
        yield from _filled([*_matched_words(result, query)], ", ", width, lines=_NOTE_LINES)
    if result.duplicates:
        places = [place.rpartition(":") for place in result.duplicates[:_SHOWN_DUPLICATES]]
        named = [f"{layout.place(id).path}:{line}" for id, _, line in places]
        others = len(result.duplicates) - len(named)
        yield f"also in {', '.join(named)}{f' and {others:,} more' if others else ''}"
    if result.more:
        yield f"{counted(result.more, 'more passage')} of it"


def _scores(result: "Result", columns: Mapping[str, int]) -> Iterator[str]:
    """The score of every stage in its column, and what signals added or took."""
    for name, width in columns.items():
        if name in result.scores:
            yield f"{name} {_number(name, result.scores[name]):>{width}}"
        elif name not in SIGNALS:
            yield f"{name} {'-':>{width}}"


def _columns(results: Iterable["Result"]) -> dict[str, int]:
    """The names of all scores, in the order of the stages, with the width of their widest number."""
    widths: dict[str, int] = {}
    for result in results:
        for name, score in result.scores.items():
            widths[name] = max(widths.get(name, 0), len(_number(name, score)))
    return {name: widths[name] for name in sorted(widths, key=_STAGES.index)}


def _number(name: str, score: float) -> str:
    return f"{score:+.2f}" if name in SIGNALS else f"{score:.2f}"


def _filled(entries: Sequence[str], separator: str, width: int, *, lines: int | None = None) -> Iterator[str]:
    """Entries on lines of at most ``width`` characters; how many there are beyond ``lines`` is said."""
    filled: list[str] = []
    for place, entry in enumerate(entries):
        rest = len(entries) - place
        more = f" and {rest} more"
        spare = len(more) if len(filled) == lines and rest > 1 else 0
        if filled and len(filled[-1] + separator + entry) + spare <= width:
            filled[-1] += separator + entry
        elif lines is None or len(filled) < lines:
            filled.append(entry)
        else:
            filled[-1] += more
            break
    return iter(filled)


def _matched_words(result: "Result", query: str) -> Iterator[str]:
    """Words of the query, the words of the passage that match them best, their shares of the score.

    Stop words are left out, as full-text search does. Pairs of characters that overlap are shown as one.
    """
    telling = query_spans(query).values()
    matches = [(match, span) for match in result.explanation or () if (span := match.query_span)]
    matches = [(match, span) for match, span in matches if any(_overlap(span, word) for word in telling)]
    query_runs = joined(span for _, span in matches)
    text_runs = joined(match.text_span for match, _ in matches if match.text_span)
    scores: dict[str, float] = {}
    best: dict[str, tuple[float, str]] = {}
    for match, span in matches:
        word = _word_at(query, _around(query_runs, span))
        place = match.text_span
        matched = _word_at(result.text, _around(text_runs, place)) if place else "(title or section)"
        scores[word] = scores.get(word, 0.0) + match.score
        best[word] = max(best.get(word, (0.0, matched)), (match.score, matched))
    for word in sorted(scores, key=lambda word: -scores[word]):
        matched = best[word][1]
        shown = word if matched.casefold() == word.casefold() else f"{word} -> {matched}"
        yield f"{_one_line(shown)} {scores[word]:.2f}"


def _around(runs: Sequence["Span"], span: "Span") -> "Span":
    """The run that a span is in."""
    return next(run for run in runs if _overlap(run, span))


def _overlap(one: "Span", other: "Span") -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _word_at(text: str, span: "Span") -> str:
    return " ".join(text[slice(*word_around(text, span))].split())


def _one_line(text: str) -> str:
    return printable(text).replace("\n", " ")
