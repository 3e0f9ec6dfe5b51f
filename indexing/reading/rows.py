"""Documents from rows: JSON lines, CSV, TSV, Parquet, BEIR folders, data sets."""

from collections.abc import Iterable, Iterator, KeysView, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from flatcoat.errors import DataError, FlatcoatError, NotFoundError, UsageError, first_line
from flatcoat.hub import dataset_error, dataset_errors, load_dataset
from flatcoat.indexing.documents import Document, normalized

from .beir import BeirFolder, corpus_rows, is_beir, other_files
from .columns import IDS, NESTED, USUAL, Columns, document_of
from .csv import csv_rows, tsv_rows
from .gitignore import OnSkip, log_skip, printable
from .jsonl import json_rows
from .parquet import parquet_rows
from .row import BadRow, Break, Row, RowResult
from .seen_ids import SeenIds

_SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".tsv", ".parquet")
_SAMPLE_ROWS, _SAMPLE_BYTES = 1_000, 10_000_000


class IncompleteRows(DataError):
    """The end of rows that broke off before their source did; all rows before the break were yielded.

    Whoever compares the rows with those of an earlier reading must not take the missing ones for deleted.
    """


def is_rows(path: Path) -> bool:
    """Whether ``read_rows`` reads ``path``: a file by its suffix, a folder that is a BEIR collection."""
    try:
        is_folder = path.is_dir()
    except OSError:
        is_folder = False
    return is_beir(path) if is_folder else path.name.lower().endswith(_SUFFIXES)


def rows_file(path: Path) -> Path:
    """The file whose rows ``read_rows`` reads: ``path`` itself, or the corpus of a BEIR folder."""
    return BeirFolder(path).corpus_file if path.is_dir() else path


def read_rows(
    path: Path,
    columns: Columns = USUAL,
    *,
    on_skip: OnSkip = log_skip,
    encoding: str | None = None,
    seen: SeenIds | None = None,
) -> Iterator[Document]:
    """The documents of a .jsonl (or .jsonl.gz), .csv, .tsv or .parquet file or a BEIR folder, one at a time.

    Rows become documents as ``document_of`` says. Left out is a row that is malformed or longer than
    LONGEST_ROW, lacks its id or text, has neither title nor text, or repeats an id: ``on_skip`` gets
    "FILE, line 3" (or "row 3") and the reason. It gets the names of other files in a BEIR folder, too.
    ``encoding`` is the charset; by default it is UTF-8, or as a byte order mark says. The ids of documents
    are added to ``seen``.

    Raises UsageError for a file of another suffix, DataError or NotFoundError where none of the file or its
    first rows can be read or a column that was named is not in them, and IncompleteRows, at the end, where a
    part of the file could not be read.
    """
    seen = SeenIds() if seen is None else seen
    if path.is_dir() and is_beir(path):
        folder = BeirFolder(path)
        rows, source = corpus_rows(folder, encoding), printable(str(folder.corpus_file))
        documents = _documents(rows, source, columns, on_skip, seen)
        return chain(_report_other_files(folder, on_skip), documents)
    source = printable(str(path))
    return _documents(_file_rows(path, source, columns, encoding), source, columns, on_skip, seen)


def _file_rows(path: Path, source: str, columns: Columns, encoding: str | None) -> Iterator[RowResult]:
    name = path.name.lower()
    if not name.endswith(_SUFFIXES):
        raise UsageError(f"{source} holds no rows: {', '.join(_SUFFIXES)} do")
    if path.exists() and not path.is_file():  # A pipe or device would be waited for forever.
        raise DataError(f"{source} cannot be read: not a regular file")
    if name.endswith(".csv"):
        return csv_rows(path, columns.not_metadata, encoding=encoding)
    if name.endswith(".tsv"):
        return tsv_rows(path, columns.not_metadata, encoding=encoding)
    if name.endswith(".parquet"):
        return parquet_rows(path, {*columns.not_metadata, *(columns.metadata or ()), NESTED})
    return json_rows(path, encoding)


