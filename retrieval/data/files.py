"""Training pairs and rows from files: BEIR folders, JSONL and Parquet, streamed and checked row by row."""

import logging
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from flatcoat.errors import NotFoundError
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.reading.beir import BeirFolder, Judgement
from flatcoat.indexing.reading.jsonl import json_rows
from flatcoat.indexing.reading.parquet import parquet_rows
from flatcoat.indexing.reading.row import Row, require_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """A query and a document that answers it; ``place`` is where they were joined, such as ``file:line``.

    >>> Pair("why is the sky blue?", "Air scatters blue light.", "qrels/train.tsv:2")
    Pair(query='why is the sky blue?', document='Air scatters blue light.', place='qrels/train.tsv:2')
    """

    query: str
    document: str
    place: str = field(default="", compare=False)


class Collection(NamedTuple):
    """Texts by id, and for each query the ids of the documents that answer it.

    >>> collection = Collection({"sky": "Air scatters."}, {"q1": "why?", "q2": "how?"}, {"q1": ["sky"]})
    >>> collection.sampled(1).positives
    {'q1': ['sky']}
    """

    documents: dict[str, str]
    queries: dict[str, str]
    positives: dict[str, list[str]]

    @staticmethod
    def read(
        path: Path, split: str = "train", *, query: str = "query", document: str = "document"
    ) -> "Collection":
        """A split of a BEIR folder, or two columns of a file of pairs, whose documents are the corpus.

        Raises as ``beir_pairs`` and ``file_pairs`` do, and leaves out the same pairs.
        """
        if path.is_dir():
            return _beir_collection(path, split)
        collection = Collection({}, {}, {})
        for pair in file_pairs(path, query, document=document):
            # Texts are their own ids: a query that stands in two pairs has both answers.
            collection.documents[pair.document] = pair.document
            collection.queries[pair.query] = pair.query
            collection.positives.setdefault(pair.query, []).append(pair.document)
        return collection

    def sampled(self, queries: int | None, seed: int = 42) -> "Collection":
        """The collection with at most ``queries`` of its queries (None: all), drawn with ``seed``."""
        if queries is None or queries >= len(self.positives):
            return self
        drawn = random.Random(seed).sample(list(self.positives), queries)
        return self._replace(positives={id: self.positives[id] for id in drawn})


def beir_pairs(folder: Path, split: str) -> Iterator[Pair]:
    """The relevant pairs (score > 0) of a split of a BEIR folder, in the order of its qrels.

    Title and text of a document are joined by a space. The call reads the folder and keeps the texts of
    relevant documents, not the corpus. Pairs with an unknown or empty side are left out, their numbers
    logged. Raises as ``BeirFolder`` does.
    """
    beir = BeirFolder(folder)
    queries, positives = _positives(beir, split)
    ids = {positive.document for positive in positives}
    documents = {document.id: _text(document) for document in beir.documents(ids)}
    known = _known(beir, positives, documents)
    pairs = (Pair(queries[place.query], documents[place.document], place.place) for place in known)
    return _without_empty(pairs, folder)


def file_pairs(path: Path, query: str = "query", *, document: str = "document") -> Iterator[Pair]:
    """The pairs in two columns of a file (``file_rows``); those with an empty side are left out and counted.

    Raises NotFoundError for a missing file or column, DataError for a row that cannot be read.
    """
    rows = file_rows(path)
    return _without_empty((Pair(row.text(query), row.text(document), row.place) for row in rows), path)


def file_rows(path: Path, kind: Literal["jsonl", "parquet"] | None = None) -> Iterator[Row]:
    """The rows of a JSONL or Parquet file, by default told by its suffix; the first bad one is an error.

    Raises NotFoundError for a missing file, DataError for a row or file that cannot be read.
    """
    if not path.is_file():
        names = sorted(item.name for item in path.parent.iterdir()) if path.parent.is_dir() else []
        raise NotFoundError(f"no file {path}; {path.parent} holds {', '.join(names) or 'nothing'}")
    is_parquet = (kind or path.suffix.removeprefix(".")) == "parquet"
    return require_rows(path, parquet_rows(path) if is_parquet else json_rows(path, allow_nan=True))


def _beir_collection(folder: Path, split: str) -> Collection:
    beir = BeirFolder(folder)
    queries, judgements = _positives(beir, split)
    documents = {document.id: _text(document) for document in beir.documents()}
    positives: dict[str, list[str]] = {}
    for positive in _known(beir, judgements, documents):
        if queries[positive.query].strip() and documents[positive.document].strip():
            positives.setdefault(positive.query, []).append(positive.document)
    return Collection(documents, {query: queries[query] for query in positives}, positives)


def _positives(beir: BeirFolder, split: str) -> tuple[dict[str, str], list[Judgement]]:
    """The queries of a split and its judgements of relevant documents."""
    found = beir.read_split(split)
    if found.unknown:
        logger.warning("%s: %s", beir.path, beir.unknown_queries(found.unknown))
    return found.queries, [judgement for judgement in found.judgements if judgement.grade > 0]


def _known(
    beir: BeirFolder, positives: Iterable[Judgement], documents: dict[str, str]
) -> Iterator[Judgement]:
    unknown = 0
    for positive in positives:
        if positive.document in documents:
            yield positive
        else:
            unknown += 1
    if unknown:
        logger.warning("%s: %s: left out", beir.path, beir.unknown_documents(unknown))


def _without_empty(pairs: Iterable[Pair], source: Path) -> Iterator[Pair]:
    skipped = 0
    for pair in pairs:
        if pair.query.strip() and pair.document.strip():
            yield pair
        else:
            skipped += 1
    if skipped:
        logger.warning("%s: skipped %d pairs with an empty query or document", source, skipped)


def _text(document: Document) -> str:
    return Passage(document.id, document.text, document.title).searchable
