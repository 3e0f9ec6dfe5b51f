"""Training examples from files: BEIR folders, JSONL and Parquet, streamed and checked row by row."""

import json
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.documents import normalized

from .examples import Row, shortened

logger = logging.getLogger(__name__)

_QRELS_HEADER = b"query-id\tcorpus-id\tscore"


@dataclass(frozen=True)
class Pair:
    """A query and a document that answers it; ``place`` is where they were joined, such as ``file:line``."""

    query: str
    document: str
    place: str = field(default="", compare=False)


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
            yield Pair(queries[query_id], documents[corpus_id], place)

    return _without_empty(joined(), folder)


def beir_collection(folder: Path, split: str) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    """All documents and the judged queries of a split, by id, and the ids of the positives of each query.

    Titles and errors as above; a query without a text, or judged to have no positive with one, is left out.
    """
    documents, texts = _texts(_existing(folder / "corpus.jsonl")), _texts(_existing(folder / "queries.jsonl"))
    positives: dict[str, list[str]] = {}
    for place, query_id, corpus_id in _positives(_existing(folder / "qrels" / f"{split}.tsv")):
        if query_id not in texts or corpus_id not in documents:
            missing = query_id if query_id not in texts else corpus_id
            raise FlatcoatError(f"{place}: {missing!r} is not in {folder}")
        if texts[query_id].strip() and documents[corpus_id].strip():
            positives.setdefault(query_id, []).append(corpus_id)
    return documents, {query: texts[query] for query in positives}, positives


def jsonl_pairs(path: Path, query: str, document: str) -> Iterator[Pair]:
    """The pairs in two columns of a JSONL file; those with an empty side are skipped, their number logged.

    Raises FlatcoatError for a missing file or column and for a malformed row.
    """
    rows = _jsonl_rows(_existing(path))
    return _without_empty((Pair(row.text(query), row.text(document)) for row in rows), path)


def jsonl_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSONL file; FlatcoatError for a missing file and for a malformed row."""
    return _jsonl_rows(_existing(path))


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file; FlatcoatError where it is missing or no Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(_existing(path)).iter_batches(batch_size=1_000):
            for values in batch.to_pylist():
                number += 1
                yield Row(f"{path}, row {number}", values)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise FlatcoatError(f"{path} is no Parquet file, or ends after row {number}: {reason}") from error


def _without_empty(pairs: Iterable[Pair], source: Path) -> Iterator[Pair]:
    skipped = 0
    for pair in pairs:
        if pair.query.strip() and pair.document.strip():
            yield pair
        else:
            skipped += 1
    if skipped:
        logger.warning("%s: skipped %d pairs with an empty query or document", source, skipped)


def _texts(path: Path, wanted: set[str] | None = None) -> dict[str, str]:
    """Id to text, headed by the title where there is one, of the wanted (or all) rows of a BEIR file."""
    texts = {}
    for row in _jsonl_rows(path):
        if (identifier := row.text("_id")) and (wanted is None or identifier in wanted):
            title, text = row.text("title") if "title" in row.values else "", row.text("text")
            texts[identifier] = f"{title} {text}" if title else text
    return texts


def _positives(path: Path) -> Iterator[_Positive]:
    lines = _lines(path)
    place, header = next(lines, (f"{path}:1", b""))
    if header != _QRELS_HEADER:
        wanted = _QRELS_HEADER.decode().expandtabs(1)
        raise FlatcoatError(f"{place}: the header must be {wanted}, tabs between: {shortened(header)}")
    for place, raw in lines:
        try:
            query_id, corpus_id, score = normalized(raw.decode()).split("\t")
            positive = float(score) > 0
            if not math.isfinite(float(score)):
                raise ValueError(f"{score} is no grade")
        except ValueError as error:
            raise FlatcoatError(f"{place}: not a row of qrels ({error}): {shortened(raw)}") from error
        if positive:
            yield _Positive(place, query_id, corpus_id)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for place, raw in _lines(path):
        try:
            values = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise FlatcoatError(f"{place}: not JSON ({error}): {shortened(raw)}") from error
        if not isinstance(values, dict):
            raise FlatcoatError(f"{place}: not a JSON object: {shortened(raw)}")
        yield Row(place, values)


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
