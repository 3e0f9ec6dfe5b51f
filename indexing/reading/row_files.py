"""Rows as files keep them: JSON lines, CSV, TSV and Parquet, read as a stream.

Each function yields every row that can be read, a ``BadRow`` for each that cannot, and a ``Break`` at the
end where the file could not be read to its own. They raise FlatcoatError, naming the file, where none of it
can be read. What they hold at a time is bounded, whatever the file.
"""

import codecs
import csv
import json
import re
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from gzip import GzipFile
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from flatcoat.errors import FlatcoatError, first_line
from flatcoat.indexing.documents import normalized

from .charset import marked
from .gitignore import printable

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

LONGEST_ROW = 100_000_000
"""Characters. What is longer, such as a file without line ends, is no row."""

_PIECE = 1 << 20  # bytes read at once
_LINE_COST = 64  # bytes that a line takes beside its characters
_BATCH_ROWS, _BATCH_BYTES = 256, 32_000_000
_LONGEST_CELL = 2**31 - 1  # what csv can take on every platform
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?", re.ASCII)
_UNDECODED = "\udcff"  # no encoding gives half a surrogate pair
_FILLED = re.compile(r"\S")
_NO_LINE_END = re.compile(r"[^\r\n]")

codecs.register_error("flatcoat.undecoded", lambda error: (_UNDECODED, error.end))  # type: ignore[attr-defined]


class Row(NamedTuple):
    """One row, where it is, such as "line 3", and about how many bytes it takes."""

    place: str
    values: dict[str, Any]
    size: int = 0


class BadRow(NamedTuple):
    """Where a row is that cannot be read, and why."""

    place: str
    reason: str


class Break(NamedTuple):
    """Where the reading of a file ended before the file did, and why."""

    place: str
    reason: str


Found: TypeAlias = Row | BadRow | Break


def json_rows(path: Path, encoding: str | None = None) -> Iterator[Found]:
    """The objects of a file with one per line, which may be gzipped; blank lines are passed over.

    Text is UTF-8, or what a byte order mark says, unless ``encoding`` names a charset.
    """
    return _with_file(path, encoding, _json_rows)


def csv_rows(path: Path, texts: Collection[str], encoding: str | None = None) -> Iterator[Found]:
    """The rows below a header of comma-separated cells, quoted or not; semicolons and tabs are told by it.

    Cells that look like numbers are, but in the columns ``texts``. Text is read as by ``json_rows``.
    """
    return _with_file(path, encoding, lambda lines: _table(path, _csv_records(lines), texts))


def tsv_rows(path: Path, texts: Collection[str], encoding: str | None = None) -> Iterator[Found]:
    """The rows below a header of cells with tabs between; a quote is a character as any other."""
    return _with_file(path, encoding, lambda lines: _table(path, _tsv_records(lines), texts))


def parquet_rows(path: Path, nested: Collection[str]) -> Iterator[Found]:
    """The rows of a Parquet file; of lists and objects only the columns ``nested`` are read."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        # Reading ahead would take in whole row groups, one after the other.
        with ParquetFile(path, pre_buffer=False, buffer_size=_PIECE) as file:
            fields = list(file.schema_arrow)
            _require_distinct(path, [field.name for field in fields])
            kept = [
                field.name
                for field in fields
                if normalized(field.name) in nested or not pyarrow.types.is_nested(field.type)
            ]
            for batch in file.iter_batches(_rows_at_once(file), columns=kept):
                for found in _rows_of(batch):
                    number += 1
                    place = f"row {number}"
                    size = batch.nbytes // len(batch)
                    yield BadRow(place, found) if isinstance(found, str) else Row(place, found, size)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if not number:
            raise FlatcoatError(f"{printable(str(path))} cannot be read: {first_line(error)}") from error
        yield Break(f"row {number + 1}", first_line(error))


def _rows_at_once(file: "ParquetFile") -> int:
    """How many rows take about _BATCH_BYTES where those of a group are of one size."""
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    largest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, largest)))


def _rows_of(batch: "RecordBatch") -> Iterator[dict[str, Any] | str]:
    """Each row, or why it cannot be had: bytes that are no text, a time that Python cannot tell."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError):
        pass
    for row in range(len(batch)):
        try:
            yield batch.slice(row, 1).to_pylist()[0]
        except (ValueError, OverflowError) as error:
            yield first_line(error)


class _Lines(Iterator[str]):
    """The lines of a text with their ends. ``number`` counts those given or passed over so far.

    ValueError in place of one that is longer than LONGEST_ROW, after which the next one follows.
    """

    def __init__(self, pieces: Iterator[str], encoding: str) -> None:
        self.number = 0
        self.encoding = encoding
        self._pieces = pieces
        self._piece = ""
        self._at = 0

    def __next__(self) -> str:
        parts, size = [], 0
        while self._at < len(self._piece) or self._advance():
            end = self._piece.find("\n", self._at) + 1 or len(self._piece)
            size += end - self._at
            if size <= LONGEST_ROW:
                parts.append(self._piece[self._at : end])
            self._at = end
            if self._piece[end - 1] == "\n":
                break
        if not size:
            raise StopIteration
        self.number += 1
        if size > LONGEST_ROW:
            raise ValueError(f"a line of over {LONGEST_ROW:,} characters")
        return "".join(parts)

    def pass_over(self, until: re.Pattern[str]) -> None:
        """Go on to the first character that ``until`` matches: there may be millions of blank lines."""
        while True:
            found = until.search(self._piece, self._at)
            end = found.start() if found else len(self._piece)
            self.number += self._piece.count("\n", self._at, end)
            self._at = end
            if found or not self._advance():
                return

    def _advance(self) -> bool:
        self._piece, self._at = next(self._pieces, ""), 0
        return self._piece != ""

    def require_decoded(self, text: str) -> None:
        """ValueError where some of ``text`` was no text in the file."""
        if _UNDECODED in text:
            raise ValueError(f"not {self.encoding}: name the file's encoding, or save it as UTF-8")


