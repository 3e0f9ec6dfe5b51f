"""The lines of text files, plain or gzipped, as a stream: bounded memory, whatever the file."""

import codecs
import re
import zlib
from collections.abc import Callable, Iterator
from gzip import GzipFile
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple, TypeVar

from flatcoat.errors import first_line

from .charset import marked
from .row import BadRow, Break, unreadable_file

LONGEST_ROW = 100_000_000
"""Characters. Longer rows, such as a file without line ends, are left out."""

PIECE = 1 << 18
"""Bytes read at once."""

NOT_BLANK = re.compile(r"\S")
NOT_EMPTY = re.compile(r"[^\r\n]")

_UNDECODED = "\udcff"  # no encoding gives half a surrogate pair

codecs.register_error("flatcoat.undecoded", lambda error: (_UNDECODED, error.end))  # type: ignore[attr-defined]

T = TypeVar("T")


class Line(NamedTuple):
    """A line with its end, and its place, such as "line 3"."""

    place: str
    text: str


class Lines(Iterator[str]):
    """The lines of a text with their ends; ``number`` counts those read or passed over so far.

    Raises ValueError in place of a line longer than ``longest`` characters; the next call reads on after it.
    """

    def __init__(self, pieces: Iterator[str], encoding: str) -> None:
        self.number = 0
        self.longest = LONGEST_ROW
        self._encoding = encoding
        self._pieces = pieces
        self._piece = ""
        self._at = 0

    def __next__(self) -> str:
        parts, size = [], 0
        while self._at < len(self._piece) or self._advance():
            end = self._piece.find("\n", self._at) + 1 or len(self._piece)
            size += end - self._at
            if size <= self.longest:
                parts.append(self._piece[self._at : end])
            self._at = end
            if self._piece[end - 1] == "\n":
                break
        if not size:
            raise StopIteration
        self.number += 1
        if size > self.longest:
            raise ValueError(f"a line of over {self.longest:,} characters")
        return "".join(parts)

    def starting_with(self, start: re.Pattern[str]) -> Iterator[Line | BadRow]:
        """Each line from its first match of ``start`` on; a BadRow for each that cannot be read."""
        while True:
            self.skip_to(start)
            place = f"line {self.number + 1}"
            try:
                text = next(self)
                self.require_decoded(text)
            except StopIteration:
                return
            except ValueError as error:
                yield BadRow(place, str(error))
            else:
                yield Line(place, text)

    def skip_to(self, start: re.Pattern[str]) -> None:
        """Go on to the first character that ``start`` matches: there may be millions of blank lines."""
        while True:
            match = start.search(self._piece, self._at)
            end = match.start() if match else len(self._piece)
            self.number += self._piece.count("\n", self._at, end)
            self._at = end
            if match or not self._advance():
                return

    def require_decoded(self, text: str) -> None:
        """ValueError where the file's bytes for some of ``text`` were not in its encoding."""
        if _UNDECODED in text:
            raise ValueError(f"not {self._encoding}: name the file's encoding, or save it as UTF-8")

    def _advance(self) -> bool:
        self._piece, self._at = next(self._pieces, ""), 0
        return self._piece != ""


def parse_lines(
    path: Path, encoding: str | None, *, parse: Callable[[Lines], Iterator[T]]
) -> Iterator[T | Break]:
    """What ``parse`` makes of the lines of a file (gzipped where its name ends in .gz).

    Text is UTF-8, or what a byte order mark says, unless ``encoding`` names a charset. A Break comes at the
    end where the file cannot be read to its own. Raises DataError where none of it can be read, NotFoundError
    where there is no such file.
    """
    lines = None
    try:
        with _opened(path) as file:
            encoding = marked(file.peek(4)) or encoding or "utf-8"
            lines = Lines(_decoded(file, encoding), encoding.removesuffix("-sig").upper())
            yield from parse(lines)
    except (OSError, EOFError, zlib.error) as error:
        if lines is None or not lines.number:
            raise unreadable_file(path, error) from error
        yield Break(f"line {lines.number + 1}", first_line(error))


def _opened(path: Path) -> GzipFile | BufferedReader:
    return GzipFile(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _decoded(file: GzipFile | BufferedReader, encoding: str) -> Iterator[str]:
    """Pieces of text, none empty, with _UNDECODED for bytes that are none."""
    decoder = codecs.getincrementaldecoder(encoding)("flatcoat.undecoded")
    while data := file.read1(PIECE):  # read would lose what comes before a break
        if text := decoder.decode(data):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
