"""Training examples, and how they are read from rows of any origin: checked, cut to one shape, counted."""

import ast
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from .. import FlatcoatError

logger = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 120
_WRITTEN_AT_ONCE = 1_000


class Example(NamedTuple):
    """A query, a document that answers it, and documents that do not.

    ``scores`` are a teacher's, of the document and the negatives in that order; empty where there is none.
    """

    query: str
    document: str
    negatives: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


class Columns(NamedTuple):
    """Where a row keeps the parts of an example.

    ``document`` may hold a list of documents that a teacher scored: the best scored is the positive then.
    ``negatives`` names a column of lists, or columns of a text each.
    """

    query: str = "query"
    document: str = "document"
    negatives: str | tuple[str, ...] = ()
    scores: str | None = None


class Row(NamedTuple):
    """A row and the place it came from, such as ``file:line``."""

    place: str
    values: dict[str, Any]

    def value(self, column: str) -> Any:
        """What a column holds; FlatcoatError where there is no such column."""
        if column not in self.values:
            raise FlatcoatError(
                f"{self.place}: no column {column!r}; columns there: {', '.join(self.values)}"
            )
        return self.values[column]

    def text(self, column: str) -> str:
        """The text of a column, "" where it is null; FlatcoatError where it is missing or no text."""
        value = self.value(column)
        if not isinstance(value, str | None):
            raise self.refused(column, "must be text")
        return value or ""

    def texts(self, column: str) -> list[str]:
        """The texts of a column of lists; FlatcoatError where it is missing or holds something else."""
        value = self.value(column)
        if not isinstance(value, list) or not all(isinstance(text, str | None) for text in value):
            raise self.refused(column, "must be a list of texts")
        return [text or "" for text in value]

    def numbers(self, column: str) -> list[float]:
        """The numbers of a column of lists, also where the list is written as a text."""
        try:
            return [float(number) for number in listed(self.value(column))]
        except (TypeError, ValueError, SyntaxError):
            raise self.refused(column, "must be a list of numbers") from None

    def refused(self, column: str, wanted: str) -> FlatcoatError:
        """An error that shows the row."""
        return FlatcoatError(
            f"{self.place}: {column!r} {wanted}: {shortened(json.dumps(self.values, default=str))}"
        )


def listed(value: Any) -> Sequence[Any]:
    """A list, also one written as a text, as some distillation sets keep theirs; ValueError for others."""
    found = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(found, Sequence):
        raise ValueError(f"{found!r} is no list")
    return found


def examples(rows: Iterable[Row], columns: Columns, ways: int | None, source: str) -> Iterator[Example]:
    """The examples in rows, all with ``ways`` documents (the positive and its negatives).

    None stands for as many as the first has. What a row has beyond that is left out; a row with fewer, or
    with an empty query or document, is skipped, and ``source`` is named with their number in the log. An
    empty negative does not count.
    """
    empty = short = 0
    for row in rows:
        query, documents, scores = _read(row, columns, ways)
        if not query.strip() or not documents or not documents[0].strip():
            empty += 1
            continue
        kept = [place for place, text in enumerate(documents) if text.strip()][:ways]
        ways = ways or len(kept)
        if len(kept) < ways:
            short += 1
            continue
        texts = [documents[place] for place in kept]
        yield Example(query, texts[0], tuple(texts[1:]), tuple(scores[place] for place in kept if scores))
    for number, lack in ((empty, "an empty query or document"), (short, f"fewer than {ways} documents")):
        if number:
            logger.warning("%s: skipped %d rows with %s", source, number, lack)


def _read(row: Row, columns: Columns, ways: int | None) -> tuple[str, list[str], list[float]]:
    """Query, documents (the positive first) and their scores, unfiltered."""
    scores = row.numbers(columns.scores) if columns.scores else []
    scored_list = isinstance(row.value(columns.document), list)
    if scored_list:
        documents = row.texts(columns.document)
        if not columns.scores:
            raise row.refused(columns.document, "is a list, so that its scores must be named")
    elif isinstance(columns.negatives, str):
        documents = [row.text(columns.document), *row.texts(columns.negatives)]
    else:
        documents = [row.text(column) for column in (columns.document, *columns.negatives)]
    if columns.scores and len(scores) != len(documents):
        raise row.refused(columns.scores, f"holds {len(scores)} scores of {len(documents)} documents")
    if scored_list:
        # Cut before it is ranked, as PyLate's n_ways cuts.
        order = sorted(range(len(documents[:ways])), key=lambda place: -scores[place])
        documents, scores = [documents[place] for place in order], [scores[place] for place in order]
    return row.text(columns.query), documents, scores


def write_examples(found: Iterable[Example], path: Path) -> None:
    """Write examples without scores as rows "query", "document" and "negatives" (a list).

    A name that ends in .parquet gets Parquet, any other JSONL. The file appears when it is whole.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    write = _write_parquet if path.suffix == ".parquet" else _write_jsonl
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        rows = ({name: getattr(example, name) for name in Example._fields[:3]} for example in found)
        write(rows, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_jsonl(rows: Iterable[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(rows: Iterable[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    schema = pa.schema({"query": pa.string(), "document": pa.string(), "negatives": texts})
    waiting = iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(waiting, _WRITTEN_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(batch, schema))


def shortened(row: str | bytes) -> str:
    """The start of a row, for an error that shows it."""
    text = row if isinstance(row, str) else row.decode(errors="replace")
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
