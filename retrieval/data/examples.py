"""Training examples from rows: checked, cut to one shape, and counted where they are left out."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from flatcoat.atomic_files import atomic_write
from flatcoat.indexing.reading.row import Row

logger = logging.getLogger(__name__)

PLACE = "place"
"""The column of data sets with the place of each row, such as ``file:line``."""

_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Example:
    """A query, a document that answers it, and documents that do not.

    ``scores`` are a teacher's, of the document and the negatives in that order; empty where there is none.
    ``place`` is where the example was read, such as ``file:line``.
    """

    query: str
    document: str
    negatives: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    place: str = field(default="", compare=False)


class ExampleColumns(NamedTuple):
    """The names of an example's columns.

    ``document`` may hold a list of documents that a teacher scored: the best scored is the positive then.
    ``negatives`` names a column of lists, or several columns of one text each.
    """

    query: str = "query"
    document: str = "document"
    negatives: str | tuple[str, ...] = ()
    scores: str | None = None


class _Oddities:
    """Oddities of rows: the number of each, and the place of the first."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def note(self, oddity: str, row: Row, number: int = 1) -> None:
        """Count an oddity; its text has a place for the number."""
        before, first = self._found.get(oddity, (0, row.place))
        self._found[oddity] = before + number, first

    def log(self, source: str) -> None:
        for oddity, (number, first) in self._found.items():
            logger.warning("%s: %s, first at %s", source, oddity.format(number), first)


def examples(
    rows: Iterable[Row], columns: ExampleColumns, *, ways: int | None = None, source: str
) -> Iterator[Example]:
    """The examples in rows, all with ``ways`` documents (the positive and its negatives).

    ``ways`` is by default the number of the first row's documents. Further documents of a row are left out;
    a row with fewer, or with an empty query or document, is skipped. A negative that is empty, or repeats its
    row's document, does not count. The numbers of all this are logged under the name ``source``.

    >>> row = Row("line 1", {"query": "why?", "document": "so", "wrong": ["no", "So", "never"]})
    >>> for example in examples([row], ExampleColumns(negatives="wrong"), source="pairs"):
    ...     print(example.query, example.document, example.negatives)
    why? so ('no', 'never')
    """
    odd = _Oddities()
    for row in rows:
        query, documents, scores = _read(row, columns, ways)
        if not query.strip() or not documents or not documents[0].strip():
            odd.note("skipped {} rows with an empty query or document", row)
            continue
        answer = plain(documents[0])
        filled = [place for place, text in enumerate(documents) if text.strip()]
        kept = [place for place in filled if place == 0 or plain(documents[place]) != answer]
        if len(kept) < len(filled):
            repeated = "left out {} negatives that say what their row's document says"
            odd.note(repeated, row, len(filled) - len(kept))
        ways = ways or len(kept)
        if len(kept) < ways:
            odd.note(f"skipped {{}} rows with fewer than {ways} documents", row)
            continue
        texts = [documents[place] for place in kept[:ways]]
        teacher = tuple(scores[place] for place in kept[:ways] if scores)
        if len(teacher) > 1 and len(set(teacher)) == 1:
            odd.note("the teacher scores all documents of {} rows alike", row)
        yield Example(query, texts[0], tuple(texts[1:]), teacher, row.place)
    odd.log(source)


def plain(text: str) -> str:
    """A text to compare with others: case and white space make no difference."""
    return " ".join(text.split()).casefold()


def _read(row: Row, columns: ExampleColumns, ways: int | None) -> tuple[str, list[str], list[float]]:
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


def write_examples(found: Iterable[Example], path: Path, *, has_negatives: bool = True) -> None:
    """Write examples without scores as rows "query", "document" and, with negatives, "negatives" (a list).

    A name that ends in .parquet gets Parquet, any other JSONL. The file appears when it is whole.
    """
    columns = ["query", "document", *(["negatives"] if has_negatives else [])]
    rows = ({name: getattr(example, name) for name in columns} for example in found)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as unfinished:
        if path.suffix == ".parquet":
            _write_parquet(rows, unfinished, columns)
        else:
            with unfinished.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path, columns: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"query": pa.string(), "document": pa.string(), "negatives": pa.list_(pa.string())}
    schema = pa.schema({name: types[name] for name in columns})
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
