"""Running text out of files and data sets, one document at a time, in the same order every time."""

import gzip
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from flatcoat.errors import DataError, NotFoundError
from flatcoat.hub import dataset_error, dataset_errors, load_dataset

from .settings import TextSource

_ROWS = 1_000  # of a Parquet file that are in memory together


def read_texts(source: TextSource, root: Path) -> Iterator[str]:
    """The documents of a source, without those that are blank.

    Raises NotFoundError where no file matches or the hub has no such data set, DataError for a file that
    cannot be read, naming its line.

    >>> list(read_texts(TextSource(files=("*.none",)), Path()))
    Traceback (most recent call last):
    flatcoat.errors.NotFoundError: no file matches *.none in .: correct the pattern, or set data_root
    """
    for text in _read(source, root):
        if text.strip():
            yield text


def source_files(source: TextSource, root: Path) -> list[Path]:
    """The files of a source, sorted by their path below ``root``; none for the hub."""
    excluded = {path for pattern in source.exclude for path in root.glob(pattern)}
    files: set[Path] = set()
    for pattern in (*source.files, *source.jsonl, *source.parquet):
        matching = {path for path in _glob(root, pattern) if path.is_file()}
        if not matching:
            raise NotFoundError(f"no file matches {pattern} in {root}: correct the pattern, or set data_root")
        files |= matching
    if not source.hub and not files - excluded:
        raise NotFoundError(f"exclude leaves no file of {source.label}: narrow it")
    return sorted(files - excluded)


def _glob(root: Path, pattern: str) -> Iterator[Path]:
    if Path(pattern).is_absolute():
        folder = Path(pattern).parent
        return (path for path in folder.glob("*") if fnmatch(path.name, Path(pattern).name))
    return root.glob(pattern)


def _read(source: TextSource, root: Path) -> Iterator[str]:
    if source.hub is not None:
        yield from _read_hub(source)
        return
    for file in source_files(source, root):
        if source.files:
            yield from _read_text(file, source.documents)
        elif source.jsonl:
            yield from _read_jsonl(file, source.text)
        else:
            yield from _read_parquet(file, source.text)


def _read_text(file: Path, documents: str) -> Iterator[str]:
    text = _decoded(file)
    if documents == "file":
        yield text
    elif documents == "line":
        yield from text.split("\n")
    else:
        paragraph: list[str] = []
        for line in [*text.split("\n"), ""]:
            if line.strip():
                paragraph.append(line)
            elif paragraph:
                yield "\n".join(paragraph)
                paragraph = []


def _decoded(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 ({error.reason} at byte {error.start}): convert it") from None


def _read_jsonl(file: Path, column: str) -> Iterator[str]:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{file}:{number} is not JSON: {error}") from None
                yield _text_of(row, column, f"{file}:{number}")


def _read_parquet(file: Path, column: str) -> Iterator[str]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as rows:
            if column not in rows.schema_arrow.names:
                raise _no_column(str(file), column, rows.schema_arrow.names)
            for batch in rows.iter_batches(_ROWS, columns=[column]):
                yield from (value for value in batch.column(0).to_pylist() if isinstance(value, str))
    except (ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from None


def _read_hub(source: TextSource) -> Iterator[str]:
    assert source.hub is not None
    by_hand = "download its Parquet files and name them under parquet"
    rows = load_dataset(
        source.hub,
        source.subset,
        label=f"data set {source.hub!r}",
        by_hand=by_hand,
        split=source.split,
        revision=source.revision,
        streaming=True,
    )
    try:
        for number, row in enumerate(rows):
            yield _text_of(row, source.text, f"{source.hub}, row {number}")
    except dataset_errors() as error:
        raise dataset_error(source.hub, error, label=f"data set {source.hub!r}", by_hand=by_hand) from error


def _text_of(row: Any, column: str, place: str) -> str:
    if not isinstance(row, dict) or column not in row:
        raise _no_column(place, column, list(row) if isinstance(row, dict) else [])
    value = row[column]
    if not isinstance(value, str):
        raise DataError(f"{place}: {column} is {type(value).__name__} where text is wanted")
    return value


def _no_column(place: str, column: str, columns: list[str]) -> DataError:
    return DataError(f"{place} has no column {column!r} (it has {', '.join(columns) or 'none'}): set text")
