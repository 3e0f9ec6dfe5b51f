"""Training examples, and how they are read from rows of any origin: checked, cut to one shape, counted."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from flatcoat.atomic_files import atomic_write
from flatcoat.indexing.reading.row import Row

logger = logging.getLogger(__name__)

PLACE = "place"
"""The column of data sets that says where each row was read."""

_WRITTEN_AT_ONCE = 1_000
_WRITTEN = ("query", "document", "negatives")


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


class Columns(NamedTuple):
    """Where a row keeps the parts of an example.

    ``document`` may hold a list of documents that a teacher scored: the best scored is the positive then.
    ``negatives`` names a column of lists, or columns of a text each.
    """

    query: str = "query"
    document: str = "document"
    negatives: str | tuple[str, ...] = ()
    scores: str | None = None


class _Oddities:
    """What is odd about rows: how many, and where the first stands."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def note(self, oddity: str, row: Row, number: int = 1) -> None:
        """Count an oddity; its text has a place for the number."""
        before, first = self._found.get(oddity, (0, row.place))
        self._found[oddity] = before + number, first

    def log(self, source: str) -> None:
        for oddity, (number, first) in self._found.items():
            logger.warning("%s: %s, first at %s", source, oddity.format(number), first)


def examples(rows: Iterable[Row], columns: Columns, ways: int | None, source: str) -> Iterator[Example]:
    """The examples in rows, all with ``ways`` documents (the positive and its negatives).

    None stands for as many as the first has. What a row has beyond that is left out; a row with fewer, or
    with an empty query or document, is skipped. A negative that is empty, or says what its row's document
    says, does not count. The log has the numbers of all this under the name ``source``.
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
    """What a text says, whatever its case and white space."""
    return " ".join(text.split()).casefold()


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
    write = _write_parquet if path.suffix == ".parquet" else _write_jsonl
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as unfinished:
        rows = ({name: getattr(example, name) for name in _WRITTEN} for example in found)
        write(rows, unfinished)


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
