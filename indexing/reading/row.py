"""What a reader of rows yields: each row, each row that cannot be read, and the break of a damaged file.

Indexing skips bad rows and reports them; ``require_rows`` makes the first one an error, for training and
evaluation.
"""

import ast
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from flatcoat.errors import DataError, FlatcoatError, NotFoundError, first_line
from flatcoat.indexing.documents import normalized

from .gitignore import printable

_LONGEST_SHOWN = 120  # characters of a row that an error shows
_LARGEST = 3.4e38  # beyond it a float32 is infinite


class Row(NamedTuple):
    """One row, its place, such as "line 3", and about how many bytes it takes.

    >>> row = Row("pairs.jsonl:1", {"query": "why?", "scores": "[1, 2.5]", "title": None})
    >>> row.text("query"), row.text("title"), row.numbers("scores")
    ('why?', '', [1.0, 2.5])
    """

    place: str
    values: dict[str, Any]
    size: int = 0

    def value(self, column: str) -> Any:
        """The value of a column; NotFoundError where the row has no such column."""
        if column not in self.values:
            raise NotFoundError(
                f"{self.place}: no column {column!r}; columns there: {', '.join(self.values)}"
            )
        return self.values[column]

    def text(self, column: str) -> str:
        """The normalised text of a column, "" for null; DataError where it holds something else."""
        value = self.value(column)
        if not isinstance(value, str | None):
            raise self.refused(column, "must be text")
        return normalized(value or "")

    def texts(self, column: str) -> list[str]:
        """The normalised texts of a column of lists; DataError where it holds something else."""
        value = self.value(column)
        if not isinstance(value, list) or not all(isinstance(text, str | None) for text in value):
            raise self.refused(column, "must be a list of texts")
        return [normalized(text or "") for text in value]

    def numbers(self, column: str) -> list[float]:
        """The finite numbers of a column of lists, or of lists written as text; DataError for others."""
        try:
            numbers = [float(number) for number in as_list(self.value(column))]
        except OverflowError:
            numbers = [float("inf")]
        except (TypeError, ValueError, SyntaxError, RecursionError, MemoryError):
            raise self.refused(column, "must be a list of numbers") from None
        if not all(abs(number) <= _LARGEST for number in numbers):
            raise self.refused(column, "must be a list of finite numbers")
        return numbers

    def refused(self, column: str, reason: str) -> DataError:
        """An error about a column that shows the row."""
        row = shortened(json.dumps(self.values, default=str))
        return DataError(f"{self.place}: {column!r} {reason}: {row}")


class BadRow(NamedTuple):
    """The place of a row that cannot be read, why, and what stands there, if that helps."""

    place: str
    reason: str
    source: str = ""


class Break(NamedTuple):
    """The place where a file stopped being readable before its end, and why."""

    place: str
    reason: str


RowResult: TypeAlias = Row | BadRow | Break


class _Placed(Protocol):
    @property
    def place(self) -> str: ...

    def _replace(self, **fields: Any) -> Any: ...


_Read = TypeVar("_Read", bound=_Placed)


def require_rows(path: Path, rows: "Iterable[_Read | BadRow | Break]") -> Iterator[_Read]:
    """The rows of a file, placed as "FILE:3" or "FILE, row 3"; DataError at the first that cannot be read.

    >>> rows = [Row("line 1", {"text": "x"}), BadRow("line 2", "not JSON", "{")]
    >>> rows = require_rows(Path("a.jsonl"), rows)
    >>> next(rows).place
    'a.jsonl:1'
    >>> next(rows)
    Traceback (most recent call last):
        ...
    flatcoat.errors.DataError: a.jsonl:2: not JSON: {
    """
    for row in rows:
        if isinstance(row, BadRow | Break):
            source = f": {shortened(row.source.strip())}" if isinstance(row, BadRow) and row.source else ""
            raise DataError(f"{_full_place(path, row.place)}: {row.reason}{source}")
        yield row._replace(place=_full_place(path, row.place))


def _full_place(path: Path, place: str) -> str:
    unit, _, number = place.partition(" ")
    return f"{path}:{number}" if unit == "line" else f"{path}, {place}"


def unreadable_file(path: Path, error: Exception) -> FlatcoatError:
    """The error for a file of which nothing can be read."""
    kind = NotFoundError if isinstance(error, FileNotFoundError) else DataError
    return kind(f"{printable(str(path))} cannot be read: {first_line(error)}")


def require_distinct(path: Path, names: Sequence[str]) -> None:
    """DataError where two columns of a file have the same name."""
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: column {repeated[0]!r} comes twice in the header: give each its own name")


def as_list(value: Any) -> Sequence[Any]:
    """A list, also one written as text, as some distillation sets keep theirs; ValueError for others."""
    parsed = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(parsed, Sequence):
        raise ValueError(f"{parsed!r} is no list")
    return parsed


def shortened(row: str) -> str:
    """The start of a row, for an error that shows it."""
    return row if len(row) <= _LONGEST_SHOWN else f"{row[:_LONGEST_SHOWN]}..."
