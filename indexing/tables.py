"""Rows as files keep them: JSON lines, CSV, TSV and Parquet, read as a stream."""

import codecs
import csv
import json
import re
import zlib
from collections.abc import Collection, Iterator
from gzip import GzipFile
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from .. import FlatcoatError

_LONGEST_CELL = 2**31 - 1  # what csv can take on every platform
_PARQUET_ROWS = 1_000
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?", re.ASCII)


class Row(NamedTuple):
    """One row and where it is, such as "line 3"."""

    place: str
    values: dict[str, Any]


def json_rows(path: Path) -> Iterator[Row]:
    """The objects of a file with one a line, which may be gzipped; blank lines are passed over.

    These functions raise FlatcoatError, naming file and line or row, where they come upon anything else.
    """
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
                    if not isinstance(row, dict):
                        raise ValueError(f"a JSON object is needed, {type(row).__name__} came")
                    yield Row(f"line {number}", row)
    except (ValueError, RecursionError) as error:
        raise FlatcoatError(f"{path}, line {number}: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise FlatcoatError(f"{path} cannot be read: {error}") from error


def csv_rows(path: Path, delimiter: str, texts: Collection[str]) -> Iterator[Row]:
    """The rows below a header, in UTF-8. Cells that look like numbers are, but in the columns ``texts``."""
    csv.field_size_limit(_LONGEST_CELL)
    line = 1  # where a row begins
    try:
        with path.open("rb") as file:
            reader = csv.reader(_decoded(file), delimiter=delimiter, strict=True)
            names = next(reader, [])
            _require_distinct(names)
            line = reader.line_num + 1
            for cells in reader:
                if cells and len(cells) != len(names):
                    raise ValueError(f"{len(cells)} fields came, the header has {len(names)}")
                if cells:
                    row = zip(names, cells, strict=True)
                    values = {name: cell if name in texts else _number(cell) for name, cell in row}
                    yield Row(f"line {line}", values)
                line = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise FlatcoatError(f"{path}, line {line}: {error}: save it as UTF-8") from error
    except (csv.Error, ValueError) as error:
        raise FlatcoatError(f"{path}, line {line}: {error}") from error
    except OSError as error:
        raise FlatcoatError(f"{path} cannot be read: {error}") from error


def parquet_rows(path: Path, nested: Collection[str]) -> Iterator[Row]:
    """The rows of a Parquet file; of lists and objects only the columns ``nested`` are read."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            fields = list(file.schema_arrow)
            _require_distinct([field.name for field in fields])
            kept = [f.name for f in fields if f.name in nested or not pyarrow.types.is_nested(f.type)]
            batches = file.iter_batches(_PARQUET_ROWS, columns=kept)
            rows = chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, values in enumerate(rows, start=1):
                yield Row(f"row {number}", values)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise FlatcoatError(f"{path} cannot be read: {error}") from error


def _opened(path: Path) -> GzipFile | BufferedReader:
    return GzipFile(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _decoded(file: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(file):
        yield (line if number else line.removeprefix(codecs.BOM_UTF8)).decode()


def _require_distinct(names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"column {twice[0]!r} comes twice in the header: give each its own name")


def _number(cell: str) -> str | int | float:
    match = _NUMBER.fullmatch(cell)
    if match is None:
        return cell
    return float(cell) if match[2] else int(cell)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
