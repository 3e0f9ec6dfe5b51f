"""CSV and TSV: a header, then one row per record."""

import csv
import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from flatcoat.errors import DataError
from flatcoat.indexing.documents import normalized

from .gitignore import printable
from .lines import NOT_EMPTY, PIECE, Lines, parse_lines
from .row import BadRow, Break, Row, RowResult, require_distinct

_LINE_COST = 64  # bytes that a line takes beside its characters
_LONGEST_CELL = 2**31 - 1  # what csv can take on every platform
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?", re.ASCII)


class Record(NamedTuple):
    """The cells of one row, its place, and its length in characters."""

    place: str
    cells: list[str]
    size: int


def csv_rows(path: Path, texts: Collection[str], *, encoding: str | None = None) -> Iterator[RowResult]:
    """The rows below a header of comma-separated cells, quoted or not; semicolons and tabs are detected.

    Cells that look like numbers become numbers, except in the columns ``texts``. Encoding and errors as in
    ``parse_lines``; DataError for a header that cannot be read or repeats a name.
    """
    return _rows(path, parse_lines(path, encoding, parse=_csv_records), texts)


def tsv_rows(path: Path, texts: Collection[str], *, encoding: str | None = None) -> Iterator[RowResult]:
    """The rows below a header of tab-separated cells, otherwise as ``csv_rows``; quotes are characters.

    A first row of two or three cells that begins with a whole number is no header: it is an id, a text and a
    title, as in the ``collection.tsv`` of MS MARCO and of Stanford's ColBERT.
    """
    return _rows(path, tsv_records(path, encoding), texts, usual=("id", "text", "title"))


def tsv_records(path: Path, encoding: str | None = None) -> Iterator[Record | BadRow | Break]:
    """All tab-separated records of a file, the header too; empty lines are passed over."""
    return parse_lines(path, encoding, parse=_tsv_records)


def _rows(
    path: Path,
    records: Iterator[Record | BadRow | Break],
    texts: Collection[str],
    usual: Sequence[str] = (),
) -> Iterator[RowResult]:
    header = next(records, None)
    if header is None:
        return
    if not isinstance(header, Record):
        raise DataError(f"{printable(str(path))}, {header.place}: {header.reason}")
    names = [normalized(name) for name in header.cells]
    if 2 <= len(names) <= len(usual) and names[0].isdecimal():
        names, records = list(usual[: len(names)]), chain([header], records)
    require_distinct(path, names)
    for record in records:
        if not isinstance(record, Record):
            yield record
        elif len(record.cells) != len(names):
            yield BadRow(record.place, f"{len(record.cells)} fields came, the header has {len(names)}")
        else:
            row = zip(names, record.cells, strict=True)
            values = {name: cell if name in texts else _number(cell) for name, cell in row}
            yield Row(record.place, values, record.size)


def _tsv_records(lines: Lines) -> Iterator[Record | BadRow]:
    for line in lines.starting_with(NOT_EMPTY):
        if isinstance(line, BadRow):
            yield line
        else:
            yield Record(line.place, line.text.rstrip("\r\n").split("\t"), len(line.text))


def _csv_records(lines: Lines) -> Iterator[Record | BadRow | Break]:
    header = next(lines.starting_with(NOT_EMPTY), None)
    if header is None:
        return
    if isinstance(header, BadRow):
        yield header
        return
    delimiter = max(",;\t", key=header.text.count)
    yield from _CsvReader(lines, header.text, delimiter).records()


class _CsvReader(Iterator[str]):
    """Rows that may span lines; itself the lines that ``csv`` parses.

    A quote that is never closed takes the lines after it into its row. So where a row is malformed its first
    line is given up and the others are read again, as long as that does not double the work.
    """

    def __init__(self, lines: Lines, first: str, delimiter: str) -> None:
        csv.field_size_limit(_LONGEST_CELL)
        self._lines = lines
        self._again = deque([first])
        self._taken: list[str] = []
        self._size = self._read = self._read_again = 0
        self._reader = csv.reader(self, delimiter=delimiter, strict=True)

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        self._size += len(line) + _LINE_COST
        self._read += len(line)
        if self._size > self._lines.longest:
            raise csv.Error(f"over {self._lines.longest:,} characters: is a quote not closed?")
        return line

    def records(self) -> Iterator[Record | BadRow | Break]:
        """All rows, blank lines passed over."""
        while True:
            self._taken, self._size = [], 0
            if not self._again:
                self._lines.skip_to(NOT_EMPTY)
            place = f"line {self._lines.number - len(self._again) + 1}"
            try:
                cells = next(self._reader)
                self._lines.require_decoded("".join(cells))
            except StopIteration:
                return
            except csv.Error as error:
                is_last = not self._gives_back() and str(error) == "unexpected end of data"
                yield (Break if is_last else BadRow)(place, str(error))
            except ValueError as error:
                yield BadRow(place, str(error))
            else:
                if cells:
                    yield Record(place, cells, self._size)

    def _gives_back(self) -> bool:
        """Whether the lines after the first of a malformed row, if there are any, will be read again."""
        rest = self._taken[1:]
        size = sum(map(len, rest))
        if self._read_again + size > self._read // 2 + PIECE:
            return False
        self._read_again += size
        self._again.extendleft(reversed(rest))
        return True


def _number(cell: str) -> str | int | float:
    match = _NUMBER.fullmatch(cell)
    if match is None:
        return cell
    return float(cell) if match[2] else int(cell)
