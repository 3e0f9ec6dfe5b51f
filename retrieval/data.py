"""Training pairs from files: BEIR folders and JSONL, streamed and checked line by line."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .. import FlatcoatError

logger = logging.getLogger(__name__)

_QRELS_HEADER = b"query-id\tcorpus-id\tscore"
_SHOWN_CHARACTERS = 120


@dataclass(frozen=True)
class Pair:
    """A query and a document that answers it."""

    query: str
    document: str


class _Row(NamedTuple):
    """A JSONL row and the place it came from (``file:line``)."""

    place: str
    values: dict[str, Any]

    def text(self, column: str) -> str:
        """The text of a column, "" where it is null; FlatcoatError where it is missing or no text."""
        if column not in self.values:
            raise FlatcoatError(
                f"{self.place}: no column {column!r}; columns there: {', '.join(self.values)}"
            )
        value = self.values[column]
        if not isinstance(value, str | None):
            raise FlatcoatError(
                f"{self.place}: {column!r} must be text: {_shortened(json.dumps(self.values))}"
            )
        return value or ""


class _Positive(NamedTuple):
    place: str
    query_id: str
    corpus_id: str


def beir_pairs(folder: Path, split: str) -> Iterator[Pair]:
    """The positive pairs (score > 0) of a split of a BEIR folder, in the order of its qrels.

    Title and text of a document are joined by a space. The call reads the folder and keeps the texts
    with a positive judgement, not the corpus. Pairs with an empty side are skipped, their number logged.
    Raises FlatcoatError for a missing file or split, a malformed row and an id that is not in the folder.
    Source: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
    """
    positives = list(_positives(_existing(folder / "qrels" / f"{split}.tsv")))
    queries_path, corpus_path = _existing(folder / "queries.jsonl"), _existing(folder / "corpus.jsonl")
    queries = _texts(queries_path, {positive.query_id for positive in positives})
    documents = _texts(corpus_path, {positive.corpus_id for positive in positives})

    def joined() -> Iterator[Pair]:
        for place, query_id, corpus_id in positives:
            if query_id not in queries:
                raise FlatcoatError(f"{place}: query {query_id!r} is not in {queries_path}")
            if corpus_id not in documents:
                raise FlatcoatError(f"{place}: document {corpus_id!r} is not in {corpus_path}")
            yield Pair(queries[query_id], documents[corpus_id])

    return _without_empty(joined(), folder)


def jsonl_pairs(path: Path, query: str, document: str) -> Iterator[Pair]:
    """The pairs in two columns of a JSONL file; those with an empty side are skipped, their number logged.

    Raises FlatcoatError for a missing file or column and for a malformed row.
    """
    rows = _jsonl_rows(_existing(path))
    return _without_empty((Pair(row.text(query), row.text(document)) for row in rows), path)


def _without_empty(pairs: Iterable[Pair], source: Path) -> Iterator[Pair]:
    skipped = 0
    for pair in pairs:
        if pair.query.strip() and pair.document.strip():
            yield pair
        else:
            skipped += 1
    if skipped:
        logger.warning("%s: skipped %d pairs with an empty query or document", source, skipped)


def _texts(path: Path, wanted: set[str]) -> dict[str, str]:
    """Id to text, headed by the title where there is one, of the wanted rows of a BEIR JSONL file."""
    texts = {}
    for row in _jsonl_rows(path):
        if (identifier := row.text("_id")) in wanted:
            title, text = row.text("title") if "title" in row.values else "", row.text("text")
            texts[identifier] = f"{title} {text}" if title else text
    return texts


def _positives(path: Path) -> Iterator[_Positive]:
    lines = _lines(path)
    place, header = next(lines, (f"{path}:1", b""))
    if header != _QRELS_HEADER:
        wanted = _QRELS_HEADER.decode().expandtabs(1)
        raise FlatcoatError(f"{place}: the header must be {wanted}, tabs between: {_shortened(header)}")
    for place, raw in lines:
        try:
            query_id, corpus_id, score = raw.decode().split("\t")
            positive = float(score) > 0
        except ValueError as error:
            raise FlatcoatError(f"{place}: not a row of qrels ({error}): {_shortened(raw)}") from error
        if positive:
            yield _Positive(place, query_id, corpus_id)


def _jsonl_rows(path: Path) -> Iterator[_Row]:
    for place, raw in _lines(path):
        try:
            values = json.loads(raw)
        except ValueError as error:
            raise FlatcoatError(f"{place}: not JSON ({error}): {_shortened(raw)}") from error
        if not isinstance(values, dict):
            raise FlatcoatError(f"{place}: not a JSON object: {_shortened(raw)}")
        yield _Row(place, values)


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The lines that are not blank, each with its place, ``file:line``."""
    # Bytes: text mode would fail at a bad character without the number of its line.
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if raw.strip():
                yield f"{path}:{number}", raw.rstrip(b"\r\n")


def _existing(path: Path) -> Path:
    if path.is_file():
        return path
    there = sorted(item.name for item in path.parent.iterdir()) if path.parent.is_dir() else []
    raise FlatcoatError(f"no file {path}; {path.parent} holds {', '.join(there) or 'nothing'}")


def _shortened(row: str | bytes) -> str:
    text = row if isinstance(row, str) else row.decode(errors="replace")
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
