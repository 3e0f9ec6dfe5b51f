"""Documents cut into passages at their own structure: headings, definitions, paragraphs, lines.

Every line gets a rank as a place to break, lowest outermost. A stretch that is too long is cut at the
lowest rank inside it, neighbours are merged while they fit, and what is still too long is cut again.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from .. import FlatcoatError
from .documents import Document, Passage, Scalar

CountTokens: TypeAlias = Callable[[list[str]], list[int]]

_HEADING = re.compile(r"(#{1,6})\s")
_FENCE = re.compile(r"\s*(```|~~~)")
_DEFINITION = re.compile(
    r"\s*(?:(?:export|default|pub(?:\(\w+\))?|public|private|protected|static|async|abstract|final)\s+)*"
    r"(?:def|class|function|func|fn|impl|interface|struct|enum|trait|module|namespace)\b"
)
_ATTACHED = re.compile(r"\s*(?:@|#|//|/\*|\*|--)")
_CLOSING = re.compile(r"\s*[)\]}]")
_PROSE = (None, "text", "markdown", "restructuredtext", "tex", "html")
_PARAGRAPH, _LINE, _WORST = 10, 100, 1000
_DEEPEST = 40  # indents beyond this rank alike, which bounds the recursion


class _Piece(NamedTuple):
    """Lines ``first`` to ``last`` (0-based, inclusive), or a part of one line."""

    first: int
    last: int
    text: str


def chunk(document: Document, count_tokens: CountTokens, max_tokens: int) -> list[Passage]:
    """Cut ``document`` into passages of at most ``max_tokens``, title and special tokens counted.

    ``count_tokens`` gives the token counts of a list of texts, special tokens included; it is called a few
    times a document. Each passage is exactly the lines it names, without blank ones at its ends; only a
    line that is too long alone is cut, at spaces where it has some. All text that is not blank is in
    exactly one passage. Where the title of a long document fills more than half of ``max_tokens`` it is cut
    to about that half. FlatcoatError if ``max_tokens`` is under 1.
    """
    if max_tokens < 1:
        raise FlatcoatError(f"passages of {max_tokens} tokens: at least 1 is needed")
    if not document.text.strip():
        return []
    title, lines = document.title, document.text.split("\n")
    whole, title_size, base = count_tokens([_searchable(title, document.text), title, ""])
    if whole <= max_tokens:
        pieces = [_trimmed(lines, 0, len(lines) - 1)]
    else:
        title_size, most = title_size - base, max_tokens // 2
        if title_size > most:
            title, title_size = title[: len(title) * most // title_size], most
        cutter = _Cutter(lines, document.metadata.get("lang"), count_tokens, base)
        stretches = cutter.cut(0, len(lines) - 1, room=max(1, max_tokens - base - title_size))
        pieces = [_trimmed(lines, first, last) for first, last in stretches]
        pieces = _fitted(pieces, cutter, lambda text: _searchable(title, text), max_tokens)
    return [
        Passage(document.id, piece.text, title, (piece.first + 1, piece.last + 1), document.metadata)
        for piece in pieces
    ]


def _searchable(title: str, text: str) -> str:
    return Passage("", text, title).searchable


class _Cutter:
    """The lines of one document with their token costs and ranks as places to break."""

    def __init__(self, lines: list[str], lang: Scalar | None, count_tokens: CountTokens, base: int) -> None:
        self.lines = lines
        self.count_tokens = count_tokens
        self._ranks = np.array(_ranks(lines, lang == "markdown", code=lang not in _PROSE))
        costs = np.array(count_tokens([f"{line}\n" for line in lines])) - base
        self._cost_before = np.concatenate([[0], np.cumsum(costs)])

    def cut(self, first: int, last: int, room: int) -> Iterator[tuple[int, int]]:
        """Cut lines ``first`` to ``last`` into stretches of about ``room`` tokens, blank ones left out."""
        if not any(line.strip() for line in self.lines[first : last + 1]):
            return
        if first == last or self._cost(first, last) <= room:
            yield first, last
            return
        inner = self._ranks[first + 1 : last + 1]
        starts = [first, *(np.flatnonzero(inner == inner.min()) + first + 1).tolist()]
        blocks = zip(starts, [start - 1 for start in starts[1:]] + [last], strict=True)
        for start, end in self._merged(blocks, room):
            yield from self.cut(start, end, room)

    def halve(self, piece: _Piece, parts: int) -> list[_Piece]:
        """Cut a piece that turned out too long: in two at a line, or a single line into ``parts``."""
        if piece.first == piece.last:
            return [piece._replace(text=text) for text in _split_line(piece.text, parts)]
        half = self._cost(piece.first, piece.last) // 2
        return [_trimmed(self.lines, *lines) for lines in self.cut(piece.first, piece.last, max(1, half))]

    def _merged(self, blocks: Iterator[tuple[int, int]], room: int) -> Iterator[tuple[int, int]]:
        first, last = next(blocks)
        for start, end in blocks:
            if self._cost(first, end) > room:
                yield first, last
                first = start
            last = end
        yield first, last

    def _cost(self, first: int, last: int) -> int:
        return int(self._cost_before[last + 1] - self._cost_before[first])


def _fitted(
    pieces: list[_Piece], cutter: _Cutter, searchable: Callable[[str], str], limit: int
) -> list[_Piece]:
    """Cut further whatever is over ``limit`` as one text: line costs are estimates, this is the count."""
    unsure = list(range(len(pieces)))
    while unsure:
        counts = cutter.count_tokens([searchable(pieces[index].text) for index in unsure])
        over = {index: count for index, count in zip(unsure, counts, strict=True) if count > limit}
        fitted: list[_Piece] = []
        unsure = []
        for index, piece in enumerate(pieces):
            cut = cutter.halve(piece, -(-over[index] // limit)) if index in over else [piece]
            if cut != [piece]:
                unsure += range(len(fitted), len(fitted) + len(cut))
            fitted += cut
        pieces = fitted
    return pieces


def _split_line(text: str, parts: int) -> list[str]:
    """Cut ``text`` into about ``parts`` of one length, after a space where there is one; no blank ones."""
    size = max(1, -(-len(text) // parts))
    cut, start = [], 0
    while start < len(text):
        end = min(start + size, len(text))
        space = text.rfind(" ", start + size // 2, end) if end < len(text) else -1
        end = space + 1 if space >= 0 else end
        cut.append(text[start:end])
        start = end
    return [part for part in cut if part.strip()]


def _trimmed(lines: list[str], first: int, last: int) -> _Piece:
    while not lines[first].strip():
        first += 1
    while not lines[last].strip():
        last -= 1
    return _Piece(first, last, "\n".join(lines[first : last + 1]))


def _ranks(lines: list[str], markdown: bool, code: bool) -> list[int]:
    """The rank of a break before each line: the lower, the better a place."""
    ranks, fenced, after_heading, blank = [], False, False, True
    for number, line in enumerate(lines):
        indent = min(len(line) - len(line.lstrip()), _DEEPEST)
        heading = _HEADING.match(line) if markdown and not fenced else None
        if heading:
            ranks.append(len(heading[1]))
        elif not line.strip() or _CLOSING.match(line) or after_heading:
            ranks.append(_WORST)
        else:
            ranks.append((_PARAGRAPH if blank and not fenced else _LINE) + indent)
        if code and _DEFINITION.match(line):
            ranks[number] = _WORST
            ranks[_start_of_definition(lines, number)] = _PARAGRAPH + indent
        fenced ^= bool(markdown and _FENCE.match(line))
        blank = not line.strip()
        after_heading = bool(heading) or (blank and after_heading)
    return ranks


def _start_of_definition(lines: list[str], number: int) -> int:
    """The line at which the decorators and comments directly above the definition at ``number`` begin."""
    definition = lines[number]
    indent = len(definition) - len(definition.lstrip())
    start = number
    for above in range(number - 1, -1, -1):
        line = lines[above]
        depth = len(line) - len(line.lstrip())
        if not line.strip() or depth < indent:
            break
        if depth == indent and _ATTACHED.match(line):
            start = above
        elif depth == indent and not _CLOSING.match(line):
            break
    return start
