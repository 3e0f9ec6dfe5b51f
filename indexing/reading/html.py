"""The text of an HTML page, line for line as in the source."""

import re
from collections import Counter
from html.parser import HTMLParser
from typing import NamedTuple

from flatcoat.indexing.documents import Heading, normalized

from .extracted import Extracted, Unreadable

_DROPPED = frozenset("canvas iframe nav noscript object script style svg template".split())  # noqa: SIM905
_HEADINGS = frozenset("h1 h2 h3 h4 h5 h6".split())  # noqa: SIM905
_INLINE = frozenset(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark q ruby s samp small "  # noqa: SIM905
    "span strong sub sup time tt u var wbr".split()
)
_FOLLOWED = _DROPPED | {"title", "pre"}
_WITH_TITLES = ("svg", "template")  # of their own
_MOST_UNCLOSED = 5
_LINE_END = re.compile(r"&#(?:0*1[03]|[xX]0*[aAdD])(?:;|(?![0-9a-fA-F]))|&NewLine;")


def html_text(source: str) -> Extracted:
    r"""The visible text of a page whose lines end in \n, and its title; h1 to h6 are its outline.

    Scripts, styles, drawings and navigation are left out where they are closed, and so are tags and comments;
    some unclosed ones count as text. The text has as many lines as the source. Raises Unreadable for
    malformed HTML.

    >>> page = html_text("<title>Sky</title>\n<h1>Blue</h1>\n<p>Air <b>scatters</b> light.")
    >>> page.title, page.text
    ('Sky', '\nBlue\nAir scatters light.')
    """
    reader = _Reader()
    try:
        reader.read(_LINE_END.sub(" ", source))
    except AssertionError as error:  # raised by HTMLParser
        raise Unreadable(f"malformed HTML: {error}") from error
    lines: list[list[_Piece]] = [[] for _ in range(source.count("\n") + 1)]
    for piece in reader.pieces:
        lines[piece.line - 1].append(piece)
    text = normalized("\n".join(map(_line, lines)))  # a reference may be a combining mark
    return Extracted(text, reader.title, "html", tuple(sorted(reader.outline)))


class _Piece(NamedTuple):
    """A stretch of text within one source line (1-based); ``exact`` where its spaces count."""

    line: int
    text: str
    exact: bool = False


def _line(pieces: list[_Piece]) -> str:
    if not any(piece.exact for piece in pieces):
        return " ".join("".join(piece.text for piece in pieces).split())
    start = next(number for number, piece in enumerate(pieces) if piece.exact or piece.text.strip())
    return "".join(piece.text for piece in pieces[start:]).rstrip()


class _Open(NamedTuple):
    """An element that is still open, and the numbers of pieces and headings before it."""

    tag: str
    pieces: int
    headings: int


class _Reader(HTMLParser):
    """Collects text; when an element to drop closes, its text is removed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.pieces: list[_Piece] = []
        self.outline: list[Heading] = []
        self._open: list[_Open] = []
        self._open_tags: Counter[str] = Counter()
        self._heading_start = 0

    def read(self, source: str) -> None:
        """Parse a whole page. Each tag or comment without an end costs one pass over the rest of the page."""
        self.feed(source)
        for _ in range(_MOST_UNCLOSED):
            if self.cdata_elem or not self.rawdata.startswith("<"):
                return self.close()
            rest, self.rawdata = self.rawdata[1:], ""
            self.handle_data("<")
            self.feed(rest)
        raise Unreadable("malformed HTML: many tags or comments without an end")

    def handle_data(self, data: str) -> None:
        first, _ = self.getpos()
        exact = self._open_tags["pre"] > 0
        for line, text in enumerate(data.split("\n"), start=first):
            if text:
                self.pieces.append(_Piece(line, text, exact))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._space(tag)
        if tag in _HEADINGS:
            self._heading_start = len(self.pieces)
        elif tag in _FOLLOWED:
            self._open.append(_Open(tag, len(self.pieces), len(self.outline)))
            self._open_tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self._space(tag)
        if tag in _HEADINGS:
            self._end_heading(int(tag[1]))
        while self._open_tags[tag]:
            element = self._open.pop()
            self._open_tags[element.tag] -= 1
            if element.tag == tag:
                self._close(element)
                break

    def _space(self, tag: str) -> None:
        if tag not in _INLINE:
            self.pieces.append(_Piece(self.getpos()[0], " "))

    def _end_heading(self, level: int) -> None:
        inside = [piece for piece in self.pieces[self._heading_start :] if piece.text.strip()]
        if inside:
            self.outline.append(Heading(inside[0].line, level, _name(inside)))
        self._heading_start = len(self.pieces)

    def _close(self, element: _Open) -> None:
        is_inside = any(self._open_tags[tag] for tag in _WITH_TITLES)
        if element.tag == "title" and not self.title and not is_inside:
            self.title = _name(self.pieces[element.pieces :])
        if element.tag != "pre":
            del self.pieces[element.pieces :]
            del self.outline[element.headings :]


def _name(pieces: list[_Piece]) -> str:
    return normalized(" ".join("".join(piece.text for piece in pieces).split()))
