"""Documents from rows: JSON lines, CSV, TSV, Parquet, BEIR folders, data sets."""

import os
from collections.abc import Callable, Iterable, Iterator, KeysView, Sequence, Set
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, NamedTuple

from flatcoat.errors import FlatcoatError, first_line
from flatcoat.hub import dataset_error, dataset_errors, load_dataset
from flatcoat.indexing.documents import Document, checked, normalized

from .gitignore import OnSkip, log_skip, printable
from .row_files import BadRow, Break, Found, Row, csv_rows, json_rows, parquet_rows, tsv_rows
from .seen_ids import SeenIds

_SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".tsv", ".parquet")
_CORPORA = ("corpus.jsonl", "corpus.jsonl.gz")
_QUERIES = ("queries.jsonl", "queries.jsonl.gz")
_QRELS = "qrels"
_IDS = ("_id", "id")
_NESTED = "metadata"
_SAMPLE_ROWS, _SAMPLE_BYTES = 1_000, 10_000_000
_EXACT = 2**53  # whole floats below are exactly what was meant


class IncompleteRows(FlatcoatError):
    """The end of rows that broke off before their source did. All before the break were given.

    Whoever compares them with what came earlier must not take those that did not come for deleted.
    """


@dataclass(frozen=True)
class Columns:
    """Which columns are a document's parts.

    Without an ``id`` that is "_id" or "id", or the number of the row, from 1, where the first rows have
    neither. Several ``text`` columns are joined by newlines, nulls left out. Without a ``title`` it is
    "title" where there is one. Without ``metadata`` it is every other column of texts, numbers, booleans or
    dates, and the entries of an object called "metadata".
    """

    id: str | None = None
    text: str | tuple[str, ...] = "text"
    title: str | None = None
    metadata: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in ("id", "text", "title", "metadata"):
            object.__setattr__(self, field, _normalized_names(getattr(self, field)))

    @property
    def texts(self) -> tuple[str, ...]:
        """The text columns."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that must be there."""
        return (*self.texts, *filter(None, (self.id, self.title)), *(self.metadata or ()))

    @property
    def taken(self) -> Set[str]:
        """The columns that are no metadata unless asked for."""
        ids = (self.id,) if self.id else _IDS
        return {*ids, *self.texts, self.title or "title"}


