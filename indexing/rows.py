"""Documents from rows: JSON lines, CSV, TSV, Parquet, BEIR folders, data sets."""

import math
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from .. import FlatcoatError
from .documents import Document, Metadata
from .tables import Row, csv_rows, json_rows, parquet_rows

_SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".tsv", ".parquet")
_IDS = ("_id", "id")
_NESTED = "metadata"


@dataclass(frozen=True)
class Columns:
    """Which columns are a document's parts.

    Without an ``id`` that is "_id" or "id", or the number of the row, from 1, where the first has neither.
    Several ``text`` columns are joined by newlines, nulls left out. Without a ``title`` it is "title" where
    there is one. Without ``metadata`` it is every other column of texts, numbers, booleans or dates, and the
    entries of an object called "metadata".
    """

    id: str | None = None
    text: str | tuple[str, ...] = "text"
    title: str | None = None
    metadata: tuple[str, ...] | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The text columns."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def taken(self) -> Set[str]:
        """The columns that are no metadata unless asked for."""
        ids = (self.id,) if self.id else _IDS
        return {*ids, *self.texts, self.title or "title"}


USUAL = Columns()


def is_rows(path: Path) -> bool:
    """Whether ``read_rows`` reads this: a file by its suffix, a folder by its ``corpus.jsonl`` (BEIR)."""
    if path.is_dir():
        return (path / "corpus.jsonl").is_file()
    return path.name.lower().endswith(_SUFFIXES)


def read_rows(path: Path, columns: Columns = USUAL) -> Iterator[Document]:
    """The documents of a .jsonl (or .jsonl.gz), .csv, .tsv or .parquet file or a BEIR folder, one at a time.

    Null titles are empty; null metadata, lists and objects are left out. Raises FlatcoatError, naming file
    and line or row, where a row is malformed, lacks a column that was named, or an id comes twice.
    """
    if path.is_dir():
        path = path / "corpus.jsonl"
    name = path.name.lower()
    if name.endswith((".csv", ".tsv")):
        rows = csv_rows(path, "," if name.endswith(".csv") else "\t", columns.taken)
    elif name.endswith(".parquet"):
        rows = parquet_rows(path, {*columns.taken, *(columns.metadata or ()), _NESTED})
    elif name.endswith(_SUFFIXES):
        rows = json_rows(path)
    else:
        raise FlatcoatError(f"{path} holds no rows: {', '.join(_SUFFIXES)} do")
    return _documents(rows, str(path), columns)


def read_dataset(name: str, columns: Columns = USUAL) -> Iterator[Document]:
    """The rows of a data set on the hub or in a folder, "NAME[:CONFIG[:SPLIT]]", as they arrive.

    An empty CONFIG is the default one, and SPLIT is "train" unless given. Raises FlatcoatError as
    ``read_rows`` does, and where there is no such data set.
    """
    source = f"datasets:{name}"
    name, config, split, more = (*name.split(":", 3), "", "", "")[:4]
    if not name or more:
        raise FlatcoatError(f"{source!r} names no data set: write it as datasets:NAME[:CONFIG[:SPLIT]]")
    return _documents(_dataset_rows(source, name, config, split or "train"), source, columns)


def _dataset_rows(source: str, name: str, config: str, split: str) -> Iterator[Row]:
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        rows = datasets.load_dataset(name, config or None, split=split, streaming=True)
        for number, values in enumerate(rows, start=1):
            yield Row(f"row {number}", values)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise FlatcoatError(
            f"{source} cannot be read, which is {name}, configuration"
            f" {config or 'default'}, split {split}: {error}"
        ) from error


def _documents(rows: Iterable[Row], source: str, columns: Columns) -> Iterator[Document]:
    seen: set[str] = set()
    numbered = False
    for number, (place, values) in enumerate(rows, start=1):
        lacks_id = columns.id is None and not any(name in values for name in _IDS)
        if number == 1:
            numbered = lacks_id
        try:
            if lacks_id != numbered:
                raise ValueError('some rows have an "_id" or "id", others none: all or none may')
            document = _document({**values, "_id": number} if numbered else values, columns)
        except ValueError as error:
            raise FlatcoatError(f"{source}, {place}: {error}") from error
        if document.id in seen:
            raise FlatcoatError(f"{source}, {place}: id {document.id!r} came before")
        seen.add(document.id)
        yield document


def _document(values: dict[str, Any], columns: Columns) -> Document:
    """The document of one row; ValueError where it is none."""
    id = _value(values, columns.id or next(name for name in _IDS if name in values))
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise ValueError(f"the id must be a text or whole number, {id!r} came")
    title = _value(values, columns.title) if columns.title else values.get("title")
    if not isinstance(title, str | None):
        raise ValueError(f"the title must be a text or null, {title!r:.40} came")
    document = Document(str(id), _text(values, columns.texts), title or "", _metadata(values, columns))
    parts = (document.id, document.text, document.title, *document.metadata, *document.metadata.values())
    for part in map(str, parts):
        part.encode()  # Half a surrogate pair is no text: UnicodeEncodeError is a ValueError.
    return document


def _value(values: dict[str, Any], name: str) -> Any:
    if name not in values:
        raise ValueError(f"no column {name!r}; there are {', '.join(map(repr, values))}")
    return values[name]


def _text(values: dict[str, Any], names: tuple[str, ...]) -> str:
    parts = [_value(values, name) for name in names]
    if len(parts) > 1:
        parts = [part for part in parts if part is not None]
    for part in parts:
        if not isinstance(part, str):
            raise ValueError(f"the text must be a text, {part!r:.40} came")
    return "\n".join(parts)


def _metadata(values: dict[str, Any], columns: Columns) -> Metadata:
    if columns.metadata is not None:
        return _scalars({name: _value(values, name) for name in columns.metadata})
    nested = values.get(_NESTED)
    own = {name: value for name, value in values.items() if name not in columns.taken and name != _NESTED}
    return _scalars((nested if isinstance(nested, dict) else {}) | own)


def _scalars(items: dict[str, Any]) -> Metadata:
    found: Metadata = {}
    for name, value in items.items():
        if isinstance(value, float) and math.isinf(value):
            raise ValueError(f"{name!r} is beyond the range of a float")
        if isinstance(value, date):  # datetime is one
            found[name] = value.isoformat()
        elif isinstance(value, str | int | float) and value == value:  # A table's NaN is its null.
            found[name] = value
    return found