def _with_file(
    path: Path, encoding: str | None, read: Callable[[_Lines], Iterator[Found]]
) -> Iterator[Found]:
    """What ``read`` finds in the lines of a file, up to where that can be read."""
    lines = None
    try:
        with _opened(path) as file:
            encoding = marked(file.peek(4)) or encoding or "utf-8"
            lines = _Lines(_decoded(file, encoding), encoding.removesuffix("-sig").upper())
            yield from read(lines)
    except (OSError, EOFError, zlib.error) as error:
        if lines is None or not lines.number:
            raise FlatcoatError(f"{printable(str(path))} cannot be read: {first_line(error)}") from error
        yield Break(f"line {lines.number + 1}", first_line(error))


def _opened(path: Path) -> GzipFile | BufferedReader:
    return GzipFile(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _decoded(file: GzipFile | BufferedReader, encoding: str) -> Iterator[str]:
    """Pieces of text, none empty, with _UNDECODED for bytes that are none."""
    decoder = codecs.getincrementaldecoder(encoding)("flatcoat.undecoded")
    while data := file.read1(_PIECE):  # read would lose what comes before a break
        if text := decoder.decode(data):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def _json_rows(lines: _Lines) -> Iterator[Found]:
    while True:
        lines.pass_over(_FILLED)
        place = f"line {lines.number + 1}"
        try:
            line = next(lines)
            lines.require_decoded(line)
            row = json.loads(line.removeprefix("\ufeff"), parse_constant=_refuse)
            if not isinstance(row, dict):
                raise ValueError(f"a JSON object is needed, {type(row).__name__} came")
        except StopIteration:
            return
        except json.JSONDecodeError as error:
            yield BadRow(place, f"no JSON: {error.msg} at character {error.pos + 1}")
        except ValueError as error:
            yield BadRow(place, str(error))
        except RecursionError:
            yield BadRow(place, "nested too deep")
        else:
            yield Row(place, row, len(line))


class _Record(NamedTuple):
    """The cells of one row, where it is, and its characters."""

    place: str
    cells: list[str]
    size: int


def _table(
    path: Path, records: Iterator[_Record | BadRow | Break], texts: Collection[str]
) -> Iterator[Found]:
    header = next(records, None)
    if header is None:
        return
    if not isinstance(header, _Record):
        raise FlatcoatError(f"{printable(str(path))}, {header.place}: {header.reason}")
    names = [normalized(name) for name in header.cells]
    _require_distinct(path, names)
    for record in records:
        if not isinstance(record, _Record):
            yield record
        elif len(record.cells) != len(names):
            yield BadRow(record.place, f"{len(record.cells)} fields came, the header has {len(names)}")
        else:
            row = zip(names, record.cells, strict=True)
            values = {name: cell if name in texts else _number(cell) for name, cell in row}
            yield Row(record.place, values, record.size)


def _tsv_records(lines: _Lines) -> Iterator[_Record | BadRow]:
    while True:
        lines.pass_over(_NO_LINE_END)
        place = f"line {lines.number + 1}"
        try:
            line = next(lines)
            lines.require_decoded(line)
        except StopIteration:
            return
        except ValueError as error:
            yield BadRow(place, str(error))
        else:
            yield _Record(place, line.rstrip("\r\n").split("\t"), len(line))


def _csv_records(lines: _Lines) -> Iterator[_Record | BadRow | Break]:
    lines.pass_over(_NO_LINE_END)
    first = lines.number + 1
    try:
        header = next(lines)
    except StopIteration:
        return
    except ValueError as error:
        yield BadRow(f"line {first}", str(error))
        return
    delimiter = max(",;\t", key=header.count)
    yield from _CsvReader(lines, header, delimiter).records()


class _CsvReader(Iterator[str]):
    """Rows that may span lines; itself the lines that ``csv`` parses.

    A quote that nobody closed takes the lines after it into its row. So where a row is malformed its first
    line is given up and the others are read again, as long as that does not double the work.
    """

    def __init__(self, lines: _Lines, first: str, delimiter: str) -> None:
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
        if self._size > LONGEST_ROW:
            raise csv.Error(f"over {LONGEST_ROW:,} characters: is a quote not closed?")
        return line

    def records(self) -> Iterator[_Record | BadRow | Break]:
        """All rows, blank lines passed over."""
        while True:
            self._taken, self._size = [], 0
            if not self._again:
                self._lines.pass_over(_NO_LINE_END)
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
                    yield _Record(place, cells, self._size)

    def _gives_back(self) -> bool:
        """Whether the lines after the first of a malformed row, if there are any, will be read again."""
        rest = self._taken[1:]
        size = sum(map(len, rest))
        if self._read_again + size > self._read // 2 + _PIECE:
            return False
        self._read_again += size
        self._again.extendleft(reversed(rest))
        return True


def _require_distinct(path: Path, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FlatcoatError(f"{path}: column {twice[0]!r} comes twice in the header: give each its own name")


def _number(cell: str) -> str | int | float:
    match = _NUMBER.fullmatch(cell)
    if match is None:
        return cell
    return float(cell) if match[2] else int(cell)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