def _normalized_names(names: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    return normalized(names) if isinstance(names, str) else names and tuple(map(normalized, names))


USUAL = Columns()


def is_rows(path: Path) -> bool:
    """Whether ``read_rows`` reads this: a file by its suffix, a folder that is a BEIR collection.

    That is one where queries.jsonl or a folder qrels stands beside corpus.jsonl (both .jsonl may be gzipped).
    """
    if not _is(path, S_ISDIR):
        return path.name.lower().endswith(_SUFFIXES)
    is_collection = _is(path / _QRELS, S_ISDIR) or any(_is(path / name, S_ISREG) for name in _QUERIES)
    return is_collection and any(_is(path / name, S_ISREG) for name in _CORPORA)


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether there is something of this ``kind``, as far as one may look."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def rows_file(path: Path) -> Path:
    """The file whose rows ``read_rows`` reads: ``path`` itself, or the corpus of a BEIR collection."""
    if not _is(path, S_ISDIR):
        return path
    return next((path / name for name in _CORPORA if _is(path / name, S_ISREG)), path / _CORPORA[0])


def read_rows(
    path: Path, columns: Columns = USUAL, *, on_skip: OnSkip = log_skip, encoding: str | None = None
) -> Iterator[Document]:
    """The documents of a .jsonl (or .jsonl.gz), .csv, .tsv or .parquet file or a BEIR folder, one at a time.

    A null text or title is empty; null metadata, lists and objects are left out. An id is a text or a whole
    number (1.0 is 1). Left out is a row that is malformed or longer than LONGEST_ROW, lacks its id or text,
    has neither title nor text, or has an id that came before: ``on_skip`` gets "FILE, line 3" (or "row 3")
    and the reason. It gets the names of what else is in a BEIR folder, too. ``encoding`` is the charset; by
    default it is UTF-8 or what a byte order mark says.

    Raises FlatcoatError where none of the file or its first rows can be read or a column that was named is
    not in those, and IncompleteRows, at the end, where a part of it could not be read.
    """
    file = rows_file(path)
    name, source = file.name.lower(), printable(str(file))
    if not name.endswith(_SUFFIXES):
        raise FlatcoatError(f"{source} holds no rows: {', '.join(_SUFFIXES)} do")
    if _is(file, lambda mode: not S_ISREG(mode)):  # A pipe or device would be waited for forever.
        raise FlatcoatError(f"{source} cannot be read: not a regular file")
    if name.endswith(".csv"):
        rows = csv_rows(file, columns.taken, encoding)
    elif name.endswith(".tsv"):
        rows = tsv_rows(file, columns.taken, encoding)
    elif name.endswith(".parquet"):
        rows = parquet_rows(file, {*columns.taken, *(columns.metadata or ()), _NESTED})
    else:
        rows = json_rows(file, encoding)
    documents = _documents(rows, source, columns, on_skip)
    return documents if file == path else chain(_no_documents(path, file, on_skip), documents)


def _no_documents(folder: Path, corpus: Path, on_skip: OnSkip) -> Iterator[Document]:
    """Names what stands beside the corpus of a BEIR collection and is no part of it."""
    parts = {corpus.name, _QRELS, *_QUERIES}
    try:
        with os.scandir(folder) as found:
            others = sorted(entry.name + "/" * entry.is_dir() for entry in found if entry.name not in parts)
    except OSError as error:
        on_skip(".", f"unreadable: {error.strerror}")
        return
    for name in others:
        on_skip(printable(name), "not part of the BEIR collection")
    yield from ()


def read_dataset(name: str, columns: Columns = USUAL, *, on_skip: OnSkip = log_skip) -> Iterator[Document]:
    """The rows of a data set on the hub or in a folder, "NAME[:CONFIG[:SPLIT]]", as they arrive.

    An empty CONFIG is the default one, and SPLIT is "train" unless given. Leaves out and raises as
    ``read_rows`` does, and raises FlatcoatError where there is no such data set.
    """
    source = f"datasets:{name}"
    name, config, split, more = (*name.split(":", 3), "", "", "")[:4]
    if not name or more:
        raise FlatcoatError(f"{source!r} names no data set: write it as datasets:NAME[:CONFIG[:SPLIT]]")
    return _documents(_dataset_rows(source, name, config, split or "train"), source, columns, on_skip)


def _dataset_rows(source: str, name: str, config: str, split: str) -> Iterator[Found]:
    label = f"{source} (configuration {config or 'default'}, split {split})"
    by_hand = f"copy its files to a folder and give {source.partition(':')[0]}:FOLDER"
    rows = load_dataset(name, config or None, label=label, by_hand=by_hand, split=split, streaming=True)
    number = 0
    try:
        for number, values in enumerate(rows, start=1):
            yield Row(f"row {number}", values)
    except dataset_errors() as error:
        if not number:
            raise dataset_error(name, error, label=label, by_hand=by_hand) from error
        yield Break(f"row {number + 1}", first_line(error))


def _documents(rows: Iterable[Found], source: str, columns: Columns, on_skip: OnSkip) -> Iterator[Document]:
    rows = iter(rows)
    sample = _sampled(rows, columns)
    _require_columns(sample, source, columns)
    is_numbered = columns.id is None and bool(sample.names) and not sample.names & set(_IDS)
    seen = SeenIds()
    for number, row in enumerate(chain(sample.rows, rows), start=1):
        if isinstance(row, Break):
            raise IncompleteRows(
                f"{source}, {row.place}: cannot be read from here on, all before was: {row.reason}"
            )
        try:
            if isinstance(row, BadRow):
                raise ValueError(row.reason)
            document = _document(row.values, columns, number if is_numbered else None)
            if not seen.add(document.id):
                raise ValueError(f"id {document.id!r:.80} came before")
        except (ValueError, FlatcoatError) as error:
            on_skip(f"{source}, {row.place}", str(error))
        else:
            yield document


class _Sample(NamedTuple):
    """The first rows of a file and the names of their columns, in their order."""

    rows: Sequence[Found]
    names: KeysView[str]


def _sampled(rows: Iterator[Found], columns: Columns) -> _Sample:
    """As many rows as show an id and all columns that were named; a limited number if none do."""
    sample: list[Found] = []
    names: dict[str, None] = {}
    size = 0
    for row in rows:
        sample.append(row)
        if isinstance(row, Row):
            names.update(dict.fromkeys(map(normalized, row.values)))
            size += row.size
        has_id = columns.id is not None or any(name in names for name in _IDS)
        is_told = has_id and all(name in names for name in columns.named)
        if is_told or len(sample) >= _SAMPLE_ROWS or size >= _SAMPLE_BYTES:
            break
    return _Sample(sample, names.keys())


def _require_columns(sample: _Sample, source: str, columns: Columns) -> None:
    """FlatcoatError where it is the whole file that does not fit, not one row of it."""
    first = next(iter(sample.rows), None)
    if isinstance(first, BadRow | Break) and not any(isinstance(row, Row) for row in sample.rows):
        raise FlatcoatError(f"{source}: no row can be read; {first.place}: {first.reason}")
    missing = [name for name in columns.named if name not in sample.names]
    if sample.names and missing:
        there = ", ".join(map(repr, sample.names))
        raise FlatcoatError(f"{source}: no column {missing[0]!r}; there are {there:.300}")


def _document(values: dict[str, Any], columns: Columns, number: int | None) -> Document:
    """The document of one row, called by its ``number`` if given; raises where it is none."""
    values = {normalized(name): value for name, value in values.items()}
    id = _id(values, columns) if number is None else str(number)
    title = values.get(columns.title or "title")
    if not isinstance(title, str | None):
        raise ValueError(f"the title must be a text or null, {title!r:.40} came")
    document = checked(Document(id, _text(values, columns.texts), title or "", _metadata(values, columns)))
    if not document.text.strip() and not document.title.strip():
        raise ValueError("empty")
    return document


def _id(values: dict[str, Any], columns: Columns) -> str:
    names = _IDS if columns.id is None else (columns.id,)
    found = [values[name] for name in names if name in values]
    if not found:
        raise ValueError(f"no column {' or '.join(map(repr, names))}")
    id = found[0]
    if isinstance(id, float) and id.is_integer() and abs(id) < _EXACT:
        id = int(id)  # Tables turn whole numbers into floats where some are missing.
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise ValueError(f"the id must be a text or whole number, {id!r:.40} came")
    return str(id)


def _text(values: dict[str, Any], names: tuple[str, ...]) -> str:
    if not any(name in values for name in names):
        raise ValueError(f"no column {names[0]!r}; there are {', '.join(map(repr, values)):.200}")
    parts = [values[name] for name in names if values.get(name) is not None]
    for part in parts:
        if not isinstance(part, str):
            raise ValueError(f"the text must be a text or null, {part!r:.40} came")
    return "\n".join(parts)


def _metadata(values: dict[str, Any], columns: Columns) -> dict[str, Any]:
    if columns.metadata is not None:
        return _scalars({name: values.get(name) for name in columns.metadata})
    nested = values.get(_NESTED)
    own = {name: value for name, value in values.items() if name not in columns.taken and name != _NESTED}
    return _scalars((nested if isinstance(nested, dict) else {}) | own)


def _scalars(items: dict[str, Any]) -> dict[str, Any]:
    """Texts, numbers, booleans and dates; ``checked`` says what of them an index can keep."""
    return {
        name: value
        for name, value in items.items()
        if isinstance(value, str | int | float | date) and value == value  # A table's NaN is its null.
    }