def _report_other_files(folder: BeirFolder, on_skip: OnSkip) -> Iterator[Document]:
    """Reports the files of a BEIR folder that are no part of it; yields no document."""
    try:
        names = other_files(folder)
    except OSError as error:
        on_skip(".", f"unreadable: {error.strerror}")
        return
    for name in names:
        on_skip(printable(name), "not part of the BEIR collection")
    yield from ()


def read_dataset(
    name: str, columns: Columns = USUAL, *, on_skip: OnSkip = log_skip, seen: SeenIds | None = None
) -> Iterator[Document]:
    """The rows of a data set on the hub or in a folder, "NAME[:CONFIG[:SPLIT]]", as they arrive.

    An empty CONFIG is the default one, and SPLIT is "train" unless given. Leaves out and raises as
    ``read_rows`` does; UsageError for a name of another form, NotFoundError where there is no such data set.
    """
    source = f"datasets:{name}"
    name, config, split, more = (*name.split(":", 3), "", "", "")[:4]
    if not name or more:
        raise UsageError(f"{source!r} names no data set: write it as datasets:NAME[:CONFIG[:SPLIT]]")
    rows = _dataset_rows(source, name, config, split or "train")
    return _documents(rows, source, columns, on_skip, SeenIds() if seen is None else seen)


def _dataset_rows(source: str, name: str, config: str, split: str) -> Iterator[RowResult]:
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


def _documents(
    rows: Iterable[RowResult], source: str, columns: Columns, on_skip: OnSkip, seen: SeenIds
) -> Iterator[Document]:
    rows = iter(rows)
    sample = _sampled(rows, columns)
    _require_columns(sample, source, columns)
    is_numbered = columns.id is None and bool(sample.names) and not sample.names & set(IDS)
    for number, row in enumerate(chain(sample.rows, rows), start=1):
        if isinstance(row, Break):
            raise IncompleteRows(
                f"{source}, {row.place}: cannot be read from here on, all before was: {row.reason}"
            )
        try:
            if isinstance(row, BadRow):
                raise ValueError(row.reason)
            document = document_of(row.values, columns, id=str(number) if is_numbered else None)
            if not document.text.strip() and not document.title.strip():
                raise ValueError("empty")
            if not seen.add(document.id):
                raise ValueError(f"id {document.id!r:.80} came before")
        except (ValueError, FlatcoatError) as error:
            on_skip(f"{source}, {row.place}", str(error))
        else:
            yield document


class _Sample(NamedTuple):
    """The first rows of a file and the names of their columns, in their order."""

    rows: Sequence[RowResult]
    names: KeysView[str]


def _sampled(rows: Iterator[RowResult], columns: Columns) -> _Sample:
    """As many rows as show an id and all columns that were named; a limited number if none do."""
    sample: list[RowResult] = []
    names: dict[str, None] = {}
    size = 0
    for row in rows:
        sample.append(row)
        if isinstance(row, Row):
            names.update(dict.fromkeys(map(normalized, row.values)))
            size += row.size
        has_id = columns.id is not None or any(name in names for name in IDS)
        is_told = has_id and all(name in names for name in columns.required)
        if is_told or len(sample) >= _SAMPLE_ROWS or size >= _SAMPLE_BYTES:
            break
    return _Sample(sample, names.keys())


def _require_columns(sample: _Sample, source: str, columns: Columns) -> None:
    """DataError where no row can be read, NotFoundError where the rows lack a column that was named."""
    first = next(iter(sample.rows), None)
    if isinstance(first, BadRow | Break) and not any(isinstance(row, Row) for row in sample.rows):
        raise DataError(f"{source}: no row can be read; {first.place}: {first.reason}")
    missing = [name for name in columns.required if name not in sample.names]
    if sample.names and missing:
        there = ", ".join(map(repr, sample.names))
        raise NotFoundError(f"{source}: no column {missing[0]!r}; there are {there:.300}")
